//! Timeouts that follow how long calls take, and how `explain` shows them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkman::policy::remaining;
use bulkman::{
    AdaptiveTimeoutConfig, AdaptiveTimeoutRule, BulkheadError, BulkheadKind, ConfigLevel,
    Dependencies, DependencyConfig, DependencyDefaults, DependencyError, DependencyKind,
    DependencyOverrides, DependencyPipeline, ManualClock, OperationOverrides, RetryOverrides,
    TimeoutSetting, current,
};

use super::support::{Gate, HOUR, OpenOnDrop, SECOND, eventually, seconds, wait};

/// Twice the 0.9 quantile of ten calls or more, looked at once a second.
fn numbers() -> AdaptiveTimeoutConfig {
    AdaptiveTimeoutConfig::new()
        .quantile(0.9)
        .factor(2.0)
        .floor(Duration::from_millis(1))
        .minimum_samples(10)
        .window(10 * SECOND)
}

fn database() -> DependencyConfig {
    DependencyConfig::new(DependencyKind::Database)
        .max_concurrent_calls(1)
        .adaptive_timeout(numbers())
}

fn with_clock(config: DependencyConfig) -> (Dependencies, ManualClock) {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder().clock(clock.clone()).build();
    dependencies.register_with("db", config).unwrap();
    (dependencies, clock)
}

/// So many calls of an operation that take this long, and then the second is over.
fn calls(
    dependencies: &Dependencies,
    clock: &ManualClock,
    operation: &'static str,
    number: u32,
    takes: Duration,
) {
    for _ in 0..number {
        let clock = clock.clone();
        let call = dependencies.call("db").unwrap().operation(operation);
        assert!(wait(call.run(move || clock.advance(takes))).is_success());
    }
    clock.advance(SECOND);
}

fn limit_seen(dependencies: &Dependencies, operation: &'static str) -> Option<Duration> {
    let call = dependencies.call("db").unwrap().operation(operation);
    wait(call.run(|| current().unwrap().remaining()))
        .into_result()
        .unwrap()
}

fn is_about(limit: Option<Duration>, millis: u64) -> bool {
    let millis = Duration::from_millis(millis);
    limit.is_some_and(|limit| limit >= millis && limit <= millis + millis / 8)
}

#[test]
fn a_limit_follows_the_run_times() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let (dependencies, clock) = with_clock(database().bulkhead(kind));
        calls(&dependencies, &clock, "get", 9, Duration::from_millis(50));
        assert_eq!(limit_seen(&dependencies, "get"), Some(seconds(10)));
        calls(&dependencies, &clock, "put", 9, Duration::from_millis(50));
        let limit = limit_seen(&dependencies, "get");
        assert!(is_about(limit, 100), "{kind}: {limit:?}");
        let explained = dependencies.explain("db", "get").unwrap();
        let stats = explained.adaptive_timeout_stats.unwrap();
        assert_eq!(Some(stats.limit), limit);
        assert_eq!(stats.rule, AdaptiveTimeoutRule::Quantile);
        assert!(is_about(stats.quantile, 50), "{:?}", stats.quantile);
        assert_eq!(stats.samples, 20, "those that looked at their limit too");
        assert_eq!(stats.config.ceiling, Some(seconds(10)));
        assert_eq!(explained.timeout.value.limit(), Some(seconds(10)));
    }
}

#[test]
fn a_call_that_sets_its_own_limit_has_that() {
    let (dependencies, clock) = with_clock(database());
    calls(&dependencies, &clock, "get", 10, Duration::from_millis(50));
    let call = dependencies.call("db").unwrap().timeout(seconds(3));
    let seen = wait(call.run(|| current().unwrap().remaining()));
    assert_eq!(seen.into_result().unwrap(), Some(seconds(3)));
}

#[test]
fn an_operation_that_is_named_has_a_limit_of_its_own() {
    let config = database()
        .operation("export", OperationOverrides::new().timeout(seconds(120)))
        .operation("ping", OperationOverrides::new().adaptive_timeout(false));
    let (dependencies, clock) = with_clock(config);
    calls(&dependencies, &clock, "get", 10, Duration::from_millis(50));
    calls(&dependencies, &clock, "ping", 10, Duration::from_millis(50));
    assert!(is_about(limit_seen(&dependencies, "get"), 100));
    assert_eq!(limit_seen(&dependencies, "export"), Some(seconds(120)));
    assert_eq!(limit_seen(&dependencies, "ping"), Some(seconds(10)));
    calls(
        &dependencies,
        &clock,
        "export",
        10,
        Duration::from_millis(500),
    );
    let limit = limit_seen(&dependencies, "export");
    assert!(is_about(limit, 1_000), "{limit:?}");
    let explained = dependencies.explain("db", "ping").unwrap();
    assert_eq!(explained.adaptive_timeout.level, ConfigLevel::Operation);
    assert_eq!(explained.adaptive_timeout_stats, None);
}

#[test]
fn only_calls_that_succeed_are_samples() {
    let (dependencies, clock) =
        with_clock(database().circuit_breaker(bulkman::CircuitBreakerOverrides::off()));
    for _ in 0..20 {
        let call = dependencies.call("db").unwrap();
        let _failed = wait(call.execute(|| Err::<(), u8>(1)));
    }
    clock.advance(SECOND);
    let explained = dependencies.explain("db", "").unwrap();
    let stats = explained.adaptive_timeout_stats.unwrap();
    assert_eq!((stats.samples, stats.timeouts), (0, 0));
    assert_eq!(stats.limit, seconds(10));
}

#[test]
fn a_client_that_gives_up_at_the_limit_was_cut_off() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let config = database().adaptive_timeout(numbers().window(HOUR));
        let (dependencies, clock) = with_clock(config.bulkhead(kind));
        for share in [10, 19, 21] {
            let clock = clock.clone();
            let call = dependencies.call("db").unwrap();
            let _failed = wait(call.execute(move || {
                let left = current().unwrap().remaining().unwrap();
                clock.advance(left * share / 20);
                Err::<(), _>("the client's timeout")
            }));
        }
        // The last caller may leave before the task has ended.
        eventually("two were cut off", || {
            let explained = dependencies.explain("db", "").unwrap();
            let stats = explained.adaptive_timeout_stats.unwrap();
            assert!(stats.samples == 0 && stats.timeouts <= 2, "{kind}");
            stats.timeouts == 2
        });
    }
}

#[test]
fn a_task_whose_caller_has_left_counts_when_it_ends() {
    let (dependencies, clock) = with_clock(database());
    let gate = Gate::new();
    let _opens = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let call = dependencies.call("db").unwrap().timeout(SECOND);
    let handle = call.run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    clock.advance(seconds(2));
    let result = wait(handle);
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Timeout { started: true, .. })
    ));
    let samples = || {
        let explained = dependencies.explain("db", "").unwrap();
        explained.adaptive_timeout_stats.unwrap().samples
    };
    assert_eq!(samples(), 0);
    gate.open();
    eventually("its end counts", || samples() == 1);
}

#[test]
fn without_a_timeout_there_is_none() {
    let (dependencies, _) = with_clock(database().timeout(TimeoutSetting::Never));
    let explained = dependencies.explain("db", "get").unwrap();
    assert_eq!(explained.adaptive_timeout_stats, None);
    assert_eq!(limit_seen(&dependencies, "get"), None);
    let text = explained.to_string();
    assert!(text.contains("adaptive timeout      off "), "{text}");
}

#[test]
fn a_floor_above_the_timeout_is_as_high_as_the_timeout() {
    let config = database()
        .adaptive_timeout(numbers().floor(seconds(5)))
        .timeout(SECOND);
    let (dependencies, clock) = with_clock(config);
    calls(&dependencies, &clock, "get", 10, Duration::from_millis(5));
    assert_eq!(limit_seen(&dependencies, "get"), Some(SECOND));
}

#[test]
fn a_number_that_is_out_of_range_is_an_error() {
    let dependencies = Dependencies::new();
    let config = database().operation(
        "get",
        OperationOverrides::new().adaptive_timeout(numbers().factor(0.5)),
    );
    let error = dependencies.register_with("db", config).unwrap_err();
    assert!(matches!(error, DependencyError::Invalid { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("factor is 0.5, it must be at least 1"),
        "{text}"
    );
    assert!(dependencies.names().is_empty());
}

#[test]
fn every_level_can_say_it() {
    let defaults = DependencyDefaults::new()
        .for_all(DependencyOverrides::new().adaptive_timeout(true))
        .for_kind(
            DependencyKind::Database,
            DependencyOverrides::new().adaptive_timeout(numbers()),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    dependencies.register_database("db").unwrap();
    dependencies.register_external_api("api").unwrap();
    let off = DependencyConfig::new(DependencyKind::Database).adaptive_timeout(false);
    dependencies.register_with("off", off).unwrap();
    for (name, level, factor) in [
        ("db", ConfigLevel::Kind, Some(2.0)),
        ("api", ConfigLevel::Global, Some(3.0)),
        ("off", ConfigLevel::Dependency, None),
    ] {
        let explained = dependencies.explain(name, "get").unwrap();
        assert_eq!(explained.adaptive_timeout.level, level, "{name}");
        let stats = explained.adaptive_timeout_stats;
        assert_eq!(stats.map(|stats| stats.config.factor), factor, "{name}");
    }
}

#[test]
fn the_reason_is_shown_in_words() {
    let (dependencies, clock) = with_clock(database());
    calls(&dependencies, &clock, "get", 10, Duration::from_millis(50));
    let text = dependencies.explain("db", "get").unwrap().to_string();
    let lines: Vec<_> = text.lines().skip(1).take(3).collect();
    assert_eq!(
        lines,
        [
            "  timeout               10s          preset",
            "  adaptive timeout      100.7ms      dependency",
            "    the factor times the quantile: 2 times 50.3ms, the 0.9 quantile of 10 samples",
        ]
    );
}

#[test]
fn each_attempt_of_a_pipeline_has_the_limit_of_the_moment() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let retry = RetryOverrides::new()
            .attempts(2)
            .first_delay(Duration::ZERO);
        let (dependencies, clock) = with_clock(database().bulkhead(kind).retry(retry));
        let pipeline: DependencyPipeline<&str> =
            dependencies.pipeline("db").unwrap().build().unwrap();
        let limit = || pipeline.execute(|| Ok(remaining())).into_result().unwrap();
        assert_eq!(limit(), Some(seconds(10)), "the ceiling");
        calls(&dependencies, &clock, "get", 10, Duration::from_millis(50));
        let learned = limit();
        assert!(is_about(learned, 100), "{kind}: {learned:?}");
        // What the first attempt takes leaves the second its whole limit.
        let (tried, hand) = (AtomicBool::new(false), clock.clone());
        let second = pipeline.execute(move || {
            if tried.swap(true, Ordering::Relaxed) {
                Ok(remaining())
            } else {
                hand.advance(Duration::from_millis(60));
                Err("down")
            }
        });
        assert_eq!(second.attempts, 2);
        assert_eq!(second.into_result().unwrap(), learned);
    }
}

#[test]
fn so_has_the_only_attempt_of_one_without_a_retry_and_a_timeout_of_its_own_stands_in_its_place() {
    let (dependencies, clock) = with_clock(database().retry(RetryOverrides::off()));
    let pipeline: DependencyPipeline<&str> = dependencies.pipeline("db").unwrap().build().unwrap();
    let own = dependencies.call("db").unwrap().timeout(seconds(3));
    let own: DependencyPipeline<&str> = own.pipeline().build().unwrap();
    calls(&dependencies, &clock, "get", 10, Duration::from_millis(50));
    let learned = pipeline.execute(|| Ok(remaining())).into_result().unwrap();
    assert!(is_about(learned, 100), "{learned:?}");
    let own = own.execute(|| Ok(remaining())).into_result().unwrap();
    assert_eq!(own, Some(seconds(3)));
}
