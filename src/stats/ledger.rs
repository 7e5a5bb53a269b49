//! The ledger: counters that cost next to nothing to keep, and a snapshot of them that balances.
//!
//! | counters | written by | how |
//! |---|---|---|
//! | of one slot: started, ended | the thread that owns the slot | plain stores, no locked instruction |
//! | shared: rejected, cancelled, expired, refused in the queue, nested, abandoned, callers that left | any thread | atomic additions |
//!
//! `core/admission.rs` counts refusals, `core/execute.rs` what runs or never starts, and callers that left at their limits.
//! Such a caller is no end of its call, so it stands in no column of the balance.
//!
//! There is no lock, and no moment at which everything stands still. A snapshot balances all the same:
//!
//! 1. Every counter only grows, and a call's later event is never visible without its earlier one: admitted, then started,
//!    then finished (or cancelled, expired, or refused), and only then its place given back.
//! 2. A snapshot reads the ends first, then the starts, then the admissions. A call that began in between reads as begun,
//!    a call that ended in between as not yet ended. So each call is in exactly one column.
//! 3. Between those readings many calls may pass through. A slot runs one call at a time, so `started` is cut to
//!    `finished + 1`; at most N + Q calls are in flight, so `admitted` is cut to `finished + N + Q`. Neither cut goes below
//!    the number that was true when the snapshot began. N and Q do not change meanwhile, see `Permits::most_taken`.
//!
//! So every number lies between its true values at the start and at the end of `stats()`, never goes back from one snapshot
//! to the next, and is exact for everything that happened before the call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::distribution::{Distribution, Recorder};
use crate::event::FinishedOutcome;
use crate::sync::{AtomicU64, LazySlots, Mutex, Ordering, Padded, nanos};

/// The counters of one slot, written by its owner alone.
pub(crate) struct SlotCounters {
    started: AtomicU64,
    ended: [AtomicU64; 3],
    pub(crate) queue_wait: Recorder,
    pub(crate) run_time: Recorder,
}

impl SlotCounters {
    fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            ended: Default::default(),
            queue_wait: Recorder::new(),
            run_time: Recorder::new(),
        }
    }

    pub(crate) fn start(&self) {
        bump(&self.started);
    }

    pub(crate) fn end(&self, outcome: FinishedOutcome) {
        bump(&self.ended[outcome as usize]);
    }

    /// Whether more starts than ends are counted here. Asked by the owner.
    pub(crate) fn is_started(&self) -> bool {
        // ORDERING: Relaxed, the owner's own stores.
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        load(&self.started) > self.ended.iter().map(load).sum()
    }
}

/// Adds one to a counter that no other thread writes: a plain load and store, no locked instruction.
fn bump(counter: &AtomicU64) {
    // ORDERING: the load reads this thread's own last store. Release, so that a reader that sees a call's end also sees
    // its beginning.
    let value = counter.load(Ordering::Relaxed);
    counter.store(value + 1, Ordering::Release);
}

/// The counters of rarer events, written by any thread.
#[derive(Default)]
pub(crate) struct SharedCounters {
    rejected_full: AtomicU64,
    /// Calls that the circuit refused before they had a place.
    rejected_circuit_open: AtomicU64,
    /// Calls that the circuit refused when they had a place.
    rejected_admitted: AtomicU64,
    /// Calls that had a place, and do not wait, and found no free slot.
    rejected_without_slot: AtomicU64,
    rejected_shut_down: AtomicU64,
    cancelled: AtomicU64,
    /// How many of `cancelled` a shutdown has cancelled.
    cancelled_by_shutdown: AtomicU64,
    timed_out: AtomicU64,
    refused_in_queue: AtomicU64,
    /// Calls that run on top of the call that made them, in its slot.
    nested_started: AtomicU64,
    nested_ended: [AtomicU64; 3],
    /// How long they ran, in nanoseconds, while the calls in whose slots they ran were running too.
    nested_time: AtomicU64,
    abandoned: AtomicU64,
    /// Callers that left with `Timeout`, by whether the task had started.
    caller_timeouts: [AtomicU64; 2],
}

// ORDERING of all of these: Release here and Acquire in `Ledger::read`, so that a reader that sees a call's end also sees
// its admission.
fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Release)
}

impl SharedCounters {
    /// Gives the number before, as the others do that return one.
    pub(crate) fn reject_full(&self) -> u64 {
        count(&self.rejected_full)
    }

    pub(crate) fn reject_circuit_open(&self) -> u64 {
        count(&self.rejected_circuit_open)
    }

    pub(crate) fn reject_admitted(&self) {
        count(&self.rejected_admitted);
    }

    pub(crate) fn reject_without_slot(&self) {
        count(&self.rejected_without_slot);
    }

    pub(crate) fn reject_shut_down(&self) -> u64 {
        count(&self.rejected_shut_down)
    }

    pub(crate) fn cancel(&self, by_shutdown: bool) {
        if by_shutdown {
            count(&self.cancelled_by_shutdown);
        }
        count(&self.cancelled);
    }

    pub(crate) fn time_out(&self) {
        count(&self.timed_out);
    }

    pub(crate) fn refuse_in_queue(&self) {
        count(&self.refused_in_queue);
    }

    pub(crate) fn start_nested(&self) {
        count(&self.nested_started);
    }

    /// `nested_time`: for how long another call that lasts longer ran in the same slot.
    pub(crate) fn end_nested(&self, outcome: FinishedOutcome, nested_time: Duration) {
        self.nested_time
            .fetch_add(nanos(nested_time), Ordering::Release);
        count(&self.nested_ended[outcome as usize]);
    }

    pub(crate) fn abandon(&self) {
        count(&self.abandoned);
    }

    pub(crate) fn caller_timed_out(&self, started: bool) {
        count(&self.caller_timeouts[usize::from(started)]);
    }

    /// Calls refused as full, by the circuit and as shut down, since the start.
    pub(crate) fn rejected(&self) -> [u64; 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        [
            get(&self.rejected_full) + get(&self.rejected_without_slot),
            get(&self.rejected_circuit_open) + get(&self.rejected_admitted),
            get(&self.rejected_shut_down),
        ]
    }

    pub(crate) fn end_abandoned(&self) {
        self.abandoned.fetch_sub(1, Ordering::Release);
    }
}

pub(crate) struct Ledger {
    slots: LazySlots<Padded<SlotCounters>>,
    pub(crate) shared: Arc<Padded<SharedCounters>>,
    base: Mutex<Base>,
}

/// What snapshots are compared with.
#[derive(Default)]
struct Base {
    /// The numbers at the last reset.
    reset: Option<(Reading, Times)>,
    /// The busy time in the last snapshot after it.
    busy_time: Duration,
    /// How many resets there have been.
    resets: u64,
}

/// What is read of a bulkhead at one moment, but for the times of its calls.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) totals: Totals,
    /// How long all slots together have been busy with the calls that run now.
    running_for: Duration,
    /// How long the one has been busy that has been so longest.
    longest_running: Option<Duration>,
    /// The same of the abandoned ones.
    longest_abandoned: Option<Duration>,
    at: Instant,
}

impl Reading {
    pub(crate) fn new(totals: Totals, at: Instant) -> Self {
        Self {
            totals,
            running_for: Duration::ZERO,
            longest_running: None,
            longest_abandoned: None,
            at,
        }
    }

    /// A call has been running in a slot since then.
    pub(crate) fn add_running(&mut self, since: Instant) {
        let running_for = self.at.saturating_duration_since(since);
        self.running_for = self.running_for.saturating_add(running_for);
        self.longest_running = self.longest_running.max(Some(running_for));
    }

    /// An abandoned call has been running in a slot since then.
    pub(crate) fn add_abandoned(&mut self, since: Instant) {
        let running_for = self.at.saturating_duration_since(since);
        self.longest_abandoned = self.longest_abandoned.max(Some(running_for));
    }
}

/// The numbers since the last reset.
pub(crate) struct Numbers {
    pub(super) totals: Totals,
    pub(super) times: Times,
    /// When the last reset was.
    pub(crate) since: Option<Instant>,
    /// How many there have been.
    pub(crate) resets: u64,
    /// How long all slots together were busy.
    pub(super) busy_time: Duration,
    pub(super) longest_running: Option<Duration>,
    pub(super) longest_abandoned: Option<Duration>,
}

/// One reading of all counters.
#[derive(Clone)]
pub(crate) struct Totals {
    pub(crate) ended: [u64; 3],
    pub(crate) started: u64,
    pub(crate) rejected_full: u64,
    pub(crate) rejected_circuit_open: u64,
    pub(crate) rejected_shut_down: u64,
    pub(crate) cancelled: u64,
    pub(crate) cancelled_by_shutdown: u64,
    pub(crate) timed_out: u64,
    pub(crate) refused_in_queue: u64,
    pub(crate) active: u64,
    pub(crate) in_flight: u64,
    pub(crate) abandoned: u64,
    /// In the queue, and while the task ran.
    pub(crate) caller_timeouts: [u64; 2],
    /// Calls that run on top of the call that made them.
    nested: u64,
}

impl Numbers {
    /// Calls admitted that have neither started nor ended.
    pub(crate) fn waiting(&self) -> u64 {
        self.totals.waiting()
    }
}

/// How long calls waited and ran.
#[derive(Clone)]
pub(crate) struct Times {
    pub(super) queue_wait: Distribution,
    pub(super) run_time: Distribution,
    nested_time: Duration,
}

impl Times {
    /// How long all slots together were busy with calls that have ended.
    fn busy_time(&self) -> Duration {
        self.run_time.sum().saturating_sub(self.nested_time)
    }
}

/// How many calls there were since the start.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    /// Admitted, or refused as full or by the circuit.
    pub(crate) submitted: u64,
    pub(crate) rejected: u64,
}

impl Totals {
    /// Tasks that ran to their end.
    pub(crate) fn finished(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// The calls since the start, but for those that were refused as shut down.
    pub(crate) fn calls(&self) -> Calls {
        let rejected = self.rejected_full + self.rejected_circuit_open;
        let left_the_queue = self.refused_in_queue + self.cancelled + self.timed_out;
        Calls {
            submitted: rejected + left_the_queue + self.finished() + self.in_flight,
            rejected,
        }
    }

    /// Whether a call has started and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.active + self.nested > 0
    }

    /// Calls admitted that have neither started nor ended.
    pub(crate) fn waiting(&self) -> u64 {
        self.in_flight - self.active - self.nested
    }
}

impl Ledger {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: LazySlots::new(slots),
            shared: Arc::default(),
            base: Mutex::default(),
        }
    }

    /// Makes room for so many slots. One thread at a time calls this.
    pub(crate) fn reserve(&self, slots: usize) {
        self.slots.reserve(slots);
    }

    pub(crate) fn slot(&self, index: usize) -> &SlotCounters {
        self.slots
            .get_or_init(index, || Padded(SlotCounters::new()))
    }

    /// `admitted` is called last; at most `capacity` calls are in flight.
    pub(crate) fn read(&self, admitted: impl FnOnce() -> u64, capacity: u64) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let mut ended = [0; 3];
        let mut active = 0;
        for slot in self.slots.iter() {
            let mut ended_here = 0;
            for (sum, counter) in ended.iter_mut().zip(&slot.ended) {
                let value = load(counter);
                ended_here += value;
                *sum += value;
            }
            active += load(&slot.started).saturating_sub(ended_here).min(1);
        }
        // There are more slots than places if the limits were higher once.
        let active = active.min(capacity);
        let shared = &self.shared;
        let mut nested_ended = 0;
        for (sum, counter) in ended.iter_mut().zip(&shared.nested_ended) {
            let value = load(counter);
            nested_ended += value;
            *sum += value;
        }
        let nested = load(&shared.nested_started).saturating_sub(nested_ended);
        let finished: u64 = ended.iter().sum();
        let cancelled = load(&shared.cancelled);
        let timed_out = load(&shared.timed_out);
        let rejected_admitted = load(&shared.rejected_admitted);
        let rejected_without_slot = load(&shared.rejected_without_slot);
        let refused_in_queue = load(&shared.refused_in_queue);
        let refused = refused_in_queue + rejected_admitted + rejected_without_slot;
        let ended_all = finished + cancelled + timed_out + refused;
        let abandoned = load(&shared.abandoned);
        let in_flight = admitted().saturating_sub(ended_all).min(capacity);
        // Another cut: a nested call is in flight, and not one of the active.
        let nested = nested.min(in_flight - active);
        Totals {
            ended,
            started: finished + active + nested,
            rejected_full: load(&shared.rejected_full) + rejected_without_slot,
            rejected_circuit_open: load(&shared.rejected_circuit_open) + rejected_admitted,
            rejected_shut_down: load(&shared.rejected_shut_down),
            cancelled,
            cancelled_by_shutdown: load(&shared.cancelled_by_shutdown),
            timed_out,
            refused_in_queue,
            active,
            in_flight,
            abandoned: abandoned.min(active + nested),
            caller_timeouts: shared.caller_timeouts.each_ref().map(load),
            nested,
        }
    }

    fn times(&self) -> Times {
        let mut times = Times {
            queue_wait: Distribution::empty(),
            run_time: Distribution::empty(),
            nested_time: Duration::ZERO,
        };
        for slot in self.slots.iter() {
            slot.queue_wait.add_to(&mut times.queue_wait);
            slot.run_time.add_to(&mut times.run_time);
        }
        times.nested_time = Duration::from_nanos(self.shared.nested_time.load(Ordering::Acquire));
        times
    }

    /// The numbers since the last reset, for users.
    pub(crate) fn since_reset(&self, read: impl FnOnce() -> Reading) -> Numbers {
        // The lock is held while reading, so that a snapshot is never older than the reset that it is compared with.
        let mut base = self.base.lock();
        let Reading {
            totals: mut now,
            running_for,
            longest_running,
            longest_abandoned,
            ..
        } = read();
        let mut times = self.times();
        let mut busy_time = times.busy_time().saturating_add(running_for);
        if let Some((base, base_times)) = &base.reset {
            let busy_before = base_times.busy_time().saturating_add(base.running_for);
            busy_time = busy_time.saturating_sub(busy_before);
            let base = &base.totals;
            now.started -= base.finished();
            for (now, base) in now.ended.iter_mut().zip(base.ended) {
                *now -= base;
            }
            for (now, base) in now.caller_timeouts.iter_mut().zip(base.caller_timeouts) {
                *now -= base;
            }
            now.rejected_full -= base.rejected_full;
            now.rejected_circuit_open -= base.rejected_circuit_open;
            now.rejected_shut_down -= base.rejected_shut_down;
            now.cancelled -= base.cancelled;
            now.timed_out -= base.timed_out;
            now.refused_in_queue -= base.refused_in_queue;
            times.queue_wait.subtract(&base_times.queue_wait);
            times.run_time.subtract(&base_times.run_time);
        }
        // A call that ended while it was read may have been counted twice. The number does not go back for that.
        base.busy_time = busy_time.max(base.busy_time);
        Numbers {
            totals: now,
            times,
            since: base.reset.as_ref().map(|(reset, _)| reset.at),
            resets: base.resets,
            busy_time: base.busy_time,
            longest_running,
            longest_abandoned,
        }
    }

    pub(crate) fn reset(&self, read: impl FnOnce() -> Reading) {
        let mut base = self.base.lock();
        // First, so that the maximum of a call that counts is never forgotten.
        for slot in self.slots.iter() {
            slot.queue_wait.forget_max();
            slot.run_time.forget_max();
        }
        *base = Base {
            reset: Some((read(), self.times())),
            busy_time: Duration::ZERO,
            resets: base.resets + 1,
        };
    }
}
