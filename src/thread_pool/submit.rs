//! One call's own settings.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::circuit::Verdict;
use crate::context::Luggage;
use crate::current::while_holding_a_place;
use crate::error::Rejected;
use crate::failure::{EveryError, FailureClassifier, FailureIf, judged};
use crate::gate::Place;
use crate::handle::ExecutionHandle;
use crate::queue::Job;
use crate::run::Judged;
use crate::shared::Shared;
use crate::task::{Cell, Pending, Work};
use crate::terms::Terms;

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
    terms: Terms,
    classifier: C,
}

impl<'a> Call<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>) -> Self {
        Self {
            shared,
            terms: Terms::new(&shared.config),
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
            terms: self.terms,
            classifier: FailureIf::new(is_failure),
        }
    }
}

impl<C> fmt::Debug for Call<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms.fmt_as("Call", &self.shared.name, f)
    }
}

impl<'a, C> Call<'a, C> {
    /// Names what the call does, for listeners, shutdown reports and the task itself.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.terms.operation = Some(name.into());
        self
    }

    /// Sets how long this call may wait for a worker. Zero is over before a worker can take it.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.terms.queue_timeout = Some(limit);
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
        self.terms.wait_for_capacity = Some(limit);
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
        self.terms.timeout = Some(limit);
        self
    }

    /// Submits the call. As [`Bulkhead::execute`](crate::Bulkhead::execute).
    pub fn execute<T, E, F>(self, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + 'static,
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
        C: FailureClassifier<E> + Send + 'static,
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
        match self.shared.enter(&self.terms) {
            Ok(place) => self.accept(place, f, into_task),
            Err(refusal) => Err(self.shared.reject(refusal, &self.terms, f)),
        }
    }

    /// Asks the circuit, and puts the call into the queue.
    #[inline(never)]
    fn accept<T, E, F, W>(
        self,
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
        let ticket = match shared.ask_the_circuit() {
            Ok(ticket) => ticket,
            Err(refusal) => {
                drop(permit);
                return Err(shared.reject(refusal, &self.terms, f));
            }
        };
        let luggage = self.pack();
        let head = self.terms.into_head(&shared.clock, begun);
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
}
