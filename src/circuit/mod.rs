//! The circuit breaker. It knows nothing of bulkheads.
//!
//! `machine` decides by what `window` counts, `locked` serves threads, `breaker` is the face. A shared circuit is kept
//! in a `storage`. The `synchronizer` of the storage alone reads and writes there; `member` decides for each circuit
//! what a row means.

mod breaker;
mod config;
mod jitter;
mod locked;
mod machine;
mod member;
mod members;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod signal;
mod skew;
mod stats;
mod storage;
mod synchronizer;
mod window;

pub use breaker::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitError, CircuitOpen, CircuitPermit,
};
pub use config::{CircuitBreakerConfig, CircuitMode, CircuitWindow, IsolationBackoff};
pub use machine::{CircuitChange, CircuitChangeReason, CircuitState, Verdict};
pub use members::CircuitSync;
pub use memory::MemoryStorage;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStorage, PostgresStorageBuilder};
pub use skew::ClockSkew;
pub use stats::CircuitStats;
pub use storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

pub(crate) use locked::Run;
pub(crate) use machine::Ticket;
