//! A PostgreSQL server of the test's own, Python processes that share circuit state in it, and bad networks between.
//!
//! The first start on a machine installs missing programs if it may, and otherwise fails with the command to run; see
//! `tests/postgres/install`. All processes end with the test process, even if that is killed: the system then closes
//! their input, and a child ends with its input.

mod lines;
mod network;
mod pooler;
mod python;
mod server;

pub use network::{Link, Silent};
pub use pooler::Pooler;
pub use python::{Bulkman, Called, Outcome, Policy, Python, State, Stored};
pub use server::{Row, Server};
