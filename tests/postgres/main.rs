//! Circuits in PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod harness;
mod outage;
mod python_peers;
mod rust_and_python;
mod storage;
