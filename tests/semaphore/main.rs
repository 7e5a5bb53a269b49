//! Semaphore bulkheads, whose tasks run in the threads of their callers.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod calls;
mod circuit;
mod config;
mod current;
mod guards;
mod helpers;
mod ledger;
mod limits;
mod listeners;
mod nested;
mod resize;
mod shutdown;
mod unfair;
mod wrap;
