//! How a call came to its end, before it is put into words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::nanos;
use crate::error::BulkheadError;
use crate::head::Head;
use crate::panics::Panic;
use crate::result::ExecutionResult;

/// An `ExecutionResult` without what is known of the call anyway, since every call carries the room for it.
pub(crate) struct Outcome<T, E> {
    pub(crate) result: Result<T, Why<E>>,
    queued_nanos: u64,
    execution_nanos: u64,
}

/// A `BulkheadError` without the name and the limits.
pub(crate) enum Why<E> {
    Failed(E),
    Panicked(Box<Panic>),
    QueueTimeout,
    Timeout { started: bool },
    Cancelled { by_shutdown: bool },
}

impl<E> Why<E> {
    /// Whether it is too late at `now` for the call to start, and by which limit: the one that passed first.
    #[inline]
    pub(crate) fn too_late(head: &Head, now: Instant) -> Option<Self> {
        let first = head.start_deadline()?;
        if now < first {
            None
        } else if head.queue_deadline() == Some(first) {
            Some(Self::QueueTimeout)
        } else {
            Some(Self::Timeout { started: false })
        }
    }
}

impl<T, E> Outcome<T, E> {
    #[inline(always)]
    pub(crate) fn new(
        result: Result<T, Why<E>>,
        queued_time: Duration,
        execution_time: Duration,
    ) -> Self {
        Self {
            result,
            queued_nanos: nanos(queued_time),
            execution_nanos: nanos(execution_time),
        }
    }

    /// The whole result, for the caller.
    #[inline(always)]
    pub(crate) fn in_words(self, head: &Head, bulkhead_name: &Arc<str>) -> ExecutionResult<T, E> {
        let queued_time = Duration::from_nanos(self.queued_nanos);
        let bulkhead = || Arc::clone(bulkhead_name);
        ExecutionResult {
            result: self.result.map_err(|why| match why {
                Why::Failed(error) => BulkheadError::Failed(error),
                Why::Panicked(panic) => BulkheadError::Panicked(*panic),
                Why::QueueTimeout => BulkheadError::QueueTimeout {
                    bulkhead: bulkhead(),
                    queued_for: queued_time,
                    limit: head.queue_timeout.duration(),
                },
                Why::Timeout { started } => BulkheadError::Timeout {
                    bulkhead: bulkhead(),
                    limit: head.timeout.duration(),
                    started,
                },
                Why::Cancelled { by_shutdown } => BulkheadError::Cancelled {
                    bulkhead: bulkhead(),
                    by_shutdown,
                },
            }),
            execution_id: head.execution_id,
            bulkhead_name: bulkhead(),
            queued_time,
            execution_time: Duration::from_nanos(self.execution_nanos),
        }
    }
}
