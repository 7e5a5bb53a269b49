//! Arithmetic of limits and deadlines. A deadline that no `Instant` can hold is `None`, and means never.

use std::time::{Duration, Instant};

/// A time limit in 8 bytes: nanoseconds, of which the largest number means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(u64);

impl Limit {
    pub(crate) const NONE: Self = Self(u64::MAX);

    #[inline]
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        limit.map_or(Self::NONE, |limit| Self(nanos(limit)))
    }

    #[inline]
    pub(crate) fn of_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[inline]
    pub(crate) fn in_nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// As it was given to [`new`](Self::new), but for what is beyond 584 years.
    #[inline]
    pub(crate) fn get(self) -> Option<Duration> {
        (self != Self::NONE).then(|| self.duration())
    }

    /// The same, of which none is the longest.
    pub(crate) fn longest(self) -> Duration {
        if self == Self::NONE {
            Duration::MAX
        } else {
            self.duration()
        }
    }

    /// What is left of it after so long.
    pub(crate) fn after(self, passed: Duration) -> Self {
        if self == Self::NONE {
            self
        } else {
            Self(self.0.saturating_sub(nanos(passed)))
        }
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

/// A duration in 8 bytes: nanoseconds, at most 584 years.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `start + duration`; `None` if no `Instant` can hold it.
pub(crate) fn after(start: Instant, duration: Duration) -> Option<Instant> {
    start.checked_add(duration)
}

/// The earlier of two deadlines.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The shorter of two limits, of which `None` is the longest.
pub(crate) fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
