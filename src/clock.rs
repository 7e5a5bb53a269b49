//! Time as a collaborator, so that tests move it instead of sleeping.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::sync::{self, AtomicU64, Condvar, MutexGuard, Ordering};

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
            // Nobody can tell how long a manual clock takes to get there.
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
            // Nobody can tell how long a manual clock takes to get there: look every millisecond.
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
/// Clones share one time. Where a wall clock is needed, for a circuit in a storage, it moves along. A waiter whose deadline a manual clock passes notices within about a
/// millisecond of real time.
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
        // ORDERING: Acquire pairs with `advance`: who sees the later time also sees what happened
        // before the clock was moved.
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

/// A time limit in 8 bytes: nanoseconds, of which the largest number means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(u64);

impl Limit {
    pub(crate) const NONE: Self = Self(u64::MAX);

    #[inline]
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        limit.map_or(Self::NONE, |limit| Self(nanos(limit)))
    }

    pub(crate) fn of_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) fn in_nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// When a limit that counts from `start` is over; `None`: never.
    #[inline]
    pub(crate) fn from(self, start: Instant) -> Option<Instant> {
        if self == Self::NONE {
            None
        } else {
            after(start, self.duration())
        }
    }
}

/// A duration in 8 bytes: nanoseconds, held at 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `start + duration`, or `None`, which means never, if no `Instant` can hold it.
pub(crate) fn after(start: Instant, duration: Duration) -> Option<Instant> {
    start.checked_add(duration)
}

/// The earlier of two deadlines, where `None` means never.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
