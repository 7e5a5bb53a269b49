//! What a task's errors count as for the circuit.

use std::fmt;

use super::current::ThisBulkhead;
use crate::circuit::Verdict;
use crate::panic::contain;

/// Decides what a task's errors count as for the circuit.
///
/// [`EveryError`] is the default. [`Call::failure_if`](crate::Call::failure_if) and
/// [`Call::classify`](crate::Call::classify) set others. A panic of the task is always a failure.
pub trait FailureClassifier<E> {
    /// What this error says about the dependency.
    fn classify(&self, error: &E) -> Verdict;
}

/// Each `Err` of a task counts as a failure.
#[derive(Clone, Copy, Debug, Default)]
pub struct EveryError;

impl<E> FailureClassifier<E> for EveryError {
    fn classify(&self, _: &E) -> Verdict {
        Verdict::Failure
    }
}

/// An error counts as a failure if the closure says so, and is ignored otherwise, see
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
    fn classify(&self, error: &E) -> Verdict {
        Verdict::failure_if((self.0)(error))
    }
}

/// An error counts as what the closure says, see [`Call::classify`](crate::Call::classify).
#[derive(Clone, Copy)]
pub struct ClassifyWith<P>(P);

impl<P> ClassifyWith<P> {
    pub(crate) fn new(classify: P) -> Self {
        Self(classify)
    }
}

impl<P> fmt::Debug for ClassifyWith<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClassifyWith").finish_non_exhaustive()
    }
}

impl<E, P: Fn(&E) -> Verdict> FailureClassifier<E> for ClassifyWith<P> {
    fn classify(&self, error: &E) -> Verdict {
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
            Err(error) if has_breaker => contain(ThisBulkhead, "a failure classifier", || {
                classifier.classify(error)
            })
            .unwrap_or(Verdict::Failure),
            _ => Verdict::Success,
        };
        (result, verdict)
    }
}
