//! Breakers with a clock that the test moves.

use bulkman::{CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerConfig, ManualClock};

use crate::helpers::{ISOLATION, rules};

pub fn builder(rules: CircuitBreakerConfig) -> (CircuitBreakerBuilder, ManualClock) {
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder("dependency", rules).clock(clock.clone());
    (builder, clock)
}

pub fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let (builder, clock) = builder(rules);
    (builder.build().unwrap(), clock)
}

pub fn half_open() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(ISOLATION);
    drop(breaker.try_acquire().expect("a probe"));
    assert!(breaker.is_half_open());
    (breaker, clock)
}

/// How many permits it gives out at the same time, up to 100.
pub fn turns(breaker: &CircuitBreaker) -> usize {
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(100)
        .collect();
    permits.len()
}
