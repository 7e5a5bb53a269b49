//! The consumer's end of a stream.

use std::fmt;
use std::iter::{FusedIterator, from_fn};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::channel::{Channel, News};
use crate::core::CancelReason;
use crate::error::BulkheadError;
use crate::result::ExecutionResult;
use crate::sync::{self, after, earlier};
use crate::thread_pool::handle::{ExecutionHandle, Watched};

/// A submitted call that yields items while it runs, from [`Bulkhead::execute_stream`](crate::Bulkhead::execute_stream):
/// take its items, and at last its outcome.
///
/// | I want | use |
/// |---|---|
/// | each item, and at last the error if there is one, for `?` | the stream in a `for` loop |
/// | the items, and then the whole outcome with the task's own value and the times | [`items`](Self::items), then [`finish`](Self::finish) |
/// | to wait for an item with a limit | [`next_item_timeout`](Self::next_item_timeout) |
///
/// All of them give the items in the order in which they were sent, and wait while there is none. Items that were
/// sent before the call ended come first, also before a panic or a limit; then comes the outcome. A call that was refused, expired or
/// cancelled in the queue has no items.
///
/// The caller's limit is over all of it, queue and run, so the consumer's own time counts too. If it passes, no more items
/// come, and the outcome is [`Timeout`](BulkheadError::Timeout). A consumer that waits hears of it at that moment; so does a
/// producer that waits for room.
///
/// # What dropping it does
///
/// It cancels the call: a queued one never runs. A running one is asked to stop, and the next item that it sends is given
/// back to it; at once, if it waits for room. Items that nobody has taken are dropped.
///
/// # On a worker of the same bulkhead
///
/// A task that takes items from a stream of its own bulkhead would wait for a worker while it occupies one. So if no other
/// worker has begun the producer, it is run by the waiting task itself, to its end, before the first item is given. Nobody can
/// take items meanwhile, so the channel then holds any number of them. A producer without an end would run until its
/// caller's limit: give such a call one, or a bulkhead of its own.
///
/// # Calls of the same bulkhead while reading
///
/// A producer keeps its worker while it waits for its consumer. So a consumer that waits for another call of the same
/// bulkhead, between two items, needs a second worker. If all N workers are kept by producers whose consumers wait for one,
/// they wait for each other, as with any task that waits for another thread which calls the same bulkhead. Give such calls a
/// queue timeout, or a bulkhead of their own.
///
/// # Shutdown
///
/// A shutdown waits for the producer, and so for its consumer. A thread that has a stream in its hands therefore
/// reads or drops it before it calls [`shutdown`](crate::Bulkhead::shutdown).
/// [`shutdown_timeout`](crate::Bulkhead::shutdown_timeout) returns by its limit in any case. The stream goes on after that.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("search"))?;
/// let mut hits = bulkhead.execute_stream(|hits| {
///     let mut sent = 0;
///     while hits.send(sent).is_ok() {
///         sent += 1; // without an end: the consumer ends it
///     }
///     Ok::<_, std::io::Error>(sent)
/// });
/// let first: Vec<_> = hits.items().take(3).collect();
/// assert_eq!(first, [0, 1, 2]);
/// let sent = hits.finish().into_result()?;
/// assert!(sent >= 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it cancels the call: take its items, or `finish` it"]
pub struct ExecutionStream<I, T, E> {
    channel: Arc<Channel<I>>,
    /// `None` only when it has been consumed.
    handle: Option<ExecutionHandle<T, E>>,
    /// What the call rings with.
    waker: Waker,
    /// The call has the waker.
    is_watched: bool,
    /// When to look at the call, if it does not ring before.
    look_at: Option<Instant>,
    /// The handle has its result, and no item is sent any more.
    is_over: bool,
}

impl<I, T, E> ExecutionStream<I, T, E> {
    pub(super) fn new(channel: Arc<Channel<I>>, handle: ExecutionHandle<T, E>) -> Self
    where
        I: Send + 'static,
    {
        Self {
            waker: Waker::from(Arc::clone(&channel)),
            channel,
            handle: Some(handle),
            is_watched: false,
            look_at: None,
            is_over: false,
        }
    }

    /// Waits for the next item. `None`: there are no more, and [`finish`](Self::finish) says why.
    pub fn next_item(&mut self) -> Option<I> {
        self.next_item_until(None)
    }

    /// Waits for the next item, at the longest for `limit` by the system's clock; a limit beyond what the clock can hold means
    /// for ever. `None`: there was none in time, or there are no more, which [`is_finished`](Self::is_finished) tells.
    pub fn next_item_timeout(&mut self, limit: Duration) -> Option<I> {
        let until = after(sync::now(), limit);
        self.next_item_until(until)
    }

    /// The items, up to the last. The stream stays, for its outcome.
    pub fn items(&mut self) -> impl Iterator<Item = I> {
        from_fn(|| self.next_item())
    }

    /// Ends the stream and waits for its outcome.
    ///
    /// After the last item that is the outcome of the task. Before that the consumer wants no more: the stream is
    /// [cancelled](Self::cancel), and items that nobody has taken are dropped.
    ///
    /// If an item could not be sent because the caller's limit had passed, the outcome is
    /// [`Timeout`](BulkheadError::Timeout), whatever the task made of that.
    pub fn finish(mut self) -> ExecutionResult<T, E> {
        if !self.is_over {
            self.cancel();
        }
        let call = self.handle().cancel_handle();
        let mut result = match self.handle.take() {
            Some(handle) => handle.wait(),
            None => unreachable!("only methods that consume it take the handle"),
        };
        // A panic is the better news, and a consumer that has left at its limit is counted.
        let is_to_be_told = !matches!(
            result.result,
            Err(BulkheadError::Panicked(_) | BulkheadError::Timeout { .. })
        );
        if let (Some(limit), true) = (self.channel.cut_off(), is_to_be_told) {
            let bulkhead = Arc::clone(&result.bulkhead_name);
            let timeout = BulkheadError::Timeout {
                bulkhead,
                limit,
                started: true,
            };
            let _what_the_task_made_of_it = std::mem::replace(&mut result.result, Err(timeout));
            call.caller_timed_out();
        }
        result
    }

    /// Cancels the call.
    ///
    /// `true`: it was queued and will never run. `false`: it is running or over. A running one is asked to stop, and the next
    /// item that it sends is given back to it; at once, if it waits for room. Items that were sent before stay to be taken.
    pub fn cancel(&self) -> bool {
        let never_runs = self.handle().cancel();
        self.channel.close(CancelReason::Cancelled);
        never_runs
    }

    /// Whether the call has come to its end and all items are taken, so that neither [`next_item`](Self::next_item) nor
    /// [`finish`](Self::finish) would block.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle().is_finished() && self.channel.is_empty()
    }

    /// The id that the outcome will carry.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.handle().execution_id()
    }

    fn handle(&self) -> &ExecutionHandle<T, E> {
        match &self.handle {
            Some(handle) => handle,
            None => unreachable!("only methods that consume it take the handle"),
        }
    }

    fn next_item_until(&mut self, until: Option<Instant>) -> Option<I> {
        loop {
            if let Some(item) = self.channel.take() {
                return Some(item);
            }
            if self.is_over {
                return None;
            }
            if self.handle().wants_help() {
                self.help();
                // It has run, or another worker has begun it, or it is too late for it.
                self.look();
                continue;
            }
            if !self.is_watched {
                self.look();
                continue;
            }
            match self.channel.wait(earlier(until, self.look_at)) {
                News::Item(item) => return Some(item),
                News::CallRang => self.look(),
                News::Late if self.look_at.is_some_and(|at| at <= sync::now()) => self.look(),
                News::Late => return None,
            }
        }
    }

    /// Runs the producer here, if no other thread has begun it.
    fn help(&self) {
        self.channel.set_unbounded(true);
        self.handle().help();
        self.channel.set_unbounded(false);
    }

    /// Looks whether the call is over.
    fn look(&mut self) {
        let Some(handle) = &mut self.handle else {
            return;
        };
        match handle.watch(&self.waker) {
            Watched::Pending { look_at } => {
                self.is_watched = true;
                self.look_at = look_at;
            }
            Watched::Ready => {
                self.is_over = true;
                // A producer that goes on alone, beyond its caller's limit, is to hear of it.
                self.channel.close(CancelReason::DeadlinePassed);
            }
        }
    }
}

// As for a handle.
impl<I, T, E> UnwindSafe for ExecutionStream<I, T, E> {}
impl<I, T, E> RefUnwindSafe for ExecutionStream<I, T, E> {}

impl<I, T, E> Drop for ExecutionStream<I, T, E> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
        self.channel.close(CancelReason::Cancelled);
        drop(self.channel.drain());
    }
}

/// Gives each item as `Ok`, and at last the error, if there is one.
impl<I, T, E> IntoIterator for ExecutionStream<I, T, E> {
    type Item = Result<I, BulkheadError<E>>;
    type IntoIter = StreamResults<I, T, E>;

    fn into_iter(self) -> StreamResults<I, T, E> {
        StreamResults { stream: Some(self) }
    }
}

impl<I, T, E> fmt::Debug for ExecutionStream<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutionStream")
            .field("execution_id", &self.execution_id())
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// The items of an [`ExecutionStream`], and at last its error, if there is one. The task's own value is dropped.
///
/// # What dropping it does
///
/// As dropping the [stream](ExecutionStream): it cancels the call.
#[must_use = "dropping it cancels the call: take its items"]
pub struct StreamResults<I, T, E> {
    /// `None` when the outcome has been taken.
    stream: Option<ExecutionStream<I, T, E>>,
}

impl<I, T, E> Iterator for StreamResults<I, T, E> {
    type Item = Result<I, BulkheadError<E>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.stream.as_mut()?.next_item() {
            return Some(Ok(item));
        }
        let outcome = self.stream.take()?.finish();
        outcome.into_result().err().map(Err)
    }
}

impl<I, T, E> FusedIterator for StreamResults<I, T, E> {}

impl<I, T, E> fmt::Debug for StreamResults<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamResults").field(&self.stream).finish()
    }
}
