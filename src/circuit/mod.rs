//! The circuit breaker: `machine` decides, `breaker` serves threads.

mod breaker;
mod machine;

pub use breaker::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitError, CircuitOpen, CircuitPermit,
};
pub use machine::{CircuitChange, CircuitState};

pub(crate) use machine::{Ticket, Verdict};
