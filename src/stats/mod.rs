//! The numbers: how they are counted (`ledger`), how durations are (`distribution`), how users see them (`snapshot`),
//! and which of them are a cause for concern (`health`).

mod distribution;
mod health;
mod ledger;
mod snapshot;

pub use distribution::Distribution;
pub use health::{BulkheadHealth, HealthReason, HealthThresholds};
pub use snapshot::{BulkheadState, BulkheadStats};

pub(crate) use distribution::{Recorder, bucket_of, top_of};
pub(crate) use health::{HealthFacts, HealthMemory, InWords};
pub(crate) use ledger::{Ledger, Reading, SharedCounters, SlotCounters, Totals};
pub(crate) use snapshot::Moment;
