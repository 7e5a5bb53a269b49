//! Trouble on purpose, for drills and for tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::pause::{Slept, sleep_until};
use super::random::Random;
use crate::clock::Clock;
use crate::sync::{AtomicBool, AtomicU64, Ordering, after};

/// Delays, fails, or panics in a share of the calls, when it is switched on: to see in a drill whether the rest holds.
///
/// ```
/// use bulkman::policy::Chaos;
/// use std::io;
/// use std::time::Duration;
///
/// let chaos = Chaos::new()
///     .latency(0.2, Duration::from_millis(300)) // every fifth call takes so much longer
///     .errors(0.1, || io::Error::from(io::ErrorKind::ConnectionReset))
///     .seed(7);
/// assert!(chaos.call(|| Ok(1)).is_ok()); // it is off
///
/// let chaos = chaos.latency(0.0, Duration::ZERO).errors(1.0, || io::ErrorKind::ConnectionReset.into());
/// chaos.switch_on();
/// assert!(chaos.call(|| Ok(1)).is_err());
/// assert_eq!(chaos.stats().errors, 1);
/// ```
///
/// It is off until [`switch_on`](Self::switch_on), and costs one look at a flag then. Clones share the switch, the random
/// numbers and the counters. In a [`Pipeline`](super::Pipeline) it is the innermost layer: it stands for the dependency.
///
/// Shares run from 0, never, to 1, always; beyond that they count as the nearest of both, and no number counts as 0.
pub struct Chaos<E> {
    latency: (f64, Duration),
    errors: Option<(f64, MakeError<E>)>,
    panics: f64,
    refusals: f64,
    clock: Clock,
    random: Random,
    shared: Arc<Shared>,
}

pub(crate) type MakeError<E> = Arc<dyn Fn() -> E + Send + Sync>;

#[derive(Default)]
struct Shared {
    is_on: AtomicBool,
    delays: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    refusals: AtomicU64,
}

/// How much trouble a [`Chaos`] has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChaosStats {
    /// Calls that were delayed.
    pub delays: u64,
    /// Calls that failed in place of their task.
    pub errors: u64,
    /// Calls that panicked in place of their task.
    pub panics: u64,
    /// Calls that were refused.
    pub refusals: u64,
}

impl<E> Chaos<E> {
    /// No trouble of any kind, and switched off.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latency: (0.0, Duration::ZERO),
            errors: None,
            panics: 0.0,
            refusals: 0.0,
            clock: Clock::system(),
            random: Random::new(),
            shared: Arc::default(),
        }
    }

    /// Lets a share of the calls take `longer`. In a bulkhead they keep their worker meanwhile, as the dependency would
    /// make them.
    #[must_use]
    pub fn latency(mut self, share: f64, longer: Duration) -> Self {
        self.latency = (share, longer);
        self
    }

    /// Lets a share of the calls fail with what `error` makes, in place of their task.
    #[must_use]
    pub fn errors(mut self, share: f64, error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        self.errors = Some((share, Arc::new(error)));
        self
    }

    /// Lets a share of the calls panic, in place of their task.
    #[must_use]
    pub fn panics(mut self, share: f64) -> Self {
        self.panics = share;
        self
    }

    /// Lets a share of the calls be refused as [`Full`](crate::BulkheadError::Full). Only a [`Pipeline`](super::Pipeline)
    /// with a bulkhead does so, in the bulkhead's place, whose own numbers do not change. [`call`](Self::call) and a pipeline
    /// without a bulkhead refuse nothing.
    #[must_use]
    pub fn refusals(mut self, share: f64) -> Self {
        self.refusals = share;
        self
    }

    /// Sets where the random numbers begin, for tests that are to repeat. Of several threads it is still open which gets
    /// which number.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = Random::from_seed(seed);
        self
    }

    /// Sets the clock that latency goes by. Default: the system's; in a pipeline, the pipeline's.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Begins the trouble, for all clones.
    pub fn switch_on(&self) {
        self.shared.is_on.store(true, Ordering::Relaxed);
    }

    /// Ends the trouble, for all clones. A latency that has begun ends within some 10 ms.
    pub fn switch_off(&self) {
        self.shared.is_on.store(false, Ordering::Relaxed);
    }

    /// Whether it makes trouble now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        // ORDERING: Relaxed. The flag stands for itself.
        self.shared.is_on.load(Ordering::Relaxed)
    }

    /// How much trouble it has made, all clones together.
    #[must_use]
    pub fn stats(&self) -> ChaosStats {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ChaosStats {
            delays: read(&self.shared.delays),
            errors: read(&self.shared.errors),
            panics: read(&self.shared.panics),
            refusals: read(&self.shared.refusals),
        }
    }

    /// Calls `f`, with trouble before it or in its place. A latency comes first. If the call that it is in is cancelled,
    /// or the trouble is [switched off](Self::switch_off), the latency ends early.
    ///
    /// # Errors
    ///
    /// That of `f`, or an injected one.
    ///
    /// # Panics
    ///
    /// As `f`, and where a panic is injected.
    pub fn call<T>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if !self.is_on() {
            return f();
        }
        let (share, longer) = self.latency;
        if self.hits(share, &self.shared.delays) {
            self.sleep(longer);
            if !self.is_on() {
                return f();
            }
        }
        if self.hits(self.panics, &self.shared.panics) {
            panic!("chaos: a panic on purpose");
        }
        match &self.errors {
            Some((share, error)) if self.hits(*share, &self.shared.errors) => Err(error()),
            _ => f(),
        }
    }

    /// The same trouble for calls with errors of another type, whose switch, random numbers and counters both share. Errors are
    /// injected only if `error` makes some.
    pub(crate) fn with_errors<F>(&self, share: f64, error: Option<MakeError<F>>) -> Chaos<F> {
        Chaos {
            latency: self.latency,
            errors: error.map(|error| (share, error)),
            panics: self.panics,
            refusals: self.refusals,
            clock: self.clock.clone(),
            random: self.random.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether this call is to be refused.
    pub(super) fn refuses(&self) -> bool {
        self.is_on() && self.hits(self.refusals, &self.shared.refusals)
    }

    pub(super) fn set_clock(&mut self, clock: &Clock) {
        self.clock = clock.clone();
    }

    fn sleep(&self, longer: Duration) {
        // A time that no clock shows never comes: the latency of a dependency that hangs.
        let slice = Duration::from_secs(3600);
        let stop: &dyn Fn() -> bool = &|| !self.is_on();
        loop {
            let now = self.clock.now();
            let end = after(now, longer);
            let until = end.or_else(|| after(now, slice)).unwrap_or(now);
            if sleep_until(&self.clock, until, Some(stop)) == Slept::Stopped || end.is_some() {
                return;
            }
        }
    }

    fn hits(&self, share: f64, counter: &AtomicU64) -> bool {
        // A number from 0 to just below 1, as many as an `f64` tells apart.
        let drawn = (self.random.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let hits = drawn < share;
        if hits {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        hits
    }
}

impl<E> Default for Chaos<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for Chaos<E> {
    fn clone(&self) -> Self {
        Self {
            latency: self.latency,
            errors: self.errors.clone(),
            panics: self.panics,
            refusals: self.refusals,
            clock: self.clock.clone(),
            random: self.random.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E> fmt::Debug for Chaos<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("is_on", &self.is_on())
            .field("latency", &self.latency)
            .field(
                "errors",
                &self.errors.as_ref().map_or(0.0, |(share, _)| *share),
            )
            .field("panics", &self.panics)
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}
