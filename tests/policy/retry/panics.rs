//! User code that panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bulkman::policy::{RetryRule, RetryStop};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};

use crate::helpers::{failing_until, retry};
use crate::support::Bomb;

#[test]
fn a_predicate_that_panics_means_no() {
    let (retry, _, _) = retry(5);
    let retry = retry.retry_if(|_: &String| panic!("a predicate"));
    let error = retry.call(failing_until(9)).unwrap_err();
    assert_eq!((error.stop, error.attempts), (RetryStop::NotRetryable, 1));
    assert_eq!(error.last, "call 1");
}

#[test]
fn a_reader_of_delays_that_panics_means_no() {
    let (retry, _, _) = retry(5);
    let retry = retry
        .retry_if(|_: &String| true)
        .delay_of(|_| panic!("a reader"));
    assert_eq!(retry.call(failing_until(9)).unwrap_err().attempts, 1);
}

#[test]
fn a_rule_that_panics_means_no() {
    struct Panics;
    impl RetryRule<String> for Panics {
        fn is_retryable(&self, _: &String) -> bool {
            panic!("a rule")
        }
    }
    let (retry, _, _) = retry(5);
    let error = retry.rule(Panics).call(failing_until(9)).unwrap_err();
    assert_eq!(error.stop, RetryStop::NotRetryable);
}

#[test]
fn a_stop_condition_that_panics_stops() {
    let (retry, _, told) = retry(5);
    let retry = retry.stop_if(|| panic!("a condition"));
    let error = retry.call(failing_until(9)).unwrap_err();
    assert_eq!((error.stop, error.attempts), (RetryStop::Stopped, 1));
    assert!(told.pauses().is_empty());
}

#[test]
fn a_closure_that_panics_takes_its_caller_along() {
    let (retry, _, _) = retry(5);
    let mut calls = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        retry.call(|| -> Result<(), String> {
            calls += 1;
            panic!("a closure")
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(calls, 1);
}

#[test]
fn a_task_that_panics_is_retried_only_if_asked_for() {
    let bulkhead = Bulkhead::new(BulkheadConfig::new("panics")).unwrap();
    let call = || bulkhead.execute(|| -> Result<(), String> { panic!("a task") });
    let (plain, _, _) = retry(3);
    let (asked, _, _) = retry(3);
    for (retry, attempts) in [(plain, 1), (asked.retry_panics(), 3)] {
        let error = retry.call(|| call().wait()).unwrap_err();
        assert!(matches!(error.last, BulkheadError::Panicked(_)));
        assert_eq!(error.attempts, attempts);
    }
    // Also beside a predicate over the task's own error.
    let (retry, _, _) = retry(3);
    let retry = retry.retry_panics().retry_if(|_: &String| false);
    assert_eq!(retry.call(|| call().wait()).unwrap_err().attempts, 3);
}

#[test]
fn an_error_whose_drop_panics_is_retried_as_any_other() {
    let (retry, _, _) = retry(3);
    let retry = retry.retry_if(|_: &Bomb| true);
    let mut calls = 0;
    let value = retry.call(|| {
        calls += 1;
        if calls < 3 { Err(Bomb) } else { Ok(calls) }
    });
    assert_eq!(value.map_err(std::mem::forget), Ok(3));
}
