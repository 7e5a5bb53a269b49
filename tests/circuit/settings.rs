//! The settings of a circuit: what each refuses, what it is by default, and that their order does not matter.

use std::time::Duration;

use bulkman::{
    BuildError, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitMode, CircuitWindow,
};

const SECOND: Duration = Duration::from_secs(1);

fn base() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
}

/// The whole text of what is wrong, from each place that checks.
fn invalid(rules: &CircuitBreakerConfig) -> String {
    let text = |error: BuildError| error.to_string();
    let found = rules.validate().map_err(text).expect_err("out of range");
    let alone = CircuitBreaker::new("alone", rules.clone());
    let of_alone = found.replace("configuration:", "configuration of `alone`:");
    assert_eq!(alone.map_err(text).expect_err("out of range"), of_alone);
    let bulkhead = BulkheadConfig::new("test").circuit_breaker(rules.clone());
    let of_test = found.replace("configuration:", "configuration of `test`:");
    assert_eq!(bulkhead.validate().map_err(text), Err(of_test));
    found
}

#[test]
fn what_is_out_of_range_is_named() {
    let in_time = |period| base().failure_rate_over(0.5, period);
    let slow = || base().failure_rate(0.5, 10).slow_call_duration(SECOND);
    let rate = "it must be greater than 0 and at most 1";
    let zero = "is 0ns, it must be greater than zero";
    let factor = "it must have a finite factor of at least 1";
    for (rules, expected) in [
        (
            base().max_failure_gap(Duration::ZERO),
            format!("max_failure_gap {zero}"),
        ),
        (
            base().probe_timeout(Duration::ZERO),
            format!("probe_timeout {zero}"),
        ),
        (
            base().slow_call_duration(Duration::ZERO),
            format!("slow_call_duration {zero}"),
        ),
        (
            in_time(Duration::ZERO),
            "window is 0ns, it must be at least a millisecond".into(),
        ),
        (
            in_time(Duration::from_micros(999)),
            "window is 999µs, it must be at least a millisecond".into(),
        ),
        (
            base().failure_rate_over(0.0, SECOND),
            format!("failure_rate is 0, {rate}"),
        ),
        (
            base().failure_rate_over(f64::NAN, SECOND),
            format!("failure_rate is NaN, {rate}"),
        ),
        (
            in_time(SECOND).minimum_calls(0),
            "minimum_calls is 0, it must be at least 1".into(),
        ),
        (
            slow().slow_call_rate(0.0),
            format!("slow_call_rate is 0, {rate}"),
        ),
        (
            slow().slow_call_rate(-1.0),
            format!("slow_call_rate is -1, {rate}"),
        ),
        (
            slow().slow_call_rate(1.1),
            format!("slow_call_rate is 1.1, {rate}"),
        ),
        (
            slow().slow_call_rate(f64::NAN),
            format!("slow_call_rate is NaN, {rate}"),
        ),
        (
            base().failure_rate(0.5, 10).slow_call_rate(0.5),
            "slow_call_rate is 0.5, it must have a slow_call_duration beside it".into(),
        ),
        (
            base().slow_call_duration(SECOND).slow_call_rate(0.5),
            "slow_call_rate is 0.5, it must have a failure_rate beside it, for its window".into(),
        ),
        (
            base().isolation_backoff(0.99, 60 * SECOND),
            format!("isolation_backoff is a factor of 0.99, {factor}"),
        ),
        (
            base().isolation_backoff(f64::NAN, 60 * SECOND),
            format!("isolation_backoff is a factor of NaN, {factor}"),
        ),
        (
            base().isolation_backoff(f64::INFINITY, 60 * SECOND),
            format!("isolation_backoff is a factor of inf, {factor}"),
        ),
        (
            base().isolation_backoff(2.0, 29 * SECOND),
            "isolation_backoff is at most 29s, it must allow at least the isolation_duration"
                .into(),
        ),
    ] {
        let expected = format!("invalid configuration: {expected}");
        assert_eq!(invalid(&rules), expected, "{rules:?}");
    }
}

#[test]
fn the_edges_of_the_ranges_are_fine() {
    let nano = Duration::from_nanos(1);
    for rules in [
        base().max_failure_gap(nano),
        base().max_failure_gap(Duration::MAX),
        base().probe_timeout(nano),
        base().probe_timeout(Duration::MAX),
        base().slow_call_duration(nano),
        base().slow_call_duration(Duration::MAX),
        base()
            .failure_rate_over(1.0, Duration::from_millis(1))
            .minimum_calls(usize::MAX),
        base().failure_rate_over(f64::MIN_POSITIVE, Duration::MAX),
        base()
            .failure_rate(1.0, 1)
            .slow_call_duration(nano)
            .slow_call_rate(1.0),
        base().isolation_backoff(1.0, 30 * SECOND),
        base().isolation_backoff(f64::MAX, Duration::MAX),
        base()
            .isolation_duration(Duration::ZERO)
            .isolation_backoff(2.0, Duration::ZERO),
        // What is not used is not checked.
        base().minimum_calls(0),
    ] {
        let breaker = CircuitBreaker::new("edge", rules.clone()).unwrap();
        for _ in 0..3 {
            breaker.record_failure();
            breaker.record_success();
            breaker.trip();
            drop(breaker.try_acquire());
            let _ = breaker.stats().to_string();
        }
    }
}

#[test]
fn the_order_of_the_setters_does_not_matter() {
    let one = base().failure_rate(0.5, 10).minimum_calls(5);
    assert_eq!(base().minimum_calls(5).failure_rate(0.5, 10), one);
    assert_eq!(one.minimum_calls, Some(5));
    let breaker = CircuitBreaker::new("five", base().minimum_calls(5).failure_rate(0.5, 10));
    let breaker = breaker.unwrap();
    for _ in 0..4 {
        breaker.record_failure();
    }
    assert!(breaker.is_closed(), "four calls");
    breaker.record_failure();
    assert!(breaker.is_open());

    let rules = base()
        .failure_rate_over(0.5, SECOND)
        .slow_call_duration(SECOND)
        .slow_call_rate(0.9);
    let other = base()
        .slow_call_rate(0.9)
        .slow_call_duration(SECOND)
        .failure_rate_over(0.5, SECOND);
    assert_eq!(rules, other);
    assert_eq!(
        base()
            .isolation_backoff(2.0, 60 * SECOND)
            .isolation_duration(SECOND),
        base()
            .isolation_duration(SECOND)
            .isolation_backoff(2.0, 60 * SECOND),
    );
}

#[test]
fn defaults() {
    let rules = base();
    assert_eq!(rules.max_failure_gap, Duration::from_secs(3600));
    assert_eq!(rules.probe_timeout, None);
    assert_eq!(rules.window, CircuitWindow::Calls(100));
    assert_eq!(rules.minimum_calls, None);
    assert_eq!(rules.slow_call_duration, None);
    assert_eq!(rules.slow_call_rate, None);
    assert_eq!(rules.isolation_backoff, None);
    assert_eq!(rules.initial_mode, CircuitMode::Normal);
    assert_eq!(
        base().failure_rate_over(0.5, SECOND).window,
        CircuitWindow::Time(SECOND)
    );
}
