//! The feature `tracing`: spans of calls, and the caller's span and subscriber on the worker.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod events;
mod guards;
mod helpers;
mod opting_out;
mod policies;
mod spans;
mod subscribers;
mod travelling;
