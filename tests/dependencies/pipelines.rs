//! Pipelines of dependencies: the retries and the rate limit that the settings name, around the dependency's bulkhead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bulkman::policy::{
    Chaos, FailureKind, Fallback, Jitter, LayerKind, Only, PipelineError, RetryStop, remaining,
};
use bulkman::{
    BulkheadKind, CircuitBreakerOverrides, ConfigLevel, Dependencies, DependencyConfig,
    DependencyDefaults, DependencyError, DependencyKind, DependencyOverrides, DependencyPipeline,
    HedgeOverrides, ManualClock, OperationOverrides, RateLimitOverrides, RetryOverrides,
    TimeoutSetting, current,
};

use super::support::{HOUR, seconds};

fn at_once() -> RetryOverrides {
    RetryOverrides::new().first_delay(Duration::ZERO)
}

/// Without a circuit breaker, which would end many attempts.
fn database() -> DependencyConfig {
    DependencyConfig::new(DependencyKind::Database).circuit_breaker(CircuitBreakerOverrides::off())
}

fn with(config: DependencyConfig) -> Dependencies {
    let dependencies = Dependencies::new();
    dependencies.register_with("db", config).unwrap();
    dependencies
}

fn pipeline(dependencies: &Dependencies) -> DependencyPipeline<&'static str> {
    dependencies.pipeline("db").unwrap().build().unwrap()
}

fn of_operation(
    dependencies: &Dependencies,
    operation: &'static str,
) -> DependencyPipeline<&'static str> {
    let call = dependencies.call("db").unwrap().operation(operation);
    call.pipeline().build().unwrap()
}

/// A task that always fails, and how often it was called.
fn down() -> (
    impl Fn() -> Result<u32, &'static str> + Send + Sync + 'static,
    Arc<AtomicU32>,
) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let task = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Err("down")
    };
    (task, calls)
}

#[test]
fn a_retry_that_is_configured_takes_place_on_both_kinds_of_bulkhead() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let dependencies = with(database().bulkhead(kind).retry(at_once().attempts(4)));
        let (task, calls) = down();
        let result = pipeline(&dependencies).execute(task);
        assert_eq!((result.attempts, calls.load(Ordering::Relaxed)), (4, 4));
        assert_eq!(result.retry_stop, Some(RetryStop::AttemptsUsedUp));
        assert_eq!(dependencies.stats_of("db").unwrap().failed_executions, 4);
    }
}

#[test]
fn without_a_word_about_it_there_is_neither_retry_nor_rate_limit() {
    let dependencies = with(database());
    let pipeline = pipeline(&dependencies);
    assert_eq!(
        pipeline.layers(),
        [LayerKind::Timeout, LayerKind::Bulkhead],
        "the timeout of its kind"
    );
    assert_eq!(pipeline.name(), "db");
    let result = pipeline.execute(down().0);
    assert_eq!((result.attempts, result.retry_stop), (1, None));
    // And where there is no timeout, there is nothing else.
    let dependencies = with(database().timeout(TimeoutSetting::Never));
    let bare = self::pipeline(&dependencies);
    assert_eq!(bare.layers(), [LayerKind::Bulkhead]);
}

#[test]
fn an_operation_has_retries_of_its_own_or_none() {
    let config = database()
        .retry(at_once().attempts(2))
        .operation(
            "add_user",
            OperationOverrides::new().retry(RetryOverrides::off()),
        )
        .operation(
            "get_user",
            OperationOverrides::new().retry(RetryOverrides::new().attempts(5)),
        );
    let dependencies = with(config);
    for (operation, attempts) in [("add_user", 1), ("get_user", 5), ("other", 2)] {
        let result = of_operation(&dependencies, operation).execute(down().0);
        assert_eq!(result.attempts, attempts, "{operation}");
    }
}

#[test]
fn the_pipelines_of_a_dependency_share_its_budget() {
    let own = RetryOverrides::new().budget(0.0).budget_reserve(1);
    let config = database()
        .retry(at_once().attempts(9).budget(0.0).budget_reserve(3))
        .operation(
            "same",
            OperationOverrides::new().retry(RetryOverrides::new().attempts(3)),
        )
        .operation("own", OperationOverrides::new().retry(own));
    let dependencies = with(config);
    let same = of_operation(&dependencies, "same").execute(down().0);
    assert_eq!(same.attempts, 3, "two of the three retries");
    let rest = pipeline(&dependencies).execute(down().0);
    assert_eq!(rest.attempts, 2);
    assert_eq!(rest.retry_stop, Some(RetryStop::BudgetUsedUp));
    let own = of_operation(&dependencies, "own").execute(down().0);
    assert_eq!(own.attempts, 2, "its own budget was untouched");
}

#[test]
fn the_pipelines_of_a_dependency_share_its_rate_limit() {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder().clock(clock.clone()).build();
    let limit = RateLimitOverrides::new().calls(2).period(seconds(10));
    let config = database().rate_limit(limit).retry(RetryOverrides::off());
    dependencies.register_with("db", config).unwrap();
    let one = pipeline(&dependencies);
    let other = of_operation(&dependencies, "get");
    assert!(one.execute(|| Ok(())).is_success());
    assert!(other.execute(|| Ok(())).is_success());
    match one.execute(|| Ok(())).into_result() {
        Err(PipelineError::RateLimited(limited)) => {
            assert_eq!((&*limited.name, limited.retry_after), ("db", seconds(5)));
        }
        other => panic!("{other:?}"),
    }
    clock.advance(seconds(5));
    assert!(other.execute(|| Ok(())).is_success());
}

#[test]
fn the_timeout_holds_for_all_attempts_and_one_of_its_own_for_each() {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder().clock(clock.clone()).build();
    let retry = at_once().attempts(3).attempt_timeout(seconds(4));
    let config = database()
        .bulkhead(BulkheadKind::Semaphore)
        .timeout(seconds(10))
        .retry(retry)
        .operation("quick", OperationOverrides::new().timeout(seconds(4)))
        .operation("long", OperationOverrides::new().timeout(HOUR));
    dependencies.register_with("db", config).unwrap();
    let pipeline = pipeline(&dependencies);
    assert_eq!(
        pipeline.layers(),
        [
            LayerKind::Timeout,
            LayerKind::Retry,
            LayerKind::Timeout,
            LayerKind::Bulkhead
        ]
    );
    let left = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&left);
    let result = pipeline.execute(move || {
        seen.lock().unwrap().push(remaining().unwrap());
        clock.advance(seconds(3));
        Err::<(), _>("down")
    });
    assert_eq!(result.attempts, 3);
    assert_eq!(*left.lock().unwrap(), [seconds(4), seconds(4), seconds(4)]);
    // Not shorter than the whole: it is left out.
    let quick = of_operation(&dependencies, "quick");
    assert_eq!(
        quick.layers(),
        [LayerKind::Timeout, LayerKind::Retry, LayerKind::Bulkhead]
    );
    // The operation's limit counts in place of the bulkhead's own.
    let long = of_operation(&dependencies, "long");
    let left = long.execute(|| Ok(current().unwrap().remaining().unwrap()));
    assert_eq!(left.into_result().unwrap(), seconds(4));
}

#[test]
fn the_limits_and_the_name_of_an_operation_reach_the_bulkhead() {
    let config = database().operation(
        "export",
        OperationOverrides::new().timeout(HOUR).queue_timeout(HOUR),
    );
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let dependencies = with(config.clone().bulkhead(kind));
        let told = of_operation(&dependencies, "export").execute(|| {
            let call = current().unwrap();
            let name = call.operation().map(str::to_owned);
            Ok((name, call.remaining().unwrap() > seconds(60)))
        });
        let (name, has_time) = told.into_result().unwrap();
        assert_eq!(name.as_deref(), Some("export"));
        assert!(has_time, "the dependency itself has 10 s");
    }
}

#[test]
fn a_calls_own_limit_comes_before_all_others() {
    let dependencies = with(database());
    let call = dependencies.call("db").unwrap().timeout(HOUR);
    let pipeline: DependencyPipeline<io::Error> = call.pipeline().build().unwrap();
    let left = pipeline.execute(|| Ok(remaining().unwrap())).into_result();
    assert!(left.unwrap() > seconds(60));
    let none = dependencies.call("db").unwrap().timeout(Duration::ZERO);
    let error = none.pipeline::<io::Error>().build().unwrap_err();
    assert_eq!(error.to_string(), "pipeline `db` cannot be built");
}

#[test]
fn a_second_attempt_begins_beside_a_slow_one() {
    let hedge = HedgeOverrides::new().delay(Duration::ZERO);
    let config = database().hedge(hedge).operation(
        "write",
        OperationOverrides::new().hedge(HedgeOverrides::off()),
    );
    let dependencies = with(config);
    let pipeline = pipeline(&dependencies);
    assert_eq!(
        pipeline.layers(),
        [LayerKind::Timeout, LayerKind::Hedge, LayerKind::Bulkhead]
    );
    let first = Arc::new(AtomicBool::new(true));
    let result = pipeline.execute(move || {
        if first.swap(false, Ordering::Relaxed) {
            // Until it is told that the other one has won.
            while !current().unwrap().is_cancelled() {
                std::thread::yield_now();
            }
        }
        Ok(7)
    });
    assert_eq!((result.hedged, result.value()), (1, Some(&7)));
    let write = of_operation(&dependencies, "write");
    assert_eq!(write.layers(), [LayerKind::Timeout, LayerKind::Bulkhead]);
}

#[test]
fn a_limit_that_changes_holds_for_the_next_attempt() {
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let clock = ManualClock::new();
        let dependencies = Dependencies::builder().clock(clock).build();
        let config = database().bulkhead(kind).timeout(HOUR);
        dependencies.register_with("db", config).unwrap();
        let pipeline = pipeline(&dependencies);
        let limit = || {
            let left = pipeline.execute(|| Ok(current().unwrap().remaining()));
            left.into_result().unwrap().unwrap()
        };
        assert_eq!(limit(), HOUR);
        let bulkhead = dependencies.bulkhead("db").unwrap();
        bulkhead.set_execution_timeout(seconds(5)).unwrap();
        assert_eq!(limit(), seconds(5));
    }
}

#[test]
fn functions_are_added_to_what_is_configured() {
    let dependencies = with(database().retry(at_once().attempts(5)));
    let listened = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&listened);
    let chaos = Chaos::new().errors(1.0, || "chaos");
    let pipeline: DependencyPipeline<_, Only<u32>> = dependencies
        .pipeline("db")
        .unwrap()
        .retry_with(|retry| retry.retry_if(|error: &&str| *error != "gone"))
        .failure_if(|error| *error == "down")
        .fallback(Fallback::value(7).only_for([FailureKind::Failed]))
        .listener(move |event| {
            heard.fetch_add(event.attempts, Ordering::Relaxed);
        })
        .chaos(chaos.clone())
        .build()
        .unwrap();
    let gone = pipeline.execute(|| Err("gone"));
    assert_eq!((gone.attempts, gone.value()), (1, Some(&7)));
    assert_eq!(listened.load(Ordering::Relaxed), 1);
    chaos.switch_on();
    let drill = pipeline.clone().execute(|| Ok(1));
    assert_eq!((drill.attempts, drill.value()), (5, Some(&7)));
    assert_eq!(chaos.stats().errors, 5);
}

#[test]
fn a_listener_of_all_hears_of_each_call_once_with_its_attempts() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let dependencies = Dependencies::builder()
        .clock(ManualClock::new())
        .on_pipeline_event(move |event| heard.lock().unwrap().push(event.to_string()))
        .on_pipeline_event(|_| panic!("a listener"))
        .build();
    let config = database().retry(at_once().attempts(3));
    dependencies.register_with("db", config).unwrap();
    drop(of_operation(&dependencies, "get").execute(down().0));
    drop(pipeline(&dependencies).execute(|| Ok(1)));
    assert_eq!(
        *told.lock().unwrap(),
        [
            "pipeline `db`, operation `get`: failed after 3 attempts in 0.0ns",
            "pipeline `db`: succeeded after 1 attempt in 0.0ns",
        ]
    );
}

#[test]
fn where_no_retry_is_configured_there_is_none_to_change() {
    let dependencies = with(database());
    let pipeline = dependencies
        .pipeline("db")
        .unwrap()
        .retry_with(|retry| retry.retry_if(|_: &&str| true))
        .build()
        .unwrap();
    assert_eq!(pipeline.execute(down().0).attempts, 1);
}

#[test]
fn a_shut_down_dependency_ends_the_attempts() {
    let dependencies = with(database().retry(at_once().attempts(5)));
    let pipeline = pipeline(&dependencies);
    dependencies.shutdown_all(Duration::ZERO);
    let result = pipeline.execute(|| Ok(()));
    assert_eq!(result.attempts, 1);
    assert!(matches!(
        result.into_result(),
        Err(PipelineError::Call(error)) if error.is_shut_down()
    ));
}

#[test]
fn values_out_of_range_are_told_when_the_dependency_is_registered() {
    let dependencies = Dependencies::new();
    let retry = RetryOverrides::new;
    let limit = RateLimitOverrides::new;
    for (config, text) in [
        (
            database().retry(retry().attempts(0)),
            "retry.attempts is 0, it must be at least 1",
        ),
        (
            database().retry(retry().factor(0.5)),
            "retry.factor is 0.5, it must be a number, at least 1",
        ),
        (
            database().retry(retry().factor(f64::INFINITY)),
            "retry.factor is inf, it must be a number, at least 1",
        ),
        (
            database().retry(retry().budget(f64::NAN)),
            "retry.budget is NaN, it must be a number from 0 to 1",
        ),
        (
            database().retry(retry().budget_reserve(0)),
            "retry.budget_reserve is 0, it must be at least 1",
        ),
        (
            database().retry(retry().attempt_timeout(Duration::ZERO)),
            "retry.attempt_timeout is 0ns, it must be greater than zero; leave it out for no limit",
        ),
        (
            database().rate_limit(RateLimitOverrides::on()),
            "rate_limit.calls is none, it must be a number of calls",
        ),
        (
            database().rate_limit(limit().calls(0)),
            "rate_limit.calls is 0, it must be at least 1",
        ),
        (
            database().rate_limit(limit().calls(2).period(Duration::from_nanos(1))),
            "rate_limit.period is 1ns, it must be at least a nanosecond for each call",
        ),
        (
            database().rate_limit(limit().calls(2).burst(0)),
            "rate_limit.burst is 0, it must be at least 1",
        ),
    ] {
        let error = dependencies.register_with("db", config).unwrap_err();
        assert!(matches!(error, DependencyError::Invalid { .. }));
        assert!(error.to_string().ends_with(text), "{error}");
    }
    for (config, text) in [
        (
            database().hedge(HedgeOverrides::on()),
            "hedge.delay is none, it must be a duration",
        ),
        (
            database().hedge(HedgeOverrides::new().quantile(f64::NAN)),
            "hedge.quantile is NaN, it must be a number from 0 to 1",
        ),
        (
            database()
                .bulkhead(BulkheadKind::Semaphore)
                .hedge(HedgeOverrides::new().delay(HOUR)),
            "since two attempts at once cannot run in one thread",
        ),
    ] {
        let error = dependencies.register_with("db", config).unwrap_err();
        assert!(error.to_string().ends_with(text), "{error}");
    }
    let operation = OperationOverrides::new().retry(retry().attempts(0));
    let error = dependencies.register_with("db", database().operation("get", operation));
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("dependency `db`, operation `get`"),
        "{error}"
    );
    // What is switched off is not looked at.
    let off = RateLimitOverrides::off();
    dependencies
        .register_with("db", database().rate_limit(off))
        .unwrap();
}

#[test]
fn each_rule_is_decided_by_itself_and_explained() {
    let defaults = DependencyDefaults::new()
        .for_all(
            DependencyOverrides::new()
                .retry(RetryOverrides::new().max_delay(seconds(2)).factor(3.0))
                .rate_limit(RateLimitOverrides::new().max_wait(seconds(1))),
        )
        .for_kind(
            DependencyKind::Database,
            DependencyOverrides::new().retry(RetryOverrides::new().attempts(4).factor(1.5)),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let get = OperationOverrides::new().retry(RetryOverrides::new().jitter(Jitter::None));
    let config = database()
        .rate_limit(RateLimitOverrides::new().calls(50))
        .operation("get", get);
    dependencies.register_with("db", config).unwrap();
    dependencies.register_cache("cache").unwrap();
    let explained = dependencies.explain("db", "get").unwrap();
    assert!(explained.retry.value && explained.rate_limit.value);
    assert_eq!(explained.retry.level, ConfigLevel::Operation);
    assert_eq!(explained.rate_limit.level, ConfigLevel::Dependency);
    let text = explained.to_string();
    let (_, policies) = text.split_once("\n  retry").unwrap();
    assert_eq!(
        policies,
        "                on           operation
    attempts           4            kind
    budget             0.1          built-in default
    factor             1.5          kind
    first_delay        100ms        built-in default
    jitter             none         operation
    max_delay          2s           global default
  rate limit           on           dependency
    calls              50           dependency
    max_wait           1s           global default
    period             1s           built-in default"
    );
    // Rules for all give nobody a retry.
    let cache = dependencies.explain("cache", "get").unwrap();
    assert!(!cache.retry.value && !cache.rate_limit.value);
    assert!(cache.retry_rules.is_empty());
    assert!(!cache.to_string().contains("retry"), "{cache}");
}

#[test]
fn all_pipelines_of_a_dependency_count_together_also_after_its_settings_have_changed() {
    let dependencies = with(database().retry(at_once().attempts(2)));
    dependencies.register_cache("sessions").unwrap();
    assert!(dependencies.pipeline_stats().is_empty());
    let (whole, get) = (pipeline(&dependencies), of_operation(&dependencies, "get"));
    assert!(whole.execute(|| Ok(1)).is_success());
    assert!(!get.execute(down().0).is_success());
    let changed = database().retry(at_once().attempts(3));
    let changes =
        dependencies.apply_config(DependencyDefaults::new(), [("db".to_owned(), changed)]);
    assert_eq!(changes.unwrap().len(), 1);
    assert!(!pipeline(&dependencies).execute(down().0).is_success());

    let all = dependencies.pipeline_stats();
    let [stats] = &all[..] else {
        panic!("one dependency has pipelines: {all:?}");
    };
    assert_eq!(&*stats.name, "db");
    let counted = (
        stats.calls,
        stats.successful_calls,
        stats.failed_calls,
        stats.retries,
    );
    assert_eq!(counted, (3, 1, 2, 1 + 2));
    assert_eq!(whole.stats().calls, 3);
}

#[test]
fn the_timeout_over_everything_follows_settings_that_are_applied() {
    let config = || {
        let get = OperationOverrides::new().timeout(seconds(7));
        database().operation("get", get).retry(at_once())
    };
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let dependencies = with(config().bulkhead(kind).timeout(seconds(20)));
        let (whole, get) = (pipeline(&dependencies), of_operation(&dependencies, "get"));
        let left = |pipeline: &DependencyPipeline<&'static str>| {
            let left = pipeline.execute(|| Ok(remaining())).into_result();
            left.unwrap().unwrap()
        };
        assert!(left(&whole) > seconds(15) && left(&whole) <= seconds(20));
        for (timeout, at_least) in [(60, 50), (10, 5)] {
            let other = config().bulkhead(kind).timeout(seconds(timeout));
            let defaults = DependencyDefaults::new();
            let changes = dependencies.apply_config(defaults, [("db".to_owned(), other)]);
            assert_eq!(changes.unwrap().len(), 1);
            let left = left(&whole);
            assert!(
                left > seconds(at_least) && left <= seconds(timeout),
                "{kind}: {left:?}"
            );
        }
        assert!(left(&get) <= seconds(7), "the operation's own stays");
    }
}
