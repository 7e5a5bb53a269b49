//! Calls of one type, whose results come as they finish.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::watch::{Watch, deadline};
use crate::core::this_worker;
use crate::result::ExecutionResult;
use crate::thread_pool::handle::{ExecutionHandle, Watched};

/// Calls in flight, whose results come in the order in which the calls end: the set of futures of Python's
/// `as_completed`, for blocking code.
///
/// Each call has a key, which comes with its result and says which one it was; `()` where that does not matter. The calls
/// may belong to different bulkheads. Where their results are of different types, let the tasks give an enum, or see
/// [`wait_any`](crate::wait_any). Calls may be added at any time, also between two results.
///
/// The set is an [`Iterator`] that waits: [`next`](Iterator::next) gives the next result, and `None` when the set is empty.
/// To wait with a limit, use [`next_timeout`](Self::next_timeout). Either waits as
/// [`wait`](ExecutionHandle::wait) does for a single handle. A call ends at its queue timeout and at its caller's limit, and
/// one that was refused has ended at once. On a worker of the same bulkhead it runs a call that is still queued, the
/// oldest first.
///
/// A thread that waits for a set sleeps until a call ends or a limit is over. The end of a call costs the same however many
/// others are in the set.
///
/// # What dropping it does
///
/// Dropping the set detaches its calls, as dropping each handle would: they still run. To cancel them, call
/// [`cancel_all`](Self::cancel_all) first.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, HandleSet};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("pages"))?;
/// let mut pages = HandleSet::new();
/// for url in ["/home", "/news", "/none"] {
///     pages.insert(url, bulkhead.execute(move || fetch(url)));
/// }
/// for (url, result) in &mut pages {
///     match result.into_result() {
///         Ok(size) => println!("{url}: {size} bytes"),
///         Err(error) => println!("{url}: {error}"),
///     }
/// }
/// assert!(pages.is_empty());
/// # fn fetch(url: &str) -> Result<usize, String> {
/// #     if url == "/none" { Err("not found".into()) } else { Ok(url.len()) }
/// # }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use = "dropping it detaches its calls, and nobody sees their outcomes"]
pub struct HandleSet<K, T, E> {
    /// In the order in which they were inserted. No number is used twice.
    calls: BTreeMap<u64, Watching<K, T, E>>,
    next_number: u64,
    watch: Watch,
    help: HelpCursor,
}

/// A call in the set.
struct Watching<K, T, E> {
    key: K,
    handle: ExecutionHandle<T, E>,
    /// `None` if the call had ended when it was inserted.
    waker: Option<Waker>,
    look_at: Option<Instant>,
}

/// Which calls this worker still has to try to run itself. A call that has been tried runs elsewhere, or is another
/// bulkhead's.
#[derive(Default)]
struct HelpCursor {
    worker: Option<(u64, usize)>,
    from: u64,
}

impl<K, T, E> HandleSet<K, T, E> {
    /// An empty set.
    pub fn new() -> Self {
        Self {
            calls: BTreeMap::new(),
            next_number: 0,
            watch: Watch::default(),
            help: HelpCursor::default(),
        }
    }

    /// Adds a call. Never blocks.
    ///
    /// A handle that was polled as a future to its end has given its result away. In a set it makes the set panic when its
    /// turn comes, as its own [`wait`](ExecutionHandle::wait) would.
    pub fn insert(&mut self, key: K, mut handle: ExecutionHandle<T, E>) {
        let number = self.next_number;
        self.next_number += 1;
        let mut waker = None;
        let mut look_at = None;
        if handle.is_finished() {
            self.watch.mark_ready(number);
        } else {
            match handle.watch(waker.insert(self.watch.waker(number))) {
                Watched::Ready => self.watch.mark_ready(number),
                Watched::Pending { look_at: at } => look_at = at,
            }
        }
        self.watch.look_at(number, None, look_at);
        let watching = Watching {
            key,
            handle,
            waker,
            look_at,
        };
        self.calls.insert(number, watching);
    }

    /// Waits for the next result, at the longest for `limit` by the system's clock; a limit beyond what the clock can hold
    /// means for ever. `None`: no call ended in time, or the [set is empty](Self::is_empty). The calls go on and stay in
    /// the set.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, HandleSet};
    /// use std::time::{Duration, Instant};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("quotes"))?;
    /// let mut quotes = HandleSet::new();
    /// for shop in ["north", "south"] {
    ///     quotes.insert(shop, bulkhead.run(move || shop.len()));
    /// }
    /// // The first answer, however long it takes, and then what comes within a second.
    /// let mut best = quotes.next();
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// while let Some(quote) = quotes.next_deadline(deadline) {
    ///     best = Some(quote);
    /// }
    /// quotes.cancel_all();
    /// assert!(best.is_some());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn next_timeout(&mut self, limit: Duration) -> Option<(K, ExecutionResult<T, E>)> {
        let until = deadline(limit);
        self.next_until(until)
    }

    /// Waits for the next result, at the longest until `deadline`. As [`next_timeout`](Self::next_timeout) otherwise.
    pub fn next_deadline(&mut self, deadline: Instant) -> Option<(K, ExecutionResult<T, E>)> {
        self.next_until(Some(deadline))
    }

    /// How many calls are in the set: those whose results it has not given yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether it has given the results of all calls.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// [Cancels](ExecutionHandle::cancel) every call in the set, and tells how many were queued and will never run. Their
    /// results, [`Cancelled`](crate::BulkheadError::Cancelled), come as any others.
    ///
    /// The call that was inserted last is the first to be cancelled. So a running call that ends because it is told to makes
    /// no room for a later one of the set.
    pub fn cancel_all(&self) -> usize {
        let cancelled = |call: &&Watching<K, T, E>| call.handle.cancel();
        self.calls.values().rev().filter(cancelled).count()
    }

    /// The calls whose results it has not given yet, in the order in which they were inserted. They may have ended
    /// meanwhile.
    #[must_use = "dropped handles detach their calls"]
    pub fn into_remaining(self) -> Vec<(K, ExecutionHandle<T, E>)> {
        self.calls
            .into_values()
            .map(|call| (call.key, call.handle))
            .collect()
    }

    fn next_until(&mut self, until: Option<Instant>) -> Option<(K, ExecutionResult<T, E>)> {
        loop {
            while let Some(number) = self.watch.take() {
                if let Some(finished) = self.look(number) {
                    return Some(finished);
                }
            }
            if self.is_empty() {
                return None;
            }
            if !self.help() && !self.watch.wait(until) {
                return None;
            }
        }
    }

    /// Takes a call out if it has ended.
    fn look(&mut self, number: u64) -> Option<(K, ExecutionResult<T, E>)> {
        let call = self.calls.get_mut(&number)?;
        if let (false, Some(waker)) = (call.handle.is_finished(), &call.waker) {
            if let Watched::Pending { look_at } = call.handle.watch(waker) {
                self.watch.look_at(number, call.look_at, look_at);
                call.look_at = look_at;
                return None;
            }
        }
        let call = self.calls.remove(&number)?;
        self.watch.look_at(number, call.look_at, None);
        Some((call.key, call.handle.wait()))
    }

    /// On a worker of a call's own bulkhead: runs a call that is still queued. `false`: there is none.
    fn help(&mut self) -> bool {
        let worker = this_worker();
        if worker.is_none() {
            return false;
        }
        if self.help.worker != worker {
            self.help = HelpCursor { worker, from: 0 };
        }
        for (number, call) in self.calls.range(self.help.from..) {
            self.help.from = number + 1;
            if call.handle.wants_help() {
                call.handle.help();
                return true;
            }
        }
        false
    }

    /// Whether the next result is probably there.
    pub(super) fn has_next(&self) -> bool {
        self.watch.has_ready()
    }
}

// As for a handle.
impl<K: UnwindSafe, T, E> UnwindSafe for HandleSet<K, T, E> {}
impl<K: RefUnwindSafe, T, E> RefUnwindSafe for HandleSet<K, T, E> {}

impl<K, T, E> Default for HandleSet<K, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits, see [`HandleSet`].
impl<K, T, E> Iterator for HandleSet<K, T, E> {
    type Item = (K, ExecutionResult<T, E>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<K, T, E> Extend<(K, ExecutionHandle<T, E>)> for HandleSet<K, T, E> {
    fn extend<I: IntoIterator<Item = (K, ExecutionHandle<T, E>)>>(&mut self, calls: I) {
        for (key, handle) in calls {
            self.insert(key, handle);
        }
    }
}

impl<K, T, E> FromIterator<(K, ExecutionHandle<T, E>)> for HandleSet<K, T, E> {
    fn from_iter<I: IntoIterator<Item = (K, ExecutionHandle<T, E>)>>(calls: I) -> Self {
        let mut set = Self::new();
        set.extend(calls);
        set
    }
}

impl<K, T, E> fmt::Debug for HandleSet<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleSet")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The results of calls, in the order in which the calls end; Python's `as_completed`.
///
/// For a limit, for keys, or for calls that come later, use a [`HandleSet`]. For a call for each item of a long list, see
/// [`Bulkhead::execute_map`](crate::Bulkhead::execute_map), which submits only so many at a time.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, as_completed};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("squares"))?;
/// let handles: Vec<_> = (1..=4).map(|n| bulkhead.run(move || n * n)).collect();
/// let mut sum = 0;
/// for result in as_completed(handles) {
///     sum += result.into_result()?;
/// }
/// assert_eq!(sum, 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<T, E>(
    handles: impl IntoIterator<Item = ExecutionHandle<T, E>>,
) -> AsCompleted<T, E> {
    AsCompleted {
        set: handles.into_iter().map(|handle| ((), handle)).collect(),
    }
}

/// An iterator that waits for results, from [`as_completed`].
///
/// # What dropping it does
///
/// Dropping it detaches the calls whose results it has not given: they still run.
#[must_use = "dropping it detaches its calls, and nobody sees their outcomes"]
pub struct AsCompleted<T, E> {
    set: HandleSet<(), T, E>,
}

impl<T, E> Iterator for AsCompleted<T, E> {
    type Item = ExecutionResult<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.set.next().map(|((), result)| result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.set.size_hint()
    }
}

impl<T, E> ExactSizeIterator for AsCompleted<T, E> {}

impl<T, E> std::iter::FusedIterator for AsCompleted<T, E> {}

impl<T, E> fmt::Debug for AsCompleted<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("len", &self.set.len())
            .finish_non_exhaustive()
    }
}
