//! What a call takes along from its caller's thread to the worker.

mod propagator;

pub use propagator::{CapturedContext, ContextPropagator};

pub(crate) use propagator::CapturedContexts;
