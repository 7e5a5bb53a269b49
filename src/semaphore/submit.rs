//! A call on its way into its caller's own thread.

use std::convert::Infallible;
use std::sync::Arc;

use crate::circuit::Verdict;
use crate::core::{
    Admitted, Call, Engine, FailureClassifier, JudgedResult, SemaphoreKind, admit, check_circuit,
    judge, new_execution_id, reject,
};
use crate::error::Rejected;
use crate::result::ExecutionResult;

/// A call in its caller's own thread.
impl<C> Call<'_, SemaphoreKind, C> {
    /// Makes the call. As [`SemaphoreBulkhead::execute`](crate::SemaphoreBulkhead::execute).
    pub fn execute<T, E, F>(self, f: F) -> ExecutionResult<T, E>
    where
        F: FnOnce() -> Result<T, E>,
        C: FailureClassifier<E>,
    {
        self.try_execute(f).unwrap_or_else(refused)
    }

    /// Makes a call that cannot fail by itself. As [`SemaphoreBulkhead::run`](crate::SemaphoreBulkhead::run).
    pub fn run<T, F>(self, f: F) -> ExecutionResult<T, Infallible>
    where
        F: FnOnce() -> T,
    {
        self.try_run(f).unwrap_or_else(refused)
    }

    /// Makes the call, or gives the closure back if it is refused. As
    /// [`SemaphoreBulkhead::try_execute`](crate::SemaphoreBulkhead::try_execute).
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    #[inline]
    pub fn try_execute<T, E, F>(self, f: F) -> Result<ExecutionResult<T, E>, Rejected<F>>
    where
        F: FnOnce() -> Result<T, E>,
        C: FailureClassifier<E>,
    {
        self.submit(f, |engine, f, classifier| {
            judge(engine, f, |error| classifier.classify(error))
        })
    }

    /// Makes a call that cannot fail by itself, or gives the closure back if it is refused. As
    /// [`SemaphoreBulkhead::try_run`](crate::SemaphoreBulkhead::try_run).
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    #[inline]
    pub fn try_run<T, F>(self, f: F) -> Result<ExecutionResult<T, Infallible>, Rejected<F>>
    where
        F: FnOnce() -> T,
    {
        self.submit(f, |_, f, _| (Ok(f()), Verdict::Success))
    }

    /// A reusable closure that makes each call of `f` with these settings. Otherwise as
    /// [`SemaphoreBulkhead::wrap`](crate::SemaphoreBulkhead::wrap).
    pub fn wrap<A, T, E, F>(
        self,
        f: F,
    ) -> impl Fn(A) -> ExecutionResult<T, E> + Clone + use<A, T, E, F, C>
    where
        F: Fn(A) -> Result<T, E>,
        C: FailureClassifier<E>,
    {
        let Self {
            inner,
            options,
            classifier,
        } = self;
        let inner = Arc::clone(inner);
        let wrapped = Arc::new((options, classifier, f));
        move |args| {
            let (options, classifier, f) = &*wrapped;
            let call = Call::<'_, SemaphoreKind, _> {
                inner: &inner,
                options: options.clone(),
                classifier,
            };
            call.execute(|| f(args))
        }
    }

    #[inline]
    fn submit<T, E, F>(
        self,
        f: F,
        run: impl FnOnce(&Engine, F, C) -> JudgedResult<T, E>,
    ) -> Result<ExecutionResult<T, E>, Rejected<F>> {
        match admit(&self.inner.engine, &self.options) {
            Ok(admitted) => accept(self, admitted, f, run),
            Err(refusal) => Err(reject(&self.inner.engine, refusal, &self.options, f)),
        }
    }
}

/// Asks the circuit, and makes the call.
#[inline(never)]
fn accept<T, E, F, C>(
    call: Call<'_, SemaphoreKind, C>,
    Admitted { permit, begun }: Admitted<'_>,
    f: F,
    run: impl FnOnce(&Engine, F, C) -> JudgedResult<T, E>,
) -> Result<ExecutionResult<T, E>, Rejected<F>> {
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
    let data = options.into_data(&engine.clock, begun);
    let outcome = inner.call(
        &data,
        ticket,
        permit,
        (f, classifier),
        |engine, (f, classifier)| run(engine, f, classifier),
    );
    Ok(outcome.into_result(&data, &engine.name))
}

/// A result in place of the closure that is not wanted back.
fn refused<T, E, F>(rejected: Rejected<F>) -> ExecutionResult<T, E> {
    ExecutionResult::refused(rejected.reason, new_execution_id())
}
