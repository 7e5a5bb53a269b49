//! Configuration: plain data, checked in one place before a thread starts.

use std::time::Duration;

use crate::error::BuildError;

/// What a [`Bulkhead`](crate::Bulkhead), or a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead), is to be: how many calls run,
/// how many wait, and for how long.
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
#[non_exhaustive]
pub struct BulkheadConfig {
    /// Appears in errors, logs, results and thread names. Not empty, no NUL.
    pub name: String,
    /// N: how many calls run at the same time. A `Bulkhead` has as many worker threads. At least 1.
    pub max_concurrent_calls: usize,
    /// Q: how many calls may wait beyond those that run. 0 means: run at once or be refused.
    pub max_queue_size: usize,
    /// How long a call may wait for a worker, or for its turn. A call that waited longer never starts.
    pub queue_timeout: Option<Duration>,
    /// How long a caller waits in all, over queue and run, where a call sets no limit of its own.
    pub execution_timeout: Option<Duration>,
    /// The circuit breaker; `None` means that there is none.
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

    /// Sets how long a call may wait for a worker, or for its turn. Default: for ever.
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
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead#limits-in-time) it ends the wait for a turn only.)
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
        check_name("name", &self.name)?;
        check(
            self.max_concurrent_calls >= 1,
            "max_concurrent_calls",
            self.max_concurrent_calls,
            "must be at least 1",
        )?;
        check(
            self.max_concurrent_calls <= Self::MAX_WORKERS,
            "max_concurrent_calls",
            self.max_concurrent_calls,
            "must be at most 65536",
        )?;
        check(
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

/// When a circuit opens and how it closes again.
///
/// By default the circuit opens after `failure_threshold` failures in a row. With
/// [`failure_rate`](Self::failure_rate) it opens when the share of failures among the last outcomes
/// gets too high instead.
///
/// ```
/// use bulkman::CircuitBreakerConfig;
/// use std::time::Duration;
///
/// let in_a_row = CircuitBreakerConfig::default()
///     .failure_threshold(5)
///     .success_threshold(3)
///     .isolation_duration(Duration::from_secs(30));
/// assert_eq!(in_a_row, CircuitBreakerConfig::default());
///
/// // half of the last 20 outcomes, judged from the 10th on
/// let by_rate = CircuitBreakerConfig::default().failure_rate(0.5, 20).minimum_calls(10);
/// assert!(by_rate.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CircuitBreakerConfig {
    /// Failures in a row that open the circuit. Not used when `failure_rate` is set.
    pub failure_threshold: usize,
    /// Successful probes that close a half-open circuit, and the most probes in flight at a time.
    pub success_threshold: usize,
    /// How long an open circuit stays open before it lets probes through. Zero: at the next call.
    pub isolation_duration: Duration,
    /// Open by share of failures instead: the share, greater than 0 and at most 1.
    pub failure_rate: Option<f64>,
    /// How many of the last outcomes `failure_rate` looks at.
    pub window: usize,
    /// How many outcomes `failure_rate` wants to see before it judges; at most `window`.
    pub minimum_calls: usize,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            success_threshold: 3,
            isolation_duration: Duration::from_secs(30),
            failure_rate: None,
            window: 100,
            minimum_calls: 100,
        }
    }
}

impl CircuitBreakerConfig {
    /// The largest `window`: each outcome in it takes a byte.
    pub const MAX_WINDOW: usize = 1 << 20;

    /// Sets how many failures in a row open the circuit. Default 5, at least 1.
    #[must_use]
    pub fn failure_threshold(mut self, failures: usize) -> Self {
        self.failure_threshold = failures;
        self
    }

    /// Sets how many successful probes close a half-open circuit; also how many may be in flight at
    /// the same time. Default 3, at least 1.
    #[must_use]
    pub fn success_threshold(mut self, successes: usize) -> Self {
        self.success_threshold = successes;
        self
    }

    /// Sets how long the circuit stays open. Default 30 s. Zero lets the next call probe; a duration
    /// beyond what the clock can hold means until [`reset`](crate::CircuitBreaker::reset).
    #[must_use]
    pub fn isolation_duration(mut self, duration: Duration) -> Self {
        self.isolation_duration = duration;
        self
    }

    /// Opens the circuit when at least `rate` (0 < rate <= 1) of the last `window` outcomes failed,
    /// instead of counting failures in a row. Judged once `window` outcomes are there, or earlier
    /// with [`minimum_calls`](Self::minimum_calls).
    #[must_use]
    pub fn failure_rate(mut self, rate: f64, window: usize) -> Self {
        self.failure_rate = Some(rate);
        self.window = window;
        self.minimum_calls = window;
        self
    }

    /// Sets how many outcomes [`failure_rate`](Self::failure_rate) wants to see before it judges.
    /// Call it after `failure_rate`, which sets it to the whole window.
    #[must_use]
    pub fn minimum_calls(mut self, calls: usize) -> Self {
        self.minimum_calls = calls;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] for a threshold, window or minimum of zero, a minimum above the
    /// window, a window above [`MAX_WINDOW`](Self::MAX_WINDOW), or a rate outside (0, 1].
    pub fn validate(&self) -> Result<(), BuildError> {
        const AT_LEAST_1: &str = "must be at least 1";
        check(
            self.failure_threshold >= 1,
            "failure_threshold",
            self.failure_threshold,
            AT_LEAST_1,
        )?;
        check(
            self.success_threshold >= 1,
            "success_threshold",
            self.success_threshold,
            AT_LEAST_1,
        )?;
        if let Some(rate) = self.failure_rate {
            check(
                rate > 0.0 && rate <= 1.0,
                "failure_rate",
                rate,
                "must be greater than 0 and at most 1",
            )?;
            check(self.window >= 1, "window", self.window, AT_LEAST_1)?;
            check(
                self.window <= Self::MAX_WINDOW,
                "window",
                self.window,
                "must be at most 1048576",
            )?;
            check(
                self.minimum_calls >= 1,
                "minimum_calls",
                self.minimum_calls,
                AT_LEAST_1,
            )?;
            check(
                self.minimum_calls <= self.window,
                "minimum_calls",
                self.minimum_calls,
                "must be at most the window",
            )?;
        }
        Ok(())
    }
}

pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), BuildError> {
    check(
        !name.is_empty(),
        field,
        format_args!("{name:?}"),
        "must not be empty",
    )?;
    check(
        !name.contains('\0'),
        field,
        format_args!("{name:?}"),
        "must not contain a NUL",
    )
}

fn check_timeout(field: &'static str, limit: Option<Duration>) -> Result<(), BuildError> {
    check(
        limit != Some(Duration::ZERO),
        field,
        format_args!("{:?}", Duration::ZERO),
        "must be greater than zero; leave it out for no limit",
    )
}

pub(crate) fn check(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    rule: &'static str,
) -> Result<(), BuildError> {
    if holds {
        Ok(())
    } else {
        Err(BuildError::InvalidValue {
            field,
            value: value.to_string(),
            rule,
        })
    }
}
