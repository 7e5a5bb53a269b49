//! The facade of a bulkhead with threads.

use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::handle::ExecutionHandle;
use super::inner::Inner;
use super::queue::Queue;
use super::thread_name::{ThreadNames, names};
use super::threads::Threads;
use super::worker;
use crate::circuit::{CircuitBreaker, CircuitBreakerConfig, Verdict};
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::context::ContextPropagator;
use crate::core::{
    BulkheadBuilder, Call, Engine, EngineHooks, ShutdownReport, ThreadPoolKind, WaitLimit,
    begin_shutdown, resize, set_circuit_breaker, set_execution_timeout, set_health_thresholds,
    set_queue_timeout, shut_down, wait_closed, wait_idle,
};
use crate::error::{BuildError, Rejected};
use crate::result::ExecutionResult;
use crate::stats::{BulkheadHealth, BulkheadState, BulkheadStats, HealthThresholds};
use crate::sync::{Latch, Mutex, Padded};

/// A fixed pool of worker threads behind a bounded queue, for one dependency.
///
/// At most N calls run and Q wait; one more is refused at once. So a dependency that hangs takes its own
/// N threads and nothing else. Share it as `Arc<Bulkhead>`. Where tasks are short or cannot hang, a
/// [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) does without threads.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(
///     BulkheadConfig::new("inventory")
///         .max_concurrent_calls(4)
///         .max_queue_size(16)
///         .queue_timeout(Duration::from_millis(500)),
/// )?;
///
/// let result = bulkhead.execute(|| std::fs::read_to_string("/no/such/file")).wait();
/// match result.into_result() {
///     Ok(text) => println!("{text}"),
///     Err(BulkheadError::Failed(error)) => println!("the task's own error: {error}"),
///     Err(error) if error.never_started() => println!("safe to send elsewhere: {error}"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// Workers take calls in the order in which they came into the queue. There are two exceptions. A call that a task waits
/// for may be run by the worker of that task at once. And while the entries of cancelled calls are cleared out of the
/// queue, or a worker leaves after a [`resize`](Self::resize) to fewer, a worker that is just reaching for a call may get one
/// that is not the oldest. A call can be overtaken so once by each worker, however many calls are cancelled.
///
/// # What dropping it does
///
/// The same as [`shutdown`](Self::shutdown): it refuses new calls, runs what is queued, and joins the
/// workers. So a scope that owns a bulkhead ends when its work is done. A task that hangs makes that wait
/// hang; where that may happen, call [`shutdown_timeout`](Self::shutdown_timeout) first: once that, or
/// [`shutdown_now`](Self::shutdown_now), has given up on something that runs, dropping does not wait for it again.
/// Dropped on one of its own workers it does not wait either. The workers then end by themselves.
///
/// # At the end of the process
///
/// When `main` returns, or somebody calls [`std::process::exit`], the system ends all threads, wherever their tasks are.
///
/// * A bulkhead that `main` owns is dropped when `main` returns, also by a panic that unwinds. So its queue is worked off
///   first. `exit` drops nothing.
/// * A bulkhead in an `Arc` is dropped with the last reference. If another thread holds one, `main` does not wait.
/// * A bulkhead in a `static` is never dropped. A call that is queued or runs at the end of `main` is lost, unless
///   `main` shuts the bulkhead down:
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::LazyLock;
/// use std::time::Duration;
///
/// static MAIL: LazyLock<Bulkhead> = LazyLock::new(|| {
///     Bulkhead::new(BulkheadConfig::new("mail")).expect("a valid configuration, and threads")
/// });
///
/// fn main() {
///     drop(MAIL.run(|| println!("sent")));
///     // Without this, the mail may never go out.
///     let report = MAIL.shutdown_timeout(Duration::from_secs(10));
///     if !report.is_clean() {
///         eprintln!("not all mail was sent: {report:?}");
///     }
/// }
/// ```
///
/// # Panics in user code
///
/// A panic in a task is the call's outcome, [`Panicked`](crate::BulkheadError::Panicked). Panics in what a
/// worker or a shutdown drops (closures, results, payloads), in listeners, hooks, propagators and wakers
/// are caught and logged. Only a `Drop` that panics while its own thread already unwinds cannot be
/// contained: Rust then aborts the process. With `panic = "abort"` nothing can be contained.
pub struct Bulkhead {
    inner: Arc<Inner>,
}

impl Bulkhead {
    /// Checks the configuration and starts N worker threads, which stay until the bulkhead ends.
    ///
    /// A worker is called `bulkman-NAME-i`, with i from 0. Linux keeps 15 bytes of a thread's name, so a longer one loses the
    /// prefix, and then the middle of NAME: the workers of `payments-eu-west-1` are called `paymen~west-1-i`. Other names
    /// come from [`worker_name`](BulkheadBuilder::worker_name).
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] before any thread starts, see [`BulkheadConfig::validate`];
    /// [`BuildError::QueueMemory`] if the system refuses the memory of the queue;
    /// [`BuildError::ThreadStart`] if it refuses a thread, after those that had started have ended.
    pub fn new(config: BulkheadConfig) -> Result<Self, BuildError> {
        Self::builder(config).build()
    }

    /// For a bulkhead with collaborators: listeners, context propagators, worker hooks, a clock.
    pub fn builder(config: BulkheadConfig) -> BulkheadBuilder {
        BulkheadBuilder::new(config)
    }

    /// Submits a task that may fail. Never blocks: if the bulkhead is full, shut down, or its circuit
    /// open, the handle is already resolved and says so. The closure is then dropped; see
    /// [`try_execute`](Self::try_execute) to get it back.
    pub fn execute<T, E, F>(&self, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call().execute(f)
    }

    /// Submits a task that cannot fail by itself. As [`execute`](Self::execute) otherwise.
    pub fn run<T, F>(&self, f: F) -> ExecutionHandle<T, Infallible>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.call().run(f)
    }

    /// Submits a task, or gives the closure back untouched.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure. Nothing was allocated and no lock was waited for.
    #[inline]
    pub fn try_execute<T, E, F>(&self, f: F) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call().try_execute(f)
    }

    /// Submits a task that cannot fail by itself, or gives the closure back untouched.
    ///
    /// # Errors
    ///
    /// As [`try_execute`](Self::try_execute).
    #[inline]
    pub fn try_run<T, F>(&self, f: F) -> Result<ExecutionHandle<T, Infallible>, Rejected<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.call().try_run(f)
    }

    /// Submits a task and waits for it, at the longest for `limit` over queue and run together.
    ///
    /// Then the result is [`Timeout`](crate::BulkheadError::Timeout). A task that has not started by then
    /// never will; one that runs is asked to stop
    /// ([`is_cancelled`](crate::CurrentExecution::is_cancelled)), and keeps its worker until it ends. (On one
    /// of its own workers the wait can take longer, see [`ExecutionHandle`].)
    pub fn execute_with_timeout<T, E, F>(&self, limit: Duration, f: F) -> ExecutionResult<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.call().timeout(limit).execute(f).wait()
    }

    /// Begins a call with settings of its own.
    #[inline]
    pub fn call(&self) -> Call<'_, ThreadPoolKind> {
        Call::new(&self.inner)
    }

    /// The decorator: a reusable closure that sends each call of `f` through the bulkhead and waits for it.
    /// Several arguments go in as a tuple. With limits or a name of its own it comes from [`Call::wrap`].
    ///
    /// It may outlive the bulkhead, and then gives [`ShutDown`](crate::BulkheadError::ShutDown).
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("prices"))?;
    /// let price = bulkhead.wrap(|(item, count): (&'static str, u32)| match item {
    ///     "tea" => Ok(3 * count),
    ///     other => Err(format!("no {other} here")),
    /// });
    /// assert_eq!(price(("tea", 2)).value(), Some(&6));
    /// assert!(price(("coffee", 1)).error().is_some());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn wrap<A, T, E, F>(
        &self,
        f: F,
    ) -> impl Fn(A) -> ExecutionResult<T, E> + Clone + Send + Sync + use<A, T, E, F>
    where
        F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
        A: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
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
    /// admitted; none is lost.
    ///
    /// * **More**: the new workers start, or with an [idle timeout](BulkheadConfig::idle_timeout) those of them that there
    ///   is work for. The new places are free at once, also for callers that [wait for one](Call::wait_for_capacity).
    /// * **Fewer workers**: those without work leave at once, and the others when their tasks have ended, until there are N. Until
    ///   then more than N calls may run. A call that is submitted after this has returned starts only when fewer than N run.
    /// * **Fewer places**: if more calls are there than N + Q, nobody is admitted until there is room.
    ///
    /// Several threads may call it; the last one holds. The queue keeps the memory that it once had. Listeners hear
    /// [`Resized`](crate::BulkheadEvent::Resized).
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] for limits that are out of range, [`BuildError::QueueMemory`] and
    /// [`BuildError::ThreadStart`] if the system refuses what more calls need, and [`BuildError::ShutDown`] after a shutdown.
    /// Then the limits are the old ones, and all calls go on.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("reports").max_concurrent_calls(2))?;
    /// bulkhead.resize(8, 200)?;
    /// assert_eq!(bulkhead.max_concurrent_calls(), 8);
    /// assert_eq!(bulkhead.available_capacity(), 208);
    /// assert!(bulkhead.resize(0, 200).is_err());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn resize(
        &self,
        max_concurrent_calls: usize,
        max_queue_size: usize,
    ) -> Result<(), BuildError> {
        BulkheadConfig::check_limits(max_concurrent_calls, max_queue_size)
            .map_err(|error| error.of(self.name()))?;
        self.name_workers(max_concurrent_calls)?;
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
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::time::Duration;
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("search"))?;
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

    /// Sees to the names of so many workers. It may ask the function that chooses them, and so it holds no lock meanwhile.
    fn name_workers(&self, workers: usize) -> Result<(), BuildError> {
        let first = self.inner.threads.lock().names().len();
        if workers <= first {
            return Ok(());
        }
        let more = match &self.inner.collaborators.worker_name {
            Some(choose) => names(self.name(), first..workers, choose)?,
            None => Vec::new(),
        };
        self.inner
            .threads
            .lock()
            .names()
            .extend(workers, first, more);
        Ok(())
    }

    /// Gives the circuit breaker other rules while the bulkhead works, and returns at once. No call is lost, and the state of
    /// the circuit stays. [`CircuitBreaker::set_config`] says what else stays.
    ///
    /// The new rules hold from then on, also for calls that are queued or run. So
    /// [`refuse_queued_when_open`](CircuitBreakerConfig::refuse_queued_when_open) is what it is when the circuit opens, and
    /// [`timeouts_are_failures`](CircuitBreakerConfig::timeouts_are_failures) what it is when the caller leaves, or else the
    /// task ends. If the circuit is open already, calls in the queue hear of the change at their turn.
    ///
    /// A circuit breaker cannot be added or taken away. [`set_mode`](CircuitBreaker::set_mode) with
    /// [`Disabled`](crate::CircuitMode::Disabled) turns it off.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoCircuitBreaker`] if the bulkhead was built without one, [`BuildError::ShutDown`] after a shutdown, and
    /// [`BuildError::InvalidValue`] for rules that are out of range. Then nothing has changed.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};
    /// use std::time::Duration;
    ///
    /// let rules = CircuitBreakerConfig::default();
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("prices").circuit_breaker(rules.clone()))?;
    /// bulkhead.set_circuit_breaker(rules.failure_threshold(3).isolation_duration(Duration::from_secs(5)))?;
    /// let breaker = bulkhead.circuit_breaker().expect("it was built with one");
    /// assert_eq!(breaker.config().failure_threshold, 3);
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn set_circuit_breaker(&self, config: CircuitBreakerConfig) -> Result<(), BuildError> {
        set_circuit_breaker(&self.inner.engine, config)
    }

    /// Lets other thresholds decide whether it is well, from the next [`health`](Self::health) on. How full the queue has been, and
    /// how many calls have been refused, counts from now on where their thresholds change.
    ///
    /// # Errors
    ///
    /// As [`HealthThresholds::validate`], and [`BuildError::ShutDown`] after a shutdown. Then nothing has changed.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, HealthThresholds};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("search"))?;
    /// bulkhead.set_health_thresholds(HealthThresholds::default().abandoned_tasks(3))?;
    /// assert!(bulkhead.health().is_healthy());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn set_health_thresholds(&self, thresholds: HealthThresholds) -> Result<(), BuildError> {
        set_health_thresholds(&self.inner.engine, thresholds)
    }

    /// How it is doing, by its circuit breaker and whether it is shut down. Being full is no state: see
    /// [`available_capacity`](Self::available_capacity).
    #[must_use]
    pub fn state(&self) -> BulkheadState {
        self.inner.engine.state()
    }

    /// Whether it lets calls through to the dependency: [`Healthy`](BulkheadState::Healthy) or
    /// [`Degraded`](BulkheadState::Degraded).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.inner.engine.is_healthy()
    }

    /// Whether it is well, by its state and by its [thresholds](crate::HealthThresholds), and if not, why. For readiness probes
    /// and alerts.
    ///
    /// It reads the counters of N workers, and no distributions; calls are not slowed down. Without thresholds it looks at
    /// the state alone.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, HealthReason};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("reports"))?;
    /// assert!(bulkhead.health().is_healthy());
    /// bulkhead.shutdown();
    /// let health = bulkhead.health();
    /// assert_eq!(health.reasons, [HealthReason::ShutDown]);
    /// assert_eq!(health.to_string(), "bulkhead `reports` is unhealthy: it is shut down");
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
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

    /// All numbers, exact and balanced, at any load. It reads N sets of counters and a few kilobytes for
    /// each worker's distributions; calls are not slowed down.
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        self.inner.engine.stats()
    }

    /// Starts all counters and distributions anew. Calls in flight count as submitted again; of those that end at
    /// this very moment the distributions may know one more or less than the counters.
    pub fn reset_stats(&self) {
        self.inner.engine.reset_stats();
    }

    /// Refuses new calls, runs what is queued, and waits until all workers are gone. (A thread that has cancelled a
    /// call, or let it expire, may at that moment still be dropping its closure.)
    ///
    /// Called again, or by several threads at once, each call waits for the same end. On one of its own
    /// workers it refuses new calls and returns at once, since it cannot wait for itself; the queue is
    /// still worked off.
    ///
    /// A circuit that is kept in a storage gets up to two seconds to store its last change, unless the storage is known
    /// not to answer.
    pub fn shutdown(&self) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::UNLIMITED)
    }

    /// As [`shutdown`](Self::shutdown), but when `limit` is over it cancels what is queued, leaves running
    /// what runs, and returns. If the workers end within the limit, it does not wait for their thread-local values to
    /// be dropped. A limit beyond what the clock can hold means for ever. On one of its own workers it does not
    /// wait, so nothing is cancelled either.
    pub fn shutdown_timeout(&self, limit: Duration) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::within(limit))
    }

    /// Refuses new calls, cancels what is queued, leaves running what runs, and returns at once.
    pub fn shutdown_now(&self) -> ShutdownReport {
        shut_down(&*self.inner, WaitLimit::NoWait)
    }

    /// Refuses new calls from here on, and returns at once. Queued calls still run, and the workers end after the last
    /// call. Java calls this `shutdown()`, and Python `shutdown(wait=False)`.
    ///
    /// Any form of shutdown may follow, and does what it says with the calls that are left; its report counts from then
    /// on. So does dropping the bulkhead, which waits for them. A second `close` does nothing.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::time::Duration;
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("thumbnails"))?;
    /// let last = bulkhead.run(|| "drawn");
    /// bulkhead.close();
    /// assert!(bulkhead.try_run(|| "one more").is_err());
    /// if !bulkhead.wait_closed(Duration::from_secs(5)) {
    ///     println!("still drawing; {}", bulkhead.stats());
    /// }
    /// assert_eq!(last.wait().into_result()?, "drawn");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        begin_shutdown(&self.inner.engine);
    }

    /// Waits until the bulkhead has ended: somebody has [closed](Self::close) it or shut it down, no call is left, and the
    /// workers have ended. `false`: it has not within `limit`. It closes nothing and cancels nothing itself.
    ///
    /// While nobody has closed the bulkhead, it waits for that too. Any number of threads may wait. A limit of zero only
    /// looks; one beyond what the clock can hold means for ever, and then the threads are joined, as by
    /// [`shutdown`](Self::shutdown). On one of its own workers it only looks, since it would wait for itself. A task of
    /// another bulkhead may wait, if no call of this one waits for that task in turn.
    ///
    /// A circuit that is kept in a storage gets what is left of the limit, but at most two seconds, to store its last
    /// change.
    #[must_use = "it says whether the bulkhead has ended"]
    pub fn wait_closed(&self, limit: Duration) -> bool {
        wait_closed(&*self.inner, limit)
    }

    /// Waits for a moment at which no call is queued or running, while the bulkhead stays open: as `join` of the crate
    /// threadpool. `false`: there was none within `limit`.
    ///
    /// When it returns `true`, all calls that were submitted before it have ended, and what their tasks did can be seen.
    /// Other threads may have submitted more since. If they do so all the time, there may never be such a moment. A caller
    /// that [waits for a place](Call::wait_for_capacity) has no call yet.
    ///
    /// Any number of threads may wait. A limit of zero only looks; one beyond what the clock can hold means for ever. On one
    /// of its own workers, and in a thread that holds one of its places, it only looks.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::time::Duration;
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("mail"))?;
    /// let sent = Arc::new(AtomicU32::new(0));
    /// for _ in 0..3 {
    ///     let sent = Arc::clone(&sent);
    ///     drop(bulkhead.run(move || sent.fetch_add(1, Ordering::Relaxed)));
    /// }
    /// assert!(bulkhead.wait_idle(Duration::from_secs(5)));
    /// assert_eq!(sent.load(Ordering::Relaxed), 3);
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    #[must_use = "it says whether there was such a moment"]
    pub fn wait_idle(&self, limit: Duration) -> bool {
        wait_idle(&self.inner.engine, limit)
    }
}

impl Bulkhead {
    /// Where it reads the time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.engine.clock
    }

    pub(crate) fn shutdown_target(&self) -> &Inner {
        &self.inner
    }
}

// A panic that passes through leaves nothing half-done: there is no user code under a lock.
impl UnwindSafe for Bulkhead {}
impl RefUnwindSafe for Bulkhead {}

impl Drop for Bulkhead {
    fn drop(&mut self) {
        if self.inner.engine.is_discarding() {
            // An earlier shutdown has waited as long as it was told to.
            self.shutdown_now();
        } else {
            self.shutdown();
        }
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.engine.fmt_as("Bulkhead", f)
    }
}

/// A bulkhead with threads has more collaborators.
impl BulkheadBuilder {
    /// Adds a propagator, or a closure that is one: see [`ContextPropagator`]. They attach in the order in which they were
    /// added, and detach in reverse.
    pub fn context_propagator(mut self, propagator: impl ContextPropagator + 'static) -> Self {
        self.collaborators.propagators.push(Box::new(propagator));
        self
    }

    /// Says what errors of type `E` count as for the circuit, in every call that does not say so itself. Once for each type
    /// of error; of two for one type the later holds. Otherwise as [`Call::classify`].
    ///
    /// The calls of a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) have errors that may borrow, and Rust can tell no such
    /// types apart while the program runs. So there each call says it, or a [wrapped](crate::SemaphoreCall::wrap) function,
    /// or a [`SemaphoreCall`](crate::SemaphoreCall) that is cloned for each call.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig, Verdict};
    /// use std::io::{self, ErrorKind};
    ///
    /// let circuit = CircuitBreakerConfig::default().failure_threshold(1);
    /// let bulkhead = Bulkhead::builder(BulkheadConfig::new("files").circuit_breaker(circuit))
    ///     .classify(|error: &io::Error| match error.kind() {
    ///         ErrorKind::NotFound => Verdict::Success, // the disk did answer
    ///         _ => Verdict::Failure,
    ///     })
    ///     .build()?;
    /// let result = bulkhead.execute(|| std::fs::read("/no/such/file")).wait();
    /// assert!(!result.is_success() && bulkhead.is_healthy());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn classify<E: 'static>(
        mut self,
        classify: impl Fn(&E) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        self.parts.classifiers.insert(classify);
        self
    }

    /// Lets only those errors of type `E` count against the circuit for which `is_failure` says so. Otherwise as
    /// [`classify`](Self::classify) and [`Call::failure_if`].
    pub fn failure_if<E: 'static>(
        self,
        is_failure: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.classify(move |error: &E| Verdict::failure_if(is_failure(error)))
    }

    /// Runs `hook` first on each worker thread, with the worker's index, from 0 to N - 1: to set up a thread-local connection,
    /// an affinity or a priority. A panic in it is contained and logged.
    ///
    /// A worker that leaves, after a [`resize`](Bulkhead::resize) or an [idle timeout](BulkheadConfig::idle_timeout), gives its
    /// index back after its stop hooks. So there are never two workers of one index.
    pub fn on_worker_start(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.collaborators.on_worker_start.push(Box::new(hook));
        self
    }

    /// Runs `hook` last on each worker thread, with the worker's index from 0. A panic in it is contained and logged.
    pub fn on_worker_stop(mut self, hook: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.collaborators.on_worker_stop.push(Box::new(hook));
        self
    }

    /// Names the worker threads: `name` gets the worker's index, from 0. The default is described at [`Bulkhead::new`].
    ///
    /// The standard library knows the whole name, for instance in the message of a panic. Linux keeps its first 15 bytes.
    /// `name` is called N times by [`build`](Self::build), in the calling thread, before a worker starts; and by
    /// [`resize`](Bulkhead::resize) for workers that are new. A name that is blank
    /// or has control characters is an error, and so is a panic. Called again, the last one holds.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let bulkhead = Bulkhead::builder(BulkheadConfig::new("payments-eu-west-1"))
    ///     .worker_name(|index| format!("pay-euw1-{index}"))
    ///     .build()?;
    /// let name = bulkhead.run(|| std::thread::current().name().map(String::from)).wait();
    /// assert!(name.into_result()?.is_some_and(|name| name.starts_with("pay-euw1-")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn worker_name(mut self, name: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        self.collaborators.worker_name = Some(Box::new(name));
        self
    }

    /// Checks the configuration and starts the workers.
    ///
    /// # Errors
    ///
    /// As [`Bulkhead::new`]; [`BuildError::InvalidValue`] for a [`worker_name`](Self::worker_name); and [`BuildError::CircuitStorage`] if the circuit cannot be kept in its storage.
    pub fn build(self) -> Result<Bulkhead, BuildError> {
        let Self {
            parts,
            collaborators,
        } = self;
        parts.config.validate()?;
        let workers = parts.config.max_concurrent_calls;
        let choose = collaborators.worker_name.as_ref();
        let names = ThreadNames::new(&parts.config.name, workers, choose)?;
        let latch = Arc::default();
        let queue = queue(&parts.config, Arc::clone(&latch))?;
        let hooks = EngineHooks {
            drained: Box::new(queue.stopper()),
            refuse_queued: Box::new(queue.refuser()),
            oldest_queued: Box::new(queue.oldest()),
            worker_threads: Box::new(queue.worker_count()),
        };
        let engine = Engine::new(parts, latch, hooks)?;
        let inner = Arc::new(Inner {
            engine,
            queue,
            collaborators,
            spin: Padded::default(),
            threads: Mutex::new(Threads::new(names)),
        });
        worker::prepare(&inner);
        worker::start_all(&inner)?;
        Ok(Bulkhead { inner })
    }
}

fn queue(config: &BulkheadConfig, latch: Arc<Latch>) -> Result<Queue, BuildError> {
    let (workers, waiting) = (config.max_concurrent_calls, config.max_queue_size);
    let queue = Queue::new(workers + waiting, workers, config.idle_timeout, latch);
    queue.map_err(|source| BuildError::QueueMemory {
        bulkhead: config.name.clone(),
        max_queue_size: waiting,
        source,
    })
}
