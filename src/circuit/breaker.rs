//! The facade of a circuit, and the permits for single calls.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::config::{CircuitBreakerConfig, CircuitMode};
use super::live_rules::LiveRules;
use super::local_circuit::{ChangeCallback, LocalCircuit, Run, StorageCallback, StorageNews};
use super::probes::Ticket;
use super::state::{CircuitChange, CircuitState, Verdict};
use super::stats::CircuitStats;
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
    circuit: Arc<LocalCircuit>,
    /// Where the circuit is kept, if it is shared.
    attachment: Option<Attachment>,
}

impl CircuitBreaker {
    /// A closed breaker on the system's clock.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`], see [`CircuitBreakerConfig::validate`]; the name must not be blank or have control characters.
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
            on_storage: Vec::new(),
            storage: None,
        }
    }

    /// Asks to make one call.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`] while the circuit is open, or half-open with all its probes out.
    #[inline]
    pub fn try_acquire(&self) -> Result<CircuitPermit<'_>, CircuitOpen> {
        match self.circuit.admit() {
            Ok(ticket) => Ok(CircuitPermit {
                breaker: self,
                ticket: Some(ticket),
                since: self.circuit.time_if_measured(),
            }),
            Err(retry_after) => Err(self.refused(retry_after)),
        }
    }

    fn refused(&self, retry_after: Duration) -> CircuitOpen {
        CircuitOpen {
            name: Arc::clone(self.circuit.name()),
            retry_after,
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

    /// Like [`call`](Self::call), but only those errors count as failures for which `is_failure` says so. The others are
    /// [`Ignored`](Verdict::Ignored).
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_if<T, E>(
        &self,
        is_failure: impl FnOnce(&E) -> bool,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CircuitError<E>> {
        self.call_classified(|error| Verdict::failure_if(is_failure(error)), f)
    }

    /// Like [`call`](Self::call), but `classify` says of each error what it counts as. If it panics, the error counts as
    /// a failure, and the panic goes on to the caller.
    ///
    /// ```
    /// use bulkman::{CircuitBreaker, CircuitBreakerConfig, Verdict};
    ///
    /// let breaker = CircuitBreaker::new("users", CircuitBreakerConfig::default().failure_threshold(1))?;
    /// let classify = |status: &u16| match status {
    ///     404 => Verdict::Success,  // the dependency did answer
    ///     499 => Verdict::Ignored,  // this side has hung up: that says nothing
    ///     _ => Verdict::Failure,
    /// };
    /// let _ = breaker.call_classified(classify, || Err::<(), _>(404));
    /// let _ = breaker.call_classified(classify, || Err::<(), _>(499));
    /// assert!(breaker.is_closed());
    /// let _ = breaker.call_classified(classify, || Err::<(), _>(503));
    /// assert!(breaker.is_open());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_classified<T, E>(
        &self,
        classify: impl FnOnce(&E) -> Verdict,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CircuitError<E>> {
        let permit = self.try_acquire()?;
        let outcome = catch(|| {
            let result = f();
            let verdict = match &result {
                Ok(_) => Verdict::Success,
                Err(error) => classify(error),
            };
            (result, verdict)
        });
        match outcome {
            Ok((result, verdict)) => {
                permit.record(verdict);
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

    /// The state now, by the clock: [`HalfOpen`](CircuitState::HalfOpen) as soon as a call would pass as a probe, and
    /// [`Open`](CircuitState::Open) as soon as a probe has taken too long.
    ///
    /// Asking changes nothing and calls no callback. The change is announced when the next call asks. A circuit that is
    /// kept in a storage goes half-open by itself, a moment after its isolation; until then it is open.
    ///
    /// In the modes [`ObserveOnly`](CircuitMode::ObserveOnly) and [`Disabled`](CircuitMode::Disabled) calls pass in every
    /// state, see [`mode`](Self::mode).
    #[must_use]
    pub fn state(&self) -> CircuitState {
        self.circuit.state()
    }

    /// Whether the breaker acts on what it judges. [`ForcedOpen`](CircuitMode::ForcedOpen) stands for every circuit that
    /// only a [`reset`](Self::reset) closes, also one that a peer has forced open.
    #[must_use]
    pub fn mode(&self) -> CircuitMode {
        self.circuit.mode()
    }

    /// The numbers of the circuit at this moment: state, counts and rates. Takes the lock that settles calls, for a
    /// moment.
    #[must_use]
    pub fn stats(&self) -> CircuitStats {
        let (state, mode, numbers) = self.circuit.numbers();
        let counts = numbers.counts;
        CircuitStats {
            name: Arc::clone(self.circuit.name()),
            state,
            mode,
            since_last_change: numbers.since_last_change,
            retry_after: numbers.retry_after,
            calls: counts.calls,
            failures: counts.failures,
            slow_calls: counts.slow_calls,
            failure_rate: numbers.failure_rate,
            slow_call_rate: numbers.slow_call_rate,
            probes_in_flight: numbers.probes_out,
            times_opened: numbers.times_opened,
            next_isolation: numbers.next_isolation,
        }
    }

    /// Whether the state is [`Closed`](CircuitState::Closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state() == CircuitState::Closed
    }

    /// Whether the state is [`Open`](CircuitState::Open), by the clock.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state() == CircuitState::Open
    }

    /// Whether the state is [`HalfOpen`](CircuitState::HalfOpen), by the clock.
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
    /// for everybody, also if a peer has opened it. The modes [`ObserveOnly`](CircuitMode::ObserveOnly) and
    /// [`Disabled`](CircuitMode::Disabled) stay.
    pub fn reset(&self) {
        self.circuit.reset();
    }

    /// Opens the circuit now, for the isolation duration, as failures would. An open circuit begins its isolation anew; one
    /// that is held open until a reset stays so.
    /// A shared circuit is opened for everybody, unless a peer has it open already.
    pub fn trip(&self) {
        self.circuit.trip();
    }

    /// Opens the circuit now and holds it open until [`reset`](Self::reset): there are no probes. A shared circuit is
    /// held open for everybody, until anybody resets it. It puts an end to the modes
    /// [`ObserveOnly`](CircuitMode::ObserveOnly) and [`Disabled`](CircuitMode::Disabled).
    pub fn force_open(&self) {
        self.circuit.set_mode(CircuitMode::ForcedOpen);
    }

    /// Sets whether the breaker acts on what it judges. [`ForcedOpen`](CircuitMode::ForcedOpen) is
    /// [`force_open`](Self::force_open); to go from there to [`Normal`](CircuitMode::Normal) is [`reset`](Self::reset).
    ///
    /// The other modes are this breaker's own, also with a storage. They leave the state as it is. Calls that began while
    /// the breaker was [`Disabled`](CircuitMode::Disabled) do not count. Calls that are queued in a bulkhead when the mode
    /// changes and the circuit is open already hear of it at their turn.
    ///
    /// ```
    /// use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitMode};
    ///
    /// let breaker = CircuitBreaker::new("search", CircuitBreakerConfig::default().failure_threshold(1))?;
    /// breaker.set_mode(CircuitMode::ObserveOnly);
    /// let _ = breaker.call(|| Err::<(), _>("down"));
    /// assert!(breaker.is_open()); // it judges, and tells its callbacks,
    /// assert_eq!(breaker.call(|| Ok::<_, &str>(7)), Ok(7)); // and refuses nothing
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn set_mode(&self, mode: CircuitMode) {
        self.circuit.set_mode(mode);
    }

    /// The rules by which the circuit goes at this moment. Takes the lock that settles calls, for a moment.
    #[must_use]
    pub fn config(&self) -> CircuitBreakerConfig {
        self.circuit.config()
    }

    /// Gives the circuit other rules while it works. They hold from then on, also for calls that are under way.
    ///
    /// The state stays, and so does the [mode](Self::mode): [`initial_mode`](CircuitBreakerConfig::initial_mode) only
    /// counts at the start. A change of rules opens and closes nothing. The next outcome does, if the new rules say so. There
    /// is one exception: a probe that is out for longer than its new limit fails at the change.
    ///
    /// | while the circuit is | stays | goes by the new rules |
    /// |---|---|---|
    /// | closed | the run of failures; the last calls, as many as the new window holds; the calls of a period, if it is as long as before | when it opens |
    /// | open | the end of its isolation | the next isolation, which goes on growing from the last one |
    /// | half-open | the probes that are out, and the successes so far | how many probes may be out, how many have to succeed, and the limit of each, also of those that are out |
    ///
    /// Where the closed circuit counts something else from now on (a run of failures, the last calls, the calls of a
    /// period, or those of another period), the counts begin anew. A call stays what it counted as when it ended: a new
    /// [`slow_call_duration`](CircuitBreakerConfig::slow_call_duration) is for calls that end later. A
    /// [`CircuitPermit`] that was given out while there was no such limit is not slow.
    ///
    /// The rules are this breaker's own, also with a storage: peers of a shared circuit keep theirs.
    ///
    /// ```
    /// use bulkman::{CircuitBreaker, CircuitBreakerConfig};
    ///
    /// let rules = CircuitBreakerConfig::default().failure_threshold(5);
    /// let breaker = CircuitBreaker::new("tax-service", rules.clone())?;
    /// let _ = breaker.call(|| Err::<(), _>("timed out"));
    ///
    /// breaker.set_config(rules.failure_threshold(2))?;
    /// assert_eq!(breaker.config().failure_threshold, 2);
    /// let _ = breaker.call(|| Err::<(), _>("timed out")); // the second in a row
    /// assert!(breaker.is_open());
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`], see [`CircuitBreakerConfig::validate`]. Then nothing has changed.
    pub fn set_config(&self, config: CircuitBreakerConfig) -> Result<(), BuildError> {
        let valid = config.validate();
        valid.map_err(|error| error.of(self.name()))?;
        self.circuit.set_config(config);
        Ok(())
    }

    /// Waits until the storage has each change of state that was made so far, at the longest for `limit`; whether it
    /// has. It does not wait while the storage is known not to answer. Without a storage there is nothing to wait for.
    pub fn flush(&self, limit: Duration) -> bool {
        self.attachment
            .as_ref()
            .is_none_or(|attachment| attachment.flush(limit))
    }

    /// What can be said of the rules without a lock.
    #[inline]
    pub(crate) fn live_rules(&self) -> LiveRules {
        self.circuit.live_rules()
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

    /// The state as calls feel it: closed where the breaker never refuses one.
    pub(crate) fn enforced_state(&self) -> CircuitState {
        self.circuit.enforced_state()
    }

    /// The end of a call that had a ticket, and of which no time is known.
    #[inline]
    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict) {
        self.circuit.settle(ticket, verdict, None);
    }

    /// The end of a call that had a ticket since `since`.
    fn settle_since(&self, ticket: Ticket, verdict: Verdict, since: Instant) {
        let ended = self.circuit.clock().now();
        let time = ended.saturating_duration_since(since);
        self.settle_run(ticket, verdict, Run { time, ended });
    }

    /// The end of a call that had a ticket and has run.
    #[inline]
    pub(crate) fn settle_run(&self, ticket: Ticket, verdict: Verdict, run: Run) {
        self.circuit.settle(ticket, verdict, Some(run));
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
    on_storage: Vec<StorageCallback>,
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

    /// Adds a callback for the trouble with the storage. It runs in the storage's thread, under no lock, and its panics are
    /// contained.
    pub(crate) fn on_storage(
        mut self,
        callback: impl Fn(StorageNews<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_storage.push(Box::new(callback));
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
        let valid = self.config.validate();
        valid.map_err(|error| error.of(&self.name))?;
        let circuit = |signal| {
            Arc::new(LocalCircuit::new(
                self.name.into(),
                self.config,
                self.clock,
                self.on_change,
                self.on_storage,
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
    /// When it was given out, if slow calls are looked for.
    since: Option<Instant>,
}

impl CircuitPermit<'_> {
    /// The call went well. If it took longer than [`slow_call_duration`](CircuitBreakerConfig::slow_call_duration), it
    /// counts as slow.
    #[inline]
    pub fn record_success(self) {
        self.record(Verdict::Success);
    }

    /// The call failed.
    #[inline]
    pub fn record_failure(self) {
        self.record(Verdict::Failure);
    }

    /// The call came to this. [`Ignored`](Verdict::Ignored) is the same as dropping the permit.
    #[inline]
    pub fn record(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            match self.since {
                Some(since) => self.breaker.settle_since(ticket, verdict, since),
                None => self.breaker.settle(ticket, verdict),
            }
        }
    }
}

impl Drop for CircuitPermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.settle(ticket, Verdict::Ignored);
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
    /// How long to wait until it is worth trying again; never zero. It is the rest of the isolation; while the circuit is
    /// half-open and all its probes are out, the time that the oldest of them has left;
    /// [`Duration::MAX`] if only a reset closes the circuit.
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
