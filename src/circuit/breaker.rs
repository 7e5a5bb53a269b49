//! The machine behind a lock, with a hint in front of the lock.
//!
//! The hint is one word, generation and kind, rewritten under the lock after every event. It lets the
//! common cases go without the lock: a call through a closed circuit, a success that changes nothing,
//! and every refusal, so that no refused caller ever waits for a thread that is settling a call.

use std::fmt;
use std::num::NonZeroU64;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::machine::{Admit, CircuitChange, CircuitState, Machine, Ticket, Transition, Verdict};
use crate::clock::Clock;
use crate::config::{CircuitBreakerConfig, check_name};
use crate::error::{BuildError, RetryAfter};
use crate::panics::{catch, contain, note};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Stops calls to a dependency that keeps failing, and finds out when it is back.
///
/// A bulkhead has one when its configuration says so, and then uses it by itself. It is also of use
/// alone, around calls that need no thread pool:
///
/// ```
/// use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitError};
///
/// let breaker = CircuitBreaker::new("tax-service", CircuitBreakerConfig::default().failure_threshold(2))?;
/// for _ in 0..2 {
///     let failed = breaker.call(|| Err::<(), _>("connection refused"));
///     assert!(matches!(failed, Err(CircuitError::Failed("connection refused"))));
/// }
/// assert!(breaker.is_open());
/// let refused = breaker.call(|| Ok::<_, &str>(19));
/// assert!(matches!(refused, Err(CircuitError::Open(_))));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// Where the outcome is found out elsewhere, take a permit and settle it:
///
/// ```
/// # use bulkman::{CircuitBreaker, CircuitBreakerConfig};
/// # let breaker = CircuitBreaker::new("tax-service", CircuitBreakerConfig::default())?;
/// match breaker.try_acquire() {
///     Ok(permit) => permit.record_success(), // or record_failure; dropped: as if never asked
///     Err(open) => println!("try again in {:?}", open.retry_after),
/// }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// Share it as `Arc<CircuitBreaker>`.
pub struct CircuitBreaker {
    name: Arc<str>,
    clock: Clock,
    machine: Mutex<Machine>,
    /// `generation << 3 | kind`.
    hint: AtomicU64,
    /// When the last opening ends, in nanoseconds since `epoch`; `u64::MAX`: never. Written before a
    /// hint that says open.
    open_until: AtomicU64,
    epoch: Instant,
    on_change: Vec<ChangeCallback>,
}

type ChangeCallback = Box<dyn Fn(&CircuitChange) + Send + Sync>;

const KIND_BITS: u32 = 3;
const KIND: u64 = (1 << KIND_BITS) - 1;
/// Closed, and a success would change nothing.
const SPOTLESS: u64 = 0;
const CLOSED: u64 = 1;
const OPEN: u64 = 2;
const HALF_OPEN: u64 = 3;
/// Half-open, and all probes are out.
const HALF_OPEN_FULL: u64 = 4;

impl CircuitBreaker {
    /// A closed breaker on the system's clock.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`], see [`CircuitBreakerConfig::validate`]; the name must not be empty.
    pub fn new(name: impl Into<String>, config: CircuitBreakerConfig) -> Result<Self, BuildError> {
        Self::builder(name, config).build()
    }

    /// A breaker with a clock of its own or with callbacks.
    pub fn builder(name: impl Into<String>, config: CircuitBreakerConfig) -> CircuitBreakerBuilder {
        CircuitBreakerBuilder {
            name: name.into(),
            config,
            clock: Clock::system(),
            on_change: Vec::new(),
        }
    }

    /// Asks to make one call.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, or half-open with all its probes out.
    pub fn try_acquire(&self) -> Result<CircuitPermit<'_>, CircuitOpen> {
        match self.admit() {
            Ok(ticket) => Ok(CircuitPermit {
                breaker: self,
                ticket: Some(ticket),
            }),
            Err(retry_after) => Err(CircuitOpen {
                name: Arc::clone(&self.name),
                retry_after,
            }),
        }
    }

    /// Runs `f` in this thread if the circuit lets it pass. `Err` and a panic are failures; the panic
    /// goes on to the caller.
    ///
    /// # Errors
    ///
    /// [`CircuitError::Open`] if `f` was not run, [`CircuitError::Failed`] with its own error.
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CircuitError<E>> {
        self.call_if(|_| true, f)
    }

    /// Like [`call`](Self::call), but only those errors count as failures that `is_failure` says; the
    /// others count as successes, since the dependency did answer.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_if<T, E>(
        &self,
        is_failure: impl FnOnce(&E) -> bool,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CircuitError<E>> {
        let permit = self.try_acquire()?;
        let outcome = catch(|| {
            let result = f();
            let failed = result.as_ref().is_err_and(is_failure);
            (result, failed)
        });
        match outcome {
            Ok((result, failed)) => {
                permit.record(failed);
                result.map_err(CircuitError::Failed)
            }
            Err(payload) => {
                permit.record_failure();
                std::panic::resume_unwind(payload)
            }
        }
    }

    /// Counts a success that was seen elsewhere, without a permit. In the half-open state it counts
    /// like a probe's.
    pub fn record_success(&self) {
        self.observe(Verdict::Success);
    }

    /// Counts a failure that was seen elsewhere, without a permit. In the half-open state it counts
    /// like a probe's.
    pub fn record_failure(&self) {
        self.observe(Verdict::Failure);
    }

    /// The state now. A circuit whose isolation is over stays [`Open`](CircuitState::Open) until the
    /// next call asks.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        match self.hint.load(Ordering::Acquire) & KIND {
            SPOTLESS | CLOSED => CircuitState::Closed,
            OPEN => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        }
    }

    /// Whether the state is [`Closed`](CircuitState::Closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == CircuitState::Closed
    }

    /// Whether the state is [`Open`](CircuitState::Open).
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state() == CircuitState::Open
    }

    /// Whether the state is [`HalfOpen`](CircuitState::HalfOpen).
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.state() == CircuitState::HalfOpen
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Closes the circuit and forgets all outcomes. Calls under way do not count any more.
    pub fn reset(&self) {
        self.with_machine(Machine::close);
    }

    /// Opens the circuit now, for the isolation duration, as a failure would.
    pub fn force_open(&self) {
        let now = self.clock.now();
        self.with_machine(|machine| machine.open(now));
    }

    /// A ticket, or how long the circuit stays open.
    pub(crate) fn admit(&self) -> Result<Ticket, Duration> {
        // ORDERING: Acquire, pairs with the store in `with_machine`.
        let hint = self.hint.load(Ordering::Acquire);
        let kind = hint & KIND;
        let now = match (kind, NonZeroU64::new(hint >> KIND_BITS)) {
            (SPOTLESS | CLOSED, Some(generation)) => return Ok(Ticket(generation)),
            (HALF_OPEN_FULL, _) => return Err(Duration::ZERO),
            (OPEN, _) => {
                let now = self.clock.now();
                let until = self.open_until.load(Ordering::Acquire);
                let passed = self.nanos(now);
                if passed < until {
                    return Err(if until == u64::MAX {
                        Duration::MAX
                    } else {
                        Duration::from_nanos(until - passed)
                    });
                }
                now
            }
            _ => self.clock.now(),
        };
        match self.with_machine_and(|machine| machine.admit(now)) {
            Admit::Pass(ticket) => Ok(ticket),
            Admit::Refuse { retry_after } => Err(retry_after),
        }
    }

    /// The end of a call that had a ticket.
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict) {
        let hint = self.hint.load(Ordering::Acquire);
        let changes_nothing = hint >> KIND_BITS != ticket.0.get()
            || match verdict {
                Verdict::Success => hint & KIND == SPOTLESS,
                Verdict::Failure => false,
                Verdict::None => matches!(hint & KIND, SPOTLESS | CLOSED),
            };
        if changes_nothing {
            return;
        }
        let now = self.now_for(verdict);
        self.with_machine(|machine| machine.settle(ticket, verdict, now));
    }

    fn observe(&self, verdict: Verdict) {
        if verdict == Verdict::Success && self.hint.load(Ordering::Acquire) & KIND == SPOTLESS {
            return;
        }
        let now = self.now_for(verdict);
        self.with_machine(|machine| machine.observe(verdict, now));
    }

    /// Only a failure needs the time: it may open the circuit.
    fn now_for(&self, verdict: Verdict) -> Instant {
        match verdict {
            Verdict::Failure => self.clock.now(),
            Verdict::Success | Verdict::None => self.epoch,
        }
    }

    fn with_machine(&self, event: impl FnOnce(&mut Machine) -> Option<Transition>) {
        self.with_machine_and(|machine| ((), event(machine)));
    }

    /// The one place that changes the machine: event, hint, unlock, then the callbacks.
    fn with_machine_and<R>(
        &self,
        event: impl FnOnce(&mut Machine) -> (R, Option<Transition>),
    ) -> R {
        let (answer, transition) = {
            let mut machine = self.machine.lock();
            let (answer, transition) = event(&mut machine);
            let kind = match machine.state() {
                CircuitState::Closed if machine.is_spotless() => SPOTLESS,
                CircuitState::Closed => CLOSED,
                CircuitState::Open => OPEN,
                CircuitState::HalfOpen if machine.is_probing_at_the_limit() => HALF_OPEN_FULL,
                CircuitState::HalfOpen => HALF_OPEN,
            };
            if let Some(until) = machine.open_until() {
                let nanos = until.map_or(u64::MAX, |until| self.nanos(until));
                self.open_until.store(nanos, Ordering::Release);
            }
            // ORDERING: Release, who sees "open" also sees until when.
            self.hint
                .store(machine.generation() << KIND_BITS | kind, Ordering::Release);
            (answer, transition)
        };
        if let Some((from, to, sequence)) = transition {
            self.tell(from, to, sequence);
        }
        answer
    }

    fn tell(&self, from: CircuitState, to: CircuitState, sequence: u64) {
        let name = &self.name;
        note(|| match to {
            CircuitState::Open => log::warn!("circuit `{name}` is open, it was {from}"),
            _ => log::info!("circuit `{name}` is {to}, it was {from}"),
        });
        let change = CircuitChange {
            name: Arc::clone(name),
            from,
            to,
            sequence,
        };
        for callback in &self.on_change {
            contain(name, "a circuit callback", || callback(&change));
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

// A panic that passes through leaves nothing half-done: there is no user code under the lock.
impl UnwindSafe for CircuitBreaker {}
impl RefUnwindSafe for CircuitBreaker {}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Builds a [`CircuitBreaker`] with collaborators, see [`CircuitBreaker::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct CircuitBreakerBuilder {
    name: String,
    config: CircuitBreakerConfig,
    clock: Clock,
    on_change: Vec<ChangeCallback>,
}

impl CircuitBreakerBuilder {
    /// Sets the clock that decides when the isolation is over. Default: the system's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Adds a callback for changes of state. It runs in the thread that caused the change, under no
    /// lock; a panic in it is contained and logged. Callbacks of changes that follow closely on each
    /// other may run at the same time on several threads: [`CircuitChange::sequence`] tells the order.
    pub fn on_change(mut self, callback: impl Fn(&CircuitChange) + Send + Sync + 'static) -> Self {
        self.on_change.push(Box::new(callback));
        self
    }

    /// The breaker, closed.
    ///
    /// # Errors
    ///
    /// As [`CircuitBreaker::new`].
    pub fn build(self) -> Result<CircuitBreaker, BuildError> {
        check_name("name", &self.name)?;
        self.config.validate()?;
        let machine = Machine::new(self.config);
        let kind = if machine.is_spotless() {
            SPOTLESS
        } else {
            CLOSED
        };
        Ok(CircuitBreaker {
            name: self.name.into(),
            epoch: self.clock.now(),
            clock: self.clock,
            hint: AtomicU64::new(machine.generation() << KIND_BITS | kind),
            machine: Mutex::new(machine),
            open_until: AtomicU64::new(0),
            on_change: self.on_change,
        })
    }
}

impl fmt::Debug for CircuitBreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The right to make one call through a [`CircuitBreaker`].
///
/// # What dropping it does
///
/// A permit that is dropped without a verdict gives its turn back, as if it had never been asked for.
#[must_use = "a dropped permit gives its turn back: settle it with record_success or record_failure"]
#[derive(Debug)]
pub struct CircuitPermit<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Option<Ticket>,
}

impl CircuitPermit<'_> {
    /// The call went well.
    pub fn record_success(self) {
        self.record(false);
    }

    /// The call failed.
    pub fn record_failure(self) {
        self.record(true);
    }

    fn record(mut self, failed: bool) {
        if let Some(ticket) = self.ticket.take() {
            let verdict = if failed {
                Verdict::Failure
            } else {
                Verdict::Success
            };
            self.breaker.settle(ticket, verdict);
        }
    }
}

impl Drop for CircuitPermit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, Verdict::None);
        }
    }
}

/// The circuit lets no call pass now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("circuit `{name}` is open: {}", RetryAfter(*.retry_after))]
#[non_exhaustive]
pub struct CircuitOpen {
    /// The breaker's name.
    pub name: Arc<str>,
    /// How long the circuit stays open; zero while it is half-open and all its probes are out.
    pub retry_after: Duration,
}

/// Why [`CircuitBreaker::call`] gave no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CircuitError<E> {
    /// The circuit is open; the function was not run.
    #[error(transparent)]
    Open(#[from] CircuitOpen),
    /// The function's own error.
    #[error(transparent)]
    Failed(E),
}
