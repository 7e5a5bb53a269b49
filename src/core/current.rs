//! What a task can ask about its own call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::call_data::CallView;
use super::this_thread::innermost;

/// The call that this thread is running, asked from inside its task; `None` on any other thread. Of calls inside each
/// other in one thread it is the innermost.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("export"))?;
/// let result = bulkhead.execute_with_timeout(Duration::from_secs(5), || {
///     for row in 0..1_000 {
///         if bulkman::current().is_some_and(|call| call.is_cancelled()) {
///             return Err(format!("stopped at row {row}"));
///         }
///     }
///     Ok("done")
/// });
/// assert_eq!(result.value(), Some(&"done"));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use]
pub fn current() -> Option<CurrentExecution> {
    innermost().map(|call| CurrentExecution { call })
}

/// Why the result of a running task is no longer wanted, from [`CurrentExecution::cancel_reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The handle was cancelled, or dropped as [`CancelOnDrop`](crate::CancelOnDrop): that of the call, or of one that it
    /// [inherits](CurrentExecution#calls-that-a-task-makes) from. (Nothing else can cancel a call of a
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) that runs.)
    Cancelled,
    /// The caller's limit has passed, or an inherited deadline, whether or not a caller waits at that moment.
    DeadlinePassed,
}

/// A running task's view of its own call, from [`current`].
///
/// It can be cloned and sent to threads that the task starts itself.
///
/// # Calls that a task makes
///
/// A call inherits from the task that makes it, on the same bulkhead or on another of either kind:
///
/// * the deadline: [`deadline`](Self::deadline) and [`remaining`](Self::remaining) are the nearer of the call's own and the
///   outer one;
/// * the cancel: [`is_cancelled`](Self::is_cancelled) is true also if the outer call was cancelled, or one around it. After
///   the outer task has ended, nothing more comes from there; a cancel that came before stays.
///
/// Only the task sees what is inherited. How long a [`wait`](crate::ExecutionHandle::wait) takes, when a queued call expires,
/// and what the circuit makes of a late one depend on the call's own limits alone: a caller with little time left does not
/// make a healthy dependency look slow, and a call that nobody waits for is not lost. To end the wait for an inner call with
/// the outer one, make [`remaining`](Self::remaining) its [`timeout`](crate::Call::timeout). An `Err` of a call whose outer
/// call was cancelled counts as if it was cancelled itself
/// ([`cancelled_calls_are_neutral`](crate::CircuitBreakerConfig::cancelled_calls_are_neutral)).
///
/// A call that is to outlive the task inherits nothing if it is [`detached`](crate::Call::detached). So does a call from a
/// thread that the task starts itself.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let database = Arc::new(Bulkhead::new(BulkheadConfig::new("database"))?);
/// let requests = Bulkhead::new(BulkheadConfig::new("requests"))?;
/// let of_request = Arc::clone(&database);
/// let left = requests.execute_with_timeout(Duration::from_secs(5), move || {
///     // A good timeout for the statement.
///     of_request.run(|| bulkman::current()?.remaining()).wait().into_result()
/// });
/// assert!(left.into_result()?.is_some_and(|left| left <= Duration::from_secs(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CurrentExecution {
    call: Arc<dyn CallView>,
}

impl CurrentExecution {
    /// Whether the result is no longer wanted, for either [reason](CancelReason). The task decides what to do about it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel_reason().is_some()
    }

    /// Why the result is no longer wanted; `None`: it is. If both reasons hold, it is the deadline.
    ///
    /// The reason also decides what the circuit makes of an `Err`: see
    /// [`cancelled_calls_are_neutral`](crate::CircuitBreakerConfig::cancelled_calls_are_neutral).
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        if self.remaining() == Some(Duration::ZERO) {
            Some(CancelReason::DeadlinePassed)
        } else if self.call.data().is_cancelled() {
            Some(CancelReason::Cancelled)
        } else {
            None
        }
    }

    /// Whether the bulkhead takes no new calls any more. The task may go on; its outcome is delivered.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.call.bulkhead().is_closed()
    }

    /// When the caller stops waiting, or the caller of a call around this one; `None`: they wait for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.call.task_deadline()
    }

    /// How long it is until the [`deadline`](Self::deadline); zero once that is over, `None`: there is none. A good timeout
    /// for what the task calls itself.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = self.call.bulkhead().clock().now();
        Some(self.deadline()?.saturating_duration_since(now))
    }

    /// The caller's own limit over queue and run, and when it is over. Nothing that is inherited.
    pub(crate) fn caller_limit(&self) -> Option<(Duration, Instant)> {
        let data = self.call.data();
        Some((data.timeout.duration(), data.deadline()?))
    }

    /// The id that the call's result will carry.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.call.data().execution_id
    }

    /// The name of the bulkhead that runs the task.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        self.call.bulkhead().name()
    }

    /// What the caller named with [`Call::operation`](crate::Call::operation).
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.call.data().operation.as_deref()
    }
}

impl fmt::Debug for CurrentExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentExecution")
            .field("bulkhead_name", &self.bulkhead_name())
            .field("execution_id", &self.execution_id())
            .field("operation", &self.operation())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
