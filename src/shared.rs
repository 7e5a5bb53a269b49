//! What a bulkhead, its workers and its calls share.

use std::fmt;
use std::sync::Arc;

use crate::circuit::{CircuitBreaker, CircuitState};
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::context::ContextPropagator;
use crate::current::{Running, Seat, ThisThread, this_thread};
use crate::listener::{BulkheadEvent, Listeners};
use crate::permit::Admission;
use crate::queue::Queue;
use crate::stats::{BulkheadState, BulkheadStats, Ledger, Totals};
use crate::sync::{AtomicBool, Condvar, JoinHandle, Mutex, Ordering, Padded, Spinning};

pub(crate) struct Shared {
    /// Tells this bulkhead from every other.
    pub(crate) serial: u64,
    pub(crate) name: Arc<str>,
    pub(crate) config: BulkheadConfig,
    pub(crate) clock: Clock,
    pub(crate) admission: Admission,
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) propagators: Vec<Box<dyn ContextPropagator>>,
    pub(crate) worker_hooks: WorkerHooks,
    pub(crate) seats: Box<[Arc<Seat>]>,
    /// Whether it pays for a caller to look again before it sleeps.
    pub(crate) spinning: Padded<Spinning>,
    pub(crate) crew: Mutex<Crew>,
    pub(crate) crew_changed: Condvar,
    /// Held while joining, so that everybody who shuts down returns after the threads are gone.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Set when a shutdown cancels what is queued: from then on workers cancel instead of run.
    pub(crate) discard_queued: AtomicBool,
}

/// The worker threads.
#[derive(Default)]
pub(crate) struct Crew {
    /// Started and not yet at their end.
    pub(crate) alive: usize,
}

pub(crate) type WorkerHook = Box<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
pub(crate) struct WorkerHooks {
    pub(crate) on_start: Vec<WorkerHook>,
    pub(crate) on_stop: Vec<WorkerHook>,
}

impl Shared {
    /// What the calling thread is to this bulkhead.
    pub(crate) fn this_thread(&self) -> ThisThread {
        this_thread(self.serial)
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

    /// Whether no collaborator's code runs around a task.
    pub(crate) fn has_no_onlookers(&self) -> bool {
        self.listeners.is_empty() && self.propagators.is_empty() && self.breaker.is_none()
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

    /// The calls that run at this moment.
    pub(crate) fn running(&self) -> impl Iterator<Item = Running> + '_ {
        self.seats.iter().flat_map(|seat| seat.running())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.name)
            .field("state", &self.state())
            .field("max_concurrent_calls", &self.config.max_concurrent_calls)
            .field("max_queue_size", &self.config.max_queue_size)
            .field("available_capacity", &self.admission.available())
            .finish_non_exhaustive()
    }
}
