//! The primitives of the crate as users run it.

use std::io;
use std::time::{Duration, Instant};

pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::thread::{JoinHandle, yield_now};
pub(crate) use std::thread_local;

/// How often a shutdown that cancels looks again for calls which are just being pushed.
pub(crate) const LATE_ARRIVALS: usize = 1000;

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits for a notification, at the longest until `deadline`; without one, for ever.
pub(crate) fn wait_until<T>(
    condvar: &Condvar,
    guard: &mut MutexGuard<'_, T>,
    deadline: Option<Instant>,
) {
    match deadline {
        Some(deadline) => {
            condvar.wait_until(guard, deadline);
        }
        None => condvar.wait(guard),
    }
}

/// Waits for a notification, at the longest for `limit` of real time.
pub(crate) fn wait_for<T>(condvar: &Condvar, guard: &mut MutexGuard<'_, T>, limit: Duration) {
    condvar.wait_for(guard, limit);
}

/// Starts a named thread.
pub(crate) fn spawn(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

/// Lets a waiter look again a few times before it goes to sleep: a hand-off that takes a
/// microsecond should not pay for a wake-up that takes fifty.
#[derive(Debug, Default)]
pub(crate) struct Spin(u32);

impl Spin {
    const ROUNDS: u32 = 16;

    /// Pauses for a moment; `false` when it is time to sleep.
    pub(crate) fn again(&mut self) -> bool {
        self.0 += 1;
        for _ in 0..8 {
            std::hint::spin_loop();
        }
        self.0 < Self::ROUNDS
    }
}
