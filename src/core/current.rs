//! What a task can ask about its own call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::call_data::CallView;
use super::this_thread::innermost;

/// The call that this thread is running, asked from inside its task; `None` on any other thread. Of calls inside each
/// other in one thread it is the innermost, with its own limit.
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

/// The name of the bulkhead whose task this thread runs, looked up when it is written.
pub(crate) struct ThisBulkhead;

impl fmt::Display for ThisBulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            current()
                .as_ref()
                .map_or("", CurrentExecution::bulkhead_name),
        )
    }
}

/// Why the result of a running task is no longer wanted, from [`CurrentExecution::cancel_reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The handle was cancelled, or dropped as [`CancelOnDrop`](crate::CancelOnDrop). (In a
    /// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) nothing can cancel a call that runs.)
    Cancelled,
    /// The caller's limit has passed, whether or not a caller waits at that moment.
    DeadlinePassed,
}

/// A running task's view of its own call, from [`current`].
///
/// It can be cloned and sent to threads that the task starts itself.
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

    /// When the caller stops waiting; `None`: it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.call.data().deadline()
    }

    /// How long the caller goes on waiting; zero once that is over, `None`: for ever. A good timeout for
    /// what the task calls itself.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        Some(
            self.deadline()?
                .saturating_duration_since(self.call.bulkhead().now()),
        )
    }

    /// The caller's limit over queue and run.
    pub(crate) fn limit(&self) -> Duration {
        self.call.data().timeout.longest()
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
