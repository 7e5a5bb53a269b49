//! The values that the calls of a pipeline may have: of any type, or, with a fallback that gives values, of that type alone.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use super::error::PipelineError;
use crate::clock::Clock;
use crate::policy::fallback::Fallback;

/// The values of a [`Pipeline`](super::Pipeline) without a fallback: calls may give any.
#[derive(Clone, Copy, Debug)]
pub enum AnyValue {}

/// The values of a [`Pipeline`](super::Pipeline) with a fallback: all calls give a `T`, as the fallback does.
pub struct Only<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Only<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Only")
    }
}

/// Which values a pipeline gives: [`AnyValue`] or [`Only`]. There are no others.
pub trait Values<E>: sealed::Sealed {
    #[doc(hidden)]
    type Fallback;
    #[doc(hidden)]
    fn set_clock(fallback: &mut Self::Fallback, clock: &Clock);
}

/// Whether calls of a pipeline may give a `T`.
pub trait Gives<T, E>: Values<E> {
    #[doc(hidden)]
    fn answer(fallback: &Self::Fallback, error: &PipelineError<E>) -> Option<T>;
    /// Whether it has: then the value's `clone` has run, which is user code.
    #[doc(hidden)]
    fn remember(fallback: &Self::Fallback, value: &T) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AnyValue {}
    impl<T> Sealed for super::Only<T> {}
}

impl<E> Values<E> for AnyValue {
    type Fallback = Infallible;

    fn set_clock(fallback: &mut Infallible, _: &Clock) {
        match *fallback {}
    }
}

impl<T, E> Values<E> for Only<T> {
    type Fallback = Fallback<T, PipelineError<E>>;

    fn set_clock(fallback: &mut Self::Fallback, clock: &Clock) {
        fallback.clock = clock.clone();
    }
}

impl<T, E> Gives<T, E> for AnyValue {
    fn answer(fallback: &Infallible, _: &PipelineError<E>) -> Option<T> {
        match *fallback {}
    }

    fn remember(fallback: &Infallible, _: &T) -> bool {
        match *fallback {}
    }
}

impl<T, E> Gives<T, E> for Only<T> {
    fn answer(fallback: &Self::Fallback, error: &PipelineError<E>) -> Option<T> {
        fallback.answer(error)
    }

    fn remember(fallback: &Self::Fallback, value: &T) -> bool {
        fallback.remember(value)
    }
}
