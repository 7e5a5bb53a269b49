//! What is compared, and where its threads run. The programs are in `main.rs` (times) and
//! `bin/allocations.rs` (memory).

pub mod candidate;
pub mod candidates;
pub mod limit;
pub mod place;
pub mod pools;
pub mod python;
