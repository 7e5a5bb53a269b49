//! The machine with a clock, for threads that share it.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::AdaptiveTimeoutConfig;
use super::machine::{AdaptiveTimeoutStats, Machine};
use crate::clock::Clock;
use crate::core::current;
use crate::error::BuildError;
use crate::event::{BulkheadEvent, FinishedOutcome};
use crate::sync::Mutex;

/// A limit in time that follows how long calls take: some times a high quantile of recent run times, between a floor and a
/// ceiling.
///
/// **Experimental**: its rules and defaults may change in a minor version.
///
/// A fixed timeout is a guess. One that is far above what calls take protects nobody when the dependency hangs, and one that is
/// close to it cuts calls off when the dependency becomes a little slower. Give it to a dependency with
/// [`DependencyOverrides::adaptive_timeout`](crate::DependencyOverrides#method.adaptive_timeout), or to a pipeline with
/// [`PipelineBuilder::adaptive_timeout`](crate::policy::PipelineBuilder::adaptive_timeout); or ask and tell it yourself, around a
/// client that takes a timeout:
///
/// ```
/// use bulkman::{AdaptiveTimeout, AdaptiveTimeoutConfig, AdaptiveTimeoutRule};
/// use std::io::ErrorKind;
/// use std::time::{Duration, Instant};
///
/// let timeout = AdaptiveTimeout::new(
///     AdaptiveTimeoutConfig::new().ceiling(Duration::from_secs(5)),
/// )?;
/// let began = Instant::now();
/// match request(timeout.limit()) {
///     Ok(_) => timeout.record(began.elapsed()),
///     Err(error) if error.kind() == ErrorKind::TimedOut => timeout.record_timeout(began.elapsed()),
///     Err(_) => {} // it says nothing of how long a success takes
/// }
/// // As long as there are too few samples, the limit is the ceiling.
/// let stats = timeout.stats();
/// assert_eq!((stats.samples, stats.rule), (1, AdaptiveTimeoutRule::TooFewSamples));
/// assert_eq!(timeout.limit(), Duration::from_secs(5));
/// # fn request(_: Duration) -> Result<(), std::io::Error> { Ok(()) }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// # How it moves
///
/// * Only calls that succeeded are samples. With fewer than the
///   [minimum](AdaptiveTimeoutConfig::minimum_samples) in the window no limit is taken from them.
/// * It is looked at once in a tenth of the [window](AdaptiveTimeoutConfig::window).
/// * It moves if the newest calls and the whole window agree that it should be more by a fifth, or less. It grows at most by half
///   at a time, and shrinks at most by a third. A slow minute, in a window of five, makes it three to four times as long at the
///   most, and it goes back when that minute has left the window.
/// * A dependency that has become several times as slow at once is followed in some tenths of the window. Until then many calls
///   are cut off, which a circuit breaker takes for failures, as with any timeout.
/// * With less than half of the minimum in the window, it is forgotten, and the ceiling holds again.
///
/// # Calls that are cut off
///
/// A call that was cut off at a limit would have taken longer. That is all that it says, and so the quantile counts it (the
/// product-limit estimator of Kaplan and Meier). It is not forgotten, as if only quick calls existed: the limit could then only
/// shrink. It is not taken for a sample either: the limit would then grow by its factor again and again.
///
/// When more calls are cut off than the quantile leaves room for, it is not known. Then the limit stays as it is, and one call in 16
/// is given the ceiling. If the dependency has only become slower, these calls succeed, and the limit grows. If it is dying,
/// the limit stays short for the other 15 until it recovers.
///
/// # Threads
///
/// Clones are one. Each call takes a short lock, in which no user code runs.
#[derive(Clone)]
pub struct AdaptiveTimeout {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    epoch: Instant,
    machine: Mutex<Machine>,
}

impl AdaptiveTimeout {
    /// With the ceiling as its limit, until there are samples.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] names the first number that is out of range.
    pub fn new(config: AdaptiveTimeoutConfig) -> Result<Self, BuildError> {
        Self::with_clock(config, Clock::system())
    }

    /// The same, by this clock.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_clock(
        config: AdaptiveTimeoutConfig,
        clock: impl Into<Clock>,
    ) -> Result<Self, BuildError> {
        config.validate()?;
        Ok(Self::of_dependency(config, clock.into()))
    }

    /// The configuration is valid, but for a ceiling that may be below the floor, and then counts.
    pub(crate) fn of_dependency(config: AdaptiveTimeoutConfig, clock: Clock) -> Self {
        let epoch = clock.now();
        let machine = Mutex::new(Machine::new(config));
        Self {
            shared: Arc::new(Shared {
                clock,
                epoch,
                machine,
            }),
        }
    }

    /// The limit of the call that is about to be made. Ask once for each call: one in 16 may be given the ceiling, see
    /// [above](Self#calls-that-are-cut-off).
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.with(Machine::limit)
    }

    /// A call has succeeded, and took this long.
    pub fn record(&self, run_time: Duration) {
        self.with(|machine, now| machine.succeed(now, run_time));
    }

    /// A call was cut off at its limit, after this long. A call that failed before is not recorded.
    pub fn record_timeout(&self, after: Duration) {
        self.with(|machine, now| machine.cut_off(now, after));
    }

    /// A call did not succeed, after this long, when this much of its limit was left.
    pub(crate) fn record_failure(&self, after: Duration, left: Option<Duration>) {
        // A client that is given what is left as its timeout may be a little early.
        if left.is_some_and(|left| left <= after / 10) {
            self.record_timeout(after);
        } else {
            self.record_other();
        }
    }

    /// There was a call, of which nothing more is known.
    pub(crate) fn record_other(&self) {
        self.with(Machine::other);
    }

    /// The limit, and what it was taken from.
    #[must_use]
    pub fn stats(&self) -> AdaptiveTimeoutStats {
        self.with(Machine::stats)
    }

    /// What a bulkhead's listener hears of a call.
    ///
    /// The end of a task counts, also after its caller has left. A caller that leaves is a sign that there are calls.
    pub(crate) fn on_event(&self, event: &BulkheadEvent<'_>) {
        match event {
            BulkheadEvent::Finished {
                outcome: FinishedOutcome::Succeeded,
                execution_time,
                ..
            } => self.record(*execution_time),
            BulkheadEvent::Finished { execution_time, .. } => {
                // Told inside of the call.
                let left = current().and_then(|call| call.remaining());
                self.record_failure(*execution_time, left);
            }
            BulkheadEvent::CallerTimedOut { .. } => self.record_other(),
            _ => {}
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let Shared {
            clock,
            epoch,
            machine,
        } = &*self.shared;
        let now = clock.now().saturating_duration_since(*epoch);
        act(&mut machine.lock(), now)
    }
}

// No user code runs under the lock.
impl UnwindSafe for AdaptiveTimeout {}
impl RefUnwindSafe for AdaptiveTimeout {}

impl fmt::Debug for AdaptiveTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("AdaptiveTimeout")
            .field("limit", &stats.limit)
            .field("rule", &stats.rule)
            .field("samples", &stats.samples)
            .finish_non_exhaustive()
    }
}
