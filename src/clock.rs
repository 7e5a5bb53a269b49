//! Time as a collaborator, so that tests move it instead of sleeping.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::sync::{self, AtomicU64, Condvar, MutexGuard, Ordering, nanos};

/// Half of the range of a shift of the wall clock, in nanoseconds: 292 years.
const NO_SHIFT: u64 = 1 << 63;

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

    /// This clock and the wall clock at the same moment: for turning a time of the one into a time of the other.
    pub(crate) fn both(&self) -> (Instant, SystemTime) {
        match &self.0 {
            None => sync::both_clocks(),
            Some(manual) => {
                let passed = manual.passed();
                (manual.start + passed, manual.wall_after(passed))
            }
        }
    }

    /// Whether both show the same time.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(&one.times, &other.times),
            _ => false,
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
/// Clones share one time. A waiter notices within about a millisecond of real time that a manual clock has passed its
/// deadline.
///
/// # The wall clock
///
/// A circuit in a storage also reads a wall clock. That clock moves along with this one, and a test can set it ahead or
/// behind, as somebody sets the clock of a host:
///
/// ```
/// use bulkman::ManualClock;
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let (now, wall_now) = (clock.now(), clock.wall_now());
/// clock.set_wall_behind(Duration::from_secs(3600));
/// assert_eq!(clock.now(), now);
/// assert_eq!(clock.wall_now(), wall_now - Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct ManualClock {
    start: Instant,
    wall_start: SystemTime,
    times: Arc<Times>,
}

struct Times {
    passed_nanos: AtomicU64,
    /// How far the wall clock is ahead of this clock, plus [`NO_SHIFT`].
    wall_shift_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows the present and stays there.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: sync::now(),
            wall_start: sync::wall_now(),
            times: Arc::new(Times {
                passed_nanos: AtomicU64::new(0),
                wall_shift_nanos: AtomicU64::new(NO_SHIFT),
            }),
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
        Duration::from_nanos(self.times.passed_nanos.load(Ordering::Acquire))
    }

    /// The time that the wall clock beside this clock shows.
    #[must_use]
    pub fn wall_now(&self) -> SystemTime {
        self.wall_after(self.passed())
    }

    fn wall_after(&self, passed: Duration) -> SystemTime {
        // ORDERING: Acquire pairs with the stores below, as in `passed`.
        let shift = self.times.wall_shift_nanos.load(Ordering::Acquire);
        let in_step = self.wall_start + passed;
        if shift >= NO_SHIFT {
            in_step + Duration::from_nanos(shift - NO_SHIFT)
        } else {
            in_step - Duration::from_nanos(NO_SHIFT - shift)
        }
    }

    /// Sets the wall clock ahead of where it would be in step with this clock, at most by 292 years. Zero brings the two
    /// in step again. This clock itself does not move, so nothing is due earlier by it.
    pub fn set_wall_ahead(&self, by: Duration) {
        let shift = NO_SHIFT.saturating_add(nanos(by));
        // ORDERING: Release, see `wall_after`.
        self.times.wall_shift_nanos.store(shift, Ordering::Release);
    }

    /// Sets the wall clock behind where it would be in step with this clock, at most by 292 years. Zero brings the two in
    /// step again. This clock itself does not move.
    pub fn set_wall_behind(&self, by: Duration) {
        let shift = NO_SHIFT.saturating_sub(nanos(by));
        // ORDERING: Release, see `wall_after`.
        self.times.wall_shift_nanos.store(shift, Ordering::Release);
    }

    /// Moves the clock forward, at most by 584 years in all.
    pub fn advance(&self, by: Duration) {
        let nanos = nanos(by);
        // ORDERING: Release, see `now`.
        let _ =
            self.times
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
