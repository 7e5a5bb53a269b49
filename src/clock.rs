//! Time as a collaborator, so that tests move it instead of sleeping.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::sync::{self, AtomicU64, Condvar, MutexGuard, Ordering, nanos};

/// Where a bulkhead or a [`CircuitBreaker`](crate::CircuitBreaker) reads the time.
///
/// The default is the system's monotonic clock. Tests hand in a [`ManualClock`] and move it, so that
/// a queue timeout of an hour passes in no time.
///
/// ```
/// use bulkman::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let manual = ManualClock::new();
/// let clock = Clock::from(manual.clone());
/// let before = clock.now();
/// manual.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - before, Duration::from_secs(3600));
/// ```
#[derive(Clone, Default)]
pub struct Clock(Option<ManualClock>);

impl Clock {
    /// The system's monotonic clock, [`Instant::now`].
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// The time now.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => sync::now(),
            Some(manual) => manual.now(),
        }
    }

    /// The wall clock, in step with this clock.
    pub(crate) fn wall_now(&self) -> SystemTime {
        match &self.0 {
            None => sync::wall_now(),
            Some(manual) => manual.wall_start + manual.passed(),
        }
    }

    /// This clock and the wall clock at the same moment: for turning a time of the one into a time of the other.
    pub(crate) fn both(&self) -> (Instant, SystemTime) {
        match &self.0 {
            None => sync::both_clocks(),
            Some(manual) => {
                let passed = manual.passed();
                (manual.start + passed, manual.wall_start + passed)
            }
        }
    }

    /// When to look in system time whether this clock has reached `deadline`.
    pub(crate) fn look_at(&self, deadline: Instant) -> Instant {
        match &self.0 {
            None => deadline,
            // A manual clock may get there at any moment.
            Some(_) => sync::now() + Duration::from_millis(1),
        }
    }

    /// Sleeps on `condvar` until it is notified or this clock may have reached `deadline`. Callers
    /// look at both again, as after any wake-up.
    pub(crate) fn wait_until<T>(
        &self,
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) {
        match (&self.0, deadline) {
            // A manual clock may get there at any moment: look every millisecond.
            (Some(_), Some(_)) => sync::wait_for(condvar, guard, Duration::from_millis(1)),
            _ => sync::wait_until(condvar, guard, deadline),
        }
    }

    /// Parks this thread until it is unparked or this clock may have reached `deadline`, or for no
    /// reason: callers look again.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) {
        match (&self.0, deadline) {
            (Some(_), Some(_)) => sync::park_for(Duration::from_millis(1)),
            _ => sync::park_until(deadline),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Clock(system)"),
            Some(_) => f.write_str("Clock(manual)"),
        }
    }
}

impl From<ManualClock> for Clock {
    fn from(manual: ManualClock) -> Self {
        Self(Some(manual))
    }
}

/// A clock that stands still until it is told to move, for tests.
///
/// Clones share one time. The wall clock, which a circuit in a storage needs, moves along. A waiter notices within about a
/// millisecond of real time that a manual clock has passed its deadline.
#[derive(Clone)]
pub struct ManualClock {
    start: Instant,
    wall_start: SystemTime,
    passed_nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that shows the present and stays there.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: sync::now(),
            wall_start: sync::wall_now(),
            passed_nanos: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The time that this clock shows.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.start + self.passed()
    }

    fn passed(&self) -> Duration {
        // ORDERING: Acquire pairs with `advance`: a thread that sees the later time also sees what happened before the
        // clock was moved.
        Duration::from_nanos(self.passed_nanos.load(Ordering::Acquire))
    }

    /// Moves the clock forward, at most by 584 years in all.
    pub fn advance(&self, by: Duration) {
        let nanos = nanos(by);
        // ORDERING: Release, see `now`.
        let _ = self
            .passed_nanos
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |passed| {
                Some(passed.saturating_add(nanos))
            });
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").finish_non_exhaustive()
    }
}
