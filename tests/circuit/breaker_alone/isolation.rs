//! Isolations of extreme lengths.

use std::time::Duration;

use super::helpers::breaker;
use crate::helpers::{ISOLATION, retry_after, rules};

#[test]
fn long_after_the_isolation_a_call_probes_too() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(10 * ISOLATION);
    assert!(breaker.try_acquire().is_ok());
    assert!(breaker.is_half_open());
}

#[test]
fn an_isolation_of_zero_lets_the_next_call_probe() {
    let (breaker, _clock) = breaker(rules().isolation_duration(Duration::ZERO));
    breaker.trip();
    assert!(breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_success();
    assert!(breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_failure();
    assert!(breaker.is_half_open());
    assert_eq!(breaker.stats().times_opened, 2);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_isolation_that_no_clock_can_hold_ends_with_a_reset_only() {
    let (breaker, clock) = breaker(rules().isolation_duration(Duration::MAX));
    breaker.trip();
    assert_eq!(retry_after(&breaker), Duration::MAX);
    clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    assert_eq!(retry_after(&breaker), Duration::MAX);
    breaker.reset();
    assert!(breaker.try_acquire().is_ok());
}
