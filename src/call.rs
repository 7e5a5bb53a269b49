//! One call's own settings.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circuit::{Ticket, Verdict};
use crate::clock::{Limit, after, earlier};
use crate::context::Luggage;
use crate::current::{ThisBulkhead, ThisThread, while_holding_a_place};
use crate::error::{RejectReason, Rejected};
use crate::handle::{ExecutionHandle, new_execution_id};
use crate::listener::BulkheadEvent;
use crate::panics::contain;
use crate::permit::{Denied, Permit};
use crate::queue::{Head, Job};
use crate::shared::Shared;
use crate::sync::AtomicBool;
use crate::task::{Cell, Judged, Pending, Work};

/// One call with settings of its own, over the configured ones. From [`Bulkhead::call`](crate::Bulkhead::call).
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::io;
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("users"))?;
/// let name = bulkhead
///     .call()
///     .operation("get_user")
///     .wait_for_capacity(Duration::from_millis(50)) // rather than fail fast
///     .timeout(Duration::from_secs(1))              // queue and run together
///     .failure_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound)
///     .execute(|| Ok("Ada"))
///     .wait()
///     .into_result()?;
/// assert_eq!(name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until `execute`, `run` or `try_execute`"]
pub struct Call<'a, C = EveryError> {
    shared: &'a Arc<Shared>,
    operation: Option<Cow<'static, str>>,
    queue_timeout: Option<Duration>,
    wait_for_capacity: Option<Duration>,
    timeout: Option<Duration>,
    classifier: C,
}

/// Decides which of a task's errors count against the circuit.
///
/// [`EveryError`] is the default; [`Call::failure_if`] sets another.
pub trait FailureClassifier<E>: Send + 'static {
    /// Whether this error says that the dependency is in trouble.
    fn is_failure(&self, error: &E) -> bool;
}

/// Each `Err` of a task counts as a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryError;

impl<E> FailureClassifier<E> for EveryError {
    fn is_failure(&self, _: &E) -> bool {
        true
    }
}

/// Those errors count for which the closure says so, see [`Call::failure_if`].
#[derive(Clone, Copy)]
pub struct FailureIf<P>(P);

impl<P> fmt::Debug for FailureIf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailureIf").finish_non_exhaustive()
    }
}

impl<E, P: Fn(&E) -> bool + Send + 'static> FailureClassifier<E> for FailureIf<P> {
    fn is_failure(&self, error: &E) -> bool {
        (self.0)(error)
    }
}

impl<'a> Call<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>) -> Self {
        Self {
            shared,
            operation: None,
            queue_timeout: shared.config.queue_timeout,
            wait_for_capacity: None,
            timeout: shared.config.execution_timeout,
            classifier: EveryError,
        }
    }

    /// Lets only those errors count against the circuit for which `is_failure` says so. The others
    /// count as successes: the dependency did answer. A panic is always a failure.
    ///
    /// The ledger is not concerned: each `Err` is a failed execution there. If `is_failure` panics, the
    /// error counts as a failure.
    pub fn failure_if<E, P>(self, is_failure: P) -> Call<'a, FailureIf<P>>
    where
        P: Fn(&E) -> bool + Send + 'static,
    {
        Call {
            shared: self.shared,
            operation: self.operation,
            queue_timeout: self.queue_timeout,
            wait_for_capacity: self.wait_for_capacity,
            timeout: self.timeout,
            classifier: FailureIf(is_failure),
        }
    }
}

impl<C> fmt::Debug for Call<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("bulkhead", &self.shared.name)
            .field("operation", &self.operation)
            .field("queue_timeout", &self.queue_timeout)
            .field("wait_for_capacity", &self.wait_for_capacity)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<'a, C> Call<'a, C> {
    /// Names what the call does, for listeners, shutdown reports and the task itself.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.operation = Some(name.into());
        self
    }

    /// Sets how long this call may wait for a worker. Zero is over before a worker can take it.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.queue_timeout = Some(limit);
        self
    }

    /// If the bulkhead is full, waits up to `limit` for a place instead of failing fast, in no
    /// particular order with other callers. Without one the call is refused as
    /// [`Full`](crate::BulkheadError::Full), also if its [`timeout`](Self::timeout) passed first, towards which this
    /// time counts. It does not count as time in the queue.
    ///
    /// On a worker of the same bulkhead it does not wait, since the place that it waited for might be
    /// its own; nor does it in a context propagator of it, which holds a place too.
    pub fn wait_for_capacity(mut self, limit: Duration) -> Self {
        self.wait_for_capacity = Some(limit);
        self
    }

    /// Sets how long the caller waits in all: for a place, in the queue and while the task runs. Then the
    /// wait ends with [`Timeout`](crate::BulkheadError::Timeout), or, if it was still for a place, with
    /// [`Full`](crate::BulkheadError::Full). A task that has not started by then
    /// never will; one that runs is asked to stop, and keeps its worker until it ends.
    ///
    /// (An `.await` ends then only if something polls it; give the executor's own timer a
    /// [`cancel_on_drop`](ExecutionHandle::cancel_on_drop) handle to end at the limit.)
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Submits the call. As [`Bulkhead::execute`](crate::Bulkhead::execute).
    pub fn execute<T, E, F>(self, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E>,
    {
        self.try_execute(f)
            .unwrap_or_else(|rejected| ExecutionHandle::refused(rejected.reason))
    }

    /// Submits a call that cannot fail by itself. As [`Bulkhead::run`](crate::Bulkhead::run).
    pub fn run<T, F>(self, f: F) -> ExecutionHandle<T, Infallible>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.try_run(f)
            .unwrap_or_else(|rejected| ExecutionHandle::refused(rejected.reason))
    }

    /// Submits the call, or gives the closure back. As
    /// [`Bulkhead::try_execute`](crate::Bulkhead::try_execute).
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    #[inline]
    pub fn try_execute<T, E, F>(self, f: F) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E>,
    {
        let has_breaker = self.shared.breaker.is_some();
        self.submit(f, |f, classifier| judged(f, classifier, has_breaker))
    }

    /// Submits a call that cannot fail by itself, or gives the closure back. As
    /// [`Bulkhead::try_run`](crate::Bulkhead::try_run).
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    #[inline]
    pub fn try_run<T, F>(self, f: F) -> Result<ExecutionHandle<T, Infallible>, Rejected<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit(f, |f, _| move || (Ok(f()), Verdict::Success))
    }

    /// Decides: shut down, capacity, circuit, in this order, so that a call refused as full never uses up a probe.
    ///
    /// The first two are part of the caller's own code and the rest is not, so that a call refused by them touches
    /// nothing but what decides. Nothing is allocated for a refusal.
    #[inline]
    fn submit<T, E, F, W>(
        self,
        f: F,
        into_task: impl FnOnce(F, C) -> W,
    ) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        W: FnOnce() -> Judged<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.enter() {
            Ok(place) => self.accept(place, f, into_task),
            Err(refusal) => Err(self.reject(refusal, f)),
        }
    }

    /// What the caller gets back, after the listeners have heard of it.
    #[inline(always)]
    fn reject<F>(&self, refusal: Refusal, task: F) -> Rejected<F> {
        if !self.shared.listeners.is_empty() {
            self.tell_rejected(refusal);
        }
        // Put together where the caller wants to have it: moved, it would be the dearest part of a refusal.
        let reason = self.reason(refusal);
        Rejected { reason, task }
    }

    fn tell_rejected(&self, refusal: Refusal) {
        let reason = self.reason(refusal);
        self.shared.tell(|| BulkheadEvent::Rejected {
            reason: &reason,
            operation: self.operation.as_deref(),
        });
    }

    #[inline(always)]
    fn reason(&self, refusal: Refusal) -> RejectReason {
        let shared = self.shared;
        let bulkhead = Arc::clone(&shared.name);
        match refusal {
            Refusal::Full { waited } => RejectReason::Full {
                bulkhead,
                max_concurrent_calls: shared.config.max_concurrent_calls,
                max_queue_size: shared.config.max_queue_size,
                waited,
            },
            Refusal::CircuitOpen { retry_after } => RejectReason::CircuitOpen {
                bulkhead,
                retry_after,
            },
            Refusal::ShutDown => RejectReason::ShutDown { bulkhead },
        }
    }

    /// Takes a place; with it the time since when this call has waited for one, if it did.
    #[inline(always)]
    fn enter(&self) -> Result<Place<'a>, Refusal> {
        let shared = self.shared;
        let (permit, begun) = match self.wait_for_capacity {
            None => (shared.admission.try_acquire(), None),
            Some(limit) => self.wait_for_a_place(limit),
        };
        match permit {
            Ok(permit) => Ok(Place { permit, begun }),
            Err(Denied::Closed) => {
                shared.ledger.shared.reject_shut_down();
                Err(Refusal::ShutDown)
            }
            Err(Denied::Full) => {
                shared.ledger.shared.reject_full();
                Err(Refusal::Full {
                    waited: begun.map(|begun| shared.clock.now() - begun),
                })
            }
        }
    }

    fn wait_for_a_place(&self, limit: Duration) -> (Result<Permit<'a>, Denied>, Option<Instant>) {
        let shared = self.shared;
        let begun = shared.clock.now();
        let permit = if shared.this_thread() == ThisThread::Outsider {
            let in_all = self.timeout.and_then(|limit| after(begun, limit));
            let until = earlier(after(begun, limit), in_all);
            shared.admission.acquire(&shared.clock, until)
        } else {
            shared.admission.try_acquire()
        };
        (permit, Some(begun))
    }

    /// Asks the circuit, and puts the call into the queue.
    #[inline(never)]
    fn accept<T, E, F, W>(
        mut self,
        Place { permit, begun }: Place<'a>,
        f: F,
        into_task: impl FnOnce(F, C) -> W,
    ) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        W: FnOnce() -> Judged<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = self.shared;
        let ticket = match self.ask_the_circuit() {
            Ok(ticket) => ticket,
            Err(refusal) => {
                drop(permit);
                return Err(self.reject(refusal, f));
            }
        };
        let luggage = self.pack();
        let head = self.head(begun);
        let work = Work {
            task: into_task(f, self.classifier),
            luggage,
            ticket,
        };
        let cell = Arc::new(Cell::new(head, Arc::clone(shared), work));
        permit.park();
        shared.queue.push(Arc::clone(&cell) as Arc<dyn Job>);
        if shared.is_discarding() {
            // Too late for the shutdown that emptied the queue, and there may be no worker to come.
            cell.cancel_late();
        }
        Ok(ExecutionHandle::live(cell as Arc<dyn Pending<T, E>>))
    }

    fn ask_the_circuit(&self) -> Result<Option<Ticket>, Refusal> {
        let shared = self.shared;
        let Some(breaker) = &shared.breaker else {
            return Ok(None);
        };
        // Listeners of the circuit: this thread holds a place while they run.
        match while_holding_a_place(shared.serial, || breaker.admit()) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(retry_after) => {
                // Counted before the permit goes, as every end of an admitted call.
                shared.ledger.shared.reject_circuit_open();
                Err(Refusal::CircuitOpen { retry_after })
            }
        }
    }

    fn pack(&self) -> Luggage {
        let shared = self.shared;
        if shared.propagators.is_empty() {
            return Luggage::default();
        }
        // This thread holds a place while propagators run.
        while_holding_a_place(shared.serial, || {
            Luggage::pack(&shared.name, &shared.propagators)
        })
    }

    fn head(&mut self, begun: Option<Instant>) -> Head {
        let admitted_at = self.shared.clock.now();
        Head {
            execution_id: new_execution_id(),
            operation: self.operation.take(),
            admitted_at,
            queue_timeout: Limit::new(self.queue_timeout),
            timeout: Limit::new(self.timeout),
            timeout_left: Limit::new(self.timeout.map(|limit| match begun {
                Some(begun) => limit.saturating_sub(admitted_at - begun),
                None => limit,
            })),
            cancel_requested: AtomicBool::new(false),
        }
    }
}

/// A refusal that is decided and counted, and not yet put into words: small, since it is on the way of every
/// refused call.
#[derive(Clone, Copy)]
enum Refusal {
    Full { waited: Option<Duration> },
    CircuitOpen { retry_after: Duration },
    ShutDown,
}

/// A place taken, for a call that is not yet made.
struct Place<'a> {
    permit: Permit<'a>,
    /// Since when the call had waited for it, if it did.
    begun: Option<Instant>,
}

/// The task together with what the circuit breaker is to make of its result.
fn judged<T, E>(
    f: impl FnOnce() -> Result<T, E>,
    classifier: impl FailureClassifier<E>,
    has_breaker: bool,
) -> impl FnOnce() -> Judged<T, E> {
    move || {
        let result = f();
        let verdict = match &result {
            Err(error) if has_breaker => {
                match contain(ThisBulkhead, "a failure classifier", || {
                    classifier.is_failure(error)
                }) {
                    Some(false) => Verdict::Success,
                    _ => Verdict::Failure,
                }
            }
            _ => Verdict::Success,
        };
        (result, verdict)
    }
}
