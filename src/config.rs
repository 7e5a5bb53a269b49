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
    /// Appears in errors, logs, results and thread names. Not blank, no control characters.
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
            with = "crate::text::duration::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub queue_timeout: Option<Duration>,
    /// How long a caller waits in all, over queue and run, where a call sets no limit of its own.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
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
    /// The stack of each worker thread, in bytes; `None`: the standard library's default, which is 2 MiB, or what the
    /// environment variable `RUST_MIN_STACK` says.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub stack_size: Option<usize>,
    /// How long a worker thread waits for work before it ends; `None`: all N are there from the start, for ever.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub idle_timeout: Option<Duration>,
    /// How many calls a worker runs on top of one another, each waited for by the one below it.
    #[cfg_attr(feature = "config", serde(default = "default_max_nested_calls"))]
    pub max_nested_calls: usize,
}

impl BulkheadConfig {
    /// The most calls that can run at a time, and so the most worker threads that a bulkhead can have.
    pub const MAX_WORKERS: usize = 1 << 16;

    /// The most calls that a bulkhead can hold, running and waiting together: N + Q. The queue of a `Bulkhead` takes its
    /// memory when it is built, 48 bytes a place.
    pub const MAX_CAPACITY: usize = 1 << 24;

    /// The smallest stack that a worker thread can have, in bytes: 64 KiB.
    pub const MIN_STACK_SIZE: usize = 1 << 16;

    /// The largest stack that a worker thread can have, in bytes: 1 GiB.
    pub const MAX_STACK_SIZE: usize = 1 << 30;

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
            stack_size: None,
            idle_timeout: None,
            max_nested_calls: 64,
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

    /// Sets the size of each worker thread's stack, in bytes, from 64 KiB to 1 GiB. Default: the standard library's, 2 MiB.
    ///
    /// The system sets memory aside as far as a stack has been used, so a large one costs address space only. Where it
    /// refuses one, building the bulkhead fails with [`BuildError::ThreadStart`]. A
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) has no threads, and takes no notice.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts worker threads when there is work for them, and lets each end when it has had none for `limit`. Default: all N
    /// threads start with the bulkhead and stay.
    ///
    /// For a service with hundreds of bulkheads, of which most have nothing to do most of the time. 1,000 bulkheads of 10 take no
    /// thread and 10 MB until they are used, in place of 10,000 threads and 104 MB (`cargo bench --bench threads_on_demand`).
    ///
    /// A call for which no worker is free starts one, up to N; that costs its submitter some 20 to 60 µs. The worker that slept
    /// last is woken first, so those that are not needed end. Zero is an error; a duration beyond what the clock can hold means for ever.
    ///
    /// A thread that the system refuses is no error here, as it is when all start with the bulkhead. Calls wait for the workers that
    /// there are. If there are none, the calls in the queue end with [`NoThread`](crate::BulkheadError::NoThread).
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::time::Duration;
    ///
    /// let config = BulkheadConfig::new("partner-17").idle_timeout(Duration::from_secs(30));
    /// let bulkhead = Bulkhead::new(config)?;
    /// assert_eq!(bulkhead.stats().worker_threads, 0);
    /// bulkhead.run(|| "sent").wait().into_result()?;
    /// assert_eq!(bulkhead.stats().worker_threads, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Values that a worker's thread keeps, set up by
    /// [`on_worker_start`](crate::BulkheadBuilder::on_worker_start), are made anew with each thread. A
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) has no threads, and takes no notice.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Sets how many calls a worker runs on top of one another. Default 64; 0 is allowed.
    ///
    /// A task that waits for a call of its own bulkhead runs that call itself if no other worker has begun it, see
    /// [`ExecutionHandle`](crate::ExecutionHandle#on-a-worker-of-the-same-bulkhead). Each such level takes some of the
    /// worker's stack: 2 kB in a release build and 7 kB in a debug build, and in both what the tasks themselves need. A call
    /// that would go beyond the limit never starts, and ends with [`TooDeep`](crate::BulkheadError::TooDeep); an overflow of
    /// the stack would end the process. The default leaves each level 32 kB of a stack of 2 MiB. For deeper nesting
    /// set a larger [`stack_size`](Self::stack_size) too.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let config = BulkheadConfig::new("tree")
    ///     .stack_size(64 << 20)
    ///     .max_nested_calls(2_000);
    /// let bulkhead = Bulkhead::new(config)?;
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    ///
    /// Calls of a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) run in their caller's thread, as any function that is
    /// called does. It takes no notice of this limit: how deep they call each other is up to the program, and so is the
    /// stack.
    #[must_use]
    pub fn max_nested_calls(mut self, calls: usize) -> Self {
        self.max_nested_calls = calls;
        self
    }

    /// Checks every value, as building a bulkhead does first.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] names the first field that is out of range: a blank name or one
    /// with control characters, no concurrent calls or more than [`MAX_WORKERS`](Self::MAX_WORKERS), more than
    /// [`MAX_CAPACITY`](Self::MAX_CAPACITY) calls in all,
    /// a timeout of zero, a stack that is too small or too large, or a breaker setting (see [`CircuitBreakerConfig::validate`]).
    pub fn validate(&self) -> Result<(), BuildError> {
        BuildError::check_name("name", &self.name)?;
        self.validate_values().map_err(|error| error.of(&self.name))
    }

    /// Checks N and Q.
    pub(crate) fn check_limits(
        max_concurrent_calls: usize,
        max_queue_size: usize,
    ) -> Result<(), BuildError> {
        BuildError::check(
            max_concurrent_calls >= 1,
            "max_concurrent_calls",
            max_concurrent_calls,
            "must be at least 1",
        )?;
        BuildError::check(
            max_concurrent_calls <= Self::MAX_WORKERS,
            "max_concurrent_calls",
            max_concurrent_calls,
            "must be at most 65536",
        )?;
        BuildError::check(
            max_queue_size <= Self::MAX_CAPACITY - max_concurrent_calls,
            "max_queue_size",
            max_queue_size,
            "must be at most 16777216 together with max_concurrent_calls",
        )
    }

    fn validate_values(&self) -> Result<(), BuildError> {
        Self::check_limits(self.max_concurrent_calls, self.max_queue_size)?;
        check_timeout("queue_timeout", self.queue_timeout)?;
        check_timeout("execution_timeout", self.execution_timeout)?;
        check_timeout("idle_timeout", self.idle_timeout)?;
        if let Some(bytes) = self.stack_size {
            BuildError::check(
                (Self::MIN_STACK_SIZE..=Self::MAX_STACK_SIZE).contains(&bytes),
                "stack_size",
                bytes,
                "must be from 65536 to 1073741824 bytes; leave it out for the default",
            )?;
        }
        match &self.circuit_breaker {
            Some(breaker) => breaker.validate(),
            None => Ok(()),
        }
    }
}

/// A limit of zero is an error.
pub(crate) fn check_timeout(
    field: &'static str,
    limit: Option<Duration>,
) -> Result<(), BuildError> {
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

#[cfg(feature = "config")]
fn default_max_nested_calls() -> usize {
    BulkheadConfig::new("").max_nested_calls
}
