//! The facade of a circuit, and the permits for single calls.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::config::CircuitBreakerConfig;
use super::locked::{ChangeCallback, Circuit};
use super::machine::{CircuitChange, CircuitState, Ticket, Verdict};
use super::storage::CircuitStorage;
use super::synchronizer::Attachment;
use crate::clock::Clock;
use crate::error::{BuildError, RetryAfter};
use crate::panic::catch;

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
///
/// # What dropping it does
///
/// A circuit that is kept in a [`CircuitStorage`] leaves it. Its last change is still written, if the storage answers
/// and the process goes on for so long; [`flush`](Self::flush) waits for that, and so does the end of a bulkhead.
pub struct CircuitBreaker {
    // Goes first, so that the synchronizer of a shared circuit has the last reference, and drops the callbacks.
    circuit: Arc<Circuit>,
    /// Where the circuit is kept, if it is shared.
    attachment: Option<Attachment>,
}

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
            storage: None,
        }
    }

    /// Asks to make one call.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, or half-open with all its probes out.
    pub fn try_acquire(&self) -> Result<CircuitPermit<'_>, CircuitOpen> {
        match self.circuit.admit() {
            Ok(ticket) => Ok(CircuitPermit {
                breaker: self,
                ticket: Some(ticket),
            }),
            Err(retry_after) => Err(CircuitOpen {
                name: Arc::clone(self.circuit.name()),
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
        self.circuit.observe(Verdict::Success);
    }

    /// Counts a failure that was seen elsewhere, without a permit. In the half-open state it counts
    /// like a probe's.
    pub fn record_failure(&self) {
        self.circuit.observe(Verdict::Failure);
    }

    /// The state now. A circuit whose isolation is over stays [`Open`](CircuitState::Open) until the next call asks; one
    /// that is kept in a storage goes on by itself.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.circuit.state()
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
        self.circuit.name()
    }

    /// Closes the circuit and forgets all outcomes. Calls under way do not count any more. A shared circuit is closed
    /// for everybody, also if a peer has opened it.
    pub fn reset(&self) {
        self.circuit.reset();
    }

    /// Opens the circuit now, for the isolation duration, as a failure would.
    pub fn force_open(&self) {
        self.circuit.force_open();
    }

    /// Waits until the storage has each change of state that was made so far, at the longest for `limit`; whether it
    /// has. It does not wait while the storage is known not to answer. Without a storage there is nothing to wait for.
    pub fn flush(&self, limit: Duration) -> bool {
        self.attachment
            .as_ref()
            .is_none_or(|attachment| attachment.flush(limit))
    }

    /// A ticket, or how long the circuit stays open.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Ticket, Duration> {
        self.circuit.admit()
    }

    /// How long a call that asked now would certainly be refused for. Takes nothing.
    #[inline]
    pub(crate) fn refusal(&self) -> Option<Duration> {
        self.circuit.refusal()
    }

    /// Whether the circuit has made no transition since it gave this ticket.
    #[inline]
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.circuit.is_current(ticket)
    }

    /// The end of a call that had a ticket.
    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict) {
        self.circuit.settle(ticket, verdict);
    }
}

// A panic that passes through leaves nothing half-done: there is no user code under the lock.
impl UnwindSafe for CircuitBreaker {}
impl RefUnwindSafe for CircuitBreaker {}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
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
    storage: Option<Arc<dyn CircuitStorage>>,
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

    /// Keeps the circuit in a storage, where breakers of the same name share its state: see [`CircuitStorage`].
    ///
    /// Callbacks for changes that come from there run in the storage's thread.
    pub fn storage(mut self, storage: impl CircuitStorage + 'static) -> Self {
        self.storage = Some(Arc::new(storage));
        self
    }

    /// The breaker: closed, or in the state that its storage knows. With a storage it waits for the first answer from
    /// there, at the longest for two seconds; if there is none by then, it starts closed and goes on trying.
    ///
    /// # Errors
    ///
    /// As [`CircuitBreaker::new`]; and [`BuildError::CircuitStorage`] if the storage does not take this name, or its
    /// thread could not be started.
    pub fn build(self) -> Result<CircuitBreaker, BuildError> {
        BuildError::check_name("name", &self.name)?;
        self.config.validate()?;
        let circuit = |signal| {
            Arc::new(Circuit::new(
                self.name.into(),
                self.config,
                self.clock,
                self.on_change,
                signal,
            ))
        };
        let Some(storage) = self.storage else {
            return Ok(CircuitBreaker {
                circuit: circuit(None),
                attachment: None,
            });
        };
        let circuit = circuit(Some(Arc::clone(storage.sync().signal())));
        let attachment = Attachment::new(storage, Arc::clone(&circuit))?;
        Ok(CircuitBreaker {
            circuit,
            attachment: Some(attachment),
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
