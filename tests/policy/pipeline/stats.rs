//! What a pipeline counts of its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bulkman::policy::{
    FailureKind, Fallback, Hedge, Pipeline, PipelineStats, RateLimit, RetryBudget, RetryStop,
};
use bulkman::{
    BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, ManualClock, SemaphoreBulkhead,
};

use super::helpers::{Error, flaky, pipeline, retry, semaphore, threads};
use crate::support::{Gate, OpenOnDrop, in_time, seconds};

/// Succeeded, answered by the fallback, failed.
fn outcomes(stats: &PipelineStats) -> [u64; 3] {
    let outcomes = [
        stats.successful_calls,
        stats.fallback_calls,
        stats.failed_calls,
    ];
    assert_eq!(stats.calls, outcomes.iter().sum::<u64>());
    outcomes
}

#[test]
fn each_call_counts_by_what_became_of_it_in_the_end() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .fallback(Fallback::value(0).only_for([FailureKind::Failed]))
        .retry(retry(2, &clock))
        .build()
        .unwrap();
    assert!(pipeline.execute(flaky(1).0).is_success());
    assert!(pipeline.execute(flaky(2).0).is_success());
    assert!(pipeline.execute(flaky(9).0).is_success());
    assert!(!pipeline.execute(|| panic!("a task")).is_success());
    let stats = pipeline.stats();
    assert_eq!(&*stats.name, "users");
    assert_eq!(outcomes(&stats), [2, 1, 1]);
    assert_eq!(stats.failed_as(FailureKind::Panicked), 1);
    assert_eq!(stats.failed_as(FailureKind::Failed), 0, "it was answered");
    assert_eq!((stats.retries, stats.attempts()), (2, 6));
    assert_eq!(stats.stopped_by(RetryStop::AttemptsUsedUp), 1);
    assert_eq!(stats.stopped_by(RetryStop::NotRetryable), 1, "the panic");
    assert_eq!(
        stats.to_string(),
        "pipeline `users`: 4 calls = 2 succeeded + 1 answered by the fallback + 1 failed; 2 retries, 0 hedges"
    );
}

#[test]
fn a_call_takes_all_its_attempts_and_pauses() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock).retry(retry(3, &clock)).build().unwrap();
    let result = pipeline.execute(flaky(3).0);
    assert_eq!(result.elapsed, Duration::from_millis(300));
    let duration = pipeline.stats().duration;
    assert_eq!((duration.count(), duration.sum()), (1, result.elapsed));
    assert_eq!(duration.max(), result.elapsed);
}

#[test]
fn a_used_up_budget_is_told_apart() {
    let clock = ManualClock::new();
    let budget = RetryBudget::new(0.0).reserve(0);
    let pipeline = pipeline(&clock)
        .retry(retry(3, &clock).budget(budget))
        .build()
        .unwrap();
    drop(pipeline.execute(flaky(9).0));
    let stats = pipeline.stats();
    assert_eq!(stats.stopped_by(RetryStop::BudgetUsedUp), 1);
    assert_eq!(stats.retries, 1, "the least that a budget has");
    assert_eq!(stats.failed_as(FailureKind::Failed), 1);
}

#[test]
fn attempts_that_the_pipelines_own_layers_refuse_are_counted_one_by_one() {
    let clock = ManualClock::new();
    let limit = RateLimit::new(1, seconds(3600)).unwrap();
    let limited = pipeline(&clock)
        .retry(retry(3, &clock).max_named_delay(seconds(7200)))
        .rate_limit(limit.clock(ManualClock::new()))
        .build()
        .unwrap();
    assert!(limited.execute(flaky(1).0).is_success());
    drop(limited.execute(flaky(1).0));
    let stats = limited.stats();
    assert_eq!(stats.rate_limited_attempts, 3);
    assert_eq!(stats.failed_as(FailureKind::RateLimited), 1);

    let breaker = CircuitBreaker::new("users", CircuitBreakerConfig::default()).unwrap();
    breaker.force_open();
    let open = pipeline(&clock)
        .circuit_breaker(Arc::new(breaker))
        .build()
        .unwrap();
    drop(open.execute(flaky(1).0));
    let stats = open.stats();
    assert_eq!(
        (stats.circuit_open_attempts, stats.rate_limited_attempts),
        (1, 0)
    );
    assert_eq!(stats.failed_as(FailureKind::CircuitOpen), 1);
}

#[test]
fn hedges_count_and_so_do_those_that_won() {
    in_time(|| {
        let [near, far] =
            ["near", "far"].map(|name| threads(BulkheadConfig::new(name), &ManualClock::new()));
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let pipeline: Pipeline<Error> = Pipeline::builder("users")
            .hedge(Hedge::after(Duration::ZERO).on(&far))
            .bulkhead(&near)
            .build()
            .unwrap();
        // On two workers of one bulkhead the second attempt might start first.
        let result = pipeline.execute(move || {
            let call = bulkman::current().expect("it runs in a call");
            if call.bulkhead_name() == "near" {
                gate.pass();
            }
            Ok(())
        });
        assert_eq!((result.hedged, result.hedges_won), (1, 1));
        let stats = pipeline.stats();
        assert_eq!((stats.hedged_attempts, stats.hedges_won), (1, 1));
        assert_eq!(outcomes(&stats), [1, 0, 0]);
    });
}

#[test]
fn clones_count_together_and_a_call_counts_before_its_listeners_hear_of_it() {
    let bulkhead = semaphore(BulkheadConfig::new("users"), &ManualClock::new());
    let own = Arc::new(std::sync::OnceLock::<
        Pipeline<Error, _, bulkman::SemaphoreKind>,
    >::new());
    let (heard, seen) = (Arc::clone(&own), Arc::new(AtomicU32::new(0)));
    let told = Arc::clone(&seen);
    let built = Pipeline::builder("users")
        .bulkhead(&bulkhead)
        .listener(move |_| {
            let calls = heard.get().unwrap().stats().calls;
            told.store(u32::try_from(calls).unwrap(), Ordering::Relaxed);
        })
        .build()
        .unwrap();
    own.set(built.clone()).unwrap();
    for calls in 1..4 {
        assert!(built.execute(|| Ok(1)).is_success());
        assert_eq!(seen.load(Ordering::Relaxed), calls);
        assert_eq!(own.get().unwrap().stats().calls, u64::from(calls));
    }
}

#[test]
fn a_pipeline_of_nothing_counts_nothing() {
    let nothing: Pipeline<Error, _, _> = Pipeline::builder("nothing").build().unwrap();
    assert!(nothing.execute(|| Ok(1)).is_success());
    let stats = nothing.stats();
    assert_eq!((&*stats.name, outcomes(&stats)), ("nothing", [0, 0, 0]));
}

#[test]
fn no_call_of_many_threads_is_lost() {
    let bulkhead = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("users")).unwrap());
    let pipeline: Pipeline<Error, _, _> = Pipeline::builder("users")
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pipeline = pipeline.clone();
            scope.spawn(move || {
                for call in 0..250 {
                    let fails = (thread + call) % 2 == 0;
                    drop(pipeline.execute(|| if fails { Err("down") } else { Ok(1) }));
                    outcomes(&pipeline.stats());
                }
            });
        }
    });
    let stats = pipeline.stats();
    assert_eq!(outcomes(&stats), [500, 0, 500]);
    assert_eq!(stats.duration.count(), 1000);
}

#[test]
#[cfg(feature = "config")]
fn they_serialise_by_their_names() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock).retry(retry(2, &clock)).build().unwrap();
    drop(pipeline.execute(flaky(9).0));
    let written = serde_json::to_value(pipeline.stats()).unwrap();
    assert_eq!(written["name"], "users");
    assert_eq!(
        (&written["calls"], &written["retries"]),
        (&1.into(), &1.into())
    );
    assert_eq!(written["failures"]["failed"], 1);
    assert_eq!(written["retry_stops"]["attempts_used_up"], 1);
    assert_eq!(written["duration"]["count"], 1);
}
