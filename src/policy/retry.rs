//! Calling again what has failed.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::budget::RetryBudget;
use super::random::Random;
use super::retry_outcome::RetryEvent;
use super::retry_rule::{ByDefault, RetryIf};
use crate::clock::Clock;
use crate::context::TraceOptions;

/// Calls again what has failed, after pauses that grow.
///
/// ```
/// use bulkman::policy::{Retry, RetryBudget};
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::io;
/// use std::time::Duration;
///
/// let users = Bulkhead::new(BulkheadConfig::new("users"))?;
/// let retry = Retry::new(4)                          // one call, and three more at most
///     .first_delay(Duration::from_millis(50))        // then 100 ms, 200 ms: with jitter, up to so much
///     .total_limit(Duration::from_secs(2))
///     .budget(RetryBudget::new(0.1))                 // one for each dependency: clones share it
///     .retry_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound);
///
/// let name = retry.call(|| users.execute(|| Ok("Ada")).wait())?;
/// assert_eq!(name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The pause passes in the caller's thread, while the call has neither a worker nor a place. (A retry inside of a task keeps
/// that task's worker, as everything in the task does.) There is none after the last
/// attempt. One that would not end before the deadline is not begun: that of [`total_limit`](Self::total_limit), and what
/// is [left](super::remaining()) to the code around it.
///
/// # What is retried
///
/// Without a rule the error decides, see [`RetryableError`](super::RetryableError). Of a [`BulkheadError`](crate::BulkheadError):
///
/// | reason | retried |
/// |---|---|
/// | `Failed`: the task's own error | yes; [`retry_if`](Self::retry_if) decides instead |
/// | `Full`, `QueueTimeout`, `Timeout` of a task that never started | yes |
/// | `CircuitOpen` | yes, not before its `retry_after` |
/// | `Timeout` of a task that started: it may still be running | no, unless [`retry_timeouts`](Self::retry_timeouts) |
/// | `Panicked` | no, unless [`retry_panics`](Self::retry_panics) |
/// | `Cancelled`, `ShutDown`, `TooDeep` | no |
///
/// A task that is retried should do no harm when it runs twice: a call that failed may still have had its effect.
///
/// Cloning a `Retry` is cheap. Clones share the budget, the random numbers and the listeners.
pub struct Retry<R = ByDefault> {
    pub(super) name: Arc<str>,
    /// `None`: no bound.
    pub(super) max_attempts: Option<u32>,
    pub(super) backoff: Backoff,
    pub(super) max_named_delay: Duration,
    pub(super) total_limit: Option<Duration>,
    pub(super) budget: Option<RetryBudget>,
    pub(super) rule: R,
    pub(super) stop_if: Option<StopIf>,
    pub(super) listeners: Vec<Listener>,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) trace: TraceOptions,
}

/// The name of a retry that was given none.
const UNNAMED: &str = "retry";

pub(super) type StopIf = Arc<dyn Fn() -> bool + Send + Sync>;
type Listener = Arc<dyn Fn(&RetryEvent<'_>) + Send + Sync>;

impl Retry {
    /// At most so many attempts, the first among them; 0 counts as 1. The first pause is up to 100 ms, each further one up
    /// to twice as long, none longer than 10 s.
    #[must_use]
    pub fn new(max_attempts: u32) -> Self {
        Self {
            name: UNNAMED.into(),
            max_attempts: Some(max_attempts.max(1)),
            backoff: Backoff {
                first: Duration::from_millis(100),
                factor: 2.0,
                max: Duration::from_secs(10),
                jitter: Jitter::Full,
            },
            max_named_delay: Duration::from_secs(60),
            total_limit: None,
            budget: None,
            rule: ByDefault::default(),
            stop_if: None,
            listeners: Vec::new(),
            clock: Clock::system(),
            random: Random::new(),
            trace: TraceOptions::default(),
        }
    }

    /// Attempts without a bound, until one succeeds or something else says stop. Best with a
    /// [`total_limit`](Self::total_limit) or inside a [`Deadline`](super::Deadline).
    #[must_use]
    pub fn forever() -> Self {
        Self {
            max_attempts: None,
            ..Self::new(1)
        }
    }

    /// Lets `is_retryable` decide which errors are worth another attempt: the only way for an error type of another crate.
    ///
    /// For calls of a bulkhead it may take the task's own error, and decides about nothing else then; see [`RetryIf`]. If
    /// it panics, there is no other attempt.
    #[must_use]
    pub fn retry_if<E>(
        self,
        is_retryable: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Retry<RetryIf<E>> {
        let otherwise = self.rule;
        self.rule(RetryIf {
            is_retryable: Arc::new(is_retryable),
            retry_after: None,
            otherwise,
        })
    }

    /// Also retries calls whose limit passed while the task ran, as a timeout for each attempt makes them. Only for tasks
    /// that do no harm when they run twice, and at the same time: the first may still be running.
    #[must_use]
    pub fn retry_timeouts(mut self) -> Self {
        self.rule.timeouts = true;
        self
    }

    /// Also retries calls whose task panicked. (A panic of a closure that runs outside of a bulkhead goes through
    /// [`call`](Self::call) to its caller in any case.)
    #[must_use]
    pub fn retry_panics(mut self) -> Self {
        self.rule.panics = true;
        self
    }
}

impl<E> Retry<RetryIf<E>> {
    /// Lets `retry_after` read from an error how long the other side asks to wait, as HTTP's `Retry-After`.
    ///
    /// The pause is then not shorter. If it would be longer than [`max_named_delay`](Self::max_named_delay), there is no
    /// other attempt.
    ///
    /// ```
    /// use bulkman::policy::{Retry, RetryStop};
    /// use std::time::Duration;
    ///
    /// struct Response {
    ///     status: u16,
    ///     retry_after: Option<Duration>,
    /// }
    ///
    /// let retry = Retry::new(3)
    ///     .retry_if(|response: &Response| response.status >= 500 || response.status == 429)
    ///     .delay_of(|response| response.retry_after);
    ///
    /// let tomorrow = Some(Duration::from_secs(86_400));
    /// let gave_up = retry.call(|| Err::<(), _>(Response { status: 429, retry_after: tomorrow }));
    /// assert!(gave_up.is_err_and(|error| error.stop == RetryStop::DelayTooLong));
    /// ```
    #[must_use]
    pub fn delay_of(
        mut self,
        retry_after: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.rule.retry_after = Some(Arc::new(retry_after));
        self
    }
}

impl<R> Retry<R> {
    /// The rule that decides which errors are worth another attempt.
    pub(crate) fn current_rule(&self) -> &R {
        &self.rule
    }

    /// Puts a rule of the caller's own in place of the present one.
    #[must_use]
    pub fn rule<S>(self, rule: S) -> Retry<S> {
        Retry {
            name: self.name,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            max_named_delay: self.max_named_delay,
            total_limit: self.total_limit,
            budget: self.budget,
            rule,
            stop_if: self.stop_if,
            listeners: self.listeners,
            clock: self.clock,
            random: self.random,
            trace: self.trace,
        }
    }

    /// Names it, for listeners and the log. Default `retry`; in a pipeline, the pipeline's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the pause after the first attempt. Default 100 ms; zero is no pause at all.
    #[must_use]
    pub fn first_delay(mut self, delay: Duration) -> Self {
        self.backoff.first = delay;
        self
    }

    /// Sets by how much each pause is longer than the one before. Default 2; 1 means pauses of one length, and less, or no
    /// number, counts as 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        // `max` gives the other one where one is no number.
        self.backoff.factor = factor.max(1.0);
        self
    }

    /// Sets what no pause is longer than, unless the error asks for it. Default 10 s.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.backoff.max = delay;
        self
    }

    /// Sets how pauses are spread. Default [`Jitter::Full`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.backoff.jitter = jitter;
        self
    }

    /// Sets for how long a wait an error may ask, as a `CircuitOpen` does with its `retry_after`. Default one minute. If it
    /// asks for more, there is no other attempt: to come earlier would be in vain.
    #[must_use]
    pub fn max_named_delay(mut self, delay: Duration) -> Self {
        self.max_named_delay = delay;
        self
    }

    /// Sets a limit over everything, from the first attempt on. No attempt begins after it. It ends no attempt: give the
    /// calls a limit of their own, or a [`Deadline`](super::Deadline). Default: none.
    #[must_use]
    pub fn total_limit(mut self, limit: Duration) -> Self {
        self.total_limit = Some(limit);
        self
    }

    /// Bounds the retries of all callers together. Give clones of one budget to all that call the same dependency.
    /// Default: none.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Ends a wait, and the attempts, when `condition` holds. It is asked after each failed attempt, and about every 10 ms
    /// during a wait; so it should be quick. If it panics, it holds.
    ///
    /// Inside the task of a bulkhead, a wait ends by itself when the task's call is cancelled.
    ///
    /// ```
    /// use bulkman::policy::Retry;
    /// use bulkman::{Bulkhead, BulkheadConfig, BulkheadState};
    /// use std::sync::Arc;
    ///
    /// let mail = Arc::new(Bulkhead::new(BulkheadConfig::new("mail"))?);
    /// let watched = Arc::clone(&mail);
    /// let retry = Retry::new(10).stop_if(move || watched.state() == BulkheadState::ShutDown);
    /// # let _ = retry;
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    #[must_use]
    pub fn stop_if(mut self, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.stop_if = Some(Arc::new(condition));
        self
    }

    /// Becomes a part of a pipeline, whose clock it goes by, and whose span it has. Without a name of its own it takes the
    /// pipeline's.
    pub(super) fn adopt(&mut self, pipeline: &Arc<str>, clock: &Clock, trace: TraceOptions) {
        if &*self.name == UNNAMED {
            self.name = Arc::clone(pipeline);
        }
        self.clock = clock.clone();
        self.trace = trace;
    }

    /// Adds a condition to the one that is there.
    pub(super) fn also_stop_if(&mut self, condition: StopIf) {
        self.stop_if = Some(match self.stop_if.take() {
            Some(own) => Arc::new(move || own() || condition()),
            None => condition,
        });
    }

    /// Adds a listener, which is told after each attempt, in the caller's thread. A panic in it is contained and logged.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&RetryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Sets the clock that pauses and limits go by. Default: the system's. Tests hand in a
    /// [`ManualClock`](crate::ManualClock).
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Sets where the random numbers of the jitter begin, for tests that are to repeat.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random::from_seed(seed);
        self
    }

    /// Sets whether a [`call`](Self::call) has a span of its own, `retry_call`, around those of its attempts, and whether
    /// failed attempts are events. Default: `true`. In a pipeline the
    /// [pipeline's setting](super::PipelineBuilder::call_spans) counts.
    #[cfg(feature = "tracing")]
    #[must_use]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.trace.has_spans = spans;
        self
    }
}

// As for the bulkheads.
impl<R> UnwindSafe for Retry<R> {}
impl<R> RefUnwindSafe for Retry<R> {}

impl<R: Clone> Clone for Retry<R> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            max_named_delay: self.max_named_delay,
            total_limit: self.total_limit,
            budget: self.budget.clone(),
            rule: self.rule.clone(),
            stop_if: self.stop_if.clone(),
            listeners: self.listeners.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            trace: self.trace,
        }
    }
}

impl<R> fmt::Debug for Retry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("name", &self.name)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("max_named_delay", &self.max_named_delay)
            .field("total_limit", &self.total_limit)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
