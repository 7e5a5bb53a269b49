//! One call's own settings, where it runs in its caller's thread.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::circuit::Verdict;
use crate::error::Rejected;
use crate::failure::{EveryError, FailureClassifier, FailureIf, judged};
use crate::gate::Place;
use crate::head::new_execution_id;
use crate::outcome::Outcome;
use crate::result::ExecutionResult;
use crate::run::Judged;
use crate::terms::Terms;
use crate::turnstile::Turnstile;

/// One call with settings of its own, over the configured ones. From [`SemaphoreBulkhead::call`](crate::SemaphoreBulkhead::call).
///
/// ```
/// use bulkman::{BulkheadConfig, SemaphoreBulkhead};
/// use std::time::Duration;
///
/// let bulkhead = SemaphoreBulkhead::new(BulkheadConfig::new("users"))?;
/// let name = bulkhead
///     .call()
///     .operation("get_user")
///     .queue_timeout(Duration::from_millis(50)) // the wait for its turn
///     .run(|| "Ada")
///     .into_result()?;
/// assert_eq!(name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until `execute`, `run` or `try_execute`"]
pub struct SemaphoreCall<'a, C = EveryError> {
    turnstile: &'a Arc<Turnstile>,
    terms: Terms,
    classifier: C,
}

impl<'a> SemaphoreCall<'a> {
    pub(crate) fn new(turnstile: &'a Arc<Turnstile>) -> Self {
        Self {
            turnstile,
            terms: Terms::new(&turnstile.gate.config),
            classifier: EveryError,
        }
    }

    /// As [`Call::failure_if`](crate::Call::failure_if); the closure may borrow.
    pub fn failure_if<E, P>(self, is_failure: P) -> SemaphoreCall<'a, FailureIf<P>>
    where
        P: Fn(&E) -> bool,
    {
        SemaphoreCall {
            turnstile: self.turnstile,
            terms: self.terms,
            classifier: FailureIf::new(is_failure),
        }
    }
}

impl<C> fmt::Debug for SemaphoreCall<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.terms
            .fmt_as("SemaphoreCall", &self.turnstile.gate.name, f)
    }
}

impl<C> SemaphoreCall<'_, C> {
    /// Names what the call does, for listeners, shutdown reports and the task itself.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.terms.operation = Some(name.into());
        self
    }

    /// Sets how long this call may wait for its turn. With zero it never has one.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.terms.queue_timeout = Some(limit);
        self
    }

    /// If the bulkhead is full, waits up to `limit` for a place instead of failing fast, in no particular order with
    /// other callers; as [`Call::wait_for_capacity`](crate::Call::wait_for_capacity). With a place it then waits for its
    /// turn. In one of the bulkhead's own tasks it does not wait, since the place that it waited for might be that task's.
    pub fn wait_for_capacity(mut self, limit: Duration) -> Self {
        self.terms.wait_for_capacity = Some(limit);
        self
    }

    /// Sets how long the call may take in all: the wait for a place, which then ends with
    /// [`Full`](crate::BulkheadError::Full), the wait for its turn, and the run, which [`current()`](crate::current()) then
    /// tells that it is cancelled. It is not interrupted, see
    /// [`execute_with_timeout`](crate::SemaphoreBulkhead::execute_with_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.terms.timeout = Some(limit);
        self
    }

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
        let has_breaker = self.turnstile.gate.breaker.is_some();
        self.submit(f, |f, classifier| judged(f, classifier, has_breaker)())
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
        self.submit(f, |f, _| (Ok(f()), Verdict::Success))
    }

    #[inline]
    fn submit<T, E, F>(
        self,
        f: F,
        task: impl FnOnce(F, C) -> Judged<T, E>,
    ) -> Result<ExecutionResult<T, E>, Rejected<F>> {
        match self.turnstile.gate.enter(&self.terms) {
            Ok(place) => self.accept(place, f, task),
            Err(refusal) => Err(self.turnstile.gate.reject(refusal, &self.terms, f)),
        }
    }

    #[inline(never)]
    fn accept<T, E, F>(
        self,
        Place { permit, begun }: Place<'_>,
        f: F,
        task: impl FnOnce(F, C) -> Judged<T, E>,
    ) -> Result<ExecutionResult<T, E>, Rejected<F>> {
        let Self {
            turnstile,
            terms,
            classifier,
        } = self;
        let gate = &turnstile.gate;
        let ticket = match gate.ask_the_circuit() {
            Ok(ticket) => ticket,
            Err(refusal) => {
                drop(permit);
                return Err(gate.reject(refusal, &terms, f));
            }
        };
        let head = terms.into_head(&gate.clock, begun);
        let outcome = match turnstile.turn(&head, ticket, permit) {
            Ok(turn) => turnstile.run(turn, &head, ticket, || task(f, classifier)),
            Err(why) => {
                let queued_time = head.queued_for(gate.clock.now());
                gate.has_left((f, classifier), &head, &why, queued_time);
                Outcome::new(Err(why), queued_time, Duration::ZERO)
            }
        };
        Ok(outcome.in_words(&head, &gate.name))
    }
}

/// A result in place of the closure that nobody wants back.
fn refused<T, E, F>(rejected: Rejected<F>) -> ExecutionResult<T, E> {
    ExecutionResult::refused(rejected.reason, new_execution_id())
}
