//! A PostgreSQL server of the test's own, Python processes that share circuit state in it, and bad networks between.
//!
//! All of it goes with the test process, also if that is killed: the children end with their input, which the system
//! closes.

mod lines;
mod network;
mod pooler;
mod python;
mod server;

pub use network::{Link, Silent};
pub use pooler::Pooler;
pub use python::{Bulkman, Called, Outcome, Policy, Python, State, Stored};
pub use server::{Row, Server};
