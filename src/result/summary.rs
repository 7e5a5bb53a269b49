//! How a call ended, without the types of its value and its error.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::ExecutionResult;
use crate::error::{BulkheadError, RejectReason};
use crate::event::FinishedOutcome;

/// How one call ended, and its times; for [`ExecutionHandle::on_finish`](crate::ExecutionHandle::on_finish).
///
/// It is what the call's [`ExecutionResult`] says, without the value and the error, so it is the same type for every call.
/// There is one difference: if a caller left at its limit while the task ran, its result is
/// [`Timeout`](BulkheadError::Timeout), and the summary tells how the task ended later.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallSummary {
    /// The id that the call's result carries.
    pub execution_id: Uuid,
    /// The bulkhead's name.
    pub bulkhead_name: Arc<str>,
    /// What the caller named with [`Call::operation`](crate::Call::operation). `None` for a call that was refused on its
    /// way in: its handle does not keep the name.
    pub operation: Option<Cow<'static, str>>,
    /// How the call ended.
    pub outcome: CallOutcome,
    /// From admission until a worker took the call, or until it was given up. Zero for a refused call.
    pub queued_time: Duration,
    /// How long the task ran. Zero if it never started.
    pub execution_time: Duration,
}

impl CallSummary {
    /// A call that was refused on its way in.
    pub(crate) fn refused(reason: &RejectReason, execution_id: Uuid) -> Self {
        Self {
            execution_id,
            bulkhead_name: Arc::clone(reason.bulkhead()),
            operation: None,
            outcome: CallOutcome::of_refusal(reason),
            queued_time: Duration::ZERO,
            execution_time: Duration::ZERO,
        }
    }

    /// A call that has ended in its caller's thread.
    pub(crate) fn of<T, E>(result: &ExecutionResult<T, E>) -> Self {
        Self {
            execution_id: result.execution_id,
            bulkhead_name: Arc::clone(&result.bulkhead_name),
            operation: result.operation.clone(),
            outcome: CallOutcome::of_result(&result.result),
            queued_time: result.queued_time,
            execution_time: result.execution_time,
        }
    }
}

/// How a call ended: the variants of [`BulkheadError`], without the task's types, and [`Succeeded`](Self::Succeeded).
///
/// ```
/// use bulkman::CallOutcome;
///
/// assert!(CallOutcome::Succeeded.is_success());
/// assert!(CallOutcome::QueueTimeout.never_started());
/// assert_eq!(CallOutcome::QueueTimeout.to_string(), "queue timeout");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The task returned `Ok`.
    Succeeded,
    /// The task returned `Err`.
    Failed,
    /// The task panicked.
    Panicked,
    /// The queue timeout passed before a worker was free. The task never started.
    QueueTimeout,
    /// The caller's limit passed.
    Timeout {
        /// Whether the task had started, and may still be running. Only a callback is told so that is registered when the
        /// caller has left already; any other waits for the end of the task. `false`: it never started.
        started: bool,
    },
    /// The call was cancelled in the queue. The task never started.
    Cancelled {
        /// A shutdown has cancelled it.
        by_shutdown: bool,
    },
    /// All places were taken. The task never started.
    Full,
    /// The circuit was open, or opened while the call was in the queue. The task never started.
    CircuitOpen {
        /// How long the circuit stays open, as in [`RejectReason::CircuitOpen`].
        retry_after: Duration,
    },
    /// The bulkhead was shut down. The task never started.
    ShutDown,
    /// It was nested too deeply, see [`BulkheadError::TooDeep`]. The task never started.
    TooDeep,
    /// There was no worker thread to be had, see [`BulkheadError::NoThread`]. The task never started.
    NoThread,
}

impl CallOutcome {
    /// Whether the task returned `Ok`.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Succeeded
    }

    /// Whether the task never started, so that it is safe to do its work elsewhere.
    #[must_use]
    pub fn never_started(self) -> bool {
        !matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Panicked | Self::Timeout { started: true }
        )
    }

    fn of_refusal(reason: &RejectReason) -> Self {
        match reason {
            RejectReason::Full { .. } => Self::Full,
            RejectReason::CircuitOpen { retry_after, .. } => Self::CircuitOpen {
                retry_after: *retry_after,
            },
            RejectReason::ShutDown { .. } => Self::ShutDown,
        }
    }

    fn of_result<T, E>(result: &Result<T, BulkheadError<E>>) -> Self {
        match result {
            Ok(_) => Self::Succeeded,
            Err(BulkheadError::Failed(_)) => Self::Failed,
            Err(BulkheadError::Panicked(_)) => Self::Panicked,
            Err(BulkheadError::QueueTimeout { .. }) => Self::QueueTimeout,
            Err(BulkheadError::Timeout { started, .. }) => Self::Timeout { started: *started },
            Err(BulkheadError::Cancelled { by_shutdown, .. }) => Self::Cancelled {
                by_shutdown: *by_shutdown,
            },
            Err(BulkheadError::Full { .. }) => Self::Full,
            Err(BulkheadError::CircuitOpen { retry_after, .. }) => Self::CircuitOpen {
                retry_after: *retry_after,
            },
            Err(BulkheadError::ShutDown { .. }) => Self::ShutDown,
            Err(BulkheadError::TooDeep { .. }) => Self::TooDeep,
            Err(BulkheadError::NoThread { .. }) => Self::NoThread,
        }
    }
}

impl From<FinishedOutcome> for CallOutcome {
    fn from(outcome: FinishedOutcome) -> Self {
        match outcome {
            FinishedOutcome::Succeeded => Self::Succeeded,
            FinishedOutcome::Failed => Self::Failed,
            FinishedOutcome::Panicked => Self::Panicked,
        }
    }
}

/// A few words, as for a log line or a label.
impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::QueueTimeout => "queue timeout",
            Self::Timeout { .. } => "timeout",
            Self::Cancelled { .. } => "cancelled",
            Self::Full => "full",
            Self::CircuitOpen { .. } => "circuit open",
            Self::ShutDown => "shut down",
            Self::TooDeep => "too deep",
            Self::NoThread => "no thread",
        })
    }
}
