//! A call on its way into its caller's own thread.

use std::convert::Infallible;
use std::sync::Arc;

use super::guard::SemaphoreGuard;
use crate::circuit::Verdict;
use crate::context::ContextSnapshot;
use crate::core::{
    Admitted, Call, Engine, FailureClassifier, JudgedResult, Refusal, SemaphoreKind, admit,
    check_circuit, judge, new_execution_id, refuse_without_slot, reject, tell_admitted,
};
use crate::error::{BulkheadError, Rejected};
use crate::result::ExecutionResult;
use crate::sync::Limit;

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

/// A call without a closure, which says itself how it ended; so a classifier has no place here.
impl<'a> Call<'a, SemaphoreKind> {
    /// Begins a call that lasts until the guard ends it. Without a free slot it waits for one, as a call with a closure does;
    /// see [`SemaphoreBulkhead::acquire`](crate::SemaphoreBulkhead::acquire). A [`timeout`](Self::timeout) is over the wait and
    /// the call together: the guard's [`remaining`](SemaphoreGuard::remaining) has what is left.
    ///
    /// # Errors
    ///
    /// As [`SemaphoreBulkhead::acquire`](crate::SemaphoreBulkhead::acquire); and
    /// [`Timeout`](BulkheadError::Timeout) if the timeout passed first.
    #[inline]
    pub fn acquire(self) -> Result<SemaphoreGuard<'a>, BulkheadError<Infallible>> {
        match admit(&self.inner.engine, &self.options) {
            Ok(admitted) => wait_for_guard(self, admitted),
            Err(refusal) => Err(refused_guard(&self, refusal)),
        }
    }

    /// Begins a call that lasts until the guard ends it, or is refused if no slot is free:
    /// see [`SemaphoreBulkhead::try_acquire`](crate::SemaphoreBulkhead::try_acquire). It never waits: a
    /// [`queue_timeout`](Self::queue_timeout) or [`wait_for_capacity`](Self::wait_for_capacity) has no effect.
    ///
    /// # Errors
    ///
    /// As [`SemaphoreBulkhead::try_acquire`](crate::SemaphoreBulkhead::try_acquire).
    #[inline]
    pub fn try_acquire(mut self) -> Result<SemaphoreGuard<'a>, BulkheadError<Infallible>> {
        self.options.queue_timeout = Some(Limit::NONE);
        self.options.wait_for_capacity = None;
        let inner = self.inner;
        // A look that takes nothing: a call that is refused here never holds a place, not even for a moment.
        if !inner.may_have_slot() {
            let refusal = refuse_without_slot(&inner.engine);
            return Err(refused_guard(&self, refusal));
        }
        match admit(&inner.engine, &self.options) {
            Ok(admitted) => try_guard(self, admitted),
            Err(refusal) => Err(refused_guard(&self, refusal)),
        }
    }
}

#[inline(never)]
fn wait_for_guard<'a>(
    call: Call<'a, SemaphoreKind>,
    Admitted { permit, begun }: Admitted<'a>,
) -> Result<SemaphoreGuard<'a>, BulkheadError<Infallible>> {
    let inner = call.inner;
    let engine = &inner.engine;
    let ticket = match check_circuit(engine) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            drop(permit);
            return Err(refused_guard(&call, refusal));
        }
    };
    let data = call
        .options
        .into_data(&engine.default_timeouts, &engine.clock, begun);
    let trace = engine.begin_trace_in_caller(&data);
    tell_admitted(engine, &data);
    let in_slot = inner.begin_guard(&data, trace, ticket, permit)?;
    Ok(SemaphoreGuard::new(inner, data, in_slot))
}

#[inline(never)]
fn try_guard<'a>(
    call: Call<'a, SemaphoreKind>,
    Admitted { permit, .. }: Admitted<'a>,
) -> Result<SemaphoreGuard<'a>, BulkheadError<Infallible>> {
    let (data, in_slot) = call.inner.try_begin_guard(call.options, permit)?;
    Ok(SemaphoreGuard::new(call.inner, data, in_slot))
}

fn refused_guard(call: &Call<'_, SemaphoreKind>, refusal: Refusal) -> BulkheadError<Infallible> {
    reject(&call.inner.engine, refusal, &call.options, ())
        .reason
        .into()
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
    let leaves_task = options.leaves_task();
    let data = options.into_data(&engine.default_timeouts, &engine.clock, begun);
    tell_admitted(engine, &data);
    let call = || {
        inner.call(
            &data,
            engine.begin_trace_in_caller(&data),
            ticket,
            permit,
            (f, classifier),
            |engine, (f, classifier)| run(engine, f, classifier),
        )
    };
    let outcome = if leaves_task {
        ContextSnapshot::take().detached().run(call)
    } else {
        call()
    };
    Ok(outcome.into_result(&data, &engine.name))
}

/// A result in place of the closure that is not wanted back.
fn refused<T, E, F>(rejected: Rejected<F>) -> ExecutionResult<T, E> {
    ExecutionResult::refused(rejected.reason, new_execution_id())
}
