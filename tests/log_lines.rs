//! Every line that a bulkhead logs has its level and names the bulkhead. Calls that are refused have a line every few seconds,
//! and no call has one of its own but at the level trace.
//!
//! The file is a binary of its own, since a process has one logger. Each test picks out the lines of its own bulkhead.

mod support;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadEvent, ChaosOverrides, CircuitBreakerConfig, Dependencies,
    DependencyConfig, DependencyDefaults, DependencyKind, ManualClock, OperationOverrides,
    SemaphoreBulkhead,
};
use log::{Level, LevelFilter};
use support::logged::Line;
use support::{PATIENCE, SECOND, logged, named, occupy, seconds, wait};

/// The lines so far that name a bulkhead or a circuit, of at least this level.
fn lines_of(name: &str, least: Level) -> Vec<Line> {
    let name = format!("`{name}`");
    let is_meant = |line: &Line| {
        line.target.starts_with("bulkman") && line.level <= least && line.text.contains(&name)
    };
    logged::lines().into_iter().filter(is_meant).collect()
}

fn texts(lines: &[Line]) -> Vec<(Level, &str)> {
    lines
        .iter()
        .map(|line| (line.level, line.text.as_str()))
        .collect()
}

#[test]
fn every_line_has_its_level_and_names_its_bulkhead() {
    logged::collect(LevelFilter::Trace);
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    let config = BulkheadConfig::new("tea").circuit_breaker(breaker);
    let bulkhead = Bulkhead::builder(config)
        .listener(|event: &BulkheadEvent<'_>| {
            assert!(!matches!(event, BulkheadEvent::Rejected { .. }));
        })
        .build()
        .unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());

    // An error whose judge panics is a failure, which opens the circuit.
    let handle = bulkhead
        .call()
        .failure_if(|_: &()| panic!("the judge's own panic"))
        .execute(|| Err::<(), _>(()));
    assert!(wait(handle).error().is_some());
    for _ in 0..3 {
        assert!(wait(bulkhead.run(|| ())).error().is_some());
    }
    bulkhead.circuit_breaker().unwrap().reset();
    assert!(bulkhead.shutdown().is_clean());

    let lines = lines_of("tea", Level::Debug);
    assert_eq!(
        texts(&lines),
        [
            (
                Level::Error,
                "bulkhead `tea`: a failure classifier panicked; the panic is contained"
            ),
            (
                Level::Warn,
                "circuit `tea` is open, it was closed: failures in a row"
            ),
            (
                Level::Error,
                "bulkhead `tea`: a listener panicked; the panic is contained, and further ones of it are not logged"
            ),
            (Level::Info, "circuit `tea` is closed, it was open: by hand"),
            (Level::Debug, "bulkhead `tea` is shutting down"),
            (Level::Debug, "bulkhead `tea` is shut down"),
        ]
    );
    assert_eq!(lines[1].value("circuit"), Some("tea"));
    assert_eq!(lines[1].value("to"), Some("open"));
    assert_eq!(lines[1].value("reason"), Some("failures in a row"));
    assert_eq!(lines[4].value("bulkhead"), Some("tea"));
}

#[test]
fn single_calls_are_told_at_trace_with_their_ids() {
    logged::collect(LevelFilter::Trace);
    let bulkhead = SemaphoreBulkhead::builder(named("milk", 1, 0))
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let result = bulkhead
        .call()
        .operation("two\nlines")
        .execute(|| Err::<(), _>("sour"));
    let id = result.execution_id.to_string();
    bulkhead.close();
    assert!(bulkhead.run(|| ()).error().is_some());
    let lines: Vec<_> = lines_of("milk", Level::Trace)
        .into_iter()
        .filter(|line| line.level == Level::Trace)
        .collect();
    assert_eq!(
        texts(&lines),
        [
            (
                Level::Trace,
                &*format!("bulkhead `milk`: {id} two\\nlines: admitted")
            ),
            (
                Level::Trace,
                &*format!("bulkhead `milk`: {id} two\\nlines: started after 0ns")
            ),
            (
                Level::Trace,
                &*format!(
                    "bulkhead `milk`: {id} two\\nlines: failed in 0ns, after 0ns in the queue"
                )
            ),
            (Level::Trace, "bulkhead `milk` is shut down"),
        ]
    );
    for line in &lines[..3] {
        assert_eq!(line.value("bulkhead"), Some("milk"));
        assert_eq!(line.value("execution_id"), Some(&*id));
        assert_eq!(line.value("operation"), Some("two\nlines"));
    }
}

fn with_clock(name: &str) -> (Bulkhead, ManualClock) {
    logged::collect(LevelFilter::Trace);
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(named(name, 1, 0))
        .clock(clock.clone())
        .build()
        .unwrap();
    (bulkhead, clock)
}

fn summaries(name: &str) -> Vec<Line> {
    let mut lines = lines_of(name, Level::Warn);
    lines.retain(|line| line.text.contains(" refused "));
    lines
}

fn number(line: &Line, key: &str) -> u64 {
    let value = line.value(key).expect("the line has it");
    value.parse().expect("a number")
}

#[test]
fn refusals_that_come_fast_have_a_line_every_five_seconds() {
    let (bulkhead, clock) = with_clock("lemon");
    let busy = occupy(&bulkhead, 1);
    let refuse = |n: u64| (0..n).for_each(|_| assert!(bulkhead.try_run(|| ()).is_err()));
    refuse(10_000);
    clock.advance(5 * SECOND - SECOND / 1000);
    refuse(10_000);
    assert!(summaries("lemon").is_empty());
    clock.advance(SECOND / 1000);
    // Of refusals that come fast, not each looks at the clock.
    refuse(64);
    let lines = summaries("lemon");
    assert_eq!(lines.len(), 1);
    let first = number(&lines[0], "rejected_full");
    assert!((20_001..=20_064).contains(&first), "{first}");
    assert_eq!(number(&lines[0], "rejected"), first);
    assert_eq!(
        lines[0].text,
        format!(
            "bulkhead `lemon` refused {first} calls in 5.0 s: {first} as full, 0 for its open circuit, 0 as shut down"
        )
    );
    refuse(10_000);
    bulkhead.close();
    clock.advance(60 * SECOND);
    refuse(64);
    let lines = summaries("lemon");
    assert_eq!(lines.len(), 2);
    // No refusal is in two lines, and none is left out.
    let stats = bulkhead.stats();
    let all = first + number(&lines[1], "rejected");
    assert!(stats.rejected_executions - all < 64, "{all}: {stats}");
    assert!(number(&lines[1], "rejected_shut_down") >= 1);
    busy.finish();
}

#[test]
fn of_refusals_that_come_slowly_each_looks_at_the_clock() {
    let (bulkhead, clock) = with_clock("honey");
    let busy = occupy(&bulkhead, 1);
    for second in 0..=22 {
        assert!(bulkhead.try_run(|| ()).is_err());
        let lines = summaries("honey");
        assert_eq!(lines.len(), second / 5, "after {second} s");
        clock.advance(SECOND);
    }
    let counts: Vec<_> = summaries("honey")
        .iter()
        .map(|line| number(line, "rejected"))
        .collect();
    assert_eq!(counts, [6, 5, 5, 5]);
    busy.finish();
}

#[test]
fn one_refusal_alone_has_no_summary() {
    let (bulkhead, clock) = with_clock("salt");
    bulkhead.close();
    assert!(bulkhead.try_run(|| ()).is_err());
    clock.advance(60 * SECOND);
    assert!(summaries("salt").is_empty());
    drop(bulkhead);
    assert!(lines_of("salt", Level::Info).is_empty());
}

#[test]
fn a_saturation_has_a_line_when_it_begins_and_one_when_it_ends() {
    let (bulkhead, clock) = with_clock("sugar");
    let busy = occupy(&bulkhead, 1);
    for _ in 0..20 {
        assert!(bulkhead.try_run(|| ()).is_err());
    }
    clock.advance(seconds(3));
    busy.finish();
    assert!(bulkhead.wait_idle(PATIENCE));
    let lines = lines_of("sugar", Level::Info);
    assert_eq!(
        texts(&lines),
        [
            (
                Level::Warn,
                "bulkhead `sugar` is full and refuses calls: 1 run, 0 wait"
            ),
            (
                Level::Info,
                "bulkhead `sugar` has room again after 3s, in which it refused 20 calls as full"
            ),
        ]
    );
    assert_eq!(number(&lines[1], "rejected"), 20);
}

/// A bulkhead with one place is full with each call.
#[test]
fn saturations_that_follow_closely_have_one_pair_of_lines_in_five_seconds() {
    let (bulkhead, clock) = with_clock("pepper");
    for _ in 0..20 {
        let busy = occupy(&bulkhead, 1);
        assert!(bulkhead.try_run(|| ()).is_err());
        busy.finish();
        assert!(bulkhead.wait_idle(PATIENCE));
        clock.advance(SECOND / 2);
    }
    for text in ["is full", "has room again"] {
        let lines = lines_of("pepper", Level::Info);
        let count = lines.iter().filter(|line| line.text.contains(text));
        assert_eq!(count.count(), 2, "{text}");
    }
}

#[test]
fn a_dependency_with_chaos_warns_once_when_it_is_registered_and_when_settings_begin_it() {
    logged::collect(LevelFilter::Trace);
    let dependencies = Dependencies::new();
    let get = OperationOverrides::new().chaos(ChaosOverrides::on().panic_rate(0.5));
    let chaos = ChaosOverrides::on().error_rate(0.25).latency(SECOND);
    let drill = || {
        DependencyConfig::new(DependencyKind::Database)
            .chaos(chaos)
            .operation("get\n", get)
    };
    let calm = || DependencyConfig::new(DependencyKind::Database);
    dependencies.register_with("drilled", drill()).unwrap();
    dependencies.register_with("calm", calm()).unwrap();
    let warned = [(
        Level::Warn,
        "dependency `drilled` makes trouble on purpose in its pipelines: delays at a rate of 1, errors at a rate of 0.25; in \
         operation `get\\n` delays at a rate of 1, errors at a rate of 0.25, panics at a rate of 0.5",
    )];
    assert_eq!(texts(&lines_of("drilled", Level::Warn)), warned);
    assert!(lines_of("calm", Level::Warn).is_empty());
    let apply = |config: DependencyConfig| {
        let config = [("drilled".to_owned(), config)];
        let changes = dependencies.apply_config(DependencyDefaults::new(), config);
        assert_ne!(changes.unwrap().len(), 0);
    };
    apply(drill().timeout(seconds(7)));
    apply(calm());
    assert_eq!(lines_of("drilled", Level::Warn).len(), 1);
    apply(drill());
    let lines = lines_of("drilled", Level::Warn);
    assert_eq!(texts(&lines), [warned[0]; 2]);
    assert_eq!(lines[1].value("bulkhead"), Some("drilled"));
}
