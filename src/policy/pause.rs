//! Waiting in the caller's own thread, by a clock that a test can move.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::core::current;
use crate::sync::{Condvar, Mutex, after};

/// How often a wait looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(10);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Slept {
    Over,
    Stopped,
}

/// Waits until the clock shows `until`, or `stop` says so, or the call that this thread runs is cancelled.
///
/// `stop` is user code; the caller has put it behind a catch.
pub(super) fn sleep_until(clock: &Clock, until: Instant, stop: Option<&dyn Fn() -> bool>) -> Slept {
    let call = current();
    let is_stopped =
        || stop.is_some_and(|stop| stop()) || call.as_ref().is_some_and(|call| call.is_cancelled());
    let looks = stop.is_some() || call.is_some();
    // Nobody notifies it. A park would take a wake-up that is meant for the caller's own code.
    let (lock, timer) = (Mutex::new(()), Condvar::new());
    loop {
        if looks && is_stopped() {
            return Slept::Stopped;
        }
        let now = clock.now();
        if now >= until {
            return Slept::Over;
        }
        let next_look = match after(now, LOOK) {
            Some(look) if looks => look.min(until),
            _ => until,
        };
        clock.wait_until(&timer, &mut lock.lock(), Some(next_look));
    }
}
