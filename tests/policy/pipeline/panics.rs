//! User code that panics in a pipeline.

use std::time::Duration;

use bulkman::policy::{
    Failure, FailureKind, Fallback, Pipeline, PipelineError, Retry, RetryStop, attempt,
};
use bulkman::{BulkheadConfig, BulkheadError, ManualClock};

use super::helpers::{flaky, pipeline, retry, semaphore, threads};
use crate::support::{Bomb, SECOND};

#[test]
fn a_task_that_panics_is_an_outcome_wherever_it_runs() {
    let clock = ManualClock::new();
    let task = || -> Result<(), &'static str> { panic!("a task") };
    let on_threads = threads(BulkheadConfig::new("users"), &clock);
    let in_callers = semaphore(BulkheadConfig::new("users"), &clock);
    let errors = [
        pipeline(&clock)
            .bulkhead(&on_threads)
            .build()
            .unwrap()
            .execute(task),
        pipeline(&clock)
            .bulkhead(&in_callers)
            .build()
            .unwrap()
            .execute(task),
        pipeline(&clock)
            .timeout(SECOND)
            .build()
            .unwrap()
            .execute(task),
    ];
    for result in errors {
        match result.into_result() {
            Err(PipelineError::Call(BulkheadError::Panicked(panic))) => {
                assert_eq!(
                    (panic.message(), panic.bulkhead_name()),
                    ("a task", "users")
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_is_retried_only_if_asked_for() {
    let clock = ManualClock::new();
    for (asked, attempts) in [(false, 1), (true, 3)] {
        let retry = retry(3, &clock);
        let retry = if asked { retry.retry_panics() } else { retry };
        let pipeline = pipeline(&clock).retry(retry).build().unwrap();
        let result = pipeline.execute(|| -> Result<(), _> { panic!("a task") });
        assert_eq!(result.attempts, attempts);
    }
}

#[test]
fn a_fallback_that_panics_leaves_the_error() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .fallback(Fallback::<u32, _>::with(|_| panic!("a fallback")))
        .build()
        .unwrap();
    let error = pipeline.execute(|| Err("down")).into_result().unwrap_err();
    assert_eq!(error.failed(), Some(&"down"));
}

#[test]
fn a_retry_predicate_that_panics_means_no() {
    let clock = ManualClock::new();
    let retry = Retry::new(3).retry_if(|_: &&'static str| panic!("a predicate"));
    let pipeline = pipeline(&clock).retry(retry).build().unwrap();
    let result = pipeline.execute(|| Err::<(), _>("down"));
    assert_eq!(
        (result.attempts, result.retry_stop),
        (1, Some(RetryStop::NotRetryable))
    );
}

#[test]
fn a_listener_that_panics_changes_nothing() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .listener(|_| panic!("a listener"))
        .build()
        .unwrap();
    assert_eq!(pipeline.execute(flaky(1).0).value(), Some(&1));
}

#[test]
fn a_failure_predicate_that_panics_leaves_a_failure() {
    let clock = ManualClock::new();
    let rules = bulkman::CircuitBreakerConfig::default().failure_threshold(1);
    let breaker = bulkman::CircuitBreaker::new("users", rules).unwrap();
    let breaker = std::sync::Arc::new(breaker);
    let pipeline = pipeline(&clock)
        .circuit_breaker(std::sync::Arc::clone(&breaker))
        .failure_if(|_| panic!("a predicate"))
        .build()
        .unwrap();
    let result = pipeline.execute(|| Err::<(), _>("down"));
    assert_eq!(result.error().unwrap().failure_kind(), FailureKind::Failed);
    assert!(breaker.is_open());
}

#[test]
fn a_task_whose_drop_panics_leaves_the_result() {
    let clock = ManualClock::new();
    let on_threads = threads(BulkheadConfig::new("users"), &clock);
    let in_callers = semaphore(BulkheadConfig::new("users"), &clock);
    let task = || {
        let bomb = Bomb;
        move || {
            let _ = &bomb;
            Ok(1)
        }
    };
    assert_eq!(
        pipeline(&clock)
            .bulkhead(&on_threads)
            .build()
            .unwrap()
            .execute(task())
            .value(),
        Some(&1)
    );
    assert_eq!(
        pipeline(&clock)
            .bulkhead(&in_callers)
            .build()
            .unwrap()
            .execute(task())
            .value(),
        Some(&1)
    );
    assert_eq!(
        pipeline(&clock).build().unwrap().execute(task()).value(),
        Some(&1)
    );
}

#[test]
fn an_error_whose_drop_panics_is_retried_as_any_other() {
    let retry = Retry::new(3)
        .first_delay(Duration::ZERO)
        .retry_if(|_: &Bomb| true);
    let pipeline = Pipeline::builder("users").retry(retry).build().unwrap();
    let result = pipeline.execute(|| if attempt() < 3 { Err(Bomb) } else { Ok(1) });
    assert_eq!((result.value(), result.attempts), (Some(&1), 3));
}
