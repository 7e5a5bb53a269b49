//! placeholder

mod bulkhead;
mod call;
mod circuit;
mod clock;
mod config;
mod context;
mod current;
mod distribution;
mod error;
mod handle;
mod listener;
mod panics;
mod permit;
mod pool;
mod queue;
mod result;
mod shared;
mod stats;
mod sync;
mod task;

pub use bulkhead::{Bulkhead, BulkheadBuilder};
pub use call::{Call, EveryError, FailureClassifier, FailureIf};
pub use circuit::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitChange, CircuitError, CircuitOpen, CircuitPermit,
    CircuitState,
};
pub use clock::{Clock, ManualClock};
pub use config::{BulkheadConfig, CircuitBreakerConfig};
pub use context::{CapturedContext, ContextPropagator};
pub use current::{CurrentExecution, current};
pub use distribution::Distribution;
pub use error::{BuildError, BulkheadError, RejectReason, Rejected};
pub use handle::{CancelOnDrop, ExecutionHandle};
pub use listener::{BulkheadEvent, BulkheadListener, CallInfo, FinishedOutcome};
pub use panics::Panic;
pub use pool::{RunningTask, ShutdownReport};
pub use result::ExecutionResult;
pub use stats::{BulkheadState, BulkheadStats};

#[cfg(bulkman_loom)]
#[doc(hidden)]
pub use sync::__model;
