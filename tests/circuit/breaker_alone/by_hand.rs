//! Resetting and opening a circuit by hand.

use super::helpers::{breaker, half_open};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::SECOND;

#[test]
fn reset_closes_it_and_forgets() {
    let (breaker, _clock) = breaker(rules());
    breaker.record_failure();
    breaker.reset();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    breaker.reset();
    assert!(breaker.is_closed());
    let (breaker, _clock) = half_open();
    breaker.reset();
    assert!(breaker.is_closed());
}

#[test]
fn trip_begins_the_isolation_anew() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(20 * SECOND);
    assert_eq!(retry_after(&breaker), 10 * SECOND);
    breaker.trip();
    assert_eq!(retry_after(&breaker), ISOLATION);
}
