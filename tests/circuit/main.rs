//! Circuit breakers.

#[path = "../support/mod.rs"]
mod support;

mod breaker_alone;
mod in_a_bulkhead;
mod shared;
