//! A budget that all calls of a dependency share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkman::policy::{Jitter, Retry, RetryBudget, RetryStop};

use crate::helpers::{failing_until, retry};

#[test]
fn retries_are_a_share_of_the_calls() {
    let budget = RetryBudget::new(0.2).reserve(5);
    let (one, _, _) = retry(4);
    let (other, _, _) = retry(4);
    let retries = [one.budget(budget.clone()), other.budget(budget)];
    let mut attempts = 0;
    for call in 0..1_000 {
        let error = retries[call % 2].call(failing_until(9)).unwrap_err();
        attempts += error.attempts;
        if error.attempts < 4 {
            assert_eq!(error.stop, RetryStop::BudgetUsedUp);
        }
    }
    let extra = attempts - 1_000;
    assert!((199..=205).contains(&extra), "{extra}");
}

#[test]
fn calls_that_succeed_pay_in_too() {
    let budget = RetryBudget::new(0.5).reserve(1);
    let (retry, _, _) = retry(9);
    let retry = retry.budget(budget.clone());
    assert_eq!(retry.call(failing_until(9)).unwrap_err().attempts, 2);
    assert_eq!(budget.available(), 0);
    for _ in 0..2 {
        assert_eq!(retry.call(failing_until(1)), Ok(1));
    }
    assert_eq!(budget.available(), 1);
}

#[test]
fn an_attempt_that_is_not_made_takes_nothing() {
    let budget = RetryBudget::new(0.0).reserve(1);
    let (retry, _, _) = retry(1);
    let _ = retry.budget(budget.clone()).call(failing_until(9));
    assert_eq!(budget.available(), 1);
}

#[test]
fn a_pause_that_is_stopped_takes_nothing() {
    let budget = RetryBudget::new(0.0).reserve(1);
    let (retry, _, _) = retry(9);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let retry = retry
        .budget(budget.clone())
        .listener(move |_| stop.store(true, Ordering::Relaxed))
        .stop_if(move || asked.load(Ordering::Relaxed));
    let error = retry.call(failing_until(9)).unwrap_err();
    assert_eq!((error.attempts, error.stop), (1, RetryStop::Stopped));
    assert_eq!(budget.available(), 1);
}

#[test]
fn a_pause_without_an_end_takes_nothing() {
    let budget = RetryBudget::new(0.0).reserve(1);
    let retry = Retry::new(9)
        .first_delay(Duration::MAX)
        .max_delay(Duration::MAX)
        .jitter(Jitter::None)
        .budget(budget.clone());
    let error = retry.call(failing_until(9)).unwrap_err();
    assert_eq!((error.attempts, error.stop), (1, RetryStop::DelayTooLong));
    assert_eq!(budget.available(), 1);
}
