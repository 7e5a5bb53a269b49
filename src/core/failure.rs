//! Which of a task's errors count against the circuit.

use std::fmt;

use super::current::ThisBulkhead;
use crate::circuit::Verdict;
use crate::panic::contain;

/// Decides which of a task's errors count against the circuit.
///
/// [`EveryError`] is the default; [`Call::failure_if`](crate::Call::failure_if) sets another.
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

/// An error counts if the closure says so, see [`Call::failure_if`](crate::Call::failure_if).
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

/// What a task returned, and what the circuit is to make of it.
pub(crate) type JudgedResult<T, E> = (Result<T, E>, Verdict);

/// The task, followed by the verdict on its result.
pub(crate) fn judge<T, E>(
    f: impl FnOnce() -> Result<T, E>,
    classifier: impl FailureClassifier<E>,
    has_breaker: bool,
) -> impl FnOnce() -> JudgedResult<T, E> {
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
