//! What every bulkhead is, wherever its tasks run: limits, a ledger, a circuit, and who watches. And the way in.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circuit::{CircuitBreaker, CircuitState, CircuitStorage, Ticket};
use crate::clock::Clock;
use crate::config::{BulkheadConfig, check};
use crate::crew::Crew;
use crate::current::{ThisThread, next_serial, this_thread, while_holding_a_place};
use crate::error::{BuildError, RejectReason, Rejected};
use crate::head::{Host, Running};
use crate::listener::{BulkheadEvent, Listeners};
use crate::permit::{Admission, Denied, Permit};
use crate::seat::Seat;
use crate::slots::Slots;
use crate::stats::{BulkheadState, BulkheadStats, Ledger, Totals};
use crate::sync::{AtomicBool, Ordering};
use crate::terms::Terms;

pub(crate) struct Gate {
    /// Tells this bulkhead from every other.
    pub(crate) serial: u64,
    pub(crate) name: Arc<str>,
    pub(crate) config: BulkheadConfig,
    pub(crate) clock: Clock,
    pub(crate) admission: Admission,
    pub(crate) ledger: Ledger,
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) crew: Arc<Crew>,
    seats: Slots<Seat>,
    /// No call starts before it.
    epoch: Instant,
    /// Set when a shutdown cancels what is queued.
    discard_queued: AtomicBool,
}

/// What a bulkhead is built from, wherever its tasks run.
pub(crate) struct Plan {
    pub(crate) config: BulkheadConfig,
    pub(crate) clock: Clock,
    pub(crate) listeners: Listeners,
    pub(crate) circuit_storage: Option<Arc<dyn CircuitStorage>>,
}

impl Plan {
    pub(crate) fn new(config: BulkheadConfig) -> Self {
        Self {
            config,
            clock: Clock::system(),
            listeners: Listeners::default(),
            circuit_storage: None,
        }
    }

    fn breaker(
        &mut self,
        listeners: &Arc<Listeners>,
    ) -> Result<Option<CircuitBreaker>, BuildError> {
        let storage = self.circuit_storage.take();
        let Some(rules) = &self.config.circuit_breaker else {
            check(
                storage.is_none(),
                "circuit_breaker",
                "not set",
                "is needed for a circuit storage",
            )?;
            return Ok(None);
        };
        let listeners = Arc::clone(listeners);
        let name = self.config.name.clone();
        let builder = CircuitBreaker::builder(name.clone(), rules.clone())
            .clock(self.clock.clone())
            .on_change(move |change| {
                listeners.tell(&name, || BulkheadEvent::CircuitChanged { change });
            });
        let builder = match storage {
            Some(storage) => builder.storage(storage),
            None => builder,
        };
        builder.build().map(Some)
    }
}

impl Gate {
    /// `plan` has to be valid. `drained` is called once, after the close, when no call is left.
    pub(crate) fn new(
        mut plan: Plan,
        crew: Arc<Crew>,
        drained: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let listeners = Arc::new(std::mem::take(&mut plan.listeners));
        let breaker = plan.breaker(&listeners)?;
        let Plan { config, clock, .. } = plan;
        let seats = config.max_concurrent_calls;
        Ok(Self {
            serial: next_serial(),
            name: config.name.as_str().into(),
            admission: Admission::new(seats + config.max_queue_size, drained),
            ledger: Ledger::new(seats),
            breaker,
            listeners,
            crew,
            seats: Slots::new(seats),
            epoch: clock.now(),
            discard_queued: AtomicBool::new(false),
            clock,
            config,
        })
    }

    /// What the calling thread is to this bulkhead.
    pub(crate) fn this_thread(&self) -> ThisThread {
        this_thread(self.serial)
    }

    #[inline]
    pub(crate) fn seat(&self, index: usize) -> &Seat {
        self.seats.get_or_make(index, || Seat::new(self.epoch))
    }

    /// The calls that run at this moment.
    pub(crate) fn running(&self) -> impl Iterator<Item = Running> + '_ {
        self.seats.made().flat_map(Seat::running)
    }

    pub(crate) fn discard_queued(&self) {
        self.discard_queued.store(true, Ordering::Release);
    }

    pub(crate) fn is_discarding(&self) -> bool {
        // ORDERING: Acquire. A stale `false` only means that a task which was queued before the
        // shutdown still runs.
        self.discard_queued.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> BulkheadEvent<'a>) {
        self.listeners.tell(&self.name, event);
    }

    /// All counters since the start.
    pub(crate) fn totals(&self) -> Totals {
        self.ledger
            .read(|| self.admission.admitted(), self.admission.limit())
    }

    pub(crate) fn stats(&self) -> BulkheadStats {
        let numbers = self.ledger.since_reset(|| self.totals());
        let circuit_state = self.breaker.as_ref().map(CircuitBreaker::state);
        BulkheadStats::new(
            Arc::clone(&self.name),
            self.state(),
            circuit_state,
            (self.config.max_concurrent_calls, self.config.max_queue_size),
            numbers,
        )
    }

    pub(crate) fn reset_stats(&self) {
        self.ledger.reset(|| self.totals());
    }

    pub(crate) fn state(&self) -> BulkheadState {
        if self.admission.is_closed() {
            return BulkheadState::ShutDown;
        }
        match self.breaker.as_ref().map(CircuitBreaker::state) {
            None | Some(CircuitState::Closed) => BulkheadState::Healthy,
            Some(CircuitState::HalfOpen) => BulkheadState::Degraded,
            Some(CircuitState::Open) => BulkheadState::Isolated,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        matches!(
            self.state(),
            BulkheadState::Healthy | BulkheadState::Degraded
        )
    }

    pub(crate) fn available_capacity(&self) -> usize {
        if self.admission.is_closed() {
            0
        } else {
            self.admission.available()
        }
    }
}

// ---- the way in: shut down, capacity, circuit, in this order, so that a call refused as full never uses up a probe

/// A refusal that is decided and counted, and not yet put into words: small, since it is on the way of every
/// refused call.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    Full { waited: Option<Duration> },
    CircuitOpen { retry_after: Duration },
    ShutDown,
}

/// A place taken, for a call that is not yet made.
pub(crate) struct Place<'a> {
    pub(crate) permit: Permit<'a>,
    /// Since when the call had waited for it, if it did.
    pub(crate) begun: Option<Instant>,
}

impl Gate {
    /// Takes a place, waiting for one so long if the caller wants to; with it the time since when it has waited.
    #[inline(always)]
    pub(crate) fn enter(&self, terms: &Terms) -> Result<Place<'_>, Refusal> {
        let (permit, begun) = match terms.wait_for_capacity {
            None => (self.admission.try_acquire(), None),
            Some(limit) => self.wait_for_a_place(terms, limit),
        };
        match permit {
            Ok(permit) => Ok(Place { permit, begun }),
            Err(Denied::Closed) => {
                self.ledger.shared.reject_shut_down();
                Err(Refusal::ShutDown)
            }
            Err(Denied::Full) => {
                self.ledger.shared.reject_full();
                Err(Refusal::Full {
                    waited: begun.map(|begun| self.clock.now() - begun),
                })
            }
        }
    }

    fn wait_for_a_place(
        &self,
        terms: &Terms,
        limit: Duration,
    ) -> (Result<Permit<'_>, Denied>, Option<Instant>) {
        let begun = self.clock.now();
        let permit = if self.this_thread() == ThisThread::Outsider {
            let until = terms.place_deadline(begun, limit);
            self.admission.acquire(&self.clock, until)
        } else {
            self.admission.try_acquire()
        };
        (permit, Some(begun))
    }

    /// For a caller that holds a place.
    #[inline]
    pub(crate) fn ask_the_circuit(&self) -> Result<Option<Ticket>, Refusal> {
        let Some(breaker) = &self.breaker else {
            return Ok(None);
        };
        // Listeners of the circuit: this thread holds a place while they run.
        match while_holding_a_place(self.serial, || breaker.admit()) {
            Ok(ticket) => Ok(Some(ticket)),
            Err(retry_after) => {
                // Counted before the permit goes, as every end of an admitted call.
                self.ledger.shared.reject_circuit_open();
                Err(Refusal::CircuitOpen { retry_after })
            }
        }
    }

    /// What the caller gets back, after the listeners have heard of it.
    #[inline(always)]
    pub(crate) fn reject<F>(&self, refusal: Refusal, terms: &Terms, task: F) -> Rejected<F> {
        if !self.listeners.is_empty() {
            self.tell_rejected(refusal, terms);
        }
        // Put together where the caller wants to have it: moved, it would be the dearest part of a refusal.
        let reason = self.reason(refusal);
        Rejected { reason, task }
    }

    fn tell_rejected(&self, refusal: Refusal, terms: &Terms) {
        let reason = self.reason(refusal);
        self.tell(|| BulkheadEvent::Rejected {
            reason: &reason,
            operation: terms.operation.as_deref(),
        });
    }

    #[inline(always)]
    fn reason(&self, refusal: Refusal) -> RejectReason {
        let bulkhead = Arc::clone(&self.name);
        match refusal {
            Refusal::Full { waited } => RejectReason::Full {
                bulkhead,
                max_concurrent_calls: self.config.max_concurrent_calls,
                max_queue_size: self.config.max_queue_size,
                waited,
            },
            Refusal::CircuitOpen { retry_after } => RejectReason::CircuitOpen {
                bulkhead,
                retry_after,
            },
            Refusal::ShutDown => RejectReason::ShutDown { bulkhead },
        }
    }
}

impl Host for Gate {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_closed(&self) -> bool {
        self.admission.is_closed()
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn innermost(&self, seat: usize) -> Option<Running> {
        self.seat(seat).innermost()
    }
}

impl Gate {
    pub(crate) fn fmt_as(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(what)
            .field("name", &self.name)
            .field("state", &self.state())
            .field("max_concurrent_calls", &self.config.max_concurrent_calls)
            .field("max_queue_size", &self.config.max_queue_size)
            .field("available_capacity", &self.admission.available())
            .finish_non_exhaustive()
    }
}
