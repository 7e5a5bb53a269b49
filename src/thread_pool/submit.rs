//! A call on its way into the queue of a thread pool.

use std::convert::Infallible;
use std::sync::Arc;

use super::call_lifecycle::{Pending, TaskCell, Work};
use super::handle::ExecutionHandle;
use super::inner::Inner;
use crate::circuit::Verdict;
use crate::context::CapturedContexts;
use crate::core::{
    Admitted, Call, Engine, EveryError, FailureClassifier, Job, JudgedResult, ThreadPoolKind,
    admit, admit_if_room, check_circuit, judge, reject, tell_admitted, while_holding_permit,
};
use crate::error::Rejected;
use crate::result::ExecutionResult;

/// A call on a worker thread.
impl<C> Call<'_, ThreadPoolKind, C> {
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
        self.submit(f, |f, classifier| {
            move |engine: &Engine| {
                judge(engine, f, |error| {
                    engine.classifiers.classify(&classifier, error)
                })
            }
        })
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
        self.submit(f, |f, _| move |_: &Engine| (Ok(f()), Verdict::Success))
    }

    /// A reusable closure that makes each call of `f` with these settings and waits for it. Otherwise as
    /// [`Bulkhead::wrap`](crate::Bulkhead::wrap).
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::io;
    /// use std::time::Duration;
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("files"))?;
    /// let read = bulkhead
    ///     .call()
    ///     .operation("read")
    ///     .timeout(Duration::from_secs(5))
    ///     .failure_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound)
    ///     .wrap(|path: &'static str| std::fs::read_to_string(path));
    /// assert!(read("/no/such/file").error().is_some());
    /// assert!(read("Cargo.toml").is_success());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn wrap<A, T, E, F>(
        self,
        f: F,
    ) -> impl Fn(A) -> ExecutionResult<T, E> + Clone + Send + Sync + use<A, T, E, F, C>
    where
        F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
        A: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + Sync + 'static,
    {
        let Self {
            inner,
            options,
            classifier,
        } = self;
        let inner = Arc::clone(inner);
        let wrapped = Arc::new((options, classifier, f));
        move |args| {
            let call = Call {
                inner: &inner,
                options: wrapped.0.clone(),
                classifier: EveryError,
            };
            let wrapped = Arc::clone(&wrapped);
            let submitted = call.submit(args, |args, _| {
                move |engine: &Engine| {
                    let (_, classifier, f) = &*wrapped;
                    judge(
                        engine,
                        || f(args),
                        |error| engine.classifiers.classify(classifier, error),
                    )
                }
            });
            match submitted {
                Ok(handle) => handle.wait(),
                Err(refused) => ExecutionHandle::refused(refused.reason).wait(),
            }
        }
    }

    /// As [`execute`](Self::execute), for one item of many calls that share a classifier and a function.
    pub(super) fn execute_item<A, T, E, D, F>(
        self,
        item: A,
        shared: Arc<(D, F)>,
    ) -> ExecutionHandle<T, E>
    where
        A: Send + 'static,
        F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
        D: FailureClassifier<E> + Send + Sync + 'static,
    {
        self.submit((item, shared), |(item, shared), _| item_task(item, shared))
            .unwrap_or_else(|rejected| ExecutionHandle::refused(rejected.reason))
    }

    /// As [`execute_item`](Self::execute_item), but a full bulkhead gives the item back, and that counts as no call.
    pub(super) fn execute_item_if_room<A, T, E, D, F>(
        self,
        item: A,
        shared: Arc<(D, F)>,
    ) -> Result<ExecutionHandle<T, E>, A>
    where
        A: Send + 'static,
        F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
        D: FailureClassifier<E> + Send + Sync + 'static,
    {
        let engine = &self.inner.engine;
        let admitted = match admit_if_room(engine) {
            None => return Err(item),
            Some(Ok(admitted)) => admitted,
            Some(Err(refusal)) => {
                let rejected = reject(engine, refusal, &self.options, item);
                return Ok(ExecutionHandle::refused(rejected.reason));
            }
        };
        let into_task = |(item, shared), _| item_task(item, shared);
        Ok(accept(self, admitted, (item, shared), into_task)
            .unwrap_or_else(|rejected| ExecutionHandle::refused(rejected.reason)))
    }

    /// Admission is part of the caller's own code and the rest is not, so that a refused call touches nothing but what
    /// decides. Nothing is allocated for a refusal.
    #[inline]
    fn submit<T, E, F, W>(
        self,
        f: F,
        into_task: impl FnOnce(F, C) -> W,
    ) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        W: FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match admit(&self.inner.engine, &self.options) {
            Ok(admitted) => accept(self, admitted, f, into_task),
            Err(refusal) => Err(reject(&self.inner.engine, refusal, &self.options, f)),
        }
    }
}

/// The task of one item of many. The classifier keeps its type, by which a bulkhead tells whether the call has one of its own.
fn item_task<A, T, E, D, F>(
    item: A,
    shared: Arc<(D, F)>,
) -> impl FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static
where
    A: Send + 'static,
    F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
    T: 'static,
    E: 'static,
    D: FailureClassifier<E> + Send + Sync + 'static,
{
    move |engine| {
        let (classifier, f) = &*shared;
        judge(
            engine,
            || f(item),
            |error| engine.classifiers.classify(classifier, error),
        )
    }
}

/// Asks the circuit, and puts the call into the queue.
#[inline(never)]
fn accept<T, E, F, W, C>(
    call: Call<'_, ThreadPoolKind, C>,
    Admitted { permit, begun }: Admitted<'_>,
    f: F,
    into_task: impl FnOnce(F, C) -> W,
) -> Result<ExecutionHandle<T, E>, Rejected<F>>
where
    W: FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let Call {
        inner,
        options,
        classifier,
    } = call;
    let engine = &inner.engine;
    let ticket = match check_circuit(engine) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            drop(permit);
            return Err(reject(engine, refusal, &options, f));
        }
    };
    let leaves_task = options.leaves_task();
    let contexts = if leaves_task {
        capture(inner).detached()
    } else {
        capture(inner)
    };
    let data = options.into_data(&engine.default_timeouts, &engine.clock, begun);
    tell_admitted(engine, &data);
    let work = Work {
        task: into_task(f, classifier),
        contexts: contexts.with_trace(engine.begin_trace_for_worker(&data, leaves_task)),
    };
    let cell = Arc::new(TaskCell::new(data, Arc::clone(inner), ticket, work));
    permit.into_parked();
    inner.queue.push(Arc::clone(&cell) as Arc<dyn Job>);
    if engine.is_discarding() {
        // Too late for the shutdown that emptied the queue, and perhaps no worker will come.
        cell.cancel_queued(true);
    } else if let Some(retry_after) = engine.refusal_in_queue(ticket) {
        // The circuit has opened since it gave the ticket, and perhaps its opener has gone through the queue already.
        cell.refuse_queued(retry_after);
    }
    Ok(ExecutionHandle::live(cell as Arc<dyn Pending<T, E>>))
}

fn capture(inner: &Inner) -> CapturedContexts {
    let propagators = &inner.collaborators.propagators;
    if propagators.is_empty() {
        return CapturedContexts::of_values();
    }
    // This thread holds a permit while propagators run.
    while_holding_permit(inner.engine.serial, || {
        CapturedContexts::capture(&inner.engine.name, propagators)
    })
}
