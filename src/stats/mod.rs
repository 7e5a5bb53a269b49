//! The numbers: how they are counted (`ledger`), how durations are (`distribution`), and how users see them (`snapshot`).

mod distribution;
mod ledger;
mod snapshot;

pub use distribution::Distribution;
pub use snapshot::{BulkheadState, BulkheadStats};

pub(crate) use ledger::{Ledger, Reading, SharedCounters, SlotCounters, Totals};
pub(crate) use snapshot::Moment;
