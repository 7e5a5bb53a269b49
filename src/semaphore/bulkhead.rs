//! The facade of a bulkhead without threads.

use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::guard::SemaphoreGuard;
use super::inner::{Inner, WaitingCall};
use super::slots::SlotPool;
use crate::circuit::{CircuitBreaker, CircuitBreakerConfig};
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::core::{
    BulkheadBuilder, Call, Engine, EngineHooks, EveryError, SemaphoreKind, ShutdownReport,
    WaitLimit, begin_shutdown, resize, set_circuit_breaker, set_execution_timeout,
    set_health_thresholds, set_queue_timeout, shut_down, wait_closed, wait_idle,
};
use crate::error::{BuildError, BulkheadError, Rejected};
use crate::result::ExecutionResult;
use crate::stats::{BulkheadHealth, BulkheadState, BulkheadStats, HealthThresholds};
use crate::sync::Latch;

/// Builds a [`SemaphoreBulkhead`] with collaborators, see [`SemaphoreBulkhead::builder`].
pub type SemaphoreBulkheadBuilder = BulkheadBuilder<SemaphoreKind>;

/// One call of a [`SemaphoreBulkhead`] with settings of its own, from [`SemaphoreBulkhead::call`]. [`Call`] lists the options.
pub type SemaphoreCall<'a, C = EveryError> = Call<'a, SemaphoreKind, C>;

/// Limits how many calls run at a time, each in its caller's own thread: a bulkhead without threads of its own.
///
/// There are N slots: at most N calls run, Q callers wait for a slot in the order in which they came (or
/// [in any](SemaphoreBulkheadBuilder::fair)), and one more is refused at once.
/// It has the configuration, the results, the errors and the ledger of a [`Bulkhead`](crate::Bulkhead), and costs a
/// fraction of it, since nothing is handed to another thread. So the closure may borrow, and need not be `Send`:
///
/// ```
/// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
///
/// let cache = SemaphoreBulkhead::new(BulkheadConfig::new("cache").max_concurrent_calls(8).max_queue_size(0))?;
/// let key = String::from("user:1");
/// let mut hits = 0;
/// let result = cache.execute(|| {
///     hits += 1;
///     lookup(&key)
/// });
/// assert_eq!(result.into_result()?, "Ada");
/// assert_eq!(hits, 1);
/// # fn lookup(_: &str) -> Result<&'static str, std::io::Error> { Ok("Ada") }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Which of the two?
///
/// | | [`Bulkhead`](crate::Bulkhead) | `SemaphoreBulkhead` |
/// |---|---|---|
/// | tasks run | on N threads of its own | in their callers' threads |
/// | the caller | goes on, waits, cancels, awaits, or leaves at a limit | is in the call until it ends |
/// | a task that hangs | takes a worker; callers with a limit get away | takes its caller; N of them also hold up the callers that wait, until their limits |
/// | closures | `Send + 'static` | may borrow |
/// | a call costs | a hand-over to another thread and back | as much as reading the clock six times |
///
/// Take this one where the client that it guards has timeouts of its own that can be relied on, or the work is short.
///
/// # Without a closure
///
/// [`acquire`](Self::acquire) gives a [guard](SemaphoreGuard) that is the call: it holds the slot until it says how the call
/// ended, or is dropped.
///
/// | | waits for a slot |
/// |---|---|
/// | [`acquire`](Self::acquire) | as a call with a closure does: at the longest for the queue timeout |
/// | [`acquire_timeout`](Self::acquire_timeout) | at the longest for as long as it is told |
/// | [`try_acquire`](Self::try_acquire) | never |
///
/// ```
/// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
/// use std::time::Duration;
///
/// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("mail").max_concurrent_calls(2))?;
/// let guard = bulkhead.acquire_timeout(Duration::from_millis(50))?;
/// match send("hello") {
///     Ok(()) => guard.success(),
///     Err(_) => guard.failure(),
/// }
/// assert_eq!(bulkhead.stats().successful_executions, 1);
/// # fn send(_: &str) -> Result<(), std::io::Error> { Ok(()) }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits in time
///
/// A [queue timeout](BulkheadConfig::queue_timeout) ends the wait for a slot. A caller's limit
/// ([`execution_timeout`](BulkheadConfig::execution_timeout), [`timeout`](SemaphoreCall::timeout)) does so too, but a
/// task that runs cannot be left alone, since it has the caller's thread: past the limit
/// [`current()`](crate::current()) tells it that it is cancelled, and its result is what it returns, however late.
///
/// # On a thread that is in a call of it already
///
/// A task that makes a call on its own bulkhead would wait for a slot while it has one. So such a call takes a place as
/// any other, and is refused if there is none, but runs at once in the slot of the task that makes it, which does not run
/// meanwhile. The same holds for a thread that has a [guard](SemaphoreGuard). A call from another thread, for which the
/// task waits, does wait for a slot, and where N is 1 for ever: give such calls a queue timeout. How deep calls are nested is
/// up to the program, as with any function: there is no limit, and each takes a part of the thread's stack.
///
/// # What dropping it does
///
/// The same as [`shutdown`](Self::shutdown); but once another form of it has given up on something that runs, dropping
/// does not wait for it again. Nothing can be in it then but calls through a function from [`wrap`](Self::wrap), and guards
/// that were leaked. One in a `static` is never dropped; what that means at the end of `main` stands at
/// [`Bulkhead`](crate::Bulkhead#at-the-end-of-the-process).
///
/// # Panics in user code
///
/// As for [`Bulkhead`](crate::Bulkhead#panics-in-user-code): a panic in a task is the call's outcome, and does not go on in
/// the caller's thread unless that [resumes](crate::Panic::resume) it.
pub struct SemaphoreBulkhead {
    inner: Arc<Inner>,
}

impl SemaphoreBulkhead {
    /// Checks the configuration. No thread is started.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`], see [`BulkheadConfig::validate`].
    pub fn new(config: BulkheadConfig) -> Result<Self, BuildError> {
        Self::builder(config).build()
    }

    /// For one with collaborators: listeners, a circuit storage, a clock.
    pub fn builder(config: BulkheadConfig) -> SemaphoreBulkheadBuilder {
        BulkheadBuilder::new(config)
    }

    /// Runs a task that may fail, in this thread. If N others run, it waits for a slot, at the longest for the queue
    /// timeout; if Q others do so, it fails at once, as it does if the bulkhead is shut down or its circuit open.
    pub fn execute<T, E, F>(&self, f: F) -> ExecutionResult<T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        self.call().execute(f)
    }

    /// Runs a task that cannot fail by itself. As [`execute`](Self::execute) otherwise.
    pub fn run<T, F>(&self, f: F) -> ExecutionResult<T, Infallible>
    where
        F: FnOnce() -> T,
    {
        self.call().run(f)
    }

    /// Runs a task, or gives the closure back untouched if the call is refused. It waits for a slot as
    /// [`execute`](Self::execute) does, and a call that gives up without one is no refusal: its closure is dropped.
    /// To be refused rather than wait, set [`max_queue_size`](BulkheadConfig::max_queue_size) to 0.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure. Nothing was allocated and no lock was waited for.
    #[inline]
    pub fn try_execute<T, E, F>(&self, f: F) -> Result<ExecutionResult<T, E>, Rejected<F>>
    where
        F: FnOnce() -> Result<T, E>,
    {
        self.call().try_execute(f)
    }

    /// Runs a task that cannot fail by itself, or gives the closure back untouched if the call is refused.
    ///
    /// # Errors
    ///
    /// As [`try_execute`](Self::try_execute).
    #[inline]
    pub fn try_run<T, F>(&self, f: F) -> Result<ExecutionResult<T, Infallible>, Rejected<F>>
    where
        F: FnOnce() -> T,
    {
        self.call().try_run(f)
    }

    /// Runs a task that has `limit` for the wait for a slot and its run together. If it has no slot by then, it
    /// never starts, and the result is [`Timeout`](crate::BulkheadError::Timeout). A task that runs is not interrupted: it
    /// can read the limit from [`remaining`](crate::CurrentExecution::remaining), and the result is what it returns.
    pub fn execute_with_timeout<T, E, F>(&self, limit: Duration, f: F) -> ExecutionResult<T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        self.call().timeout(limit).execute(f)
    }

    /// Begins a call that lasts until the [guard](SemaphoreGuard) ends it. If N others run, it waits for a slot, at the longest
    /// for the queue timeout; if Q others do so, it is refused at once, as it is if the bulkhead is shut down or its circuit
    /// open.
    ///
    /// # Errors
    ///
    /// [`Full`](BulkheadError::Full), [`CircuitOpen`](BulkheadError::CircuitOpen), [`ShutDown`](BulkheadError::ShutDown),
    /// [`QueueTimeout`](BulkheadError::QueueTimeout), [`Timeout`](BulkheadError::Timeout) if the configured
    /// [`execution_timeout`](BulkheadConfig::execution_timeout) passed first, or [`Cancelled`](BulkheadError::Cancelled) by a
    /// shutdown. The call has [never started](BulkheadError::never_started). Plain `?` takes the error into a
    /// `Box<dyn Error + Send + Sync>`, [`widen`](BulkheadError::widen) makes it the error of a task that can fail.
    #[inline]
    pub fn acquire(&self) -> Result<SemaphoreGuard<'_>, BulkheadError<Infallible>> {
        self.call().acquire()
    }

    /// As [`acquire`](Self::acquire), but waits for a slot at the longest for `limit`, in place of the configured queue timeout.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_timeout(
        &self,
        limit: Duration,
    ) -> Result<SemaphoreGuard<'_>, BulkheadError<Infallible>> {
        self.call().queue_timeout(limit).acquire()
    }

    /// Begins a call that lasts until the [guard](SemaphoreGuard) ends it, if a slot is free. It never waits, so the Q places
    /// for those that do are nothing to it, and it does not take a slot from a caller that waits for one (but see
    /// [`fair`](SemaphoreBulkheadBuilder::fair)).
    ///
    /// # Errors
    ///
    /// [`Full`](BulkheadError::Full) if no slot is free, with a `max_queue_size` of 0, since it waits in none.
    /// [`CircuitOpen`](BulkheadError::CircuitOpen), [`ShutDown`](BulkheadError::ShutDown), or
    /// [`Cancelled`](BulkheadError::Cancelled) by a shutdown at this very moment. Nothing was allocated and no lock was waited
    /// for.
    #[inline]
    pub fn try_acquire(&self) -> Result<SemaphoreGuard<'_>, BulkheadError<Infallible>> {
        self.call().try_acquire()
    }

    /// Begins a call with settings of its own.
    #[inline]
    pub fn call(&self) -> SemaphoreCall<'_> {
        SemaphoreCall::new(&self.inner)
    }

    /// The decorator: a reusable closure that sends each call of `f` through the bulkhead.
    /// Several arguments go in as a tuple. With limits or a name of its own it comes from [`SemaphoreCall::wrap`].
    ///
    /// It may outlive the bulkhead, and then gives [`ShutDown`](crate::BulkheadError::ShutDown).
    ///
    /// ```
    /// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
    ///
    /// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("prices"))?;
    /// let prices = vec![3, 5];
    /// let price = bulkhead.wrap(|item: usize| prices.get(item).copied().ok_or("no such item"));
    /// assert_eq!(price(1).value(), Some(&5));
    /// assert!(price(2).error().is_some());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn wrap<A, T, E, F>(
        &self,
        f: F,
    ) -> impl Fn(A) -> ExecutionResult<T, E> + Clone + use<A, T, E, F>
    where
        F: Fn(A) -> Result<T, E>,
    {
        self.call().wrap(f)
    }

    /// The name given in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.engine.name
    }

    /// The configuration that it was built from. Later changes, such as by [`resize`](Self::resize), do not show in it.
    #[must_use]
    pub fn config(&self) -> &BulkheadConfig {
        &self.inner.engine.config
    }

    /// N at this moment: how many calls run at the same time.
    #[must_use]
    pub fn max_concurrent_calls(&self) -> usize {
        self.inner.engine.limits().max_concurrent_calls
    }

    /// Q at this moment: how many calls may wait beyond those that run.
    #[must_use]
    pub fn max_queue_size(&self) -> usize {
        self.inner.engine.limits().max_queue_size
    }

    /// Gives the bulkhead other limits, N and Q, while it works, and returns at once. Calls that have been admitted stay
    /// admitted.
    ///
    /// More: callers that wait get the new slots at once. Fewer: a slot that is taken goes when its call ends, and nobody
    /// is admitted until fewer than N + Q are there. Otherwise as [`Bulkhead::resize`](crate::Bulkhead::resize).
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] for limits that are out of range, [`BuildError::ShutDown`] after a shutdown. Then nothing
    /// has changed.
    ///
    /// ```
    /// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
    ///
    /// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("cache").max_concurrent_calls(50))?;
    /// bulkhead.resize(20, 40)?;
    /// assert_eq!((bulkhead.max_concurrent_calls(), bulkhead.max_queue_size()), (20, 40));
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn resize(
        &self,
        max_concurrent_calls: usize,
        max_queue_size: usize,
    ) -> Result<(), BuildError> {
        resize(&*self.inner, max_concurrent_calls, max_queue_size)
    }

    /// Gives another queue timeout to calls that set none of their own and are submitted from here on; `None`: they may wait
    /// for ever. Calls that are queued keep theirs.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] for zero, [`BuildError::ShutDown`] after a shutdown. Then nothing has changed.
    ///
    /// ```
    /// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
    /// use std::time::Duration;
    ///
    /// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("search"))?;
    /// bulkhead.set_queue_timeout(Duration::from_millis(200))?;
    /// bulkhead.set_queue_timeout(None)?;
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn set_queue_timeout(&self, limit: impl Into<Option<Duration>>) -> Result<(), BuildError> {
        set_queue_timeout(&self.inner.engine, limit.into())
    }

    /// The same for the caller's own limit, [`execution_timeout`](BulkheadConfig::execution_timeout).
    ///
    /// # Errors
    ///
    /// As [`set_queue_timeout`](Self::set_queue_timeout).
    pub fn set_execution_timeout(
        &self,
        limit: impl Into<Option<Duration>>,
    ) -> Result<(), BuildError> {
        set_execution_timeout(&self.inner.engine, limit.into())
    }

    /// As [`Bulkhead::set_circuit_breaker`](crate::Bulkhead::set_circuit_breaker).
    ///
    /// # Errors
    ///
    /// The same.
    pub fn set_circuit_breaker(&self, config: CircuitBreakerConfig) -> Result<(), BuildError> {
        set_circuit_breaker(&self.inner.engine, config)
    }

    /// As [`Bulkhead::set_health_thresholds`](crate::Bulkhead::set_health_thresholds).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_health_thresholds(&self, thresholds: HealthThresholds) -> Result<(), BuildError> {
        set_health_thresholds(&self.inner.engine, thresholds)
    }

    /// As [`Bulkhead::state`](crate::Bulkhead::state).
    #[must_use]
    pub fn state(&self) -> BulkheadState {
        self.inner.engine.state()
    }

    /// As [`Bulkhead::is_healthy`](crate::Bulkhead::is_healthy).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.inner.engine.is_healthy()
    }

    /// As [`Bulkhead::health`](crate::Bulkhead::health), with slots in place of workers.
    #[must_use]
    pub fn health(&self) -> BulkheadHealth {
        self.inner.engine.health()
    }

    /// How many more calls would be admitted at this moment, of N + Q in all; 0 after a shutdown.
    #[must_use]
    pub fn available_capacity(&self) -> usize {
        self.inner.engine.available_capacity()
    }

    /// The circuit breaker, if the configuration asked for one: to look at it, reset it or open it by hand.
    #[must_use]
    pub fn circuit_breaker(&self) -> Option<&CircuitBreaker> {
        self.inner.engine.breaker.as_ref()
    }

    /// As [`Bulkhead::stats`](crate::Bulkhead::stats), with callers in place of workers.
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        self.inner.engine.stats()
    }

    /// As [`Bulkhead::reset_stats`](crate::Bulkhead::reset_stats).
    pub fn reset_stats(&self) {
        self.inner.engine.reset_stats();
    }

    /// Refuses new calls, lets those that run and those that wait come to their end, and waits for all.
    ///
    /// Called again, or by several threads at once, each call waits for the same end. In one of its own tasks it refuses
    /// new calls and returns at once, since it cannot wait for itself. A circuit that is kept in a storage gets up to two
    /// seconds to store its last change, unless the storage is known not to answer.
    pub fn shutdown(&self) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::UNLIMITED)
    }

    /// As [`shutdown`](Self::shutdown), but when `limit` is over it cancels those that wait, leaves running what runs, and
    /// returns. A limit beyond what the clock can hold means for ever. In one of its own tasks it does not wait, so
    /// nothing is cancelled either.
    pub fn shutdown_timeout(&self, limit: Duration) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::within(limit))
    }

    /// Refuses new calls, cancels those that wait, leaves running what runs, and returns at once.
    pub fn shutdown_now(&self) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::NoWait)
    }

    /// Refuses new calls from here on, and returns at once. Those that run and those that wait for a slot come to their
    /// end. As [`Bulkhead::close`](crate::Bulkhead::close).
    pub fn close(&self) {
        begin_shutdown(&self.inner.engine);
    }

    /// Waits until the bulkhead has ended: somebody has [closed](Self::close) it or shut it down, and no call is left.
    /// `false`: it has not within `limit`. It closes nothing and cancels nothing itself, and in one of its own tasks it only
    /// looks. As [`Bulkhead::wait_closed`](crate::Bulkhead::wait_closed).
    #[must_use = "it says whether the bulkhead has ended"]
    pub fn wait_closed(&self, limit: Duration) -> bool {
        wait_closed(&*self.inner, limit)
    }

    /// Waits for a moment at which no call runs or waits for a slot, while the bulkhead stays open. `false`: there was none
    /// within `limit`. In one of its own tasks it only looks. As [`Bulkhead::wait_idle`](crate::Bulkhead::wait_idle).
    #[must_use = "it says whether there was such a moment"]
    pub fn wait_idle(&self, limit: Duration) -> bool {
        wait_idle(&self.inner.engine, limit)
    }
}

impl SemaphoreBulkhead {
    /// Where it reads the time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.engine.clock
    }

    pub(crate) fn shutdown_target(&self) -> &Inner {
        &self.inner
    }
}

// As for a `Bulkhead`.
impl UnwindSafe for SemaphoreBulkhead {}
impl RefUnwindSafe for SemaphoreBulkhead {}

impl Drop for SemaphoreBulkhead {
    fn drop(&mut self) {
        let limit = if self.inner.engine.is_discarding() {
            // An earlier shutdown has waited as long as it was told to.
            WaitLimit::NoWait
        } else {
            WaitLimit::UNLIMITED
        };
        shut_down(&*self.inner, limit);
    }
}

impl fmt::Debug for SemaphoreBulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.engine.fmt_as("SemaphoreBulkhead", f)
    }
}

impl SemaphoreBulkheadBuilder {
    /// Sets whether callers get slots in the order in which they came. Default: true.
    ///
    /// A fair slot that comes back is handed to the caller that has waited longest, which is asleep as a rule: until it runs,
    /// the slot does nothing. With many callers of short calls that is most of the time. With `false` the slot is free for
    /// whoever comes first, and the longest waiter is woken to try as well. So more calls get through, and some wait longer: a
    /// caller may be overtaken by any number of others until it has been woken in vain four times. Then the next slot is
    /// handed to it.
    ///
    /// The limits N and Q, and all else, hold as before.
    ///
    /// ```
    /// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
    ///
    /// let counters = SemaphoreBulkhead::builder(BulkheadConfig::new("counters").max_concurrent_calls(1))
    ///     .fair(false)
    ///     .build()?;
    /// assert!(counters.run(|| 7).is_success());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn fair(mut self, fair: bool) -> Self {
        self.collaborators.is_fair = fair;
        self
    }

    /// Checks the configuration. No thread is started.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`], see [`BulkheadConfig::validate`]; [`BuildError::CircuitStorage`] if the circuit cannot
    /// be kept in its storage.
    pub fn build(self) -> Result<SemaphoreBulkhead, BuildError> {
        let Self {
            parts,
            collaborators: rules,
        } = self;
        parts.config.validate()?;
        let n = parts.config.max_concurrent_calls;
        let slots = Arc::new(SlotPool::new(n, rules.is_fair));
        // One count stands for all calls: it goes down when the last one has ended after the close.
        let latch = Arc::new(Latch::default());
        latch.count_up();
        let drained = {
            let latch = Arc::clone(&latch);
            move || latch.count_down()
        };
        let look_again = {
            let slots = Arc::clone(&slots);
            move || slots.look_again()
        };
        let oldest = {
            let slots = Arc::clone(&slots);
            move || slots.first_waiter(|call: &WaitingCall| call.admitted_at)
        };
        let hooks = EngineHooks {
            drained: Box::new(drained),
            refuse_queued: Box::new(look_again),
            oldest_queued: Box::new(oldest),
            worker_threads: Box::new(|| 0),
        };
        let engine = Engine::new(parts, latch, hooks)?;
        Ok(SemaphoreBulkhead {
            inner: Arc::new(Inner { engine, slots }),
        })
    }
}
