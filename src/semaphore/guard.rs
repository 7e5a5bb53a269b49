//! The guard: a call that begins and ends without a closure.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::in_slot::InSlot;
use super::inner::Inner;
use crate::circuit::Verdict;
use crate::core::CallData;
use crate::error::BulkheadError;
use crate::event::FinishedOutcome;
use crate::panic::is_unwinding;
use crate::result::ExecutionResult;

/// A call of a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) that has begun, and lasts until this guard says how it ended
/// or is dropped.
///
/// It is for code that cannot be put into a closure: a loop with `break` and `?`, a connection that is held for a while, the two
/// halves of a middleware. Otherwise [`execute`](crate::SemaphoreBulkhead::execute) is simpler, and cannot forget a
/// failure. From [`acquire`](crate::SemaphoreBulkhead::acquire),
/// [`acquire_timeout`](crate::SemaphoreBulkhead::acquire_timeout),
/// [`try_acquire`](crate::SemaphoreBulkhead::try_acquire), and with options from
/// [`SemaphoreCall::acquire`](crate::SemaphoreCall::acquire).
///
/// ```
/// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
///
/// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("mail"))?;
/// let guard = bulkhead.call().operation("send").acquire()?;
/// let sent = match send() {
///     Ok(sent) => {
///         guard.success();
///         sent
///     }
///     Err(error) => {
///         guard.failure();
///         return Err(error.into());
///     }
/// };
/// assert_eq!((sent, bulkhead.stats().successful_executions), (1, 1));
/// # fn send() -> Result<u32, std::io::Error> { Ok(1) }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The call counts like any other: in the [ledger](crate::BulkheadStats), with its times, for the circuit, for listeners, in
/// the report of a shutdown, and as [`current()`](crate::current()) of its thread.
///
/// # What dropping it does
///
/// It ends the call: as panicked if the thread has begun to unwind since the guard was acquired, and as a success otherwise. So
/// a `?` that leaves the scope counts as a success. Call [`failure`](Self::failure) before, or hand the result to
/// [`finish`](Self::finish).
///
/// A guard that is leaked, as with [`std::mem::forget`], keeps its slot and its place for ever. A
/// [`shutdown`](crate::SemaphoreBulkhead::shutdown) without a limit in another thread then waits for ever, and so does the
/// drop of the bulkhead there.
///
/// # One thread
///
/// A guard stays in the thread that acquired it, since the call is what this thread does until then:
/// [`current()`](crate::current()) shows it, a call that the thread makes meanwhile on the same bulkhead is
/// [nested](crate::SemaphoreBulkhead#on-a-thread-that-is-in-a-call-of-it-already), and a shutdown that the thread asks for does
/// not wait for it. So all guards of one bulkhead in one thread share one slot, though each takes a place. A future that keeps
/// one across an `.await` is not `Send`, and on an executor with one thread its tasks would share the slot: for
/// async code take a semaphore of its own.
///
/// Guards of a thread may be dropped in any order, also after the closure in which they were acquired. `current()` is the call
/// that began last of those that have not ended, and the slot goes back with the last call in it.
///
/// ```compile_fail,E0277
/// # let bulkhead = bulkman::SemaphoreBulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let guard = bulkhead.acquire().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || guard.success());
/// });
/// ```
/// ```
/// # let bulkhead = bulkman::SemaphoreBulkhead::new(bulkman::BulkheadConfig::new("doc")).unwrap();
/// let guard = bulkhead.acquire().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(|| guard.execution_id());
/// });
/// guard.success();
/// ```
#[must_use = "dropping the guard ends the call"]
pub struct SemaphoreGuard<'a> {
    inner: &'a Arc<Inner>,
    data: CallData,
    /// `None` when the call has ended.
    in_slot: Option<InSlot<'a>>,
    was_unwinding: bool,
    /// `Sync` and not `Send`, as this one.
    _stays_in_its_thread: PhantomData<std::sync::MutexGuard<'a, ()>>,
}

impl<'a> SemaphoreGuard<'a> {
    #[inline(always)]
    pub(super) fn new(inner: &'a Arc<Inner>, data: CallData, in_slot: InSlot<'a>) -> Self {
        Self {
            inner,
            data,
            in_slot: Some(in_slot),
            was_unwinding: is_unwinding(),
            _stays_in_its_thread: PhantomData,
        }
    }

    /// The call went well. If it took longer than
    /// [`slow_call_duration`](crate::CircuitBreakerConfig::slow_call_duration), or than its limit, the circuit hears of it as of
    /// any such call.
    #[inline]
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(self) {
        self.record(Verdict::Failure);
    }

    /// The call came to this. [`Ignored`](Verdict::Ignored) is what
    /// [`failure_if`](crate::Call::failure_if) makes of an error that it lets pass: the ledger has a failed execution, and
    /// the circuit hears nothing.
    #[inline]
    pub fn record(mut self, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Success => FinishedOutcome::Succeeded,
            Verdict::Failure | Verdict::Ignored => FinishedOutcome::Failed,
        };
        self.end(outcome, verdict);
    }

    /// Ends the call with this result, and adds the id and the times. An `Err` is a failure.
    ///
    /// ```
    /// use bulkman::{BulkheadConfig, BulkheadError, SemaphoreBulkhead};
    ///
    /// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("numbers"))?;
    /// let guard = bulkhead.acquire()?;
    /// let result = guard.finish("seven".parse::<i32>());
    /// assert!(matches!(result.error(), Some(BulkheadError::Failed(_))));
    /// assert_eq!(bulkhead.stats().failed_executions, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish<T, E>(mut self, result: Result<T, E>) -> ExecutionResult<T, E> {
        let queued_time = self.queued_time();
        let execution_time = match &result {
            Ok(_) => self.end(FinishedOutcome::Succeeded, Verdict::Success),
            Err(_) => self.end(FinishedOutcome::Failed, Verdict::Failure),
        };
        ExecutionResult {
            result: result.map_err(BulkheadError::Failed),
            execution_id: self.data.execution_id,
            bulkhead_name: Arc::clone(&self.inner.engine.name),
            operation: self.data.operation.clone(),
            queued_time,
            execution_time,
        }
    }

    /// Identifies the call in listeners and reports.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.data.execution_id
    }

    /// The name of the bulkhead.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        &self.inner.engine.name
    }

    /// What the call was named with [`operation`](crate::Call::operation).
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.data.operation.as_deref()
    }

    /// How long the call had waited for its slot.
    #[must_use]
    pub fn queued_time(&self) -> Duration {
        self.in_slot
            .as_ref()
            .map_or(Duration::ZERO, InSlot::queued_time)
    }

    /// How long the call has lasted since it has its slot.
    #[must_use]
    pub fn execution_time(&self) -> Duration {
        let now = self.inner.engine.clock.now();
        self.in_slot.as_ref().map_or(Duration::ZERO, |in_slot| {
            now.saturating_duration_since(in_slot.since())
        })
    }

    /// What is left of the call's [`timeout`](crate::Call::timeout), or of the configured
    /// [`execution_timeout`](crate::BulkheadConfig::execution_timeout): zero when it is over, `None` if there is none. A good
    /// timeout for what the call waits for.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = self.inner.engine.clock.now();
        Some(self.data.deadline()?.saturating_duration_since(now))
    }

    /// Gives the time that the call has taken.
    #[inline]
    fn end(&mut self, outcome: FinishedOutcome, verdict: Verdict) -> Duration {
        match self.in_slot.take() {
            Some(in_slot) => self.inner.end_guard(in_slot, &self.data, outcome, verdict),
            None => Duration::ZERO,
        }
    }
}

impl Drop for SemaphoreGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.in_slot.is_none() {
            return;
        }
        if is_unwinding() && !self.was_unwinding {
            self.end(FinishedOutcome::Panicked, Verdict::Failure);
        } else {
            self.end(FinishedOutcome::Succeeded, Verdict::Success);
        }
    }
}

// As for a `SemaphoreBulkhead`.
impl UnwindSafe for SemaphoreGuard<'_> {}
impl RefUnwindSafe for SemaphoreGuard<'_> {}

impl fmt::Debug for SemaphoreGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphoreGuard")
            .field("bulkhead_name", &self.bulkhead_name())
            .field("execution_id", &self.execution_id())
            .field("operation", &self.operation())
            .finish_non_exhaustive()
    }
}
