//! What a listener is told of a bulkhead, the listeners themselves, and the log's lines for single calls.

mod listeners;
mod log_lines;

pub(crate) use listeners::Listeners;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::circuit::CircuitChange;
use crate::error::RejectReason;

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
/// it should be quick. A panic in it is contained, and the first one of each listener is logged. It may use the bulkhead, and
/// shut it down; where that would wait for the very thread that is telling, it returns at once.
///
/// # What a pager needs
///
/// [`SaturationBegan`](BulkheadEvent::SaturationBegan) and [`SaturationEnded`](BulkheadEvent::SaturationEnded) of one
/// bulkhead come in turn, never at the same time, so an alert that one of them raises is taken back by the next. The same
/// holds for [`StorageTroubleBegan`](BulkheadEvent::StorageTroubleBegan) and
/// [`StorageTroubleEnded`](BulkheadEvent::StorageTroubleEnded). Changes of the circuit that follow closely on each other may
/// be told by several threads at once: [`CircuitChange::sequence`] tells the order.
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
    /// A call has its place, and will be queued or run. Told in its caller's thread. Listeners that are slow make the call
    /// wait: that counts as time in the queue.
    #[non_exhaustive]
    Admitted {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
    },
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
    /// The caller of a running task has left: it has dropped the handle, or left at its limit. The task runs on for nobody.
    /// Told in the thread of that caller, and before its [`CallerTimedOut`](Self::CallerTimedOut).
    ///
    /// A call whose handle was dropped while it was queued counts in
    /// [`abandoned_tasks`](crate::BulkheadStats::abandoned_tasks) while it runs, and is not told of here.
    #[non_exhaustive]
    Abandoned {
        /// Which call, of which bulkhead.
        call: CallInfo<'a>,
        /// How long it had been running.
        running_for: Duration,
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
        /// From what to what, and why.
        change: &'a CircuitChange,
    },
    /// The storage of the circuit fails, or cannot hold this circuit, which goes on with what this process knows. Told in the
    /// thread of the storage.
    #[non_exhaustive]
    StorageTroubleBegan {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// What the storage says.
        error: &'a str,
    },
    /// The circuit is in step with its storage again. Told in the thread of the storage.
    #[non_exhaustive]
    StorageTroubleEnded {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// How long the trouble had lasted.
        lasted: Duration,
    },
    /// The bulkhead is saturated: a call was refused because all N + Q places are taken, for the first time since it was built
    /// or since the last saturation ended. Told in the thread of that caller, before its
    /// [`Rejected`](Self::Rejected).
    #[non_exhaustive]
    SaturationBegan {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// N.
        max_concurrent_calls: usize,
        /// Q.
        max_queue_size: usize,
    },
    /// The saturation is over: no more than half of the N + Q places are taken. Told in the thread that has given the place
    /// back, or has changed the limits.
    ///
    /// Half, so that a bulkhead that hovers around full does not begin and end a saturation with each call. One with a single
    /// place is full with each call all the same.
    #[non_exhaustive]
    SaturationEnded {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// How long it had lasted.
        lasted: Duration,
        /// How many calls were refused as full meanwhile.
        rejected: u64,
    },
    /// The limits have changed, see [`Bulkhead::resize`](crate::Bulkhead::resize). Changes that several threads make are told
    /// in their order, one at a time; by a thread that makes one of them, perhaps after the other's has returned.
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
    /// A shutdown has begun: the bulkhead takes no new calls from here on.
    #[non_exhaustive]
    ShuttingDown {
        /// The bulkhead's name.
        bulkhead: &'a str,
    },
    /// A shutdown cancels what is queued, from here on: its limit is over, or it had none to begin with. Each of the calls is
    /// told of as [`Cancelled`](Self::Cancelled).
    #[non_exhaustive]
    CancellingQueue {
        /// The bulkhead's name.
        bulkhead: &'a str,
        /// How many calls wait at this moment.
        queued: u64,
    },
    /// The shutdown has come to its end: no call is left. Told in the thread that has ended the last one, before
    /// [`shutdown`](crate::Bulkhead::shutdown) returns.
    #[non_exhaustive]
    ShutDown {
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
