//! The log's summary of refused calls: a line every few seconds, as long as calls are refused, with how many for which reason.
//!
//! It has no thread: the first refusal after the interval writes the line. A refusal costs less than a reading of the
//! clock, so most of them only compare the number of refusals with the number at which to look again. Where refusals come
//! fast, that is up to [`LONGEST_STRIDE`] ahead; where they come slowly, each of them looks. The words race, and no decision
//! that matters rests on them: a line may come a few refusals later, and its numbers are those of the ledger.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::panic::note;
use crate::stats::SharedCounters;
use crate::sync::{AtomicU64, Limit, Ordering, nanos};

/// The log has no more than one line in so long.
const INTERVAL: Duration = Duration::from_secs(5);
/// Refusals between two readings of the clock, at most.
const LONGEST_STRIDE: u64 = 64;
/// Two readings that are closer than this are closer than need be.
const CLOSE: Duration = Duration::from_millis(1);
/// Refusals between two looks whether the log takes warnings, if it does not.
const UNHEARD_STRIDE: u64 = 1024;

/// Why a call was refused.
#[derive(Clone, Copy)]
pub(crate) enum RejectedAs {
    Full,
    CircuitOpen,
    ShutDown,
}

// ORDERING of all: Relaxed. They hand nothing over.
pub(crate) struct RejectionLog {
    /// For each reason, the number of refusals at which to look again.
    look_at: [AtomicU64; 3],
    stride: AtomicU64,
    /// When a refusal last looked, in nanoseconds.
    looked: AtomicU64,
    /// Since when refusals are counted for the next line, as a [`Limit`].
    since: AtomicU64,
    /// How many were in the last lines.
    written: [AtomicU64; 3],
}

impl Default for RejectionLog {
    fn default() -> Self {
        Self {
            look_at: Default::default(),
            stride: AtomicU64::new(1),
            looked: AtomicU64::new(0),
            since: AtomicU64::new(Limit::NONE.in_nanos()),
            written: Default::default(),
        }
    }
}

impl RejectionLog {
    /// Whether the refusal of this number, of those for this reason, is to [look](Self::look).
    #[inline(always)]
    pub(super) fn is_due(&self, reason: RejectedAs, number: u64) -> bool {
        number >= self.look_at[reason as usize].load(Ordering::Relaxed)
    }

    /// The next refusal looks, whatever its number.
    pub(super) fn look_soon(&self) {
        self.stride.store(1, Ordering::Relaxed);
        for look_at in &self.look_at {
            look_at.store(0, Ordering::Relaxed);
        }
    }

    /// Writes the line, if it is time for one.
    #[cold]
    pub(super) fn look(
        &self,
        bulkhead: &str,
        (clock, epoch): (&Clock, Instant),
        counters: &SharedCounters,
        reason: RejectedAs,
        number: u64,
    ) {
        let look_after = |stride| {
            let look_at = &self.look_at[reason as usize];
            look_at.store(number.saturating_add(stride), Ordering::Relaxed);
        };
        if !is_heard() {
            return look_after(UNHEARD_STRIDE);
        }
        let now = nanos(clock.now().saturating_duration_since(epoch));
        let looked = self.looked.swap(now, Ordering::Relaxed);
        let stride = if now.saturating_sub(looked) < nanos(CLOSE) {
            let before = self.stride.load(Ordering::Relaxed);
            (before * 2).min(LONGEST_STRIDE)
        } else {
            1
        };
        self.stride.store(stride, Ordering::Relaxed);
        look_after(stride);

        let since = self.since.load(Ordering::Relaxed);
        let is_first = since == Limit::NONE.in_nanos();
        if !is_first && now.saturating_sub(since) < nanos(INTERVAL) {
            return;
        }
        let order = Ordering::Relaxed;
        let is_ours = self
            .since
            .compare_exchange(since, now, order, order)
            .is_ok();
        if !is_ours || is_first {
            return;
        }
        let total = counters.rejected();
        let mut rejected = total;
        for (number, written) in rejected.iter_mut().zip(&self.written) {
            let before = written.swap(*number, Ordering::Relaxed);
            *number = number.saturating_sub(before);
        }
        write(bulkhead, rejected, Duration::from_nanos(now - since));
    }
}

fn is_heard() -> bool {
    log::STATIC_MAX_LEVEL >= log::LevelFilter::Warn && log::max_level() >= log::LevelFilter::Warn
}

fn write(bulkhead: &str, [full, circuit_open, shut_down]: [u64; 3], within: Duration) {
    let all = full + circuit_open + shut_down;
    let seconds = within.as_secs_f64();
    note(|| {
        log::warn!(
            target: "bulkman",
            bulkhead = bulkhead, rejected = all, rejected_full = full, rejected_circuit_open = circuit_open,
            rejected_shut_down = shut_down, seconds = seconds;
            "bulkhead `{bulkhead}` refused {all} calls in {seconds:.1} s: {full} as full, {circuit_open} for its open \
             circuit, {shut_down} as shut down"
        );
    });
}
