//! Waits for a call, or for several at once, no longer than a limit.

use std::sync::Arc;
use std::time::Duration;

use super::deadline::Deadline;
use crate::result::ExecutionResult;
use crate::sync::shorter;
use crate::thread_pool::{Bulkhead, ExecutionHandle};

/// Waits for calls no longer than a limit each, on the workers of a bulkhead: Python's `wait_for`, `gather` and
/// `TimeoutManager` for blocking code.
///
/// ```
/// use bulkman::policy::TimeoutManager;
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let pages = Arc::new(Bulkhead::new(BulkheadConfig::new("pages").max_concurrent_calls(4))?);
/// let limits = TimeoutManager::new(pages);
///
/// let page = limits.wait_for(Duration::from_secs(2), || fetch("/"));
/// assert_eq!(page.value(), Some(&200));
///
/// let pages = limits.gather(["/a", "/b", "/c"].map(|path| (Duration::from_secs(2), move || fetch(path))));
/// assert!(pages.iter().all(|page| page.is_success()));
/// # fn fetch(_: &str) -> Result<u16, std::io::Error> { Ok(200) }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// A limit counts for everything: the wait for a place, if all are taken; the time in the queue; and the run. The
/// [`Deadline`] around the caller and the bulkhead's own
/// [`execution_timeout`](crate::BulkheadConfig::execution_timeout) count too, if they are over earlier. Inside the task
/// [`remaining`](super::remaining()) tells what is left. Where a limit passes, the result is a
/// [`Timeout`](crate::BulkheadError::Timeout), or [`Full`](crate::BulkheadError::Full) if the call was still waiting for
/// a place. There are never more threads than the bulkhead has workers; a task that runs on after its limit keeps its
/// worker, as always.
#[derive(Clone, Debug)]
pub struct TimeoutManager {
    bulkhead: Arc<Bulkhead>,
}

impl TimeoutManager {
    /// On the workers of this bulkhead, and by its clock.
    #[must_use]
    pub fn new(bulkhead: Arc<Bulkhead>) -> Self {
        Self { bulkhead }
    }

    /// The bulkhead that runs the calls.
    #[must_use]
    pub fn bulkhead(&self) -> &Arc<Bulkhead> {
        &self.bulkhead
    }

    /// Makes one call, and waits for it no longer than `limit`.
    pub fn wait_for<T, E, F>(&self, limit: Duration, f: F) -> ExecutionResult<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.submit(&self.deadline(limit), f).wait()
    }

    /// Makes several calls at once, each with a limit of its own from this moment on. The results are in the order of the
    /// calls.
    ///
    /// If there are more calls than the bulkhead has places, those with the shorter limits come in first, and the others
    /// wait for a place. (Not in a task of the same bulkhead: there a call waits for no place.) All are waited for, also if some fail. For calls of different kinds, box the closures.
    pub fn gather<T, E, F>(
        &self,
        calls: impl IntoIterator<Item = (Duration, F)>,
    ) -> Vec<ExecutionResult<T, E>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let calls = calls.into_iter().collect::<Vec<_>>();
        let mut calls: Vec<_> = calls
            .into_iter()
            .enumerate()
            .map(|(place, (limit, f))| (limit, self.deadline(limit), place, f))
            .collect();
        // Stable: of equal limits the first comes first.
        calls.sort_by_key(|(limit, ..)| *limit);
        let handles: Vec<(usize, ExecutionHandle<T, E>)> = calls
            .into_iter()
            .map(|(_, deadline, place, f)| (place, self.submit(&deadline, f)))
            .collect();
        // In the order of their limits too: a wait for a longer one would miss that a shorter one has passed.
        let mut results: Vec<_> = handles
            .into_iter()
            .map(|(place, handle)| (place, handle.wait()))
            .collect();
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn deadline(&self, limit: Duration) -> Deadline {
        Deadline::after_on(self.bulkhead.clock().clone(), limit)
    }

    fn submit<T, E, F>(&self, deadline: &Deadline, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        deadline.with(|| {
            let left = shorter(deadline.remaining(), super::remaining());
            let left = left.unwrap_or(Duration::MAX);
            let call = self.bulkhead.call();
            let left = call.caller_limit().map_or(left, |own| own.min(left));
            call.timeout(left).wait_for_capacity(left).execute(f)
        })
    }
}
