//! Configuration: plain data, checked in one place before a thread starts.

use std::time::Duration;

use crate::circuit::CircuitBreakerConfig;
use crate::error::BuildError;

/// The configuration of a [`Bulkhead`](crate::Bulkhead) or a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead): how many calls
/// run, how many wait, and for how long.
///
/// Plain data with chainable setters: it can be cloned, compared and kept. Values are checked when a
/// bulkhead is built, see [`validate`](Self::validate).
///
/// ```
/// use bulkman::{BulkheadConfig, CircuitBreakerConfig};
/// use std::time::Duration;
///
/// let config = BulkheadConfig::new("database")
///     .max_concurrent_calls(4)
///     .max_queue_size(20)
///     .queue_timeout(Duration::from_secs(2))
///     .circuit_breaker(CircuitBreakerConfig::default().failure_threshold(3));
/// assert_eq!(config.max_concurrent_calls, 4);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// Appears in errors, logs, results and thread names. Not empty, no NUL.
    pub name: String,
    /// N: how many calls run at the same time. A `Bulkhead` has as many worker threads. At least 1.
    #[cfg_attr(feature = "config", serde(default = "default_max_concurrent_calls"))]
    pub max_concurrent_calls: usize,
    /// Q: how many calls may wait beyond those that run. 0 means: run at once or be refused.
    #[cfg_attr(feature = "config", serde(default = "default_max_queue_size"))]
    pub max_queue_size: usize,
    /// How long a call may wait for a worker, or for a free slot. A call that waited longer never starts.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::duration_text::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub queue_timeout: Option<Duration>,
    /// How long a caller waits in all, over queue and run, where a call sets no limit of its own.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::duration_text::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub execution_timeout: Option<Duration>,
    /// The circuit breaker; `None` means that there is none.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub circuit_breaker: Option<CircuitBreakerConfig>,
}

impl BulkheadConfig {
    /// The most calls that can run at a time, and so the most worker threads that a bulkhead can have.
    pub const MAX_WORKERS: usize = 1 << 16;

    /// The most calls that a bulkhead can hold, running and waiting together: N + Q. The queue of a `Bulkhead` takes its
    /// memory when it is built, 48 bytes a place.
    pub const MAX_CAPACITY: usize = 1 << 24;

    /// 10 concurrent calls, 100 waiting, no timeouts, no circuit breaker.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_concurrent_calls: 10,
            max_queue_size: 100,
            queue_timeout: None,
            execution_timeout: None,
            circuit_breaker: None,
        }
    }

    /// Sets N, the number of calls that run at the same time. Default 10.
    #[must_use]
    pub fn max_concurrent_calls(mut self, calls: usize) -> Self {
        self.max_concurrent_calls = calls;
        self
    }

    /// Sets Q, the number of calls that may wait beyond those that run. Default 100; 0 is allowed.
    #[must_use]
    pub fn max_queue_size(mut self, calls: usize) -> Self {
        self.max_queue_size = calls;
        self
    }

    /// Sets how long a call may wait for a worker, or for a free slot. Default: for ever.
    ///
    /// Zero is an error; a duration beyond what the clock can hold means for ever.
    #[must_use]
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.queue_timeout = Some(limit);
        self
    }

    /// Sets how long a caller waits for a call in all, over queue and run. Default: for ever.
    ///
    /// It is the limit of every call that sets none of its own, with
    /// [`Call::timeout`](crate::Call::timeout) or
    /// [`execute_with_timeout`](crate::Bulkhead::execute_with_timeout). It ends the waiting, not the
    /// task: see [`BulkheadError::Timeout`](crate::BulkheadError::Timeout). (With a
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead#limits-in-time) it ends the wait for a slot only.)
    #[must_use]
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        self.execution_timeout = Some(limit);
        self
    }

    /// Puts a circuit breaker in front of the dependency. Default: none.
    #[must_use]
    pub fn circuit_breaker(mut self, config: CircuitBreakerConfig) -> Self {
        self.circuit_breaker = Some(config);
        self
    }

    /// Checks every value, as building a bulkhead does first.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] names the first field that is out of range: an empty name or one
    /// with a NUL, no concurrent calls or more than [`MAX_WORKERS`](Self::MAX_WORKERS), more than
    /// [`MAX_CAPACITY`](Self::MAX_CAPACITY) calls in all,
    /// a timeout of zero, or a breaker setting (see [`CircuitBreakerConfig::validate`]).
    pub fn validate(&self) -> Result<(), BuildError> {
        BuildError::check_name("name", &self.name)?;
        BuildError::check(
            self.max_concurrent_calls >= 1,
            "max_concurrent_calls",
            self.max_concurrent_calls,
            "must be at least 1",
        )?;
        BuildError::check(
            self.max_concurrent_calls <= Self::MAX_WORKERS,
            "max_concurrent_calls",
            self.max_concurrent_calls,
            "must be at most 65536",
        )?;
        BuildError::check(
            self.max_queue_size <= Self::MAX_CAPACITY - self.max_concurrent_calls,
            "max_queue_size",
            self.max_queue_size,
            "must be at most 16777216 together with max_concurrent_calls",
        )?;
        check_timeout("queue_timeout", self.queue_timeout)?;
        check_timeout("execution_timeout", self.execution_timeout)?;
        match &self.circuit_breaker {
            Some(breaker) => breaker.validate(),
            None => Ok(()),
        }
    }
}

fn check_timeout(field: &'static str, limit: Option<Duration>) -> Result<(), BuildError> {
    BuildError::check(
        limit != Some(Duration::ZERO),
        field,
        format_args!("{:?}", Duration::ZERO),
        "must be greater than zero; leave it out for no limit",
    )
}

#[cfg(feature = "config")]
fn default_max_concurrent_calls() -> usize {
    BulkheadConfig::new("").max_concurrent_calls
}

#[cfg(feature = "config")]
fn default_max_queue_size() -> usize {
    BulkheadConfig::new("").max_queue_size
}
