//! One candidate, and the work that it does.

use std::time::Duration;

/// What is measured, with a task that does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Submits one task and waits for its result, again and again.
    OneByOne,
    /// Submits all tasks, keeps their handles, and then waits for all.
    Batch,
    /// Submits one task and waits for its result, pauses for half a millisecond, and so on, while each core is busy
    /// with something else. Only the calls are timed.
    NowAndThen,
    /// Submits to a pool that is full.
    Refused,
}

/// A pool, or something like it, that does the work.
pub trait Candidate {
    fn name(&self) -> &'static str;

    /// How long so many calls took in all.
    fn run(&mut self, calls: usize) -> Duration;

    /// How many of the calls of a round this candidate makes.
    fn share_of(&self, calls: usize) -> usize {
        calls
    }
}
