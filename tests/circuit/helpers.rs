//! The settings of most circuits here.

use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitBreakerConfig};

use crate::support;

/// How long a circuit stays open.
pub const ISOLATION: Duration = Duration::from_secs(30);

/// Two failures in a row open the circuit, and two successful probes close it.
pub fn rules() -> CircuitBreakerConfig {
    support::rules(2, 2, ISOLATION)
}

/// How long a circuit that refuses calls will still be open.
pub fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}
