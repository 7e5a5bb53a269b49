//! Permits: the outcomes that open and close a circuit, and how many probes are out.

use std::time::Duration;

use bulkman::CircuitState;

use super::helpers::{breaker, half_open, turns};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::SECOND;

#[test]
fn failures_in_a_row_open_it() {
    let (breaker, _clock) = breaker(rules());
    assert!(breaker.is_closed());
    breaker.try_acquire().unwrap().record_failure();
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_closed());
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    assert_eq!(breaker.state(), CircuitState::Open);
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(&*refused.name, "dependency");
    assert_eq!(refused.retry_after, ISOLATION);
    assert_eq!(
        refused.to_string(),
        "circuit `dependency` is open: retry in 30.0s"
    );
}

#[test]
fn retry_after_counts_down() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    assert_eq!(retry_after(&breaker), ISOLATION);
    clock.advance(29 * SECOND);
    assert_eq!(retry_after(&breaker), SECOND);
    clock.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(retry_after(&breaker), Duration::from_nanos(1));
    clock.advance(Duration::from_nanos(1));
    assert!(breaker.is_half_open(), "by the clock");
    let probe = breaker.try_acquire().expect("a probe");
    assert!(breaker.is_half_open());
    drop(probe);
}

#[test]
fn probes_close_it_or_open_it_again() {
    let (breaker, _clock) = half_open();
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_half_open());
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed());

    let (breaker, clock) = half_open();
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION);
    clock.advance(ISOLATION);
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_half_open(), "successes of earlier are forgotten");
}

#[test]
fn no_more_probes_are_out_than_successes_are_needed() {
    let (breaker, _clock) = half_open();
    let first = breaker.try_acquire().unwrap();
    let second = breaker.try_acquire().unwrap();
    assert_eq!(retry_after(&breaker), ISOLATION, "the limit of a probe");
    first.record_success();
    let third = breaker.try_acquire().expect("a turn is free");
    assert!(breaker.try_acquire().is_err());
    second.record_success();
    assert!(breaker.is_closed());
    drop(third);
    assert_eq!(turns(&breaker), 100);
}

#[test]
fn a_permit_that_is_dropped_gives_its_turn_back() {
    let (breaker, _clock) = half_open();
    for _ in 0..10 {
        assert_eq!(turns(&breaker), 2);
    }
    assert!(breaker.is_half_open());
    let (breaker, _clock) = self::breaker(rules());
    breaker.try_acquire().unwrap().record_failure();
    drop(breaker.try_acquire().unwrap());
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open(), "it is no success either");
}

#[test]
fn a_permit_from_before_a_transition_does_not_count() {
    let (breaker, clock) = breaker(rules());
    let old: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
    let [a, b, c, d] = <[_; 4]>::try_from(old).unwrap();
    breaker.trip();
    a.record_success();
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    let probe = breaker.try_acquire().unwrap();
    b.record_failure();
    assert!(breaker.is_half_open());
    c.record_success();
    drop(d);
    assert_eq!(turns(&breaker), 1, "the one probe is still out");
    probe.record_success();
    assert!(breaker.is_half_open(), "one of two");
}

#[test]
fn outcomes_seen_elsewhere_count_without_a_permit() {
    let (breaker, clock) = breaker(rules());
    breaker.record_failure();
    breaker.record_success();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    breaker.record_success();
    breaker.record_failure();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION, "not prolonged");
    clock.advance(ISOLATION);
    drop(breaker.try_acquire().unwrap());
    breaker.record_success();
    breaker.record_success();
    assert!(breaker.is_closed());
}
