//! How a call ended, in the few words that every call has room for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_data::CallData;
use crate::error::BulkheadError;
use crate::panic::Panic;
use crate::result::ExecutionResult;
use crate::result::{CallOutcome, CallSummary};
use crate::sync::{Limit, nanos};

/// An `ExecutionResult` without what the call's data says anyway.
pub(crate) struct Outcome<T, E> {
    pub(crate) result: Result<T, EndReason<E>>,
    queued_nanos: u64,
    execution_nanos: u64,
}

/// A `BulkheadError` without the name and the limits.
pub(crate) enum EndReason<E> {
    Failed(E),
    Panicked(Box<Panic>),
    QueueTimeout,
    Timeout {
        started: bool,
    },
    Cancelled {
        by_shutdown: bool,
    },
    TooDeep {
        max_nested_calls: usize,
    },
    NoThread {
        kind: io::ErrorKind,
    },
    /// `Limit::NONE`: until a reset.
    CircuitOpen {
        retry_after: Limit,
    },
}

/// What an outcome tells without its value and its error.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    outcome: CallOutcome,
    queued_nanos: u64,
    execution_nanos: u64,
}

impl Ending {
    /// The whole summary, for callbacks.
    pub(crate) fn into_summary(self, data: &CallData, bulkhead_name: &Arc<str>) -> CallSummary {
        CallSummary {
            execution_id: data.execution_id,
            bulkhead_name: Arc::clone(bulkhead_name),
            operation: data.operation.clone(),
            outcome: self.outcome,
            queued_time: Duration::from_nanos(self.queued_nanos),
            execution_time: Duration::from_nanos(self.execution_nanos),
        }
    }
}

impl<E> EndReason<E> {
    /// The same without the error.
    pub(crate) fn outcome(&self) -> CallOutcome {
        match self {
            Self::Failed(_) => CallOutcome::Failed,
            Self::Panicked(_) => CallOutcome::Panicked,
            Self::QueueTimeout => CallOutcome::QueueTimeout,
            Self::Timeout { started } => CallOutcome::Timeout { started: *started },
            Self::Cancelled { by_shutdown } => CallOutcome::Cancelled {
                by_shutdown: *by_shutdown,
            },
            Self::TooDeep { .. } => CallOutcome::TooDeep,
            Self::NoThread { .. } => CallOutcome::NoThread,
            Self::CircuitOpen { retry_after } => CallOutcome::CircuitOpen {
                retry_after: retry_after.longest(),
            },
        }
    }

    /// The circuit opened while the call was queued.
    pub(crate) fn circuit_open(retry_after: Duration) -> Self {
        let retry_after = Limit::new(Some(retry_after));
        Self::CircuitOpen { retry_after }
    }

    /// Why the call may not start at `now`, if it is too late: by the limit that passed first.
    #[inline]
    pub(crate) fn too_late(data: &CallData, now: Instant) -> Option<Self> {
        let first = data.start_deadline()?;
        if now < first {
            None
        } else if data.queue_deadline() == Some(first) {
            Some(Self::QueueTimeout)
        } else {
            Some(Self::Timeout { started: false })
        }
    }
}

impl<T, E> Outcome<T, E> {
    #[inline(always)]
    pub(crate) fn new(
        result: Result<T, EndReason<E>>,
        queued_time: Duration,
        execution_time: Duration,
    ) -> Self {
        Self {
            result,
            queued_nanos: nanos(queued_time),
            execution_nanos: nanos(execution_time),
        }
    }

    /// How the call ended, for callbacks.
    pub(crate) fn ending(&self) -> Ending {
        let outcome = match &self.result {
            Ok(_) => CallOutcome::Succeeded,
            Err(reason) => reason.outcome(),
        };
        Ending {
            outcome,
            queued_nanos: self.queued_nanos,
            execution_nanos: self.execution_nanos,
        }
    }

    /// The whole result, for the caller.
    #[inline(always)]
    pub(crate) fn into_result(
        self,
        data: &CallData,
        bulkhead_name: &Arc<str>,
    ) -> ExecutionResult<T, E> {
        let queued_time = Duration::from_nanos(self.queued_nanos);
        let bulkhead = || Arc::clone(bulkhead_name);
        ExecutionResult {
            result: self.result.map_err(|reason| match reason {
                EndReason::Failed(error) => BulkheadError::Failed(error),
                EndReason::Panicked(panic) => BulkheadError::Panicked(*panic),
                EndReason::QueueTimeout => BulkheadError::QueueTimeout {
                    bulkhead: bulkhead(),
                    queued_for: queued_time,
                    limit: data.queue_timeout.duration(),
                },
                EndReason::Timeout { started } => BulkheadError::Timeout {
                    bulkhead: bulkhead(),
                    limit: data.timeout.duration(),
                    started,
                },
                EndReason::Cancelled { by_shutdown } => BulkheadError::Cancelled {
                    bulkhead: bulkhead(),
                    by_shutdown,
                },
                EndReason::TooDeep { max_nested_calls } => BulkheadError::TooDeep {
                    bulkhead: bulkhead(),
                    max_nested_calls,
                },
                EndReason::NoThread { kind } => BulkheadError::NoThread {
                    bulkhead: bulkhead(),
                    kind,
                },
                EndReason::CircuitOpen { retry_after } => BulkheadError::CircuitOpen {
                    bulkhead: bulkhead(),
                    retry_after: retry_after.longest(),
                },
            }),
            execution_id: data.execution_id,
            bulkhead_name: bulkhead(),
            operation: data.operation.clone(),
            queued_time,
            execution_time: Duration::from_nanos(self.execution_nanos),
        }
    }
}
