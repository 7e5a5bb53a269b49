//! The primitives of the crate as users run it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use super::spin::AdaptiveSpin;
pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::thread::{JoinHandle, Thread, current as this_thread};
pub(crate) use std::thread_local;

/// A value of the whole process, made when it is first used; as the model checkers have it.
macro_rules! lazy_static {
    ($(static ref $name:ident: $type:ty = $value:expr;)*) => {
        $(static $name: std::sync::LazyLock<$type> = std::sync::LazyLock::new(|| $value);)*
    };
}
pub(crate) use lazy_static;

/// How long the thread of alarms stays when there is none.
pub(crate) const ALARM_THREAD_IDLE: Duration = Duration::from_secs(10);

/// How often a caller is woken for a slot that another caller takes before it, until it is handed one.
pub(crate) const WAKE_UPS_IN_VAIN: u32 = 4;

/// How long a shutdown that cancels looks for calls that submitters are just pushing.
#[derive(Debug)]
pub(crate) struct LatePushes {
    until: Instant,
}

impl LatePushes {
    pub(crate) fn new() -> Self {
        Self {
            until: now() + Duration::from_millis(5),
        }
    }

    /// Waits for a moment; `false` when it is time to go on.
    pub(crate) fn wait(&mut self) -> bool {
        // Asleep: on a busy core a yield would cost the time slices of all others. Not parked: that could swallow a
        // wake-up that is meant for the caller's own code.
        std::thread::sleep(Duration::from_micros(50));
        now() < self.until
    }
}

/// Looks for a moment whether `condition` comes true.
pub(crate) fn soon(condition: impl Fn() -> bool) -> bool {
    const MOMENT: Duration = Duration::from_micros(5);
    let until = now() + MOMENT;
    while now() < until {
        if condition() {
            return true;
        }
        std::hint::spin_loop();
    }
    // For a core that both sides share.
    std::thread::yield_now();
    condition()
}

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock.
pub(crate) fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// Reads both clocks, as close to each other as can be.
pub(crate) fn both_clocks() -> (Instant, SystemTime) {
    (now(), wall_now())
}

/// A number that differs from process to process and from call to call.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
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

/// Starts a named thread, with a stack of so many bytes; `None`: of the usual size.
pub(crate) fn spawn(
    name: String,
    stack_size: Option<usize>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name);
    match stack_size {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
    .spawn(body)
}

/// Parks this thread until it is unparked or `deadline` comes; it may also wake without a reason.
pub(crate) fn park_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => park_for(deadline.saturating_duration_since(now())),
        None => std::thread::park(),
    }
}

/// Parks this thread, at the longest for `limit` of real time.
pub(crate) fn park_for(limit: Duration) {
    std::thread::park_timeout(limit);
}
