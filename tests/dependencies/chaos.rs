//! Chaos in the pipelines of dependencies, as settings name it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::policy::{Chaos, LayerKind};
use bulkman::{
    BulkheadError, BulkheadKind, ChaosOverrides, CircuitBreakerOverrides, ConfigLevel,
    Dependencies, DependencyConfig, DependencyDefaults, DependencyKind, DependencyOverrides,
    DependencyPipeline, ManualClock, OperationOverrides, RetryOverrides,
};

use super::support::{HOUR, SECOND, eventually, seconds};

/// Without a circuit breaker, which would open.
fn database() -> DependencyConfig {
    DependencyConfig::new(DependencyKind::Database).circuit_breaker(CircuitBreakerOverrides::off())
}

fn with(config: DependencyConfig) -> Dependencies {
    let dependencies = Dependencies::new();
    dependencies.register_with("db", config).unwrap();
    dependencies
}

fn apply(dependencies: &Dependencies, config: DependencyConfig) {
    let changes = dependencies.apply_config(DependencyDefaults::new(), [("db".to_owned(), config)]);
    assert_ne!(changes.unwrap().len(), 0);
}

type TestPipeline = DependencyPipeline<&'static str>;

fn pipeline(dependencies: &Dependencies) -> TestPipeline {
    let builder = dependencies.pipeline("db").unwrap();
    builder.chaos_error(|| "chaos").build().unwrap()
}

fn of_operation(dependencies: &Dependencies, operation: &'static str) -> TestPipeline {
    let call = dependencies.call("db").unwrap().operation(operation);
    call.pipeline().chaos_error(|| "chaos").build().unwrap()
}

/// Whether a call gets through.
fn is_calm(pipeline: &TestPipeline) -> bool {
    let result = pipeline.execute(|| Ok(()));
    if let Some(error) = result.error() {
        assert_eq!(error.failed(), Some(&"chaos"));
    }
    result.is_success()
}

fn errors() -> ChaosOverrides {
    ChaosOverrides::on().error_rate(1.0)
}

#[test]
fn errors_panics_and_refusals_stand_for_the_dependency_on_both_kinds_of_bulkhead() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let ends_as = |chaos: ChaosOverrides| {
            let dependencies = with(database().bulkhead(kind).chaos(chaos));
            let pipeline = pipeline(&dependencies);
            assert_eq!(pipeline.layers().last(), Some(&LayerKind::Chaos));
            let calls = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&calls);
            let result = pipeline.execute(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!(calls.load(Ordering::Relaxed), 0, "in place of the task");
            result.result.unwrap_err()
        };
        let on = ChaosOverrides::on;
        use bulkman::policy::PipelineError::Call;
        let error = ends_as(on().error_rate(1.0));
        assert!(matches!(error, Call(BulkheadError::Failed("chaos"))));
        let error = ends_as(on().panic_rate(1.0));
        assert!(matches!(error, Call(BulkheadError::Panicked(_))));
        let error = ends_as(on().refusal_rate(1.0));
        assert!(matches!(error, Call(BulkheadError::Full { .. })));
    }
}

#[test]
fn a_latency_passes_by_the_clock_of_the_dependencies() {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder().clock(clock.clone()).build();
    // More than the steps below can come to.
    let config = database()
        .timeout(1000 * HOUR)
        .chaos(ChaosOverrides::on().latency(seconds(5)));
    dependencies.register_with("db", config).unwrap();
    let pipeline = pipeline(&dependencies);
    let began = Arc::new(AtomicU32::new(0));
    let caller = thread::spawn({
        let began = Arc::clone(&began);
        move || {
            pipeline.execute(move || {
                began.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        }
    });
    eventually("the call runs", || {
        dependencies.stats_of("db").unwrap().active_tasks == 1
    });
    assert_eq!(began.load(Ordering::Relaxed), 0);
    eventually("the latency passes", || {
        clock.advance(SECOND);
        caller.is_finished()
    });
    assert!(caller.join().unwrap().is_success());
    assert_eq!(began.load(Ordering::Relaxed), 1);
}

#[test]
fn rules_alone_make_no_trouble_at_any_level() {
    let rules = ChaosOverrides::new().error_rate(1.0);
    let defaults = DependencyDefaults::new()
        .for_all(DependencyOverrides::new().chaos(rules))
        .for_kind(
            DependencyKind::Database,
            DependencyOverrides::new().chaos(rules),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let operation = OperationOverrides::new().chaos(rules);
    let config = database().chaos(rules).operation("get", operation);
    dependencies.register_with("db", config).unwrap();
    for pipeline in [pipeline(&dependencies), of_operation(&dependencies, "get")] {
        assert!(!pipeline.layers().contains(&LayerKind::Chaos));
        assert!(is_calm(&pipeline));
    }
    let explained = dependencies.explain("db", "get").unwrap();
    assert!(!explained.chaos.value);
    assert!(!explained.to_string().contains("chaos"), "{explained}");
}

#[test]
fn the_first_level_that_says_so_switches_it_on_or_off() {
    let of_kind = DependencyOverrides::new().chaos(errors());
    let defaults = DependencyDefaults::new().for_kind(DependencyKind::Database, of_kind);
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let config = database().chaos(ChaosOverrides::off()).operation(
        "drill",
        OperationOverrides::new().chaos(ChaosOverrides::on()),
    );
    dependencies.register_with("db", config).unwrap();
    assert!(is_calm(&pipeline(&dependencies)));
    assert!(is_calm(&of_operation(&dependencies, "other")));
    assert!(!is_calm(&of_operation(&dependencies, "drill")));

    let dependencies = with(database().chaos(errors()).operation(
        "pay",
        OperationOverrides::new().chaos(ChaosOverrides::off()),
    ));
    assert!(!is_calm(&pipeline(&dependencies)));
    assert!(is_calm(&of_operation(&dependencies, "pay")));
    let explained = dependencies.explain("db", "other").unwrap();
    assert_eq!(explained.chaos.level, ConfigLevel::Dependency);
    assert_eq!(explained.chaos_rules["error_rate"].value, "1");
    let text = explained.to_string();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(rows.contains(&vec!["chaos", "on", "dependency"]), "{text}");
    assert!(
        rows.contains(&vec!["error_rate", "1", "dependency"]),
        "{text}"
    );
    let explained = dependencies.explain("db", "pay").unwrap();
    assert!(!explained.chaos.value && explained.chaos_rules.is_empty());
}

#[test]
fn calls_without_a_pipeline_know_nothing_of_it() {
    let dependencies = with(database().chaos(errors()));
    let handle = dependencies.call("db").unwrap().execute(|| Ok::<_, ()>(1));
    assert_eq!(handle.wait().value(), Some(&1));
}

#[test]
fn a_rate_of_errors_needs_an_error_and_the_build_error_says_how_to_give_one() {
    let dependencies = with(database().chaos(ChaosOverrides::on().error_rate(0.25)));
    let error = dependencies
        .pipeline::<&str>("db")
        .unwrap()
        .build()
        .unwrap_err();
    assert_eq!(error.to_string(), "pipeline `db` cannot be built");
    assert_eq!(
        error.source().unwrap().to_string(),
        "invalid configuration: chaos.error_rate is 0.25, it must be 0, unless `chaos_error` of the pipeline's builder says \
         which error it gives"
    );
    // Neither is one needed without a rate, nor does one do anything.
    let dependencies = with(database().chaos(ChaosOverrides::on()));
    let bare: TestPipeline = dependencies.pipeline("db").unwrap().build().unwrap();
    assert!(is_calm(&bare) && is_calm(&pipeline(&dependencies)));
}

#[test]
fn chaos_of_the_code_stands_in_the_place_of_that_of_the_settings() {
    let dependencies = with(database().chaos(errors()));
    let own = Chaos::new();
    let builder = dependencies.pipeline("db").unwrap();
    let pipeline: TestPipeline = builder.chaos(own.clone()).build().unwrap();
    assert!(is_calm(&pipeline));
}

#[test]
fn values_out_of_range_are_errors_only_where_it_is_on() {
    let dependencies = Dependencies::new();
    let on = ChaosOverrides::on;
    for (chaos, text) in [
        (
            on().error_rate(1.5),
            "chaos.error_rate is 1.5, it must be a number from 0 to 1",
        ),
        (
            on().panic_rate(-0.5),
            "chaos.panic_rate is -0.5, it must be a number from 0 to 1",
        ),
        (
            on().refusal_rate(f64::NAN),
            "chaos.refusal_rate is NaN, it must be a number from 0 to 1",
        ),
        (
            on().latency(SECOND).latency_rate(f64::INFINITY),
            "chaos.latency_rate is inf, it must be a number from 0 to 1",
        ),
        (
            on().latency_rate(0.5),
            "chaos.latency_rate is 0.5, it must have a `latency` beside it",
        ),
    ] {
        let error = dependencies.register_with("db", database().chaos(chaos));
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with(text), "{error}");
    }
    let off = ChaosOverrides::off().error_rate(7.0);
    dependencies
        .register_with("db", database().chaos(off))
        .unwrap();
}

#[test]
fn a_seed_repeats_the_trouble_and_all_pipelines_draw_from_one_sequence() {
    let run = |seed, count: usize| {
        let chaos = ChaosOverrides::on().error_rate(0.5).seed(seed);
        let config = database()
            .chaos(chaos)
            .operation("get", OperationOverrides::new().timeout(HOUR));
        let dependencies = with(config);
        let two = [pipeline(&dependencies), of_operation(&dependencies, "get")];
        let calls = (0..64).map(|call| is_calm(&two[call % count]));
        calls.collect::<Vec<_>>()
    };
    assert_eq!(run(7, 1), run(7, 2));
    assert_ne!(run(7, 1), run(8, 1));
}

#[test]
fn settings_that_switch_it_off_end_it_in_pipelines_that_are_there() {
    let own = OperationOverrides::new().chaos(errors());
    let noisy = || database().chaos(errors()).operation("get", own);
    let dependencies = with(noisy());
    let (whole, get) = (pipeline(&dependencies), of_operation(&dependencies, "get"));
    assert!(!is_calm(&whole) && !is_calm(&get));
    // Other policies are no reason to end it, nor to lose sight of it.
    apply(
        &dependencies,
        noisy().retry(RetryOverrides::new().attempts(1)),
    );
    assert!(!is_calm(&whole) && !is_calm(&get));
    apply(&dependencies, database().chaos(ChaosOverrides::off()));
    assert!(is_calm(&whole) && is_calm(&get));
    assert!(is_calm(&pipeline(&dependencies)));
    // It begins with pipelines that are built from here on.
    apply(&dependencies, noisy());
    assert!(is_calm(&whole) && !is_calm(&pipeline(&dependencies)));
}

#[test]
fn settings_with_other_rates_end_it_where_it_is_and_begin_it_anew() {
    let dependencies = with(database().chaos(errors()));
    let before = pipeline(&dependencies);
    apply(
        &dependencies,
        database().chaos(errors().latency(Duration::from_nanos(1))),
    );
    assert!(is_calm(&before));
    assert!(!is_calm(&pipeline(&dependencies)));
}
