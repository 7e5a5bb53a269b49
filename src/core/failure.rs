//! What a task's errors count as for the circuit.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;

use crate::circuit::Verdict;

/// Decides what a task's errors count as for the circuit.
///
/// [`EveryError`] is the default. [`Call::failure_if`](crate::Call::failure_if) and
/// [`Call::classify`](crate::Call::classify) set others for a call,
/// [`BulkheadBuilder::classify`](crate::BulkheadBuilder::classify) for all calls of a bulkhead with threads. A panic of the
/// task is always a failure.
pub trait FailureClassifier<E> {
    /// What this error says about the dependency.
    fn classify(&self, error: &E) -> Verdict;
}

/// A classifier that is lent.
impl<E, C: FailureClassifier<E> + ?Sized> FailureClassifier<E> for &C {
    fn classify(&self, error: &E) -> Verdict {
        (**self).classify(error)
    }
}

/// Each `Err` of a task counts as a failure, unless the bulkhead has a classifier for errors of its type.
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

/// The classifiers of a bulkhead, at most one for each type of error.
#[derive(Default)]
pub(crate) struct Classifiers {
    by_type: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

type Classifier<E> = Box<dyn Fn(&E) -> Verdict + Send + Sync>;

impl Classifiers {
    /// In place of an earlier one for this type.
    pub(crate) fn insert<E: 'static>(
        &mut self,
        classify: impl Fn(&E) -> Verdict + Send + Sync + 'static,
    ) {
        let classifier: Classifier<E> = Box::new(classify);
        self.by_type.insert(TypeId::of::<E>(), Box::new(classifier));
    }

    /// By the classifier of the call, if it has one, else by that of the bulkhead for errors of this type.
    pub(crate) fn classify<E, C>(&self, of_call: &C, error: &E) -> Verdict
    where
        E: 'static,
        C: FailureClassifier<E> + 'static,
    {
        // No call can ask for `EveryError`, which is what it has at first.
        let has_own = TypeId::of::<C>() != TypeId::of::<EveryError>();
        match self.of::<E>() {
            Some(of_bulkhead) if !has_own => of_bulkhead(error),
            _ => of_call.classify(error),
        }
    }

    fn of<E: 'static>(&self) -> Option<&Classifier<E>> {
        self.by_type.get(&TypeId::of::<E>())?.downcast_ref()
    }
}
