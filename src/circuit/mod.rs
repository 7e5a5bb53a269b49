//! The circuit breaker: `machine` decides, `core` serves threads, `keeper` keeps a shared one in step with its storage.

mod breaker;
mod core;
mod keeper;
mod machine;
#[cfg(feature = "postgres")]
mod postgres;
mod roster;
mod storage;

pub use breaker::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitError, CircuitOpen, CircuitPermit,
};
pub use machine::{CircuitChange, CircuitState};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStorage, PostgresStorageBuilder};
pub use roster::CircuitSync;
pub use storage::{
    CircuitRecord, CircuitStorage, MemoryStorage, StorageError, StoredCircuit, WriteGuard,
    WriteOutcome,
};

pub(crate) use machine::{Ticket, Verdict};
