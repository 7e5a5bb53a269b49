//! What a call takes along from its caller's thread to the worker: values of a [`ContextVar`] by themselves, everything
//! else through a [`ContextPropagator`]. With the features `tracing` and `opentelemetry` also the trace.

mod captured;
mod propagator;
mod trace;
mod var;

pub use propagator::{CapturedContext, ContextPropagator, propagate};
pub use var::{ContextGuard, ContextSnapshot, ContextVar};

pub(crate) use captured::CapturedContexts;
pub(crate) use trace::{
    CallTrace, EnteredTrace, Policy, PolicyCall, PolicySpan, TraceOptions, event_of_caller_timeout,
    event_of_refusal, event_of_retry, in_span,
};
pub(crate) use var::has_values;
