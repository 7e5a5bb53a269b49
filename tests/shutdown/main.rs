//! Shutting down a bulkhead with worker threads: every call is refused or gets its outcome, and the threads are really
//! gone.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod after_a_report;
mod close;
mod from_within;
mod graceful;
mod helpers;
mod idle;
mod last_owner;
mod leaks;
mod on_drop;
mod phases;
mod races;
mod report;
mod several;
mod with_a_limit;
