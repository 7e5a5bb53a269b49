//! The caller's end of a call: waiting, cancelling, awaiting. A waiter finds out itself that a limit has passed; a future is
//! woken for it, see `awaited_deadlines.rs`.

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::awaited_deadlines::Alarm;
use super::call_lifecycle::{Pending, Polled};
use super::cancel_handle::CancelHandle;
use super::finish_callbacks::call_back;
use crate::core::new_execution_id;
use crate::error::{BulkheadError, RejectReason};
use crate::panic::note;
use crate::result::CallSummary;
use crate::result::ExecutionResult;
use crate::sync::after;

/// A submitted call: wait for it, cancel it, or `.await` it.
///
/// A call that was refused gives a handle too, already resolved, so there is one place to look for
/// errors.
///
/// The handle is a [`Future`] for any executor; no runtime is needed. Awaited, a call ends at its queue timeout and at its
/// caller's limit as a waited one does. For that the process has one timer thread, `bulkman-alarms`: the first handle that is
/// polled with a limit starts it, and it ends when there has been none for ten seconds. That thread calls the executor's
/// wakers, which should not block: while one does, the others wait.
///
/// # What dropping it does
///
/// Dropping the handle detaches the call: the task still runs, and its result is dropped. To cancel it
/// instead, use [`cancel_on_drop`](Self::cancel_on_drop).
///
/// # On a worker of the same bulkhead
///
/// A task that waits for a call on its own bulkhead would wait for a worker while it occupies one. So
/// there the wait, also a timed one and also `.await`, runs the task itself, on top of the waiting one,
/// if no other worker has begun it. Such a wait ends with the task, not earlier. Each level of such waits takes some
/// kilobytes of the worker's stack. Beyond [`max_nested_calls`](crate::BulkheadConfig::max_nested_calls) levels, by default
/// 64, the call that is waited for ends with [`TooDeep`](crate::BulkheadError::TooDeep), unless another worker has begun it.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("mail"))?;
/// let mut handle = bulkhead.run(|| "sent");
/// let result = loop {
///     match handle.wait_timeout(Duration::from_millis(100)) {
///         Ok(result) => break result,
///         Err(still_waiting) => {
///             println!("not yet");
///             handle = still_waiting;
///         }
///     }
/// };
/// assert_eq!(result.value(), Some(&"sent"));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use = "a dropped handle detaches the call, and nobody sees its outcome: wait for it, or say `drop(handle)`"]
pub struct ExecutionHandle<T, E> {
    state: State<T, E>,
}

enum State<T, E> {
    Live {
        cell: Arc<dyn Pending<T, E>>,
        /// Wakes the task that awaits this handle when a limit passes.
        alarm: Option<Alarm>,
    },
    Refused(Refused),
    /// The call has ended before there was a handle.
    Finished(Box<Finished<T, E>>),
    /// A poll has handed the outcome out. The handle can still be looked at.
    PolledToEnd(CancelHandle),
    /// The handle is being consumed.
    Taken,
}

/// A result that is there, and waits for the handle's owner.
struct Finished<T, E> {
    result: ExecutionResult<T, E>,
    /// It may be that the caller has left at its limit, and the task runs on.
    call: CancelHandle,
}

impl<T, E> Finished<T, E> {
    /// Of a call that ran in its caller's thread.
    fn new(result: ExecutionResult<T, E>) -> Self {
        let is_started = !result.error().is_some_and(BulkheadError::never_started);
        let call = CancelHandle::ended(result.execution_id, is_started);
        Self { result, call }
    }
}

/// What a handle says that has nothing left to wait for.
const POLLED_TO_END: &str = "the handle was polled to its end, and its outcome has been handed out";

/// What the result of a refused call is made of; small, and without the call's types.
struct Refused {
    reason: RejectReason,
    execution_id: Uuid,
}

impl Refused {
    fn result<T, E>(self) -> ExecutionResult<T, E> {
        ExecutionResult::refused(self.reason, self.execution_id)
    }

    fn cancel_handle(&self) -> CancelHandle {
        CancelHandle::ended(self.execution_id, false)
    }
}

impl<T, E> ExecutionHandle<T, E> {
    pub(super) fn live(cell: Arc<dyn Pending<T, E>>) -> Self {
        Self {
            state: State::Live { cell, alarm: None },
        }
    }

    /// For a call that ran in its caller's thread.
    pub(crate) fn finished(result: ExecutionResult<T, E>) -> Self {
        Self {
            state: State::Finished(Box::new(Finished::new(result))),
        }
    }

    pub(super) fn refused(reason: RejectReason) -> Self {
        Self {
            state: State::Refused(Refused {
                reason,
                execution_id: new_execution_id(),
            }),
        }
    }

    /// Waits for the outcome, parked if it takes long, which uses up an unpark token of the thread as
    /// [`std::thread::park`] does. The outcome comes in any case: the task ends, or the call is cancelled, expires, is refused
    /// because the circuit opened, or runs into its caller's limit.
    ///
    /// # Panics
    ///
    /// If the handle was polled as a future to its end: that poll has handed the outcome out.
    pub fn wait(self) -> ExecutionResult<T, E> {
        match self.wait_until(None) {
            Ok(result) => result,
            Err(_) => unreachable!("a wait without a deadline ends with the outcome"),
        }
    }

    /// Waits, and gives only the outcome, for `?`: short for `wait().into_result()`.
    ///
    /// Into a `Box<dyn Error + Send + Sync>` or an `anyhow::Error` it goes by itself. For other types see
    /// [`BulkheadError`](crate::BulkheadError#in-a-function-that-returns-another-error).
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::error::Error;
    ///
    /// fn boxed(bulkhead: &Bulkhead) -> Result<u16, Box<dyn Error + Send + Sync>> {
    ///     let port = bulkhead.execute(|| "80".parse::<u16>()).result()?;
    ///     Ok(port)
    /// }
    ///
    /// fn with_anyhow(bulkhead: &Bulkhead) -> anyhow::Result<u16> {
    ///     let port = bulkhead.execute(|| "80".parse::<u16>()).result()?;
    ///     Ok(port)
    /// }
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("config"))?;
    /// assert_eq!(boxed(&bulkhead).unwrap(), with_anyhow(&bulkhead).unwrap());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever kept the call from giving a value.
    pub fn result(self) -> Result<T, BulkheadError<E>> {
        self.wait().into_result()
    }

    /// Waits for the outcome, at the longest for `limit`; a limit beyond what the clock can hold means
    /// for ever.
    ///
    /// # Errors
    ///
    /// Gives the handle back if the outcome is not there in time. The call goes on.
    ///
    /// # Panics
    ///
    /// If the handle was polled as a future to its end.
    pub fn wait_timeout(self, limit: Duration) -> Result<ExecutionResult<T, E>, Self> {
        let until = match &self.state {
            State::Live { cell, .. } => after(cell.now(), limit),
            _ => None,
        };
        self.wait_until(until)
    }

    /// Waits for the outcome, at the longest until `deadline`.
    ///
    /// # Errors
    ///
    /// Gives the handle back if the outcome is not there in time. The call goes on.
    ///
    /// # Panics
    ///
    /// If the handle was polled as a future to its end.
    pub fn wait_deadline(self, deadline: Instant) -> Result<ExecutionResult<T, E>, Self> {
        self.wait_until(Some(deadline))
    }

    fn wait_until(mut self, until: Option<Instant>) -> Result<ExecutionResult<T, E>, Self> {
        let waited = match &self.state {
            State::Live { cell, .. } => {
                help(cell);
                cell.wait(until)
            }
            _ => None,
        };
        match waited {
            Some(result) => {
                // Nothing is left to detach from.
                self.state = State::Taken;
                Ok(result)
            }
            None => match std::mem::replace(&mut self.state, State::Taken) {
                State::Refused(refused) => Ok(refused.result()),
                State::Finished(finished) => Ok(finished.result),
                State::PolledToEnd(_) => panic!("{POLLED_TO_END}"),
                live => {
                    self.state = live;
                    Err(self)
                }
            },
        }
    }

    /// Cancels the call.
    ///
    /// `true`: it was queued and will never run; its closure is dropped and its place free when this
    /// returns, and [`wait`](Self::wait) gives [`Cancelled`](crate::BulkheadError::Cancelled).
    ///
    /// `false`: the task is running or finished, or another thread is just cancelling it. If it is running, it can read from
    /// [`CurrentExecution::is_cancelled`](crate::CurrentExecution::is_cancelled) that it should stop.
    ///
    /// A second cancel does no harm and gives `false`: the call that the first has taken out of the queue is over. So of
    /// several cancels of a call, this handle's and those of its [cancel handles](Self::cancel_handle), one gives `true` at
    /// the most.
    pub fn cancel(&self) -> bool {
        match &self.state {
            State::Live { cell, .. } => cell.cancel(),
            _ => false,
        }
    }

    /// A handle that can only cancel, for others than the one who waits: a button, a watchdog, a map of all exports. It
    /// has no types, can be cloned and shared, and works on when this handle has been waited for or dropped. See
    /// [`CancelHandle`].
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        match &self.state {
            State::Live { cell, .. } => CancelHandle::live(Arc::clone(cell).as_cancellable()),
            State::Refused(refused) => refused.cancel_handle(),
            State::Finished(finished) => finished.call.clone(),
            State::PolledToEnd(call) => call.clone(),
            State::Taken => unreachable!("only methods that consume the handle take its state"),
        }
    }

    /// Calls `f` once when the call is over, with a summary of how it ended. If it is over already, or was refused, `f` is
    /// called at once, in this thread.
    ///
    /// It works for whoever does not wait: count a detached call, go on with the next step, wake a loop that looks after
    /// many calls. Dropping the handle does not take `f` back.
    ///
    /// * **Which thread**: the one that ends the call. That is the worker that ran the task, or the thread that cancelled
    ///   the call, found it too late to start, opened the circuit, or shut the bulkhead down. It takes no other work
    ///   meanwhile, so `f` should be quick. `f` runs under no lock, and may submit calls, wait for them and shut down.
    /// * **When**: after the outcome can be seen. The place is free, the numbers are right, the waiter has been woken,
    ///   [`is_finished`](Self::is_finished) is true and waiting ends at once. So a waiter may go on before `f` has been
    ///   called. (A [listener](crate::BulkheadListener) is told before.)
    /// * **Several**: those that were there before the end are called one after the other, in their order.
    /// * **Limits**: a caller that leaves at its limit while the task runs does not end the call. `f` is called when the
    ///   task ends, and is told how. (One that is registered only after the caller has left, which can be when many handles
    ///   are waited for together, is called at once, with [`Timeout`](crate::CallOutcome::Timeout).)
    /// * **Panics**: a panic in `f` is contained and logged. It harms neither the outcome nor the next callback.
    ///
    /// A call without a callback pays nothing for this. The first one takes three small allocations.
    ///
    /// # Panics
    ///
    /// If the handle was polled as a future to its end.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, CallOutcome};
    /// use std::sync::mpsc;
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("thumbnails"))?;
    /// let (ended, ends) = mpsc::channel();
    /// let handle = bulkhead.call().operation("cat.jpg").run(|| "a thumbnail");
    /// handle.on_finish(move |summary| drop(ended.send(summary.clone())));
    /// drop(handle); // nobody waits
    ///
    /// let summary = ends.recv()?;
    /// assert_eq!(summary.outcome, CallOutcome::Succeeded);
    /// assert_eq!(summary.operation.as_deref(), Some("cat.jpg"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_finish(&self, f: impl FnOnce(&CallSummary) + Send + 'static) {
        match &self.state {
            State::Live { cell, .. } => cell.on_finish(Box::new(f)),
            State::Refused(Refused {
                reason,
                execution_id,
            }) => call_back(f, &CallSummary::refused(reason, *execution_id)),
            State::Finished(finished) => call_back(f, &CallSummary::of(&finished.result)),
            State::PolledToEnd(_) => panic!("{POLLED_TO_END}"),
            State::Taken => unreachable!("only methods that consume the handle take its state"),
        }
    }

    /// Makes dropping the handle cancel the call.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T, E> {
        CancelOnDrop { handle: Some(self) }
    }

    /// Whether the task has started. It stays true when the task has ended, and is never true for a call that was refused,
    /// cancelled in the queue, or too late to start.
    #[must_use]
    pub fn is_started(&self) -> bool {
        match &self.state {
            State::Live { cell, .. } => cell.is_started(),
            State::Finished(finished) => finished.call.is_started(),
            State::PolledToEnd(call) => call.is_started(),
            State::Refused(_) | State::Taken => false,
        }
    }

    /// Whether the call has come to its end, so that waiting would not block. (Nor does it once the
    /// caller's limit is over, while the call goes on.) Also true once the handle was polled as a future to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.state {
            State::Live { cell, .. } => cell.is_finished(),
            _ => true,
        }
    }

    /// The id that the result carries.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        match &self.state {
            State::Live { cell, .. } => cell.data().execution_id,
            State::Refused(refused) => refused.execution_id,
            State::Finished(finished) => finished.result.execution_id,
            State::PolledToEnd(call) => call.execution_id(),
            State::Taken => unreachable!("only methods that consume the handle take its state"),
        }
    }
}

/// What a thread finds that waits for several handles.
#[must_use]
pub(super) enum Watched {
    /// The handle has its result, and waiting for it does not block.
    Ready,
    /// As [`Polled::Pending`].
    Pending { look_at: Option<Instant> },
}

/// For a thread that waits for several handles, or for something else too: see `many/` and `stream/`.
impl<T, E> ExecutionHandle<T, E> {
    /// As a poll, by a thread that sleeps until `look_at` itself. It sets no alarm and does not help.
    pub(super) fn watch(&mut self, waker: &Waker) -> Watched {
        let State::Live { cell, alarm } = &mut self.state else {
            return Watched::Ready;
        };
        match cell.poll(waker) {
            Polled::Ready(result) => {
                if let State::Live { cell, .. } = std::mem::replace(&mut self.state, State::Taken) {
                    let call = CancelHandle::live(cell.as_cancellable());
                    self.state = State::Finished(Box::new(Finished { result, call }));
                }
                Watched::Ready
            }
            Polled::Pending { look_at } => {
                *alarm = None;
                Watched::Pending { look_at }
            }
        }
    }

    /// Whether this thread is a worker that had better run the task than wait for it.
    pub(super) fn wants_help(&self) -> bool {
        matches!(&self.state, State::Live { cell, .. } if cell.wants_help())
    }

    /// Runs the task here, if no other thread has begun it.
    pub(super) fn help(&self) {
        if let State::Live { cell, .. } = &self.state {
            help(cell);
        }
    }
}

/// On a worker of the same bulkhead: see "On a worker of the same bulkhead" above.
fn help<T, E>(cell: &Arc<dyn Pending<T, E>>) {
    if cell.wants_help() {
        Arc::clone(cell).help();
    }
}

/// Without a thread for it the call still ends, but its awaiting task may hear of a limit too late.
fn set_alarm(at: Instant, waker: &Waker) -> Option<Alarm> {
    Alarm::set(at, waker.clone())
        .inspect_err(|error| {
            note(|| {
                log::error!(
                    target: "bulkman",
                    "the thread that ends awaited calls at their limits could not start: {error}"
                );
            });
        })
        .ok()
}

impl<T, E> Drop for ExecutionHandle<T, E> {
    fn drop(&mut self) {
        if let State::Live { cell, .. } = &self.state {
            cell.detach();
        }
    }
}

impl<T, E> Unpin for ExecutionHandle<T, E> {}

// As for the bulkhead itself.
impl<T, E> UnwindSafe for ExecutionHandle<T, E> {}
impl<T, E> RefUnwindSafe for ExecutionHandle<T, E> {}

impl<T, E> Future for ExecutionHandle<T, E> {
    type Output = ExecutionResult<T, E>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Live { cell, alarm } = &mut self.state {
            help(cell);
            return match cell.poll(context.waker()) {
                Polled::Ready(result) => {
                    if let State::Live { cell, .. } =
                        std::mem::replace(&mut self.state, State::Taken)
                    {
                        let call = CancelHandle::live(cell.as_cancellable());
                        self.state = State::PolledToEnd(call);
                    }
                    Poll::Ready(result)
                }
                Polled::Pending { look_at } => {
                    *alarm = look_at.and_then(|at| set_alarm(at, context.waker()));
                    Poll::Pending
                }
            };
        }
        let ended = match &self.state {
            State::Refused(refused) => refused.cancel_handle(),
            State::Finished(finished) => finished.call.clone(),
            _ => panic!("an ExecutionHandle was polled after it was ready"),
        };
        match std::mem::replace(&mut self.state, State::PolledToEnd(ended)) {
            State::Refused(refused) => Poll::Ready(refused.result()),
            State::Finished(finished) => Poll::Ready(finished.result),
            _ => unreachable!("it is one of the two"),
        }
    }
}

impl<T, E> fmt::Debug for ExecutionHandle<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutionHandle")
            .field("execution_id", &self.execution_id())
            .field("is_started", &self.is_started())
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// A handle whose drop cancels the call, from [`ExecutionHandle::cancel_on_drop`].
///
/// # What dropping it does
///
/// It [cancels](ExecutionHandle::cancel) the call: a queued task never runs, a running one is asked to
/// stop. Waiting to the end disarms it.
#[must_use = "dropping it cancels the call: wait for it"]
pub struct CancelOnDrop<T, E> {
    /// `None` only when it has been consumed.
    handle: Option<ExecutionHandle<T, E>>,
}

impl<T, E> CancelOnDrop<T, E> {
    /// As [`ExecutionHandle::wait`].
    ///
    /// # Panics
    ///
    /// If it was polled as a future to its end.
    pub fn wait(mut self) -> ExecutionResult<T, E> {
        self.take().wait()
    }

    /// As [`ExecutionHandle::result`].
    ///
    /// # Errors
    ///
    /// Whatever kept the call from giving a value.
    pub fn result(self) -> Result<T, BulkheadError<E>> {
        self.wait().into_result()
    }

    /// As [`ExecutionHandle::wait_timeout`].
    ///
    /// # Errors
    ///
    /// Gives itself back, still armed, if the outcome is not there in time.
    ///
    /// # Panics
    ///
    /// If it was polled as a future to its end.
    pub fn wait_timeout(mut self, limit: Duration) -> Result<ExecutionResult<T, E>, Self> {
        self.take()
            .wait_timeout(limit)
            .map_err(ExecutionHandle::cancel_on_drop)
    }

    /// As [`ExecutionHandle::wait_deadline`].
    ///
    /// # Errors
    ///
    /// Gives itself back, still armed, if the outcome is not there in time.
    ///
    /// # Panics
    ///
    /// If it was polled as a future to its end.
    pub fn wait_deadline(mut self, deadline: Instant) -> Result<ExecutionResult<T, E>, Self> {
        self.take()
            .wait_deadline(deadline)
            .map_err(ExecutionHandle::cancel_on_drop)
    }

    /// As [`ExecutionHandle::cancel`].
    pub fn cancel(&self) -> bool {
        self.inner().cancel()
    }

    /// As [`ExecutionHandle::cancel_handle`].
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.inner().cancel_handle()
    }

    /// As [`ExecutionHandle::on_finish`]. Dropping this, which cancels the call, does not take `f` back.
    ///
    /// # Panics
    ///
    /// If it was polled as a future to its end.
    pub fn on_finish(&self, f: impl FnOnce(&CallSummary) + Send + 'static) {
        self.inner().on_finish(f);
    }

    /// As [`ExecutionHandle::is_started`].
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.inner().is_started()
    }

    /// As [`ExecutionHandle::is_finished`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.inner().is_finished()
    }

    /// As [`ExecutionHandle::execution_id`].
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.inner().execution_id()
    }

    /// The plain handle: dropping that one detaches the call.
    pub fn into_handle(mut self) -> ExecutionHandle<T, E> {
        self.take()
    }

    pub(super) fn inner_mut(&mut self) -> &mut ExecutionHandle<T, E> {
        match &mut self.handle {
            Some(handle) => handle,
            None => unreachable!("only methods that consume it take the handle"),
        }
    }

    pub(super) fn inner(&self) -> &ExecutionHandle<T, E> {
        match &self.handle {
            Some(handle) => handle,
            None => unreachable!("only methods that consume it take the handle"),
        }
    }

    fn take(&mut self) -> ExecutionHandle<T, E> {
        match self.handle.take() {
            Some(handle) => handle,
            None => unreachable!("only methods that consume it take the handle"),
        }
    }
}

impl<T, E> Drop for CancelOnDrop<T, E> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
    }
}

impl<T, E> Future for CancelOnDrop<T, E> {
    type Output = ExecutionResult<T, E>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.handle {
            Some(handle) => Pin::new(handle).poll(context),
            None => unreachable!("only methods that consume it take the handle"),
        }
    }
}

impl<T, E> fmt::Debug for CancelOnDrop<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.handle).finish()
    }
}
