//! A call through a pipeline is one span around those of its attempts. So is one of a retry, a hedge or a fallback alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bulkman::policy::{
    Deadline, Fallback, Hedge, Pipeline, PipelineBuilder, PipelineResult, RateLimit, Retry,
};
use bulkman::{
    Bulkhead, CircuitBreaker, CircuitBreakerConfig, Dependencies, DependencyConfig, DependencyKind,
    ManualClock, SemaphoreBulkhead,
};
use tracing::info_span;

use crate::helpers::{Ended, Seen};
use crate::support::{Gate, OpenOnDrop, bulkhead, config, in_time, named, occupy};

type Error = &'static str;

/// A retry without pauses.
fn retry(attempts: u32) -> Retry {
    Retry::new(attempts).first_delay(Duration::ZERO)
}

fn here() -> Arc<SemaphoreBulkhead> {
    Arc::new(SemaphoreBulkhead::new(named("database", 1, 1)).unwrap())
}

/// Fails until its call number `good`.
fn good_at(good: u32) -> impl Fn() -> Result<u32, Error> + Send + Sync + 'static {
    let calls = AtomicU32::new(0);
    move || match calls.fetch_add(1, Ordering::Relaxed) + 1 {
        call if call >= good => Ok(call),
        _ => Err("down"),
    }
}

fn in_request(body: impl FnOnce()) -> Seen {
    Seen::during(|| info_span!("request").in_scope(body))
}

#[track_caller]
fn check(span: &Ended, fields: &[(&str, &str)]) {
    assert_eq!(span.target, "bulkman");
    for (name, value) in fields {
        assert_eq!(span.field(name), *value, "{name}: {span:?}");
    }
}

#[track_caller]
fn has_not(span: &Ended, fields: &[&str]) {
    for name in fields {
        assert_eq!(span.fields.get(name), None, "{span:?}");
    }
}

#[test]
fn the_attempts_of_a_call_on_workers_are_its_children() {
    let pool = Arc::new(Bulkhead::new(named("database", 1, 1)).unwrap());
    let pipeline: Pipeline<Error> = Pipeline::builder("users")
        .timeout(Duration::from_secs(60))
        .retry(retry(3))
        .bulkhead(&pool)
        .operation("get_user")
        .build()
        .unwrap();
    let seen = in_request(|| {
        assert!(pipeline.execute(good_at(3)).is_success());
        tracing::info!("after");
    });
    let call = seen.only("pipeline_call");
    assert_eq!(call.parent, Some("request"));
    check(
        &call,
        &[
            ("pipeline", "users"),
            ("operation", "get_user"),
            ("outcome", "succeeded"),
            ("attempts", "3"),
            ("decided_by", "task"),
        ],
    );
    let absent = ["retry_stop", "fell_back_from", "hedged", "otel.status_code"];
    has_not(&call, &absent);
    let attempts = seen.calls();
    let outcomes: Vec<_> = attempts.iter().map(|span| span.field("outcome")).collect();
    assert_eq!(outcomes, ["failed", "failed", "succeeded"]);
    for attempt in &attempts {
        assert_eq!(attempt.parent, Some("pipeline_call"));
    }
    assert_eq!(seen.around("after"), ["request"]);
    assert_eq!((seen.open(), seen.entered()), (0, 0));
}

#[test]
fn so_are_those_in_the_callers_thread() {
    let pipeline = Pipeline::builder("users").retry(retry(2)).bulkhead(&here());
    let pipeline: Pipeline<Error, _, _> = pipeline.build().unwrap();
    let task = good_at(2);
    let seen = in_request(|| {
        let task = || {
            tracing::info!("inside");
            task()
        };
        assert!(pipeline.execute(task).is_success());
    });
    let around = ["request", "pipeline_call", "bulkhead_call"];
    assert_eq!(seen.around("inside"), around);
    check(&seen.only("pipeline_call"), &[("attempts", "2")]);
    assert_eq!(seen.calls().len(), 2);
    assert_eq!((seen.open(), seen.entered()), (0, 0));
}

#[test]
fn a_pipeline_of_nothing_has_its_span_too() {
    let pipeline: Pipeline<Error, _, _> = Pipeline::builder("users").build().unwrap();
    let seen = in_request(|| {
        let result = pipeline.execute(|| {
            tracing::info!("inside");
            Ok(1)
        });
        assert_eq!(result.value(), Some(&1));
        assert!(!pipeline.execute(|| Err::<(), _>("down")).is_success());
    });
    assert_eq!(seen.around("inside"), ["request", "pipeline_call"]);
    let [good, bad] = &seen.all("pipeline_call")[..] else {
        panic!("two calls");
    };
    check(good, &[("outcome", "succeeded"), ("attempts", "1")]);
    has_not(good, &["operation"]);
    check(bad, &[("outcome", "failed"), ("otel.status_code", "ERROR")]);
}

#[test]
fn a_call_that_a_task_makes_is_below_the_tasks_span() {
    let outer = bulkhead(1, 1);
    let pipeline: Pipeline<Error, _, _> = Pipeline::builder("users").build().unwrap();
    let seen = in_request(|| {
        let task = move || pipeline.execute(|| Ok(1)).is_success();
        assert_eq!(outer.run(task).wait().value(), Some(&true));
    });
    assert_eq!(seen.only("pipeline_call").parent, Some("bulkhead_call"));
}

/// The span of one call, whatever became of it.
fn span_of<T, E>(call: impl FnOnce() -> PipelineResult<T, E>) -> Ended {
    Seen::during(|| drop(call())).only("pipeline_call")
}

fn bare() -> PipelineBuilder<Error> {
    Pipeline::builder("users")
}

#[test]
fn it_says_which_layer_refused_and_that_it_is_an_error() {
    let limit = RateLimit::new(1, Duration::from_secs(3600)).unwrap();
    limit.try_acquire().unwrap();
    let limited = bare().rate_limit(limit).build().unwrap();
    let breaker = CircuitBreaker::new("users", CircuitBreakerConfig::default()).unwrap();
    breaker.trip();
    let open = bare().circuit_breaker(Arc::new(breaker)).build().unwrap();
    let late = bare().timeout(Duration::from_secs(60)).build().unwrap();
    let ended = here();
    ended.shutdown();
    let shut = bare().bulkhead(&ended).build().unwrap();
    let panics = bare().build().unwrap();
    let task = || Ok::<_, Error>(1);
    let spans = [
        span_of(|| limited.execute(task)),
        span_of(|| open.execute(task)),
        span_of(|| Deadline::after(Duration::ZERO).with(|| late.execute(task))),
        span_of(|| shut.execute(task)),
        span_of(|| panics.execute(|| -> Result<u32, Error> { panic!("a task") })),
    ];
    let expected = [
        ("rate limited", "rate limit"),
        ("circuit open", "circuit breaker"),
        ("timeout", "timeout"),
        ("shut down", "bulkhead"),
        ("panicked", "task"),
    ];
    for (span, (outcome, layer)) in spans.iter().zip(expected) {
        check(
            span,
            &[
                ("outcome", outcome),
                ("decided_by", layer),
                ("otel.status_code", "ERROR"),
            ],
        );
    }
}

#[test]
fn a_cancelled_call_is_no_error() {
    let pool = Arc::new(bulkhead(1, 1));
    let pipeline: Pipeline<Error> = Pipeline::builder("users").bulkhead(&pool).build().unwrap();
    let busy = occupy(&pool, 1);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| seen.on(|| drop(pipeline.execute(|| Ok(1)))));
        crate::support::eventually("it is queued", || pool.stats().queued_tasks == 1);
        let _ = pool.shutdown_now();
        calls.join().unwrap();
    });
    busy.finish();
    let call = seen.only("pipeline_call");
    check(&call, &[("outcome", "cancelled")]);
    has_not(&call, &["otel.status_code"]);
}

#[test]
fn an_answer_of_the_fallback_is_a_success_that_says_what_it_stands_for() {
    let spare = Arc::new(Bulkhead::new(named("spare", 1, 1)).unwrap());
    let pipeline = bare()
        .fallback(Fallback::bulkhead(spare, || Ok::<_, Error>(7)))
        .retry(retry(2))
        .bulkhead(&here())
        .build()
        .unwrap();
    let seen = in_request(|| {
        assert_eq!(pipeline.execute(|| Err("down")).value(), Some(&7));
    });
    let call = seen.only("pipeline_call");
    check(
        &call,
        &[
            ("outcome", "succeeded"),
            ("decided_by", "fallback"),
            ("fell_back_from", "failed"),
            ("retry_stop", "all attempts are used up"),
            ("attempts", "2"),
        ],
    );
    has_not(&call, &["otel.status_code"]);
    let calls = seen.calls();
    let bulkheads: Vec<_> = calls.iter().map(|call| call.field("bulkhead")).collect();
    assert_eq!(bulkheads, ["database", "database", "spare"]);
    for call in &calls {
        assert_eq!(call.parent, Some("pipeline_call"));
    }
}

/// One for the first attempts, and one for the second ones.
fn near_and_far() -> [Arc<Bulkhead>; 2] {
    ["near", "far"].map(|name| Arc::new(Bulkhead::new(named(name, 1, 0)).unwrap()))
}

/// A task that waits at the gate on the bulkhead `near`. With two workers of one bulkhead, the second attempt may start
/// first.
fn slow_when_near(gate: &Gate) -> impl Fn() -> Result<(), Error> + Send + Sync + 'static {
    let gate = gate.clone();
    move || {
        let call = bulkman::current().expect("it runs in a call");
        if call.bulkhead_name() == "near" {
            gate.pass();
        }
        Ok(())
    }
}

#[test]
fn both_attempts_of_a_hedge_are_its_children() {
    in_time(|| {
        let [near, far] = near_and_far();
        let gate = Gate::new();
        let open = OpenOnDrop(gate.clone());
        let pipeline: Pipeline<Error> = Pipeline::builder("users")
            .hedge(Hedge::after(Duration::ZERO).on(&far))
            .bulkhead(&near)
            .build()
            .unwrap();
        let seen = Seen::default();
        seen.on(|| {
            let result = pipeline.execute(slow_when_near(&gate));
            assert_eq!((result.hedged, result.hedges_won), (1, 1));
        });
        // A span ends when its children have ended.
        drop(open);
        near.shutdown();
        far.shutdown();
        check(
            &seen.only("pipeline_call"),
            &[("hedged", "1"), ("hedges_won", "1"), ("attempts", "1")],
        );
        let parents: Vec<_> = seen.calls().iter().map(|call| call.parent).collect();
        assert_eq!(parents, [Some("pipeline_call"); 2]);
    });
}

#[test]
fn an_attempt_that_fails_is_an_event_within_the_calls_span() {
    let pipeline = bare().retry(retry(3)).build().unwrap();
    let seen = in_request(|| assert!(pipeline.execute(good_at(3)).is_success()));
    let text = "the attempt failed, and another one follows";
    assert_eq!(seen.around(text), ["request", "pipeline_call"]);
    let events = seen.events();
    let attempts: Vec<_> = events
        .iter()
        .map(|event| &event.fields["attempt"])
        .collect();
    assert_eq!(attempts, ["1", "2"]);
    assert_eq!(events[0].fields["retry"], "users");
    assert_eq!(events[0].fields["delay_seconds"], "0.0");
}

#[test]
fn a_retry_alone_has_a_span_around_its_attempts() {
    let (retry, here) = (retry(2).name("users"), here());
    let seen = in_request(|| {
        let (good, bad) = (good_at(2), good_at(9));
        assert!(retry.call(|| here.execute(&good)).is_ok());
        assert!(retry.call(|| here.execute(&bad)).is_err());
    });
    let [good, bad] = &seen.all("retry_call")[..] else {
        panic!("two calls");
    };
    check(
        good,
        &[
            ("retry", "users"),
            ("outcome", "succeeded"),
            ("attempts", "2"),
        ],
    );
    has_not(good, &["retry_stop", "otel.status_code"]);
    check(
        bad,
        &[
            ("outcome", "failed"),
            ("attempts", "2"),
            ("retry_stop", "all attempts are used up"),
            ("otel.status_code", "ERROR"),
        ],
    );
    let parents: Vec<_> = seen.calls().iter().map(|call| call.parent).collect();
    assert_eq!(parents, [Some("retry_call"); 4]);
}

#[test]
fn a_panic_that_passes_through_a_retry_ends_its_span() {
    let retry = retry(2);
    let seen = in_request(|| {
        let panics = std::panic::catch_unwind(|| {
            retry.call(|| -> Result<(), bulkman::BulkheadError<Error>> { panic!("a closure") })
        });
        let payload = panics.unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"a closure"));
        tracing::info!("after");
    });
    assert_eq!(seen.around("after"), ["request"]);
    check(
        &seen.only("retry_call"),
        &[("outcome", "panicked"), ("otel.status_code", "ERROR")],
    );
    assert_eq!((seen.open(), seen.entered()), (0, 0));
}

#[test]
fn a_hedge_alone_has_a_span_around_both() {
    in_time(|| {
        let [near, far] = near_and_far();
        let gate = Gate::new();
        let open = OpenOnDrop(gate.clone());
        let hedge = Hedge::after(Duration::ZERO).on(&far);
        let seen = Seen::default();
        seen.on(|| drop(hedge.execute(&near, slow_when_near(&gate))));
        drop(open);
        near.shutdown();
        far.shutdown();
        check(
            &seen.only("hedge_call"),
            &[
                ("bulkhead", "near"),
                ("outcome", "succeeded"),
                ("hedged", "true"),
                ("second_won", "true"),
            ],
        );
        let parents: Vec<_> = seen.calls().iter().map(|call| call.parent).collect();
        assert_eq!(parents, [Some("hedge_call"); 2]);
    });
}

#[test]
fn a_fallback_alone_has_a_span_around_the_call_and_its_answer() {
    let here = here();
    let fallback = Fallback::value(7).name("users");
    let none = Fallback::with(|_| None).name("none");
    let seen = in_request(|| {
        assert!(matches!(
            fallback.call(|| here.execute(|| Err("down"))),
            Ok(7)
        ));
        assert!(matches!(fallback.call(|| here.execute(|| Ok(1))), Ok(1)));
        assert!(
            none.call(|| here.execute(|| Err::<u32, _>("down")))
                .is_err()
        );
    });
    let spans = seen.all("fallback_call");
    let expected = [
        ("users", "succeeded", "true"),
        ("users", "succeeded", "false"),
        ("none", "failed", "false"),
    ];
    assert_eq!(spans.len(), 3);
    for (span, (name, outcome, fell_back)) in spans.iter().zip(expected) {
        check(
            span,
            &[
                ("fallback", name),
                ("outcome", outcome),
                ("fell_back", fell_back),
            ],
        );
    }
    has_not(&spans[0], &["otel.status_code"]);
    check(&spans[2], &[("otel.status_code", "ERROR")]);
    assert_eq!(seen.calls()[0].parent, Some("fallback_call"));
}

#[test]
fn each_can_do_without() {
    let here = here();
    let pipeline: Pipeline<Error, _, _> = Pipeline::builder("users")
        .retry(retry(2))
        .bulkhead(&here)
        .call_spans(false)
        .build()
        .unwrap();
    let empty = bare().call_spans(false).build().unwrap();
    let dependencies = Dependencies::new();
    let users = DependencyConfig::new(DependencyKind::Database);
    dependencies.register_with("users", users).unwrap();
    let of_dependency = dependencies.pipeline::<Error>("users").unwrap();
    let of_dependency = of_dependency.call_spans(false).build().unwrap();
    let pool = bulkhead(1, 1);
    let seen = in_request(|| {
        assert!(pipeline.execute(good_at(2)).is_success());
        assert!(empty.execute(|| Ok(1)).is_success());
        assert!(of_dependency.execute(|| Ok(1)).is_success());
        let retry = retry(1).call_spans(false);
        assert!(retry.call(|| here.execute(|| Ok::<_, Error>(1))).is_ok());
        let hedge = Hedge::after(Duration::from_secs(60)).call_spans(false);
        assert!(hedge.execute(&pool, || Ok::<_, Error>(1)).is_success());
        let fallback = Fallback::value(1).call_spans(false);
        assert!(fallback.call(|| here.execute(|| Ok::<_, Error>(1))).is_ok());
    });
    for name in ["pipeline_call", "retry_call", "hedge_call", "fallback_call"] {
        assert!(seen.all(name).is_empty(), "{name}");
    }
    assert!(seen.events().is_empty(), "{:?}", seen.events());
    let parents: Vec<_> = seen.calls().iter().map(|call| call.parent).collect();
    assert_eq!(parents, [Some("request"); 6]);
}

#[test]
fn a_layer_that_leaves_them_out_still_has_the_callers() {
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    let pool = Arc::new(bulkhead(1, 0));
    let pipeline: Pipeline<Error> = Pipeline::builder("users").bulkhead(&pool).build().unwrap();
    let [all, seen] = [(); 2].map(|()| Seen::default());
    let others = filter_fn(|metadata| metadata.target() != "bulkman");
    let subscriber = tracing_subscriber::registry()
        .with(seen.clone().with_filter(others))
        .with(all.clone());
    tracing::subscriber::with_default(subscriber, || {
        info_span!("request").in_scope(|| {
            let result = pipeline.execute(|| {
                tracing::info!("inside");
                Ok(1)
            });
            assert!(result.is_success());
        });
    });
    assert_eq!(seen.around("inside"), ["request"]);
    let around = ["request", "pipeline_call", "bulkhead_call"];
    assert_eq!(all.around("inside")[..2], around[..2]);
}

#[test]
fn a_pause_is_within_the_span_and_a_listener_too() {
    let clock = ManualClock::new();
    let hand = clock.clone();
    let pipeline = bare()
        .retry(Retry::new(2).listener(move |_| hand.advance(Duration::from_secs(60))))
        .clock(clock)
        .listener(|_| tracing::info!("told"))
        .build()
        .unwrap();
    let seen = in_request(|| assert!(pipeline.execute(good_at(2)).is_success()));
    assert_eq!(seen.around("told"), ["request", "pipeline_call"]);
    let call = seen.only("pipeline_call");
    let elapsed: f64 = call.field("elapsed_seconds").parse().unwrap();
    assert_eq!(elapsed, 120.0, "a minute after each attempt");
}

#[test]
fn without_a_subscriber_there_is_nothing() {
    let pipeline = bare().bulkhead(&Arc::new(SemaphoreBulkhead::new(config(1, 1)).unwrap()));
    let pipeline: Pipeline<Error, _, _> = pipeline.build().unwrap();
    assert!(
        pipeline
            .execute(|| Ok(tracing::Span::current().is_none()))
            .value()
            == Some(&true)
    );
}
