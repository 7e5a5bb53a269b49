//! The primitives of the crate as users run it.

use std::io;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use crossbeam_channel::{Receiver, Sender, bounded};
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::thread::{JoinHandle, Thread, current as this_thread};
pub(crate) use std::thread_local;

/// How long a shutdown that cancels looks for calls which are just being pushed.
#[derive(Debug)]
pub(crate) struct LateArrivals {
    until: Instant,
}

impl LateArrivals {
    pub(crate) fn new() -> Self {
        Self {
            until: now() + Duration::from_millis(5),
        }
    }

    /// Waits for a moment; `false` when it is time to go on.
    pub(crate) fn wait(&mut self) -> bool {
        // Asleep, since on a busy core each yield would cost the time slices of all others; and not parked, since
        // that could swallow a wake-up that is meant for the caller's own code.
        std::thread::sleep(Duration::from_micros(50));
        now() < self.until
    }
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

/// Parks this thread until somebody unparks it or `deadline` comes; it may also wake without a reason.
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

/// Decides whether to look again for a while before going to sleep, and learns from what came of it.
///
/// Between two idle cores a hand-off takes a microsecond if the other side is awake and looking, and many
/// times that if it has to be woken. On one core it takes the least if both sides let each other run, rather than
/// sleep. But on a busy core, or for a task that takes long, either is time lost. So a try that was worth it is
/// followed by another, and each one that was not by a longer pause from trying.
#[derive(Debug, Default)]
pub(crate) struct Spinning {
    looking: Habit,
    yielding: Habit,
}

impl Spinning {
    /// What is worth it must not take longer.
    const LIMIT: Duration = Duration::from_micros(20);
    /// Looks between two readings of the clock.
    const LOOKS: u32 = 16;

    /// What `look` finds, now or in a moment.
    pub(crate) fn until<R>(&self, look: impl Fn() -> Option<R>) -> Option<R> {
        look()
            .or_else(|| self.looking.follow(|| Self::keep_looking(&look)))
            .or_else(|| self.yielding.follow(|| Self::let_others_run(&look)))
    }

    fn keep_looking<R>(look: impl Fn() -> Option<R>) -> (Option<R>, bool) {
        let mut since = None;
        loop {
            for _ in 0..Self::LOOKS {
                std::hint::spin_loop();
                let found = look();
                if found.is_some() {
                    return (found, true);
                }
            }
            let now = now();
            if now.duration_since(*since.get_or_insert(now)) >= Self::LIMIT {
                return (None, false);
            }
        }
    }

    fn let_others_run<R>(look: impl Fn() -> Option<R>) -> (Option<R>, bool) {
        let since = now();
        std::thread::yield_now();
        let found = look();
        let paid = found.is_some() && now().duration_since(since) < Self::LIMIT;
        (found, paid)
    }
}

/// Something to do again if it paid, and after a while if it did not.
#[derive(Debug, Default)]
struct Habit {
    /// Upper half: how many occasions to sit out after the last failure. Lower half: how many are left.
    /// Threads may overwrite each other's news; it is only a habit.
    pause: AtomicU32,
}

impl Habit {
    const LONGEST_PAUSE: u32 = 1 << 10;

    /// Does it, unless it is paused; it tells whether it paid.
    fn follow<R>(&self, it: impl FnOnce() -> (Option<R>, bool)) -> Option<R> {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause & 0xffff > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed);
            return None;
        }
        let (found, paid) = it();
        if !paid {
            let longer = (pause >> 16).clamp(1, Self::LONGEST_PAUSE / 2) * 2;
            self.pause.store(longer << 16 | longer, Ordering::Relaxed);
        } else if pause != 0 {
            self.pause.store(0, Ordering::Relaxed);
        }
        found
    }
}
