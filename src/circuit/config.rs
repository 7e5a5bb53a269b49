//! When a circuit opens and how it closes again: plain data, checked before a breaker is built.

use std::time::Duration;

use crate::error::BuildError;

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
    /// Whether a call that a bulkhead runs beyond its caller's limit is a failure, whatever it returns.
    pub timeouts_are_failures: bool,
    /// Whether a call that its handle cancelled while it ran, and that returned `Err`, counts neither as a failure nor as a
    /// success.
    pub cancelled_calls_are_neutral: bool,
    /// Whether a bulkhead refuses the calls in its queue when the circuit opens.
    pub refuse_queued_when_open: bool,
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
            timeouts_are_failures: true,
            cancelled_calls_are_neutral: true,
            refuse_queued_when_open: true,
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

    /// Sets whether a call that runs beyond its caller's limit is a failure. Default: true.
    ///
    /// The limit is [`Call::timeout`](crate::Call::timeout) or
    /// [`execution_timeout`](crate::BulkheadConfig::execution_timeout). A failure counts at the moment when the caller leaves
    /// with [`Timeout`](crate::BulkheadError::Timeout), and when the task ends if no caller waited at that moment. What the
    /// task returns later counts no more. A call that never started is no failure. With `false`, a call counts by what its
    /// task returns, however late.
    #[must_use]
    pub fn timeouts_are_failures(mut self, are_failures: bool) -> Self {
        self.timeouts_are_failures = are_failures;
        self
    }

    /// Sets whether an `Err` is neutral, and so neither a failure nor a success, if the call was cancelled while its task
    /// ran. Default: true.
    ///
    /// A handle cancels a call, by [`cancel`](crate::ExecutionHandle::cancel) or by its
    /// [drop](crate::ExecutionHandle::cancel_on_drop). A task that returns `Err` because of that says nothing about the
    /// dependency. This goes before a classifier, since an error often does not tell where it comes from. A call whose
    /// caller's limit has passed is a [failure](Self::timeouts_are_failures) all the same; a panic is a failure, and `Ok` is
    /// a success. With `false`, the classifier alone decides: it runs inside the task, where
    /// [`cancel_reason`](crate::CurrentExecution::cancel_reason) tells it.
    #[must_use]
    pub fn cancelled_calls_are_neutral(mut self, are_neutral: bool) -> Self {
        self.cancelled_calls_are_neutral = are_neutral;
        self
    }

    /// Sets whether a bulkhead refuses the calls in its queue when the circuit opens. Default: true.
    ///
    /// They end as [`CircuitOpen`](crate::BulkheadError::CircuitOpen) at once, and never start. The closures of a
    /// [`Bulkhead`](crate::Bulkhead)'s calls are dropped, and its listeners told, in the thread that opened the circuit. If a
    /// peer opened it, that is the storage's thread, so a `Drop` should be quick. A call whose turn comes after any other change asks the
    /// circuit again: of a closed circuit it gets a verdict of its own, and of a half-open one it is a probe if one may go
    /// out, and else refused. A queued probe keeps its turn while the circuit is half-open. With `false`, a call that has
    /// been admitted runs in any case; if the circuit has changed meanwhile, its outcome does not count.
    #[must_use]
    pub fn refuse_queued_when_open(mut self, refuse: bool) -> Self {
        self.refuse_queued_when_open = refuse;
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
        BuildError::check(
            self.failure_threshold >= 1,
            "failure_threshold",
            self.failure_threshold,
            AT_LEAST_1,
        )?;
        BuildError::check(
            self.success_threshold >= 1,
            "success_threshold",
            self.success_threshold,
            AT_LEAST_1,
        )?;
        if let Some(rate) = self.failure_rate {
            BuildError::check(
                rate > 0.0 && rate <= 1.0,
                "failure_rate",
                rate,
                "must be greater than 0 and at most 1",
            )?;
            BuildError::check(self.window >= 1, "window", self.window, AT_LEAST_1)?;
            BuildError::check(
                self.window <= Self::MAX_WINDOW,
                "window",
                self.window,
                "must be at most 1048576",
            )?;
            BuildError::check(
                self.minimum_calls >= 1,
                "minimum_calls",
                self.minimum_calls,
                AT_LEAST_1,
            )?;
            BuildError::check(
                self.minimum_calls <= self.window,
                "minimum_calls",
                self.minimum_calls,
                "must be at most the window",
            )?;
        }
        Ok(())
    }
}
