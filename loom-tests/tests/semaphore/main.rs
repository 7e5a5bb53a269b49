//! Semaphore bulkheads: slots that go from thread to thread, the line of callers that wait for one, and the ends of a
//! wait.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod deadlines;
mod guards;
mod helpers;
mod shutdown;
mod slots;
mod unfair;
