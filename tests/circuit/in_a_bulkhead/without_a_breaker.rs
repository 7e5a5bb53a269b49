//! A bulkhead without a breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bulkman::BulkheadState;

use super::helpers::fail;
use crate::support;
use crate::support::wait;

#[test]
fn without_a_breaker_failures_change_nothing() {
    let bulkhead = support::bulkhead(1, 1);
    assert!(bulkhead.circuit_breaker().is_none());
    for _ in 0..20 {
        fail(&bulkhead);
    }
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    assert_eq!(bulkhead.stats().circuit_state, None);
}

#[test]
fn without_a_breaker_no_error_is_judged() {
    let bulkhead = support::bulkhead(1, 1);
    let judged = Arc::new(AtomicBool::new(false));
    let handle = bulkhead
        .call()
        .failure_if({
            let judged = Arc::clone(&judged);
            move |_: &&str| judged.swap(true, Ordering::Relaxed)
        })
        .execute(|| Err::<(), _>("own"));
    assert!(wait(handle).error().is_some());
    assert!(!judged.load(Ordering::Relaxed));
}
