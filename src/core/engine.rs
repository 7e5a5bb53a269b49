//! What every bulkhead is, wherever its tasks run: configuration, permits, ledger, circuit, listeners.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::call_data::{BulkheadView, CallData, RunningCall};
use super::call_options::DefaultTimeouts;
use super::failure::Classifiers;
use super::permit::{Limits, Permits};
use super::rejection_log::{RejectedAs, RejectionLog};
use super::resizes::Resizes;
use super::running_slot::{RunningSlot, Shown, SlotData};
use super::saturation::Saturation;
use super::this_thread::{ThisThread, next_serial, this_thread, while_holding_permit};
use crate::circuit::{CircuitBreaker, CircuitState, CircuitStorage, StorageNews};
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::context::{CallTrace, TraceOptions};
use crate::error::BuildError;
use crate::event::{BulkheadEvent, Listeners};
use crate::panic::note;
use crate::stats::{
    BulkheadHealth, BulkheadState, BulkheadStats, HealthFacts, HealthMemory, HealthReason,
    HealthThresholds, Ledger, Moment, Reading, Totals,
};
use crate::sync::{AtomicBool, Latch, LazySlots, Mutex, Ordering, Padded, fence};

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
    health_memory: Mutex<HealthMemory>,
    saturation: Arc<Saturation>,
    rejections: Padded<RejectionLog>,
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
    /// Set by the thread that tells of that.
    discard_told: AtomicBool,
    /// Held while the limits change.
    pub(super) resizes: Mutex<Resizes>,
}

/// What an engine is built from.
pub(crate) struct EngineParts {
    pub(crate) config: BulkheadConfig,
    pub(crate) clock: Clock,
    pub(crate) listeners: Listeners,
    pub(crate) classifiers: Classifiers,
    pub(crate) trace: TraceOptions,
    pub(crate) circuit_storage: Option<Arc<dyn CircuitStorage>>,
    pub(crate) health_thresholds: HealthThresholds,
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
            health_thresholds: HealthThresholds::default(),
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
        let of_storage = (Arc::clone(&listeners), name.clone());
        let builder = CircuitBreaker::builder(name.clone(), rules.clone())
            .clock(self.clock.clone())
            .on_change(move |change| {
                listeners.tell(&name, || BulkheadEvent::CircuitChanged { change });
            })
            .on_storage(move |news| {
                let (listeners, bulkhead) = &of_storage;
                listeners.tell(bulkhead, || match news {
                    StorageNews::TroubleBegan { error } => {
                        BulkheadEvent::StorageTroubleBegan { bulkhead, error }
                    }
                    StorageNews::TroubleEnded { lasted } => {
                        BulkheadEvent::StorageTroubleEnded { bulkhead, lasted }
                    }
                });
            })
            // It refuses none if the rules that hold then say so: see `circuit_ticket.rs`.
            .on_change(move |change| {
                if change.to == CircuitState::Open {
                    refuse_queued();
                }
            });
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
        let valid = parts.health_thresholds.validate();
        valid.map_err(|error| error.of(&parts.config.name))?;
        let listeners = Arc::new(std::mem::take(&mut parts.listeners));
        let breaker = parts.breaker(&listeners, refuse_queued)?;
        let EngineParts {
            config,
            clock,
            classifiers,
            health_thresholds,
            trace,
            ..
        } = parts;
        let limits = Limits::new(config.max_concurrent_calls, config.max_queue_size);
        let slots = limits.max_concurrent_calls;
        let (serial, epoch) = (next_serial(), clock.now());
        let name: Arc<str> = config.name.as_str().into();
        let ledger = Ledger::new(slots);
        let saturation = Arc::new(Saturation {
            serial,
            name: Arc::clone(&name),
            clock: clock.clone(),
            listeners: Arc::clone(&listeners),
            counters: Arc::clone(&ledger.shared),
            epoch,
            times: Default::default(),
        });
        let relieved = {
            let saturation = Arc::clone(&saturation);
            move || saturation.end()
        };
        let drained = {
            let (name, listeners) = (Arc::clone(&name), Arc::clone(&listeners));
            move || {
                tell_shut_down(serial, &name, &listeners);
                drained();
            }
        };
        Ok(Self {
            serial,
            name,
            default_timeouts: DefaultTimeouts::new(&config),
            permits: Permits::new(limits, drained, relieved),
            ledger,
            health_memory: Mutex::new(HealthMemory::new(health_thresholds, epoch)),
            saturation,
            rejections: Padded::default(),
            breaker,
            listeners,
            classifiers,
            trace,
            latch,
            slots: LazySlots::new(slots),
            oldest_queued,
            worker_threads,
            epoch,
            discard_queued: AtomicBool::new(false),
            discard_told: AtomicBool::new(false),
            resizes: Mutex::default(),
            clock,
            config,
        })
    }

    /// N and Q at this moment.
    #[inline]
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

    /// All that is kept for a slot, which the thread that asks owns.
    #[inline]
    pub(crate) fn slot_data(&self, index: usize) -> SlotData<'_> {
        SlotData {
            counters: self.ledger.slot(index),
            running: self.slot(index),
        }
    }

    /// The caller of a call is gone that runs, or has just ended. It looks for the slot, which costs no call a word.
    pub(crate) fn mark_abandoned(&self, data: &CallData) {
        let _found = self.slots.iter().any(|slot| slot.abandon(data));
    }

    /// The calls that run at this moment.
    pub(crate) fn running(&self) -> impl Iterator<Item = RunningCall> + '_ {
        self.slots.iter().flat_map(RunningSlot::running)
    }

    /// Whether this thread is to tell that what is queued is about to be cancelled: `true` once.
    #[must_use]
    pub(super) fn claim_discard(&self) -> bool {
        // ORDERING: Relaxed. Nothing is handed over.
        !self.discard_told.swap(true, Ordering::Relaxed)
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
        slot: &RunningSlot,
        data: &CallData,
        since: Instant,
        is_listed: bool,
    ) -> Option<Shown> {
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

    #[inline]
    pub(crate) fn is_discarding(&self) -> bool {
        // ORDERING: Acquire. After a stale `false` a call goes on as far as `show`.
        self.discard_queued.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> BulkheadEvent<'a>) {
        self.listeners.tell(&self.name, event);
    }

    /// As [`tell`](Self::tell), where this thread holds up the end of the bulkhead, or holds a place: whatever a listener asks
    /// for waits for neither.
    pub(crate) fn tell_without_waits<'a>(&self, event: impl FnOnce() -> BulkheadEvent<'a>) {
        if !self.listeners.is_silent() {
            while_holding_permit(self.serial, || self.tell(event));
        }
    }

    /// A call was refused for this reason, the one of this number. The caller holds no place.
    #[inline(always)]
    pub(super) fn rejected(&self, reason: RejectedAs, number: u64) {
        if self.rejections.is_due(reason, number) {
            self.look_at_rejections(reason, number);
        }
    }

    #[cold]
    fn look_at_rejections(&self, reason: RejectedAs, number: u64) {
        let time = (&self.clock, self.epoch);
        let counters = &self.ledger.shared;
        self.rejections
            .look(&self.name, time, counters, reason, number);
    }

    /// A call was refused since all places are taken, the one of this number. The caller holds no place.
    #[inline(always)]
    pub(super) fn rejected_as_full(&self, number: u64) {
        if self.permits.begin_saturation() {
            self.begin_saturation();
        }
        self.rejected(RejectedAs::Full, number);
    }

    #[cold]
    fn begin_saturation(&self) {
        self.rejections.look_soon();
        let limits = self.limits();
        self.saturation
            .begin(limits.max_concurrent_calls, limits.max_queue_size);
        self.permits.look_for_relief();
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
    #[inline(always)]
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
            serial: self.serial,
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
        if reading.totals.abandoned > 0 {
            for since in self.slots.iter().filter_map(RunningSlot::abandoned_since) {
                reading.add_abandoned(since);
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

    pub(crate) fn health(&self) -> BulkheadHealth {
        let (closed_circuit, need_numbers) = {
            let memory = self.health_memory.lock();
            let thresholds = memory.thresholds();
            (thresholds.closed_circuit, thresholds.need_numbers())
        };
        let state = self.state();
        let mut reasons = Vec::new();
        match state {
            BulkheadState::ShutDown => reasons.push(HealthReason::ShutDown),
            BulkheadState::Isolated => reasons.push(HealthReason::CircuitOpen),
            BulkheadState::Degraded if closed_circuit => {
                reasons.push(HealthReason::CircuitHalfOpen);
            }
            BulkheadState::Degraded | BulkheadState::Healthy => {}
        }
        if state != BulkheadState::ShutDown && need_numbers {
            // Not under the lock: a look at the queue may start a worker, and drop calls if the system refuses it.
            let waits = self.totals().waiting() > 0;
            let oldest_queued = waits.then(|| (self.oldest_queued)()).flatten();
            let mut memory = self.health_memory.lock();
            // Under the lock, so that facts are judged in the order in which they were found.
            let facts = self.health_facts(oldest_queued);
            memory.judge(&facts, &mut reasons);
        }
        BulkheadHealth {
            name: Arc::clone(&self.name),
            state,
            reasons,
        }
    }

    pub(super) fn set_health_thresholds(&self, thresholds: HealthThresholds) {
        let mut memory = self.health_memory.lock();
        // Under the lock, as the facts of an ask.
        let (now, calls) = (self.clock.now(), self.totals().calls());
        memory.set_thresholds(thresholds, now, calls);
    }

    fn health_facts(&self, oldest_queued: Option<Instant>) -> HealthFacts {
        let now = self.clock.now();
        let lasting = |since| now.saturating_duration_since(since);
        let totals = self.totals();
        let limits = self.limits();
        let workers = limits.max_concurrent_calls;
        let busy: Vec<_> = self
            .slots
            .iter()
            .filter_map(RunningSlot::busy_since)
            .collect();
        let last = (busy.len() >= workers).then(|| busy.into_iter().max());
        let oldest_abandoned = (totals.abandoned > 0).then(|| {
            let abandoned = self.slots.iter().filter_map(RunningSlot::abandoned_since);
            abandoned.min()
        });
        HealthFacts {
            now,
            max_concurrent_calls: workers as u64,
            max_queue_size: limits.max_queue_size as u64,
            queued_tasks: totals.in_flight - totals.active,
            longest_queued: oldest_queued.map(lasting),
            saturated_since: self.saturation.since(),
            all_busy_for: last.flatten().map(lasting),
            abandoned_tasks: totals.abandoned,
            longest_abandoned: oldest_abandoned.flatten().map(lasting),
            calls: totals.calls(),
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

/// No call is left after a shutdown.
fn tell_shut_down(serial: u64, bulkhead: &str, listeners: &Listeners) {
    note(|| {
        log::debug!(target: "bulkman", bulkhead = bulkhead; "bulkhead `{bulkhead}` is shut down");
    });
    if !listeners.is_empty() {
        while_holding_permit(serial, || {
            listeners.tell(bulkhead, || BulkheadEvent::ShutDown { bulkhead });
        });
    }
}
