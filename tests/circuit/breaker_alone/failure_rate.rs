//! Circuits that open by a share of failures.

use super::helpers::breaker;
use crate::helpers::rules;

#[test]
fn a_failure_rate_looks_at_the_last_outcomes() {
    let (breaker, _clock) = breaker(rules().failure_rate(0.5, 4));
    let record = |outcomes: &str| {
        for outcome in outcomes.chars() {
            match outcome {
                '+' => breaker.record_success(),
                _ => breaker.record_failure(),
            }
        }
    };
    record("---");
    assert!(breaker.is_closed(), "three of four are there");
    breaker.reset();
    record("+++-");
    assert!(breaker.is_closed(), "a quarter");
    record("+++++++");
    record("-++-");
    assert!(breaker.is_open(), "half of the last four");
    breaker.reset();
    record("-+++-+++-+++-");
    assert!(breaker.is_closed(), "never two in four");
    record("-");
    assert!(breaker.is_open());
}

#[test]
fn a_failure_rate_judges_from_the_minimum_on() {
    let (breaker, _clock) = breaker(rules().failure_rate(1.0, 10).minimum_calls(3));
    breaker.record_failure();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
}

#[test]
fn the_failure_threshold_is_not_used_beside_a_failure_rate() {
    let (breaker, _clock) = breaker(rules().failure_rate(1.0, 10));
    for _ in 0..9 {
        breaker.record_failure();
    }
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
}
