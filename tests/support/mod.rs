//! Helpers that the tests share, a file for each job.
//!
//! Each test binary includes this folder as its module `support`. The model tests in `loom-tests/` include
//! `bulkheads.rs` and `ledger.rs`, which use no primitive that a model checker replaces.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary uses its own part"
)]

#[cfg(feature = "postgres")]
pub mod postgres;
pub mod scripted_storage;

pub mod logged;

mod bombs;
mod bulkheads;
mod busy;
mod clock;
mod gate;
mod ledger;
mod process;
mod trace;
mod waits;
mod wakers;

pub use bombs::Bomb;
pub use bulkheads::{bulkhead, config, named, rules};
pub use busy::{Busy, at_a_gate, occupy};
pub use clock::{HOUR, SECOND, seconds, with_clock};
pub use gate::{Gate, OpenOnDrop, SlowDrop};
pub use ledger::{assert_adds_up, assert_balanced};
pub use process::{assert_passes, child_test, resident, test_path, threads_named};
pub use trace::Trace;
pub use waits::{Over, PATIENCE, eventually, in_time, wait};
pub use wakers::{OnWake, poll_once};
