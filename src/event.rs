//! What a listener is told of a bulkhead.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::circuit::CircuitChange;
use crate::error::RejectReason;
use crate::panic::contain;

/// Is told what happens in a bulkhead: for metrics, logs and alerts.
///
/// Given to [`BulkheadBuilder::listener`](crate::BulkheadBuilder::listener), of either kind of bulkhead. Any
/// `Fn(&BulkheadEvent<'_>) + Send + Sync` is one, which [`on_event`](crate::BulkheadBuilder::on_event) takes without a type
/// at the argument, and so is an [`Arc`] of one, which several bulkheads share.
///
/// [`Started`](BulkheadEvent::Started) and [`Finished`](BulkheadEvent::Finished) are told inside the call's own context: what
/// the call has brought along from its caller, such as a [`ContextVar`](crate::ContextVar) or a trace, is there, so a log line
/// carries the request. [`Rejected`](BulkheadEvent::Rejected) is told in the caller's own thread, which has that context
/// anyway. All other events come in whichever thread brings them about: the one that cancels the call, opens the circuit or
/// shuts down.
///
/// It is called in the thread in which the thing happens, under no lock, and before the outcome of the call can be seen; so
/// it should be quick. A panic in it is contained and logged.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, BulkheadEvent};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let slow = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&slow);
/// let bulkhead = Bulkhead::builder(BulkheadConfig::new("search"))
///     .on_event(move |event| {
///         if let BulkheadEvent::Finished { execution_time, .. } = event {
///             if execution_time.as_millis() > 500 {
///                 counter.fetch_add(1, Ordering::Relaxed);
///             }
///         }
///     })
///     .build()?;
/// bulkhead.run(|| ()).wait().into_result()?;
/// assert_eq!(slow.load(Ordering::Relaxed), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait BulkheadListener: Send + Sync {
    /// Something happened.
    fn on_event(&self, event: &BulkheadEvent<'_>);
}

impl<L: Fn(&BulkheadEvent<'_>) + Send + Sync> BulkheadListener for L {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        self(event);
    }
}

/// One listener for several bulkheads.
impl<L: BulkheadListener + ?Sized> BulkheadListener for Arc<L> {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        (**self).on_event(event);
    }
}

/// What a [`BulkheadListener`] is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum BulkheadEvent<'a> {
    /// A call was refused.
    #[non_exhaustive]
    Rejected {
        /// Why, and by which bulkhead.
        reason: &'a RejectReason,
        /// What the caller named the operation.
        operation: Option<&'a str>,
    },
    /// A task is about to start, in this thread.
    #[non_exhaustive]
    Started {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited for a worker, or for a free slot.
        queued_time: Duration,
    },
    /// A task has ended, in this thread. The circuit hears after this how the call went.
    #[non_exhaustive]
    Finished {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How it ended.
        outcome: FinishedOutcome,
        /// How long it had waited for a worker, or for a free slot.
        queued_time: Duration,
        /// How long it ran.
        execution_time: Duration,
    },
    /// A call waited too long and will never start.
    #[non_exhaustive]
    Expired {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited.
        queued_time: Duration,
    },
    /// A call was cancelled in the queue and will never start.
    #[non_exhaustive]
    Cancelled {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited.
        queued_time: Duration,
    },
    /// The circuit opened while a call was in the queue, which will never start.
    #[non_exhaustive]
    RefusedInQueue {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited.
        queued_time: Duration,
        /// How long the circuit stays open, as in [`RejectReason::CircuitOpen`].
        retry_after: Duration,
    },
    /// A caller left at its own limit, with [`Timeout`](crate::BulkheadError::Timeout). Told in that caller's thread.
    ///
    /// The call is told of besides: as [`Expired`](Self::Expired) before, if it had not started; else as
    /// [`Finished`](Self::Finished) when its task ends.
    #[non_exhaustive]
    CallerTimedOut {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// The caller's limit.
        limit: Duration,
        /// Whether the task had started. It runs on alone, until it ends.
        started: bool,
    },
    /// A task waited for a call of its own bulkhead, so many calls deep that the call was not run on top of them
    /// ([`max_nested_calls`](crate::BulkheadConfig::max_nested_calls)). It will never start.
    #[non_exhaustive]
    TooDeep {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited.
        queued_time: Duration,
        /// The limit.
        max_nested_calls: usize,
    },
    /// The system refused a thread for a call, and there was no worker to wait for
    /// ([`idle_timeout`](crate::BulkheadConfig::idle_timeout)). It will never start.
    #[non_exhaustive]
    NoThread {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had waited.
        queued_time: Duration,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The circuit breaker changed its state.
    #[non_exhaustive]
    CircuitChanged {
        /// From what to what.
        change: &'a CircuitChange,
    },
    /// The limits have changed, see [`Bulkhead::resize`](crate::Bulkhead::resize).
    #[non_exhaustive]
    Resized {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// N from here on.
        max_concurrent_calls: usize,
        /// Q from here on.
        max_queue_size: usize,
        /// N until now.
        concurrent_calls_before: usize,
        /// Q until now.
        queue_size_before: usize,
    },
    /// The bulkhead takes no new calls from here on.
    #[non_exhaustive]
    ShuttingDown {
        /// The bulkhead's name.
        bulkhead: &'a str,
    },
}

/// Identifies a call in a [`BulkheadEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallInfo<'a> {
    /// The bulkhead's name.
    pub bulkhead: &'a str,
    /// The id that the call's result carries.
    pub execution_id: Uuid,
    /// What the caller named the operation.
    pub operation: Option<&'a str>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishedOutcome {
    /// It returned `Ok`.
    Succeeded,
    /// It returned `Err`.
    Failed,
    /// It panicked.
    Panicked,
}

/// All listeners of a bulkhead.
#[derive(Default)]
pub(crate) struct Listeners(pub(crate) Vec<Box<dyn BulkheadListener>>);

impl Listeners {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without listeners, `event` is not even built.
    #[inline]
    pub(crate) fn tell<'a>(&self, bulkhead: &str, event: impl FnOnce() -> BulkheadEvent<'a>) {
        if self.is_empty() {
            return;
        }
        let event = event();
        for listener in &self.0 {
            contain(bulkhead, "a listener", || listener.on_event(&event));
        }
    }
}
