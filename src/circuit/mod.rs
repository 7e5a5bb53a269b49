//! The circuit breaker. It knows nothing of bulkheads.
//!
//! | file | job |
//! |---|---|
//! | `breaker`, `config`, `state`, `stats` | the facade, its settings, and what it tells |
//! | `state_machine` | decides; pure, with `opening_rule` that counts outcomes and `probes` that gives out tickets |
//! | `local_circuit` | the circuit of one process: the machine behind a lock, for threads |
//! | `live_rules` | the rules that are asked without that lock |
//! | `storage`, `memory_storage`, `postgres` | where shared circuits are kept: the trait, and the two that come with the crate |
//! | `synchronizer`, `shared_circuit` | the thread of a storage, and what a row means for one circuit |
//! | `members`, `signal`, `jitter`, `skew` | how circuits and that thread meet, when it looks, and the storage's clock |

mod breaker;
mod config;
mod jitter;
mod live_rules;
mod local_circuit;
mod members;
mod memory_storage;
mod opening_rule;
#[cfg(feature = "postgres")]
mod postgres;
mod probes;
mod shared_circuit;
mod signal;
mod skew;
mod state;
mod state_machine;
mod stats;
mod storage;
mod synchronizer;

pub use breaker::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitError, CircuitOpen, CircuitPermit,
};
pub use config::{CircuitBreakerConfig, CircuitMode, CircuitWindow, IsolationBackoff};
pub use members::CircuitSync;
pub use memory_storage::MemoryStorage;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStorage, PostgresStorageBuilder};
pub use skew::ClockSkew;
pub use state::{CircuitChange, CircuitChangeReason, CircuitState, Verdict};
pub use stats::CircuitStats;
pub use storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

pub(crate) use live_rules::LiveRules;
pub(crate) use local_circuit::{Run, StorageNews};
pub(crate) use probes::Ticket;
