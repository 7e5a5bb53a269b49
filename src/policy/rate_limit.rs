//! At most so many calls in a period, with a burst.
//!
//! It is the generic cell rate algorithm. One number says when the next call would come if all calls came at an even pace. A
//! call may come before that time by as much as the burst allows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error as ThisError;

use super::failure::{Failure, FailureKind};
use super::pause::{Slept, sleep_until};
use super::retry_rule::RetryableError;
use crate::clock::Clock;
use crate::error::BuildError;
use crate::sync::{AtomicU64, Mutex, Ordering, after, nanos};

/// Lets so many calls through in a time, and refuses the others or makes them wait.
///
/// ```
/// use bulkman::policy::RateLimit;
/// use std::time::Duration;
///
/// let limit = RateLimit::new(100, Duration::from_secs(1))? // 100 a second, evenly,
///     .burst(2)                                            // and 2 at once after a quiet time
///     .name("geocoder");
/// assert!(limit.try_acquire().is_ok());
/// assert!(limit.try_acquire().is_ok());
/// let refused = limit.try_acquire().unwrap_err();
/// assert!(refused.retry_after <= Duration::from_millis(10));
///
/// let patient = limit.wait_up_to(Duration::from_secs(1));
/// patient.acquire()?; // waits for some 10 ms
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Over any time t it lets through at most the burst and t times the rate. Clones are one limit, with settings of their
/// own. Callers that wait get their turns in the order in which they asked.
#[derive(Clone)]
pub struct RateLimit {
    pace: Pace,
    name: Arc<str>,
    max_wait: Duration,
    clock: Clock,
    state: Arc<State>,
}

struct State {
    epoch: Instant,
    /// When all that was let through would have come at an even pace, in nanoseconds since the epoch.
    even: AtomicU64,
}

/// How calls follow each other, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: u64,
    burst: u32,
}

/// A turn: how long until it comes, and what is counted if it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    delay: u64,
    even: u64,
}

impl Pace {
    /// How much earlier than at an even pace a call may come: 292 years. A number holds twice as many nanoseconds, so that
    /// calls still count that have come as early as they may.
    const EARLIEST: u64 = 1 << 63;

    /// The turn of a call that comes `now`.
    fn turn(self, even: u64, now: u64) -> Turn {
        let even = even.max(now);
        let early = self.interval.saturating_mul(u64::from(self.burst) - 1);
        let early = early.min(Self::EARLIEST);
        match even.checked_add(self.interval) {
            Some(next) => Turn {
                delay: even.saturating_sub(early).saturating_sub(now),
                even: next,
            },
            // Another one after it could not be counted, so it does not come early.
            None => Turn {
                delay: even - now,
                even: u64::MAX,
            },
        }
    }
}

impl RateLimit {
    /// `calls` in each `period`, evenly, and as many at once after a quiet time. The time from one to the next is in whole
    /// nanoseconds, rounded up.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] if either is zero, or if there are more calls than nanoseconds.
    pub fn new(calls: u32, period: Duration) -> Result<Self, BuildError> {
        BuildError::check(calls >= 1, "calls", calls, "must be at least 1")?;
        let (period_nanos, of_calls) = (nanos(period), u64::from(calls));
        BuildError::check(
            period_nanos >= of_calls,
            "period",
            format_args!("{period:?}"),
            "must be at least a nanosecond for each call",
        )?;
        let pace = Pace {
            // Rounded down, more would pass than were promised.
            interval: period_nanos.div_ceil(of_calls),
            burst: calls,
        };
        Ok(Self {
            pace,
            name: "rate limit".into(),
            max_wait: Duration::ZERO,
            clock: Clock::system(),
            state: State::new(&Clock::system()),
        })
    }

    /// Sets how many calls may come at once after a quiet time. Default: all of a period; 1 makes them come evenly, and 0
    /// counts as 1. More than would come in 292 years count as so many.
    #[must_use]
    pub fn burst(mut self, calls: u32) -> Self {
        self.pace.burst = calls.max(1);
        self
    }

    /// Sets how long [`acquire`](Self::acquire) may wait for a turn. Default: it does not wait.
    #[must_use]
    pub fn wait_up_to(mut self, limit: Duration) -> Self {
        self.max_wait = limit;
        self
    }

    /// Names it, for errors. Default `rate limit`.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the clock that it goes by, and starts anew: set it before the limit is cloned. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self.state = State::new(&self.clock);
        self
    }

    /// A limit of this kind for each key, such as a tenant: see [`KeyedRateLimit`].
    #[must_use]
    pub fn by_key(self) -> KeyedRateLimit {
        KeyedRateLimit {
            limit: self,
            keys: Arc::default(),
        }
    }

    /// Takes a turn, if it is there now.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] says when it would come.
    pub fn try_acquire(&self) -> Result<(), RateLimited> {
        self.reserve(Duration::ZERO).map(drop)
    }

    /// Takes a turn, and waits for it no longer than [`wait_up_to`](Self::wait_up_to). Tells how long it has waited.
    ///
    /// The wait passes in the caller's thread. It does not begin if the turn comes too late, or not before the deadline of
    /// the code around it. If the call that it runs in is cancelled, the wait ends and the turn is lost.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] says when the turn would come.
    pub fn acquire(&self) -> Result<Duration, RateLimited> {
        let turn = self.reserve(self.longest_wait())?;
        self.wait_for(turn)
    }

    fn longest_wait(&self) -> Duration {
        // A turn at the deadline itself would come in vain.
        let in_time = super::remaining().map(|left| left.saturating_sub(Duration::from_nanos(1)));
        in_time.map_or(self.max_wait, |in_time| in_time.min(self.max_wait))
    }

    fn reserve(&self, longest: Duration) -> Result<u64, RateLimited> {
        let (pace, now) = (self.pace, self.since_epoch());
        let longest = nanos(longest);
        let take = |even| {
            let turn = pace.turn(even, now);
            (turn.delay <= longest).then_some(turn.even)
        };
        // ORDERING: Relaxed. The number stands for itself.
        let taken = self
            .state
            .even
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        match taken {
            Ok(even) => Ok(pace.turn(even, now).delay),
            Err(even) => Err(self.limited(pace.turn(even, now).delay)),
        }
    }

    fn limited(&self, delay: u64) -> RateLimited {
        RateLimited {
            name: Arc::clone(&self.name),
            retry_after: Duration::from_nanos(delay),
        }
    }

    fn since_epoch(&self) -> u64 {
        let now = self.clock.now();
        nanos(now.saturating_duration_since(self.state.epoch))
    }

    fn wait_for(&self, delay: u64) -> Result<Duration, RateLimited> {
        if delay == 0 {
            return Ok(Duration::ZERO);
        }
        let began = self.clock.now();
        let until = after(began, Duration::from_nanos(delay));
        let until = until.ok_or_else(|| self.limited(delay))?;
        match sleep_until(&self.clock, until, None) {
            Slept::Over => Ok(self.clock.now().saturating_duration_since(began)),
            Slept::Stopped => Err(self.limited(delay)),
        }
    }
}

impl State {
    fn new(clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            epoch: clock.now(),
            even: AtomicU64::new(0),
        })
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("name", &self.name)
            .field("interval", &Duration::from_nanos(self.pace.interval))
            .field("burst", &self.pace.burst)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}

/// A [`RateLimit`] for each key. From [`RateLimit::by_key`].
///
/// ```
/// use bulkman::policy::RateLimit;
/// use std::time::Duration;
///
/// let limit = RateLimit::new(1, Duration::from_secs(60))?.by_key();
/// assert!(limit.try_acquire("ada").is_ok());
/// assert!(limit.try_acquire("ada").is_err());
/// assert!(limit.try_acquire("grace").is_ok());
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// It forgets a key once all its turns are back. For such keys it looks again after as many calls as it remembers keys: so it
/// has at most twice as many as were in use at a time, and some 60 more. Clones share the keys.
#[derive(Clone)]
pub struct KeyedRateLimit {
    limit: RateLimit,
    keys: Arc<Mutex<Keys>>,
}

#[derive(Default)]
struct Keys {
    even: HashMap<Box<str>, u64>,
    /// After how many calls to look for keys that can be forgotten.
    look_in: usize,
}

/// So few keys are not worth a look.
const FEW_KEYS: usize = 64;

impl KeyedRateLimit {
    /// Takes a turn of `key`, if it is there now.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] says when it would come.
    pub fn try_acquire(&self, key: &str) -> Result<(), RateLimited> {
        self.reserve(key, Duration::ZERO).map(drop)
    }

    /// Takes a turn of `key`, and waits for it no longer than [`wait_up_to`](RateLimit::wait_up_to). As
    /// [`RateLimit::acquire`].
    ///
    /// # Errors
    ///
    /// [`RateLimited`] says when the turn would come.
    pub fn acquire(&self, key: &str) -> Result<Duration, RateLimited> {
        let turn = self.reserve(key, self.limit.longest_wait())?;
        self.limit.wait_for(turn)
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.lock().even.len()
    }

    /// Whether it remembers no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn reserve(&self, key: &str, longest: Duration) -> Result<u64, RateLimited> {
        let now = self.limit.since_epoch();
        let mut keys = self.keys.lock();
        keys.forget_idle(now);
        // One look at the map, as long as the key is known.
        let known = keys.even.get_mut(key);
        let even = known.as_deref().copied().unwrap_or(0);
        let turn = self.limit.pace.turn(even, now);
        if turn.delay > nanos(longest) {
            return Err(self.limit.limited(turn.delay));
        }
        if let Some(known) = known {
            *known = turn.even;
        } else {
            keys.even.insert(key.into(), turn.even);
        }
        Ok(turn.delay)
    }
}

impl Keys {
    /// A key whose turns are all back is as good as a new one. A look at all of them is paid for by as many calls.
    fn forget_idle(&mut self, now: u64) {
        if self.look_in == 0 {
            self.even.retain(|_, even| *even > now);
            let left = self.even.len();
            if self.even.capacity() > 4 * left.max(FEW_KEYS) {
                self.even.shrink_to(2 * left);
            }
            self.look_in = left.max(FEW_KEYS.saturating_sub(left));
        }
        self.look_in -= 1;
    }
}

impl fmt::Debug for KeyedRateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimit")
            .field("limit", &self.limit)
            .field("keys", &self.len())
            .finish()
    }
}

/// A call was refused by a [`RateLimit`]. It never started.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("rate limit `{name}` is used up: retry in {retry_after:.1?}")]
#[non_exhaustive]
pub struct RateLimited {
    /// The limit's name.
    pub name: Arc<str>,
    /// When the next turn comes.
    pub retry_after: Duration,
}

impl RetryableError for RateLimited {
    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

impl Failure for RateLimited {
    fn failure_kind(&self) -> FailureKind {
        FailureKind::RateLimited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_an_even_pace_after_the_burst() {
        for (interval, burst) in [(10, 1), (10, 3), (7, 5)] {
            let pace = Pace { interval, burst };
            let (mut even, now) = (0, 1_000);
            for n in 0..20_u64 {
                let turn = pace.turn(even, now);
                let expected = interval * n.saturating_sub(u64::from(burst) - 1);
                assert_eq!(turn.delay, expected, "{pace:?}, call {n}");
                even = turn.even;
            }
            // After a quiet time the burst is back, and no more than that.
            let later = even + 1_000_000;
            assert_eq!(pace.turn(even, later).delay, 0);
            assert_eq!(pace.turn(even, later).even, later + interval);
        }
    }

    #[test]
    fn extremes() {
        for burst in [1, 2, u32::MAX] {
            let slow = Pace {
                interval: u64::MAX,
                burst,
            };
            let first = slow.turn(0, 5);
            assert_eq!(first.delay, 0, "{burst}");
            assert_eq!(slow.turn(first.even, 5).delay, u64::MAX - 5, "{burst}");
        }
    }
}
