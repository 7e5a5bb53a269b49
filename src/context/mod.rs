//! What a call takes along from its caller's thread to the worker: values of a [`ContextVar`] by themselves, everything
//! else through a [`ContextPropagator`].

mod captured;
mod propagator;
mod var;

pub use propagator::{CapturedContext, ContextPropagator, propagate};
pub use var::{ContextGuard, ContextSnapshot, ContextVar};

pub(crate) use captured::CapturedContexts;
pub(crate) use var::has_values;
