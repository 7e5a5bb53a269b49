//! Which of a task's errors count against the circuit.

use std::fmt;

use crate::circuit::Verdict;
use crate::current::ThisBulkhead;
use crate::panics::contain;
use crate::run::Judged;

/// Decides which of a task's errors count against the circuit.
///
/// [`EveryError`] is the default; [`Call::failure_if`](crate::Call::failure_if) and
/// [`SemaphoreCall::failure_if`](crate::SemaphoreCall::failure_if) set another.
pub trait FailureClassifier<E> {
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

/// Those errors count for which the closure says so, see
/// [`Call::failure_if`](crate::Call::failure_if).
#[derive(Clone, Copy)]
pub struct FailureIf<P>(P);

impl<P> FailureIf<P> {
    pub(crate) fn new(is_failure: P) -> Self {
        Self(is_failure)
    }
}

impl<P> fmt::Debug for FailureIf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailureIf").finish_non_exhaustive()
    }
}

impl<E, P: Fn(&E) -> bool> FailureClassifier<E> for FailureIf<P> {
    fn is_failure(&self, error: &E) -> bool {
        (self.0)(error)
    }
}

/// The task together with what the circuit breaker is to make of its result.
pub(crate) fn judged<T, E>(
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
