//! The ledger: counters that cost next to nothing to keep, and a snapshot of them that balances.
//!
//! Each of the N seats has counters in lines that only the one writes who sits there: a worker for its whole life, or one
//! caller after the other, who hand the seat on. What happens elsewhere is rarer and counted in shared ones. There is no lock, and no moment at which everything stands
//! still. A snapshot balances all the same:
//!
//! * Every counter only grows, and a call's later event is never visible without its earlier one:
//!   admitted, then started, then finished (or cancelled, or expired), and only then its place back.
//! * A snapshot reads the ends first, then the starts, then the admissions. What began in between
//!   reads as begun, what ended in between as not yet ended. So each call is in exactly one column.
//! * Between those readings many calls may pass through. A seat runs one call at a time, so
//!   `started` is cut to `finished + 1`; at most N + Q calls are in flight, so `admitted` is cut to
//!   `finished + N + Q`. Neither cut goes below what was true when the snapshot began.
//!
//! So every number lies between its true values at the start and at the end of `stats()`, never goes
//! back from one snapshot to the next, and is exact for all that happened before the call.

use std::fmt;
use std::sync::Arc;

use crate::circuit::CircuitState;
use crate::distribution::{Distribution, Recorder};
use crate::slots::Slots;
use crate::sync::{AtomicU64, Mutex, Ordering, Padded};

/// How a bulkhead is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BulkheadState {
    /// Calls go through: there is no circuit breaker, or its circuit is closed.
    Healthy,
    /// The circuit is half-open: a few calls probe whether the dependency is back.
    Degraded,
    /// The circuit is open: calls are refused until the isolation is over.
    Isolated,
    /// Shut down: every new call is refused.
    ShutDown,
}

impl fmt::Display for BulkheadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Isolated => "isolated",
            Self::ShutDown => "shut down",
        })
    }
}

/// The numbers of one bulkhead at one moment.
///
/// They balance in every snapshot, also under full load:
///
/// `submitted = rejected + cancelled + timed_out + successful + failed + panicked + queued + active`
///
/// A call counts by its own end: one whose caller left at a time limit while it ran is successful, failed
/// or panicked when it ends, and until then active and abandoned. Its [`Display`](std::fmt::Display) is that
/// sum in one line.
///
/// Counters run from the start, or from the last
/// [`reset_stats`](crate::Bulkhead::reset_stats); after that the calls then in flight count as submitted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// The bulkhead's name.
    pub name: Arc<str>,
    /// What [`Bulkhead::state`](crate::Bulkhead::state) says.
    pub state: BulkheadState,

    /// Calls decided: admitted or refused.
    pub submitted_executions: u64,
    /// Calls whose task started.
    pub total_executions: u64,
    /// Tasks that returned `Ok`.
    pub successful_executions: u64,
    /// Tasks that returned `Err`.
    pub failed_executions: u64,
    /// Tasks that panicked.
    pub panicked_executions: u64,
    /// Calls refused, for any of the next three reasons.
    pub rejected_executions: u64,
    /// Calls refused because all places were taken.
    pub rejected_full: u64,
    /// Calls refused by the circuit breaker.
    pub rejected_circuit_open: u64,
    /// Calls refused because the bulkhead was shut down.
    pub rejected_shut_down: u64,
    /// Calls that expired in the queue: the queue timeout or the caller's own limit passed first.
    pub timed_out_executions: u64,
    /// Calls cancelled in the queue, by their handle or by a shutdown.
    pub cancelled_executions: u64,

    /// Calls admitted whose task is not being run: they wait for a worker or for their turn, or for a call that they
    /// have made themselves on the same bulkhead and that runs in their stead. At most N + Q.
    pub queued_tasks: u64,
    /// Tasks being run, but for those that wait for a call of the same bulkhead in their stead. At most N.
    pub active_tasks: u64,
    /// Running tasks whose caller is gone: the handle was dropped, or its time limit passed.
    pub abandoned_tasks: u64,
    /// Places taken: `queued_tasks + active_tasks`, at most N + Q.
    pub in_flight: u64,

    /// N.
    pub max_concurrent_calls: u64,
    /// Q.
    pub max_queue_size: u64,

    /// Whether there is a circuit breaker.
    pub circuit_breaker_enabled: bool,
    /// The circuit's state, if there is a breaker.
    pub circuit_state: Option<CircuitState>,

    /// How long started calls had waited for a worker, or for their turn.
    pub queue_wait: Distribution,
    /// How long tasks ran.
    pub run_time: Distribution,
}

impl fmt::Display for BulkheadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bulkhead `{}` is {}: {} submitted = {} rejected + {} cancelled + {} timed out + {} successful \
             + {} failed + {} panicked + {} queued + {} active",
            self.name,
            self.state,
            self.submitted_executions,
            self.rejected_executions,
            self.cancelled_executions,
            self.timed_out_executions,
            self.successful_executions,
            self.failed_executions,
            self.panicked_executions,
            self.queued_tasks,
            self.active_tasks,
        )
    }
}

/// How a task that ran came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Failed,
    Panicked,
}

/// The counters of one seat, written by the one who sits there.
pub(crate) struct SeatTally {
    started: AtomicU64,
    ended: [AtomicU64; 3],
    pub(crate) queue_wait: Recorder,
    pub(crate) run_time: Recorder,
}

impl SeatTally {
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

    pub(crate) fn end(&self, ending: Ending) {
        bump(&self.ended[ending as usize]);
    }
}

/// Adds one to a counter that no other thread writes: a plain load and store, no locked instruction.
fn bump(counter: &AtomicU64) {
    // ORDERING: the load is of our own last store. Release, so that who reads a call's end also reads
    // its beginning.
    let value = counter.load(Ordering::Relaxed);
    counter.store(value + 1, Ordering::Release);
}

/// What happens off the beaten track, counted by whoever makes it happen.
#[derive(Default)]
pub(crate) struct SharedTally {
    rejected_full: AtomicU64,
    rejected_circuit_open: AtomicU64,
    rejected_shut_down: AtomicU64,
    cancelled: AtomicU64,
    /// How many of the cancelled ones a shutdown has cancelled.
    cancelled_by_shutdown: AtomicU64,
    timed_out: AtomicU64,
    /// Calls that run on top of the one that has made them, in its seat.
    helped_started: AtomicU64,
    helped_ended: [AtomicU64; 3],
    abandoned: AtomicU64,
}

// ORDERING of all of these: Release here and Acquire in `Ledger::read`, so that who reads a call's end
// also reads its admission.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Release);
}

impl SharedTally {
    pub(crate) fn reject_full(&self) {
        count(&self.rejected_full);
    }

    pub(crate) fn reject_circuit_open(&self) {
        count(&self.rejected_circuit_open);
    }

    pub(crate) fn reject_shut_down(&self) {
        count(&self.rejected_shut_down);
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

    pub(crate) fn start_helped(&self) {
        count(&self.helped_started);
    }

    pub(crate) fn end_helped(&self, ending: Ending) {
        count(&self.helped_ended[ending as usize]);
    }

    pub(crate) fn abandon(&self) {
        count(&self.abandoned);
    }

    pub(crate) fn end_abandoned(&self) {
        self.abandoned.fetch_sub(1, Ordering::Release);
    }
}

pub(crate) struct Ledger {
    seats: Slots<Padded<SeatTally>>,
    pub(crate) shared: Padded<SharedTally>,
    /// The numbers at the last reset.
    base: Mutex<Option<(Totals, Times)>>,
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
    pub(crate) active: u64,
    pub(crate) in_flight: u64,
    pub(crate) abandoned: u64,
    /// Calls being run on top of another.
    helped: u64,
}

/// How long calls waited and ran.
#[derive(Clone)]
pub(crate) struct Times {
    queue_wait: Distribution,
    run_time: Distribution,
}

impl Totals {
    /// Tasks that ran to their end.
    pub(crate) fn finished(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Calls admitted that nobody has begun and nobody has ended.
    pub(crate) fn waiting(&self) -> u64 {
        self.in_flight - self.active - self.helped
    }
}

impl Ledger {
    pub(crate) fn new(seats: usize) -> Self {
        Self {
            seats: Slots::new(seats),
            shared: Padded::default(),
            base: Mutex::new(None),
        }
    }

    pub(crate) fn seat(&self, index: usize) -> &SeatTally {
        self.seats.get_or_make(index, || Padded(SeatTally::new()))
    }

    /// `admitted` is called last; at most `capacity` calls are in flight.
    pub(crate) fn read(&self, admitted: impl FnOnce() -> u64, capacity: u64) -> Totals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let mut ended = [0; 3];
        let mut active = 0;
        for seat in self.seats.made() {
            let mut ended_here = 0;
            for (sum, counter) in ended.iter_mut().zip(&seat.ended) {
                let value = load(counter);
                ended_here += value;
                *sum += value;
            }
            active += load(&seat.started).saturating_sub(ended_here).min(1);
        }
        let shared = &self.shared;
        let mut helped_ended = 0;
        for (sum, counter) in ended.iter_mut().zip(&shared.helped_ended) {
            let value = load(counter);
            helped_ended += value;
            *sum += value;
        }
        let helped = load(&shared.helped_started).saturating_sub(helped_ended);
        let finished: u64 = ended.iter().sum();
        let cancelled = load(&shared.cancelled);
        let timed_out = load(&shared.timed_out);
        // A call that the circuit refuses has a permit for a moment, and gives it back.
        let rejected_circuit_open = load(&shared.rejected_circuit_open);
        let ended_all = finished + cancelled + timed_out + rejected_circuit_open;
        let abandoned = load(&shared.abandoned);
        let in_flight = admitted().saturating_sub(ended_all).min(capacity);
        // Another cut: a call that is being helped is in flight, and not one of the active.
        let helped = helped.min(in_flight - active);
        Totals {
            ended,
            started: finished + active + helped,
            rejected_full: load(&shared.rejected_full),
            rejected_circuit_open,
            rejected_shut_down: load(&shared.rejected_shut_down),
            cancelled,
            cancelled_by_shutdown: load(&shared.cancelled_by_shutdown),
            timed_out,
            active,
            in_flight,
            abandoned: abandoned.min(active + helped),
            helped,
        }
    }

    fn times(&self) -> Times {
        let mut times = Times {
            queue_wait: Distribution::empty(),
            run_time: Distribution::empty(),
        };
        for seat in self.seats.made() {
            seat.queue_wait.add_to(&mut times.queue_wait);
            seat.run_time.add_to(&mut times.run_time);
        }
        times
    }

    /// The numbers since the last reset, for users.
    pub(crate) fn since_reset(&self, read: impl FnOnce() -> Totals) -> (Totals, Times) {
        // The lock is held while reading, so that a snapshot is never older than the reset that it
        // is compared with.
        let base = self.base.lock();
        let mut now = read();
        let mut times = self.times();
        if let Some((base, base_times)) = &*base {
            now.started -= base.finished();
            for (now, base) in now.ended.iter_mut().zip(base.ended) {
                *now -= base;
            }
            now.rejected_full -= base.rejected_full;
            now.rejected_circuit_open -= base.rejected_circuit_open;
            now.rejected_shut_down -= base.rejected_shut_down;
            now.cancelled -= base.cancelled;
            now.timed_out -= base.timed_out;
            times.queue_wait.subtract(&base_times.queue_wait);
            times.run_time.subtract(&base_times.run_time);
        }
        (now, times)
    }

    pub(crate) fn reset(&self, read: impl FnOnce() -> Totals) {
        let mut base = self.base.lock();
        // First, so that a maximum is never forgotten whose call counts.
        for seat in self.seats.made() {
            seat.queue_wait.forget_max();
            seat.run_time.forget_max();
        }
        *base = Some((read(), self.times()));
    }
}

impl BulkheadStats {
    pub(crate) fn new(
        name: Arc<str>,
        state: BulkheadState,
        circuit_state: Option<CircuitState>,
        limits: (usize, usize),
        (totals, times): (Totals, Times),
    ) -> Self {
        let [succeeded, failed, panicked] = totals.ended;
        let rejected =
            totals.rejected_full + totals.rejected_circuit_open + totals.rejected_shut_down;
        Self {
            name,
            state,
            submitted_executions: rejected
                + totals.cancelled
                + totals.timed_out
                + succeeded
                + failed
                + panicked
                + totals.in_flight,
            total_executions: totals.started,
            successful_executions: succeeded,
            failed_executions: failed,
            panicked_executions: panicked,
            rejected_executions: rejected,
            rejected_full: totals.rejected_full,
            rejected_circuit_open: totals.rejected_circuit_open,
            rejected_shut_down: totals.rejected_shut_down,
            timed_out_executions: totals.timed_out,
            cancelled_executions: totals.cancelled,
            queued_tasks: totals.in_flight - totals.active,
            active_tasks: totals.active,
            abandoned_tasks: totals.abandoned,
            in_flight: totals.in_flight,
            max_concurrent_calls: limits.0 as u64,
            max_queue_size: limits.1 as u64,
            circuit_breaker_enabled: circuit_state.is_some(),
            circuit_state,
            queue_wait: times.queue_wait,
            run_time: times.run_time,
        }
    }
}
