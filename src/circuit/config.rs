//! When a circuit opens and how it closes again: plain data, checked before a breaker is built.

use std::time::Duration;

use crate::error::BuildError;

/// When a circuit opens and how it closes again.
///
/// By default the circuit opens after [`failure_threshold`](Self::failure_threshold) failures in a row. With
/// [`failure_rate`](Self::failure_rate) or [`failure_rate_over`](Self::failure_rate_over) it opens when too large a share
/// of the calls fails. The order of the setters does not matter; of two calls of one setter the later holds, and
/// the two rates are one setting.
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
/// // half of the last 20 calls, judged from the 10th on
/// let by_rate = CircuitBreakerConfig::default().failure_rate(0.5, 20).minimum_calls(10);
/// assert!(by_rate.validate().is_ok());
///
/// // half of the calls of the last minute, if there are at least 10; a call of more than 2 s counts as failed
/// let in_time = CircuitBreakerConfig::default()
///     .failure_rate_over(0.5, Duration::from_secs(60))
///     .minimum_calls(10)
///     .slow_call_duration(Duration::from_secs(2));
/// assert!(in_time.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct CircuitBreakerConfig {
    /// Failures in a row that open the circuit. Not used when `failure_rate` is set.
    pub failure_threshold: usize,
    /// The longest time between two failures of one run. Not used when `failure_rate` is set.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration"))]
    pub max_failure_gap: Duration,
    /// Successful probes that close a half-open circuit, and the most probes in flight at a time.
    pub success_threshold: usize,
    /// How long an open circuit stays open before it lets probes through. Zero: no time at all.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration"))]
    pub isolation_duration: Duration,
    /// By how much the isolation grows from trip to trip. `None`: it does not.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub isolation_backoff: Option<IsolationBackoff>,
    /// How long a probe may take. `None`: the isolation duration, but at least a second.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub probe_timeout: Option<Duration>,
    /// Open by share of failures instead: the share, greater than 0 and at most 1.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub failure_rate: Option<f64>,
    /// Which calls the rates look at.
    pub window: CircuitWindow,
    /// How many calls the rates want to see before they judge. `None`: the whole window, or 20 of a period.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub minimum_calls: Option<usize>,
    /// A call that ran for longer is slow. `None`: no call is.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            default,
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub slow_call_duration: Option<Duration>,
    /// Slow calls are counted apart and open the circuit by their share, greater than 0 and at most 1. `None`: a slow
    /// call counts as a failure.
    #[cfg_attr(
        feature = "config",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub slow_call_rate: Option<f64>,
    /// Whether a call that a bulkhead runs beyond its caller's limit is a failure, whatever it returns.
    pub timeouts_are_failures: bool,
    /// Whether a call that its handle cancelled while it ran, and that returned `Err`, counts neither as a failure nor as a
    /// success.
    pub cancelled_calls_are_neutral: bool,
    /// Whether a bulkhead refuses the calls in its queue when the circuit opens.
    pub refuse_queued_when_open: bool,
    /// The mode in which the breaker starts.
    pub initial_mode: CircuitMode,
}

/// Which calls the rates of a circuit look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitWindow {
    /// The last so many calls.
    Calls(usize),
    /// The calls of the last so long.
    Time(Duration),
}

/// By how much the isolation of a circuit grows: see
/// [`CircuitBreakerConfig::isolation_backoff`](CircuitBreakerConfig#method.isolation_backoff).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct IsolationBackoff {
    /// Each isolation is so many times as long as the one before; at least 1.
    pub factor: f64,
    /// The longest isolation; at least the first one.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration"))]
    pub max: Duration,
}

/// Whether a breaker acts on what it judges: see [`CircuitBreaker::set_mode`](crate::CircuitBreaker::set_mode).
///
/// | mode | calls | outcomes |
/// |---|---|---|
/// | `Normal` | pass while the state allows it | are judged |
/// | `ObserveOnly` | pass | are judged; the state changes and is told as in `Normal` |
/// | `Disabled` | pass | are not judged |
/// | `ForcedOpen` | are refused | – |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CircuitMode {
    /// The breaker does its work.
    #[default]
    Normal,
    /// The breaker judges outcomes and announces changes, but refuses no call. Its state stays in this process.
    ObserveOnly,
    /// The breaker lets every call pass and judges none. Its state stays what it was.
    Disabled,
    /// The breaker refuses every call until [`reset`](crate::CircuitBreaker::reset). In a storage this holds for
    /// everybody.
    ForcedOpen,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            max_failure_gap: Duration::from_secs(3600),
            success_threshold: 3,
            isolation_duration: Duration::from_secs(30),
            isolation_backoff: None,
            probe_timeout: None,
            failure_rate: None,
            window: CircuitWindow::Calls(100),
            minimum_calls: None,
            slow_call_duration: None,
            slow_call_rate: None,
            timeouts_are_failures: true,
            cancelled_calls_are_neutral: true,
            refuse_queued_when_open: true,
            initial_mode: CircuitMode::Normal,
        }
    }
}

impl CircuitBreakerConfig {
    /// The largest window of calls. Each call in it takes two bytes.
    pub const MAX_WINDOW: usize = 1 << 20;

    /// How many calls a rate over a period wants to see by default.
    const MINIMUM_IN_A_PERIOD: usize = 20;

    /// Sets how many failures in a row open the circuit. Default 5, at least 1. A success ends the run; an ignored error
    /// does not. A failure that comes more than [`max_failure_gap`](Self::max_failure_gap) after the one before begins a
    /// new run.
    #[must_use]
    pub fn failure_threshold(mut self, failures: usize) -> Self {
        self.failure_threshold = failures;
        self
    }

    /// Sets the longest time between two failures of one run, so that failures days apart do not add up. Default one
    /// hour, greater than zero. [`Duration::MAX`] lets them add up however far apart they are.
    #[must_use]
    pub fn max_failure_gap(mut self, gap: Duration) -> Self {
        self.max_failure_gap = gap;
        self
    }

    /// Sets how many successful probes close a half-open circuit. Default 3, at least 1. At most so many probes are in
    /// flight at a time, and never more than 65,536.
    #[must_use]
    pub fn success_threshold(mut self, successes: usize) -> Self {
        self.success_threshold = successes;
        self
    }

    /// Sets how long the circuit stays open. Default 30 s. With zero it is half-open at once; a duration
    /// beyond what the clock can hold means until [`reset`](crate::CircuitBreaker::reset).
    #[must_use]
    pub fn isolation_duration(mut self, duration: Duration) -> Self {
        self.isolation_duration = duration;
        self
    }

    /// Lets the isolation grow: each is `factor` times as long as the one before, up to `max`. Default: all are as long
    /// as [`isolation_duration`](Self::isolation_duration). `factor` is at least 1, `max` at least the isolation duration.
    ///
    /// A trip counts whether a probe failed or the closed circuit opened again. The isolation is back at the start once
    /// the circuit has stayed closed for as long as the last isolation was: a dependency that comes back only for a
    /// moment is given more time, and one that has recovered begins anew. [`reset`](crate::CircuitBreaker::reset) goes
    /// back to the start at once. An opening by a peer of a shared circuit counts as a trip and lasts as long as the peer
    /// says.
    #[must_use]
    pub fn isolation_backoff(mut self, factor: f64, max: Duration) -> Self {
        self.isolation_backoff = Some(IsolationBackoff { factor, max });
        self
    }

    /// Sets how long a probe may take, from the moment at which the circuit lets it pass; in a bulkhead the time in the
    /// queue is part of it. A probe that takes longer counts as failed: the circuit is open again, and what the probe
    /// comes to in the end does not count.
    ///
    /// Default: the isolation duration, but at least a second. Greater than zero; a duration beyond what the clock can
    /// hold means no limit.
    #[must_use]
    pub fn probe_timeout(mut self, limit: Duration) -> Self {
        self.probe_timeout = Some(limit);
        self
    }

    /// Opens the circuit when at least `rate` (0 < rate <= 1) of the last `window` calls failed,
    /// instead of counting failures in a row. Judged after each call, from the moment at which there are `window` calls,
    /// or [`minimum_calls`](Self::minimum_calls). Ignored errors are no calls. At most
    /// [`MAX_WINDOW`](Self::MAX_WINDOW) calls.
    #[must_use]
    pub fn failure_rate(mut self, rate: f64, window: usize) -> Self {
        self.failure_rate = Some(rate);
        self.window = CircuitWindow::Calls(window);
        self
    }

    /// Opens the circuit when at least `rate` (0 < rate <= 1) of the calls of the last `period` failed, instead of
    /// counting failures in a row. Judged after each call, if there are 20 calls in the period, or
    /// [`minimum_calls`](Self::minimum_calls). Ignored errors are no calls. At least a millisecond.
    ///
    /// The period moves on by tenths: a call is forgotten between nine tenths of the period and the whole period after
    /// it. The window takes the same memory however many calls there are.
    #[must_use]
    pub fn failure_rate_over(mut self, rate: f64, period: Duration) -> Self {
        self.failure_rate = Some(rate);
        self.window = CircuitWindow::Time(period);
        self
    }

    /// Sets how many calls the rates want to see before they judge. Default: the whole window of calls, or 20 of a
    /// period. At least 1, at most the window. Not used for failures in a row.
    #[must_use]
    pub fn minimum_calls(mut self, calls: usize) -> Self {
        self.minimum_calls = Some(calls);
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

    /// Lets a call that ran for longer than `limit` count as failed, also if it returned `Ok`; but not if its error is
    /// ignored. Default: no call is slow. Greater than zero. The time is that of the task itself, without the time in the
    /// queue; for a [`CircuitPermit`](crate::CircuitPermit) it is the time for which it was held.
    ///
    /// With [`slow_call_rate`](Self::slow_call_rate) slow calls are counted apart instead.
    #[must_use]
    pub fn slow_call_duration(mut self, limit: Duration) -> Self {
        self.slow_call_duration = Some(limit);
        self
    }

    /// Counts slow calls apart from failures, and opens the circuit when at least `rate` (0 < rate <= 1) of the calls
    /// in the window were slow. A call may be both slow and failed. Needs a
    /// [`slow_call_duration`](Self::slow_call_duration), and a window: [`failure_rate`](Self::failure_rate) or
    /// [`failure_rate_over`](Self::failure_rate_over).
    ///
    /// In a half-open circuit a slow probe that succeeds counts as a success. When there are enough of them and at least
    /// this share was slow, the circuit opens again instead of closing.
    #[must_use]
    pub fn slow_call_rate(mut self, rate: f64) -> Self {
        self.slow_call_rate = Some(rate);
        self
    }

    /// Sets the mode in which the breaker starts. Default [`CircuitMode::Normal`]. To start
    /// [`ForcedOpen`](CircuitMode::ForcedOpen) is not told as a change; with a storage it opens the circuit for
    /// everybody.
    #[must_use]
    pub fn initial_mode(mut self, mode: CircuitMode) -> Self {
        self.initial_mode = mode;
        self
    }

    /// From how many calls on the rates judge.
    pub(crate) fn calls_to_judge(&self) -> usize {
        match (self.minimum_calls, self.window) {
            (Some(calls), _) | (None, CircuitWindow::Calls(calls)) => calls,
            (None, CircuitWindow::Time(_)) => Self::MINIMUM_IN_A_PERIOD,
        }
    }

    /// How long a probe may take.
    pub(crate) fn probe_limit(&self) -> Duration {
        self.probe_timeout
            .unwrap_or_else(|| self.isolation_duration.max(Duration::from_secs(1)))
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] names the first field that is out of range: a threshold, window or minimum of zero, a
    /// minimum above the window, a window above [`MAX_WINDOW`](Self::MAX_WINDOW) or of less than a millisecond, a rate
    /// outside (0, 1], a `slow_call_rate` without a `slow_call_duration` or without a `failure_rate`, a duration of zero
    /// (but for the isolation), a backoff factor below 1 or not finite, a longest isolation below the first.
    pub fn validate(&self) -> Result<(), BuildError> {
        at_least_1("failure_threshold", self.failure_threshold)?;
        greater_than_zero("max_failure_gap", Some(self.max_failure_gap))?;
        at_least_1("success_threshold", self.success_threshold)?;
        if let Some(backoff) = self.isolation_backoff {
            BuildError::check(
                backoff.factor >= 1.0 && backoff.factor.is_finite(),
                "isolation_backoff",
                format_args!("a factor of {}", backoff.factor),
                "must have a finite factor of at least 1",
            )?;
            BuildError::check(
                backoff.max >= self.isolation_duration,
                "isolation_backoff",
                format_args!("at most {:?}", backoff.max),
                "must allow at least the isolation_duration",
            )?;
        }
        greater_than_zero("probe_timeout", self.probe_timeout)?;
        greater_than_zero("slow_call_duration", self.slow_call_duration)?;
        if self.failure_rate.is_some() {
            self.validate_window()?;
        }
        if let Some(rate) = self.slow_call_rate {
            check_rate("slow_call_rate", rate)?;
            BuildError::check(
                self.slow_call_duration.is_some(),
                "slow_call_rate",
                rate,
                "must have a slow_call_duration beside it",
            )?;
            BuildError::check(
                self.failure_rate.is_some(),
                "slow_call_rate",
                rate,
                "must have a failure_rate beside it, for its window",
            )?;
        }
        Ok(())
    }

    fn validate_window(&self) -> Result<(), BuildError> {
        if let Some(rate) = self.failure_rate {
            check_rate("failure_rate", rate)?;
        }
        match self.window {
            CircuitWindow::Calls(calls) => {
                at_least_1("window", calls)?;
                BuildError::check(
                    calls <= Self::MAX_WINDOW,
                    "window",
                    calls,
                    "must be at most 1048576",
                )?;
            }
            CircuitWindow::Time(period) => BuildError::check(
                period >= Duration::from_millis(1),
                "window",
                format_args!("{period:?}"),
                "must be at least a millisecond",
            )?,
        }
        let Some(minimum) = self.minimum_calls else {
            return Ok(());
        };
        at_least_1("minimum_calls", minimum)?;
        match self.window {
            CircuitWindow::Calls(calls) => BuildError::check(
                minimum <= calls,
                "minimum_calls",
                minimum,
                "must be at most the window",
            ),
            CircuitWindow::Time(_) => Ok(()),
        }
    }
}

/// So many calls as a number, a period as text with a unit.
#[cfg(feature = "config")]
mod window_text {
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::CircuitWindow;
    use crate::text::duration;

    impl Serialize for CircuitWindow {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Calls(calls) => calls.serialize(serializer),
                Self::Time(period) => duration::serialize(period, serializer),
            }
        }
    }

    struct WindowVisitor;

    impl Visitor<'_> for WindowVisitor {
        type Value = CircuitWindow;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of calls, or a period with a unit such as \"60s\"")
        }

        fn visit_u64<E: Error>(self, calls: u64) -> Result<CircuitWindow, E> {
            usize::try_from(calls)
                .map(CircuitWindow::Calls)
                .map_err(|_| E::invalid_value(Unexpected::Unsigned(calls), &self))
        }

        fn visit_i64<E: Error>(self, calls: i64) -> Result<CircuitWindow, E> {
            usize::try_from(calls)
                .map(CircuitWindow::Calls)
                .map_err(|_| E::invalid_value(Unexpected::Signed(calls), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<CircuitWindow, E> {
            duration::parse(text)
                .map(CircuitWindow::Time)
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    impl<'de> Deserialize<'de> for CircuitWindow {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(WindowVisitor)
        }
    }
}

fn at_least_1(field: &'static str, value: usize) -> Result<(), BuildError> {
    BuildError::check(value >= 1, field, value, "must be at least 1")
}

fn greater_than_zero(field: &'static str, value: Option<Duration>) -> Result<(), BuildError> {
    BuildError::check(
        value != Some(Duration::ZERO),
        field,
        format_args!("{:?}", Duration::ZERO),
        "must be greater than zero",
    )
}

fn check_rate(field: &'static str, rate: f64) -> Result<(), BuildError> {
    BuildError::check(
        rate > 0.0 && rate <= 1.0,
        field,
        rate,
        "must be greater than 0 and at most 1",
    )
}
