//! What can go wrong, with the names and numbers that an operator needs.

use std::collections::TryReserveError;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::panic::Panic;
use crate::text::{OneLine, acts};

/// Why a [`Bulkhead`](crate::Bulkhead), or a circuit breaker, could not be built. No thread is left behind.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is out of range. Found before any thread starts.
    #[error("invalid configuration{}: {field} is {value}, it {rule}", Of(.name))]
    InvalidValue {
        /// The name of the bulkhead or the circuit. `None` if the name is what is wrong, and from
        /// [`CircuitBreakerConfig::validate`](crate::CircuitBreakerConfig::validate), which knows no name.
        name: Option<String>,
        /// The field of [`BulkheadConfig`](crate::BulkheadConfig) or
        /// [`CircuitBreakerConfig`](crate::CircuitBreakerConfig), or the setter of a builder.
        field: &'static str,
        /// What was given.
        value: String,
        /// What it has to be.
        rule: &'static str,
    },
    /// The system refused a worker thread. The workers that had started are ended and joined.
    #[error("bulkhead `{bulkhead}` could start only {worker} of its {workers} worker threads")]
    ThreadStart {
        /// The bulkhead's name.
        bulkhead: String,
        /// The worker that could not start, from 0, as in the names of the threads. So many had started before it.
        worker: usize,
        /// How many workers there were to be.
        workers: usize,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused the memory of the queue, which a bulkhead with threads takes when it is built.
    #[error("bulkhead `{bulkhead}` has no memory for a queue of {max_queue_size} calls")]
    QueueMemory {
        /// The bulkhead's name.
        bulkhead: String,
        /// Q.
        max_queue_size: usize,
        /// What the allocator said.
        #[source]
        source: TryReserveError,
    },
    /// The bulkhead is shut down: it takes no change any more.
    #[error("bulkhead `{bulkhead}` is shut down and takes no change")]
    ShutDown {
        /// The bulkhead's name.
        bulkhead: String,
    },
    /// The bulkhead was built without a circuit breaker, and does not get one while it works.
    #[error(
        "bulkhead `{bulkhead}` was built without a circuit breaker: build it anew with one to give it rules"
    )]
    NoCircuitBreaker {
        /// The bulkhead's name.
        bulkhead: String,
    },
    /// The circuit cannot be kept in its storage: the storage does not take the name, or the thread that was to serve
    /// it could not start. A storage that only fails to answer is no such error.
    #[error("circuit `{circuit}` cannot be kept in its storage")]
    CircuitStorage {
        /// The circuit's name; a bulkhead's circuit has the bulkhead's.
        circuit: String,
        /// What the storage said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl BuildError {
    /// An error unless the rule `holds` for the value of a field.
    pub(crate) fn check(
        holds: bool,
        field: &'static str,
        value: impl fmt::Display,
        rule: &'static str,
    ) -> Result<(), Self> {
        if holds {
            Ok(())
        } else {
            Err(Self::InvalidValue {
                name: None,
                field,
                value: value.to_string(),
                rule,
            })
        }
    }

    /// An error unless the name can stand in a log line and in a thread's name.
    pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), Self> {
        let check = |holds, rule| Self::check(holds, field, format_args!("{name:?}"), rule);
        check(!name.trim().is_empty(), "must not be blank")?;
        check(!name.contains(acts), "must not contain control characters")
    }

    /// The same error, saying which bulkhead or circuit it is of.
    pub(crate) fn of(mut self, whose: &str) -> Self {
        if let Self::InvalidValue { name, .. } = &mut self {
            name.get_or_insert_with(|| whose.to_owned());
        }
        self
    }
}

/// Whose configuration is invalid, if that is known.
struct Of<'a>(&'a Option<String>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " of `{}`", OneLine(name)),
            None => Ok(()),
        }
    }
}

/// Why a call was refused: it was never queued, and nothing of it ran.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum RejectReason {
    /// All N + Q places are taken.
    #[error(
        "bulkhead `{bulkhead}` is full: all {} places are taken, {max_concurrent_calls} to run and {max_queue_size} to wait{}",
        .max_concurrent_calls + .max_queue_size,
        Waited(*.waited)
    )]
    Full {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// N.
        max_concurrent_calls: usize,
        /// Q.
        max_queue_size: usize,
        /// How long the caller waited for a place; `None` where it did not ask to wait.
        waited: Option<Duration>,
    },
    /// The circuit breaker keeps calls away from a failing dependency.
    #[error("bulkhead `{bulkhead}` has an open circuit: {}", RetryAfter(*.retry_after))]
    CircuitOpen {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// How long to wait until it is worth trying again; never zero. The rest of the isolation, or while the circuit
        /// is half-open and all its probes are out, the time that the oldest of them has left.
        /// [`Duration::MAX`] if only a reset closes the circuit.
        retry_after: Duration,
    },
    /// The bulkhead is shut down.
    #[error("bulkhead `{bulkhead}` is shut down")]
    ShutDown {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
    },
}

/// How long a circuit stays open, in words.
pub(crate) struct RetryAfter(pub(crate) Duration);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match within_reach(self.0) {
            Some(retry_after) => write!(f, "retry in {retry_after:.1?}"),
            None => f.write_str("held open until it is reset"),
        }
    }
}

struct Waited(Option<Duration>);

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(waited) => write!(f, "; waited {waited:.1?} for a place"),
            None => Ok(()),
        }
    }
}

impl RejectReason {
    /// The name of the bulkhead that refused.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        self.bulkhead()
    }

    pub(crate) fn bulkhead(&self) -> &Arc<str> {
        match self {
            Self::Full { bulkhead, .. }
            | Self::CircuitOpen { bulkhead, .. }
            | Self::ShutDown { bulkhead } => bulkhead,
        }
    }

    /// Whether the bulkhead was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether the circuit was open.
    #[must_use]
    pub fn is_circuit_open(&self) -> bool {
        matches!(self, Self::CircuitOpen { .. })
    }

    /// Whether the bulkhead was shut down.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(self, Self::ShutDown { .. })
    }

    /// How long to wait until it is worth trying again, if that is known: see [`BulkheadError::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after, .. } => within_reach(*retry_after),
            _ => None,
        }
    }
}

/// The longest time for which there is something to wait. From now on, every clock can hold it.
const LONGEST_WAIT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `None`: no wait would end it.
fn within_reach(retry_after: Duration) -> Option<Duration> {
    (retry_after <= LONGEST_WAIT).then_some(retry_after)
}

/// A refused call with the caller's own closure, unboxed and untouched: run a fallback, try again,
/// send it elsewhere, or call it here.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("reports"))?;
/// bulkhead.shutdown();
/// let answer = match bulkhead.try_execute(|| Ok::<_, std::io::Error>(6 * 7)) {
///     Ok(handle) => handle.wait().into_result()?,
///     Err(rejected) => (rejected.task)()?, // run it in this thread instead
/// };
/// assert_eq!(answer, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Rejected<F> {
    /// Why the call was refused.
    pub reason: RejectReason,
    /// The closure as it was handed in.
    pub task: F,
}

impl<F> fmt::Debug for Rejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Rejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<F> Error for Rejected<F> {}

/// For `map_err(RejectReason::from)?`, where the closure is not wanted back, or is not `Sync`.
impl<F> From<Rejected<F>> for RejectReason {
    fn from(rejected: Rejected<F>) -> Self {
        rejected.reason
    }
}

/// As `try_execute(f)?` needs it in a function that returns a [`BulkheadError`]. The closure is dropped.
impl<F, E> From<Rejected<F>> for BulkheadError<E> {
    fn from(rejected: Rejected<F>) -> Self {
        rejected.reason.into()
    }
}

/// Why a call has no value: the task's own error, or one typed reason.
///
/// `E` is the task's error type, [`Infallible`] for [`run`](crate::Bulkhead::run).
///
/// # In a function that returns another error
///
/// | the function returns | the task's error is | take |
/// |---|---|---|
/// | `Box<dyn Error + Send + Sync>`, `anyhow::Error` | an [`Error`] | [`result()?`](crate::ExecutionHandle::result) |
/// | `anyhow::Error` | the same | [`flatten()?`](crate::ExecutionResult::flatten) |
/// | an enum of your own | the same | [`flatten()?`](crate::ExecutionResult::flatten) |
/// | an enum of your own | another, `E` | [`result()?`](crate::ExecutionHandle::result), and `#[from] BulkheadError<E>` in the enum |
/// | `Box<dyn Error + Send + Sync>` | a `String`, or another that is no [`Error`] | [`into_boxed`](Self::into_boxed) |
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum BulkheadError<E> {
    /// Refused: all N + Q places are taken. The task never started.
    #[error(
        "bulkhead `{bulkhead}` is full: all {} places are taken, {max_concurrent_calls} to run and {max_queue_size} to wait{}",
        .max_concurrent_calls + .max_queue_size,
        Waited(*.waited)
    )]
    Full {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// N.
        max_concurrent_calls: usize,
        /// Q.
        max_queue_size: usize,
        /// How long the caller waited for a place; `None` where it did not ask to wait.
        waited: Option<Duration>,
    },
    /// Refused: the circuit breaker keeps calls away from a failing dependency. The call was refused on its way in, or in
    /// the queue because the circuit opened meanwhile
    /// ([`refuse_queued_when_open`](crate::CircuitBreakerConfig::refuse_queued_when_open)). The task never started.
    #[error("bulkhead `{bulkhead}` has an open circuit: {}", RetryAfter(*.retry_after))]
    CircuitOpen {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// How long to wait until it is worth trying again; never zero. The rest of the isolation, or while the circuit
        /// is half-open and all its probes are out, the time that the oldest of them has left.
        /// [`Duration::MAX`] if only a reset closes the circuit.
        retry_after: Duration,
    },
    /// Refused: the bulkhead is shut down. The task never started.
    #[error("bulkhead `{bulkhead}` is shut down")]
    ShutDown {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
    },
    /// No worker or slot was free within the queue timeout. The task never started.
    #[error(
        "bulkhead `{bulkhead}`: the call timed out in the queue after {queued_for:.1?}, the limit is {limit:.1?}; the task never started"
    )]
    QueueTimeout {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// How long the call had waited when it was given up.
        queued_for: Duration,
        /// The queue timeout.
        limit: Duration,
    },
    /// Cancelled while it was queued. The task never started.
    #[error("bulkhead `{bulkhead}`: the call was cancelled in the queue{}; the task never started", if *.by_shutdown { " by a shutdown" } else { "" })]
    Cancelled {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// Whether a shutdown cancelled it, rather than its handle.
        by_shutdown: bool,
    },
    /// A task waited for this call of its own bulkhead, and so many calls were nested on its worker already that this one was
    /// not run on top of them; see [`max_nested_calls`](crate::BulkheadConfig::max_nested_calls). The task never started.
    #[error(
        "bulkhead `{bulkhead}` did not run a nested call: {max_nested_calls} calls wait for each other on this worker already"
    )]
    TooDeep {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// The limit.
        max_nested_calls: usize,
    },
    /// The system refused a thread for this call, and there was no worker to wait for. The task never started. Only a bulkhead
    /// that starts its workers on demand gives it, see [`idle_timeout`](crate::BulkheadConfig::idle_timeout).
    #[error(
        "bulkhead `{bulkhead}` has no worker thread for the call, and the system refuses it one: {kind}"
    )]
    NoThread {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// What the system said. The whole message is in the log.
        kind: io::ErrorKind,
    },
    /// The caller's own limit passed. Unless `started` is false, which it always is from a
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead), the task may still be running; it keeps its worker until it ends,
    /// and can read that it is no longer wanted from
    /// [`CurrentExecution::is_cancelled`](crate::CurrentExecution::is_cancelled).
    #[error("bulkhead `{bulkhead}`: the call timed out after {limit:.1?}; the task {}", if *.started { "may still be running" } else { "never started" })]
    Timeout {
        /// The bulkhead's name.
        bulkhead: Arc<str>,
        /// The limit over queue and run together.
        limit: Duration,
        /// Whether the task had started. `false`: it never will.
        started: bool,
    },
    /// The task panicked. The text does not say with what, since it may go to clients: that is
    /// [`message`](Panic::message).
    #[error("{0}")]
    Panicked(Panic),
    /// The task returned this error.
    #[error(transparent)]
    Failed(E),
}

impl<E> BulkheadError<E> {
    /// Whether the call was refused: full, circuit open, shut down, nested too deep, or no thread to be had.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::CircuitOpen { .. }
                | Self::ShutDown { .. }
                | Self::TooDeep { .. }
                | Self::NoThread { .. }
        )
    }

    /// Whether the call has no value because the bulkhead was shut down: it was refused on its way in
    /// ([`ShutDown`](Self::ShutDown)), or cancelled in the queue by the shutdown ([`Cancelled`](Self::Cancelled)). The task
    /// never started.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        matches!(
            self,
            Self::ShutDown { .. }
                | Self::Cancelled {
                    by_shutdown: true,
                    ..
                }
        )
    }

    /// Whether a time limit passed: the queue timeout or the caller's own.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::QueueTimeout { .. } | Self::Timeout { .. })
    }

    /// Whether the task certainly never started and never will, so that the same work can safely be
    /// sent elsewhere.
    #[must_use]
    pub fn never_started(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::CircuitOpen { .. }
            | Self::ShutDown { .. }
            | Self::QueueTimeout { .. }
            | Self::TooDeep { .. }
            | Self::NoThread { .. }
            | Self::Cancelled { .. } => true,
            Self::Timeout { started, .. } => !started,
            Self::Panicked(_) | Self::Failed(_) => false,
        }
    }

    /// Whether the call was refused because the bulkhead was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether the call was refused because the circuit was open.
    #[must_use]
    pub fn is_circuit_open(&self) -> bool {
        matches!(self, Self::CircuitOpen { .. })
    }

    /// Whether the call was refused because the bulkhead was shut down. A call that a shutdown cancels in the queue is
    /// [`Cancelled`](Self::Cancelled).
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(self, Self::ShutDown { .. })
    }

    /// The name of the bulkhead; `None` for the task's own error, which knows none. The
    /// [result](crate::ExecutionResult::bulkhead_name) does in each case.
    #[must_use]
    pub fn bulkhead_name(&self) -> Option<&str> {
        match self {
            Self::Full { bulkhead, .. }
            | Self::CircuitOpen { bulkhead, .. }
            | Self::ShutDown { bulkhead }
            | Self::QueueTimeout { bulkhead, .. }
            | Self::Cancelled { bulkhead, .. }
            | Self::TooDeep { bulkhead, .. }
            | Self::NoThread { bulkhead, .. }
            | Self::Timeout { bulkhead, .. } => Some(bulkhead),
            Self::Panicked(panic) => Some(panic.bulkhead_name()),
            Self::Failed(_) => None,
        }
    }

    /// How long to wait until it is worth trying again, if that is known: for an open circuit that lets calls pass again by
    /// itself. `None` for every other error, and for a circuit that only a reset closes. Never zero, and never more than a
    /// hundred years, so that it can be added to any [`Instant`](std::time::Instant) of today.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};
    /// use std::time::Duration;
    ///
    /// let config = BulkheadConfig::new("payments").circuit_breaker(CircuitBreakerConfig::default());
    /// let bulkhead = Bulkhead::new(config)?;
    /// let circuit = bulkhead.circuit_breaker().expect("it has one");
    /// circuit.trip();
    /// let error = bulkhead.run(|| ()).result().unwrap_err();
    /// assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(30)));
    /// circuit.force_open();
    /// let error = bulkhead.run(|| ()).result().unwrap_err();
    /// assert!(error.is_circuit_open() && error.retry_after().is_none());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after, .. } => within_reach(*retry_after),
            _ => None,
        }
    }

    /// The task's own error, if that is what it is.
    #[must_use]
    pub fn failed(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The error in a box, for `?` in a function that returns one. Where `E` is an
    /// [`Error`] itself, plain `?` does; this is for an `E` that can only become one, such as a `String`.
    ///
    /// ```
    /// # use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let bulkhead = Bulkhead::new(BulkheadConfig::new("boxed"))?;
    /// let result = bulkhead.execute(|| Ok::<_, String>(7)).wait().into_result();
    /// let value = result.map_err(BulkheadError::into_boxed)?;
    /// # assert_eq!(value, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_boxed(self) -> Box<dyn Error + Send + Sync>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        match self.into_failed() {
            Ok(own) => own.into(),
            Err(other) => Box::new(other),
        }
    }

    /// The task's own error as it is, and every other reason as one of its kind: for a task whose error type has room for
    /// both, such as `anyhow::Error` or an enum with `#[from] BulkheadError<Infallible>`. See
    /// [`ExecutionResult::flatten`](crate::ExecutionResult::flatten).
    pub fn flatten(self) -> E
    where
        E: From<BulkheadError<Infallible>>,
    {
        self.into_failed().unwrap_or_else(E::from)
    }

    /// The task's own error.
    ///
    /// # Errors
    ///
    /// Every other reason, with a type that says that the task's own error is none of them.
    pub fn into_failed(self) -> Result<E, BulkheadError<Infallible>> {
        match self {
            Self::Failed(own) => Ok(own),
            other => Err(other.map_failed(|_| unreachable!("handled above"))),
        }
    }

    /// The same error with the task's own error converted.
    pub fn map_failed<U>(self, convert: impl FnOnce(E) -> U) -> BulkheadError<U> {
        match self {
            Self::Full {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                waited,
            } => BulkheadError::Full {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                waited,
            },
            Self::CircuitOpen {
                bulkhead,
                retry_after,
            } => BulkheadError::CircuitOpen {
                bulkhead,
                retry_after,
            },
            Self::ShutDown { bulkhead } => BulkheadError::ShutDown { bulkhead },
            Self::QueueTimeout {
                bulkhead,
                queued_for,
                limit,
            } => BulkheadError::QueueTimeout {
                bulkhead,
                queued_for,
                limit,
            },
            Self::Cancelled {
                bulkhead,
                by_shutdown,
            } => BulkheadError::Cancelled {
                bulkhead,
                by_shutdown,
            },
            Self::Timeout {
                bulkhead,
                limit,
                started,
            } => BulkheadError::Timeout {
                bulkhead,
                limit,
                started,
            },
            Self::TooDeep {
                bulkhead,
                max_nested_calls,
            } => BulkheadError::TooDeep {
                bulkhead,
                max_nested_calls,
            },
            Self::NoThread { bulkhead, kind } => BulkheadError::NoThread { bulkhead, kind },
            Self::Panicked(panic) => BulkheadError::Panicked(panic),
            Self::Failed(error) => BulkheadError::Failed(convert(error)),
        }
    }
}

impl BulkheadError<Infallible> {
    /// The error of a call that cannot fail by itself, as the error of one that can.
    #[must_use]
    pub fn widen<E>(self) -> BulkheadError<E> {
        self.map_failed(|never| match never {})
    }
}

impl<E> From<RejectReason> for BulkheadError<E> {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::Full {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                waited,
            } => Self::Full {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                waited,
            },
            RejectReason::CircuitOpen {
                bulkhead,
                retry_after,
            } => Self::CircuitOpen {
                bulkhead,
                retry_after,
            },
            RejectReason::ShutDown { bulkhead } => Self::ShutDown { bulkhead },
        }
    }
}
