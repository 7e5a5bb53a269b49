//! The producer's end of a stream, and how a producer is submitted.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::channel::{CallerLimit, Channel};
use super::consumer::ExecutionStream;
use crate::clock::Clock;
use crate::core::{Call, CancelReason, FailureClassifier, ThreadPoolKind, current};
use crate::thread_pool::bulkhead::Bulkhead;

/// How many items a stream holds, if nothing else is said.
const DEFAULT_CAPACITY: usize = 16;

impl Bulkhead {
    /// Submits a task that yields items while it runs, and gives the consumer's end of the stream. Never blocks.
    ///
    /// `f` sends items into a channel that holds 16 (see
    /// [`execute_stream_with_capacity`](Call::execute_stream_with_capacity)), and keeps its place while it waits for room.
    /// A refused call is a stream without items, whose outcome says so.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let database = Bulkhead::new(BulkheadConfig::new("database"))?;
    /// let rows = database.execute_stream(|rows| {
    ///     for row in query("select * from orders") {
    ///         if rows.send(row?).is_err() {
    ///             break; // nobody wants the rest
    ///         }
    ///     }
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// for row in rows {
    ///     println!("{}", row?); // the item, or at last why there are no more
    /// }
    /// # fn query(_: &str) -> impl Iterator<Item = Result<u32, std::io::Error>> { (0..100).map(Ok) }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_stream<I, T, E, F>(&self, f: F) -> ExecutionStream<I, T, E>
    where
        F: FnOnce(&StreamSink<I>) -> Result<T, E> + Send + 'static,
        I: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call().execute_stream(f)
    }
}

/// A call on a worker thread that yields items.
impl<C> Call<'_, ThreadPoolKind, C> {
    /// Submits a task that yields items. As [`Bulkhead::execute_stream`](crate::Bulkhead::execute_stream).
    pub fn execute_stream<I, T, E, F>(self, f: F) -> ExecutionStream<I, T, E>
    where
        F: FnOnce(&StreamSink<I>) -> Result<T, E> + Send + 'static,
        I: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + 'static,
    {
        self.execute_stream_with_capacity(DEFAULT_CAPACITY, f)
    }

    /// As [`execute_stream`](Self::execute_stream), with a channel that holds so many items between producer and consumer. 0
    /// is taken for 1.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::io::{self, Read};
    /// use std::time::Duration;
    ///
    /// let files = Bulkhead::new(BulkheadConfig::new("files"))?;
    /// let chunks = files
    ///     .call()
    ///     .timeout(Duration::from_secs(60))
    ///     .execute_stream_with_capacity(2, |chunks| {
    ///         let mut file = std::fs::File::open("Cargo.toml")?;
    ///         loop {
    ///             let mut chunk = vec![0; 1024];
    ///             let length = file.read(&mut chunk)?;
    ///             chunk.truncate(length);
    ///             if length == 0 || chunks.send(chunk).is_err() {
    ///                 return Ok::<(), io::Error>(());
    ///             }
    ///         }
    ///     });
    /// let mut bytes = 0;
    /// for chunk in chunks {
    ///     bytes += chunk?.len();
    /// }
    /// println!("{bytes} bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute_stream_with_capacity<I, T, E, F>(
        self,
        capacity: usize,
        f: F,
    ) -> ExecutionStream<I, T, E>
    where
        F: FnOnce(&StreamSink<I>) -> Result<T, E> + Send + 'static,
        I: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + 'static,
    {
        let channel = Arc::new(Channel::new(capacity));
        let sink = StreamSink {
            channel: Arc::clone(&channel),
            clock: self.inner.engine.clock.clone(),
            limit: None,
        };
        let handle = self.execute(move || {
            let limit = current().and_then(|call| call.caller_limit());
            let limit = limit.map(|(limit, deadline)| CallerLimit { limit, deadline });
            f(&StreamSink { limit, ..sink })
        });
        ExecutionStream::new(channel, handle)
    }
}

/// The producer's end of a stream: what a task of [`execute_stream`](crate::Bulkhead::execute_stream) sends its items into.
///
/// Threads that the task starts itself may use it too, as long as the task runs.
pub struct StreamSink<I> {
    channel: Arc<Channel<I>>,
    clock: Clock,
    /// Known once the task has started.
    limit: Option<CallerLimit>,
}

impl<I> StreamSink<I> {
    /// Sends an item to the consumer. If the channel is full, it waits for room. The task keeps its worker meanwhile.
    ///
    /// # Errors
    ///
    /// Gives the item back if the consumer wants no more: the stream was cancelled, finished or dropped, or the caller's limit
    /// has passed. A send that waits for room comes back with it at that moment. The task should then end. Items that were
    /// sent before stay with the consumer.
    ///
    /// A cancel or a deadline that the call [inherits](crate::Call::detached) ends no send: the consumer is then the task that is
    /// cancelled, and decides itself when to go.
    pub fn send(&self, item: I) -> Result<(), StreamSendError<I>> {
        self.channel
            .send(item, self.limit, &self.clock)
            .map_err(|(item, reason)| StreamSendError { item, reason })
    }
}

// As for a handle.
impl<I> UnwindSafe for StreamSink<I> {}
impl<I> RefUnwindSafe for StreamSink<I> {}

impl<I> fmt::Debug for StreamSink<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSink").finish_non_exhaustive()
    }
}

/// The consumer of a stream wants no more items, from [`StreamSink::send`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StreamSendError<I> {
    /// The item that was not sent.
    pub item: I,
    /// Why: the stream was cancelled, finished or dropped, or the caller's limit has passed.
    pub reason: CancelReason,
}

impl<I> fmt::Debug for StreamSendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSendError")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<I> fmt::Display for StreamSendError<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            CancelReason::Cancelled => "the consumer of the stream wants no more items",
            CancelReason::DeadlinePassed => "the caller's limit has passed, and the stream with it",
        })
    }
}

impl<I> Error for StreamSendError<I> {}
