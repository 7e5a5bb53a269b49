//! What every bulkhead is, wherever its tasks run: configuration, permits, ledger, circuit, listeners.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::call_data::{BulkheadView, CallData, RunningCall};
use super::call_options::DefaultTimeouts;
use super::failure::Classifiers;
use super::permit::{Limits, Permits};
use super::running_slot::{RunningSlot, Shown};
use super::this_thread::{ThisThread, next_serial, this_thread, while_holding_permit};
use crate::circuit::{CircuitBreaker, CircuitState, CircuitStorage};
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::context::{CallTrace, TraceOptions};
use crate::error::BuildError;
use crate::event::{BulkheadEvent, Listeners};
use crate::stats::{BulkheadState, BulkheadStats, Ledger, Moment, Reading, Totals};
use crate::sync::{AtomicBool, Latch, LazySlots, Mutex, Ordering, fence};

pub(crate) struct Engine {
    /// Tells this bulkhead from every other.
    pub(crate) serial: u64,
    pub(crate) name: Arc<str>,
    pub(crate) config: BulkheadConfig,
    pub(crate) default_timeouts: DefaultTimeouts,
    pub(crate) clock: Clock,
    pub(crate) permits: Permits,
    pub(crate) ledger: Ledger,
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) classifiers: Classifiers,
    pub(crate) trace: TraceOptions,
    /// At zero when the bulkhead has ended.
    pub(crate) latch: Arc<Latch>,
    slots: LazySlots<RunningSlot>,
    oldest_queued: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
    worker_threads: Box<dyn Fn() -> usize + Send + Sync>,
    /// No call starts before it.
    epoch: Instant,
    /// Set by a shutdown that cancels what is queued.
    discard_queued: AtomicBool,
    /// Held while the limits change.
    pub(crate) resizing: Mutex<()>,
}

/// What an engine is built from.
pub(crate) struct EngineParts {
    pub(crate) config: BulkheadConfig,
    pub(crate) clock: Clock,
    pub(crate) listeners: Listeners,
    pub(crate) classifiers: Classifiers,
    pub(crate) trace: TraceOptions,
    pub(crate) circuit_storage: Option<Arc<dyn CircuitStorage>>,
}

/// What an engine asks of the queue or the wait list in front of it.
pub(crate) struct EngineHooks {
    /// Called once, after the close, when no call is left.
    pub(crate) drained: Box<dyn Fn() + Send + Sync>,
    /// Called when the circuit has opened, in the thread that opened it and under no lock.
    pub(crate) refuse_queued: Box<dyn Fn() + Send + Sync>,
    /// When the call was admitted that has been waiting longest.
    pub(crate) oldest_queued: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
    /// How many worker threads there are.
    pub(crate) worker_threads: Box<dyn Fn() -> usize + Send + Sync>,
}

impl EngineParts {
    pub(crate) fn new(config: BulkheadConfig) -> Self {
        Self {
            config,
            clock: Clock::system(),
            listeners: Listeners::default(),
            classifiers: Classifiers::default(),
            trace: TraceOptions::default(),
            circuit_storage: None,
        }
    }

    fn breaker(
        &mut self,
        listeners: &Arc<Listeners>,
        refuse_queued: impl Fn() + Send + Sync + 'static,
    ) -> Result<Option<CircuitBreaker>, BuildError> {
        let storage = self.circuit_storage.take();
        let Some(rules) = &self.config.circuit_breaker else {
            BuildError::check(
                storage.is_none(),
                "circuit_breaker",
                "not set",
                "is needed for a circuit storage",
            )
            .map_err(|error| error.of(&self.config.name))?;
            return Ok(None);
        };
        let listeners = Arc::clone(listeners);
        let name = self.config.name.clone();
        let builder = CircuitBreaker::builder(name.clone(), rules.clone())
            .clock(self.clock.clone())
            .on_change(move |change| {
                listeners.tell(&name, || BulkheadEvent::CircuitChanged { change });
            });
        let builder = if rules.refuse_queued_when_open {
            builder.on_change(move |change| {
                if change.to == CircuitState::Open {
                    refuse_queued();
                }
            })
        } else {
            builder
        };
        let builder = match storage {
            Some(storage) => builder.storage(storage),
            None => builder,
        };
        builder.build().map(Some)
    }
}

impl Engine {
    /// The configuration must have been validated.
    pub(crate) fn new(
        mut parts: EngineParts,
        latch: Arc<Latch>,
        hooks: EngineHooks,
    ) -> Result<Self, BuildError> {
        let EngineHooks {
            drained,
            refuse_queued,
            oldest_queued,
            worker_threads,
        } = hooks;
        let listeners = Arc::new(std::mem::take(&mut parts.listeners));
        let breaker = parts.breaker(&listeners, refuse_queued)?;
        let EngineParts {
            config,
            clock,
            classifiers,
            trace,
            ..
        } = parts;
        let limits = Limits::new(config.max_concurrent_calls, config.max_queue_size);
        let slots = limits.max_concurrent_calls;
        Ok(Self {
            serial: next_serial(),
            name: config.name.as_str().into(),
            default_timeouts: DefaultTimeouts::new(&config),
            permits: Permits::new(limits, drained),
            ledger: Ledger::new(slots),
            breaker,
            listeners,
            classifiers,
            trace,
            latch,
            slots: LazySlots::new(slots),
            oldest_queued,
            worker_threads,
            epoch: clock.now(),
            discard_queued: AtomicBool::new(false),
            resizing: Mutex::default(),
            clock,
            config,
        })
    }

    /// N and Q at this moment.
    pub(crate) fn limits(&self) -> Limits {
        self.permits.limits()
    }

    /// Makes room for so many slots. One thread at a time calls this.
    pub(crate) fn reserve_slots(&self, slots: usize) {
        self.ledger.reserve(slots);
        self.slots.reserve(slots);
    }

    /// What the calling thread is to this bulkhead.
    pub(crate) fn this_thread(&self) -> ThisThread {
        this_thread(self.serial)
    }

    #[inline]
    pub(crate) fn slot(&self, index: usize) -> &RunningSlot {
        self.slots
            .get_or_init(index, || RunningSlot::new(self.epoch))
    }

    /// The calls that run at this moment.
    pub(crate) fn running(&self) -> impl Iterator<Item = RunningCall> + '_ {
        self.slots.iter().flat_map(RunningSlot::running)
    }

    /// Afterwards each call is shown in its slot already, or never starts: see [`show`](Self::show).
    pub(crate) fn discard_queued(&self) {
        self.discard_queued.store(true, Ordering::Release);
        // ORDERING: SeqCst, see `show`.
        fence(Ordering::SeqCst);
    }

    /// Shows a call in its slot, before its task starts. `None`: it must not start, since a shutdown cancels what is queued.
    ///
    /// So a shutdown that has set the flag, and then finds a slot empty, knows that no call starts there any more.
    #[inline(always)]
    pub(crate) fn show(
        &self,
        slot: usize,
        data: &CallData,
        since: Instant,
        is_listed: bool,
    ) -> Option<Shown> {
        let slot = self.slot(slot);
        let shown = slot.begin(data, since, is_listed);
        // ORDERING: SeqCst. Of this fence and the one in `discard_queued` one comes first: either this thread sees the flag,
        // or the shutdown sees the slot.
        fence(Ordering::SeqCst);
        if self.is_discarding() {
            slot.end(shown, data);
            None
        } else {
            Some(shown)
        }
    }

    pub(crate) fn is_discarding(&self) -> bool {
        // ORDERING: Acquire. After a stale `false` a call goes on as far as `show`.
        self.discard_queued.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> BulkheadEvent<'a>) {
        self.listeners.tell(&self.name, event);
    }

    /// The trace of a call that is admitted, and goes to a worker. Subscribers run while this thread holds the permit.
    #[inline]
    pub(crate) fn begin_trace_for_worker(&self, data: &CallData, leaves_task: bool) -> CallTrace {
        if self.trace.is_wanted_on_worker() {
            let call = data.info(&self.name);
            let begin = || CallTrace::begin_for_worker(self.trace, &call, leaves_task);
            while_holding_permit(self.serial, begin)
        } else {
            CallTrace::default()
        }
    }

    /// The same for a call that stays in this thread.
    #[inline]
    pub(crate) fn begin_trace_in_caller(&self, data: &CallData) -> CallTrace {
        if self.trace.is_wanted_in_caller() {
            let begin = || CallTrace::begin_in_caller(&data.info(&self.name));
            while_holding_permit(self.serial, begin)
        } else {
            CallTrace::default()
        }
    }

    /// All counters since the start.
    pub(crate) fn totals(&self) -> Totals {
        let most_taken = self.permits.most_taken();
        self.ledger.read(|| self.permits.admitted(), *most_taken)
    }

    pub(crate) fn stats(&self) -> BulkheadStats {
        let now = self.clock.now();
        let numbers = self.ledger.since_reset(|| self.reading(now));
        // If nothing waits, the queue is left alone.
        let oldest = (numbers.waiting() > 0)
            .then(|| (self.oldest_queued)())
            .flatten();
        let limits = self.limits();
        let moment = Moment {
            name: Arc::clone(&self.name),
            state: self.state(),
            circuit_state: self.breaker.as_ref().map(CircuitBreaker::state),
            max_concurrent_calls: limits.max_concurrent_calls,
            max_queue_size: limits.max_queue_size,
            worker_threads: (self.worker_threads)(),
            measured_for: now.saturating_duration_since(numbers.since.unwrap_or(self.epoch)),
            longest_queued: oldest.map(|since| now.saturating_duration_since(since)),
        };
        BulkheadStats::new(moment, numbers)
    }

    pub(crate) fn reset_stats(&self) {
        self.ledger.reset(|| self.reading(self.clock.now()));
    }

    fn reading(&self, now: Instant) -> Reading {
        let mut reading = Reading::new(self.totals(), now);
        if reading.totals.is_running() {
            for since in self.slots.iter().filter_map(RunningSlot::busy_since) {
                reading.add_running(since);
            }
        }
        reading
    }

    pub(crate) fn state(&self) -> BulkheadState {
        if self.permits.is_closed() {
            return BulkheadState::ShutDown;
        }
        match self.breaker.as_ref().map(CircuitBreaker::enforced_state) {
            None | Some(CircuitState::Closed) => BulkheadState::Healthy,
            Some(CircuitState::HalfOpen) => BulkheadState::Degraded,
            Some(CircuitState::Open) => BulkheadState::Isolated,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.state().is_healthy()
    }

    pub(crate) fn available_capacity(&self) -> usize {
        if self.permits.is_closed() {
            0
        } else {
            self.permits.available()
        }
    }

    pub(crate) fn fmt_as(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.limits();
        f.debug_struct(what)
            .field("name", &self.name)
            .field("state", &self.state())
            .field("max_concurrent_calls", &limits.max_concurrent_calls)
            .field("max_queue_size", &limits.max_queue_size)
            .field("available_capacity", &self.available_capacity())
            .finish_non_exhaustive()
    }
}

impl BulkheadView for Engine {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn innermost(&self, slot: usize) -> Option<RunningCall> {
        self.slot(slot).innermost()
    }
}
