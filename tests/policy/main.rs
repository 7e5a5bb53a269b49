//! Policies around a call. All waits go by a clock that the test moves.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod deadline;
mod fallback;
mod hedge;
mod helpers;
mod pipeline;
mod rate_limit;
mod retry;
mod time_limit;
