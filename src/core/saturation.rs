//! Saturation: a bulkhead is full for longer than a moment. Since when, and who is told.
//!
//! A saturation begins with the first call that is refused as full, and ends when no more than half of the places are taken.
//! `permit.rs` decides both, and lets one thread at a time call [`Saturation::begin`] or [`Saturation::end`], in turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::this_thread::while_holding_permit;
use crate::clock::Clock;
use crate::event::BulkheadEvent;
use crate::event::Listeners;
use crate::panic::note;
use crate::stats::SharedCounters;
use crate::sync::{AtomicU64, Limit, Ordering, Padded, nanos};

/// The log has no more than one pair of lines in so long.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct Saturation {
    /// The bulkhead's.
    pub(super) serial: u64,
    pub(super) name: Arc<str>,
    pub(super) clock: Clock,
    pub(super) listeners: Arc<Listeners>,
    pub(super) counters: Arc<Padded<SharedCounters>>,
    pub(super) epoch: Instant,
    pub(super) times: Times,
}

// ORDERING: Release and Acquire, for threads that only ask. Those that begin and end a saturation are in order anyway.
pub(super) struct Times {
    /// When the saturation began, from `epoch`, as a [`Limit`]; `NONE`: there is none.
    since: AtomicU64,
    /// How many calls had been refused as full by then.
    rejected_before: AtomicU64,
    /// When the log last had a line of a beginning, from `epoch`, as a [`Limit`].
    logged: AtomicU64,
    /// Whether it has one of this saturation: 0 or 1.
    is_logged: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        let none = || AtomicU64::new(Limit::NONE.in_nanos());
        Self {
            since: none(),
            rejected_before: AtomicU64::new(0),
            logged: none(),
            is_logged: AtomicU64::new(0),
        }
    }
}

impl Saturation {
    /// Since when the bulkhead is saturated, if it is.
    pub(crate) fn since(&self) -> Option<Instant> {
        Limit::of_nanos(self.times.since.load(Ordering::Acquire)).from(self.epoch)
    }

    fn rejected(&self) -> u64 {
        self.counters.rejected()[0]
    }

    /// The refusal that begins it is counted already.
    pub(super) fn begin(&self, max_concurrent_calls: usize, max_queue_size: usize) {
        let now = nanos(self.clock.now().saturating_duration_since(self.epoch));
        let times = &self.times;
        let rejected = self.rejected().saturating_sub(1);
        times.rejected_before.store(rejected, Ordering::Release);
        times.since.store(now, Ordering::Release);

        let logged = times.logged.load(Ordering::Acquire);
        let is_logged = logged == Limit::NONE.in_nanos() || now - logged >= nanos(LOG_INTERVAL);
        times
            .is_logged
            .store(u64::from(is_logged), Ordering::Release);
        let name = &*self.name;
        if is_logged {
            times.logged.store(now, Ordering::Release);
            note(|| {
                log::warn!(
                    target: "bulkman",
                    bulkhead = name, max_concurrent_calls = max_concurrent_calls, max_queue_size = max_queue_size;
                    "bulkhead `{name}` is full and refuses calls: {max_concurrent_calls} run, {max_queue_size} wait"
                );
            });
        }
        self.tell(|| BulkheadEvent::SaturationBegan {
            bulkhead: name,
            max_concurrent_calls,
            max_queue_size,
        });
    }

    pub(super) fn end(&self) {
        let times = &self.times;
        let since = self.since().unwrap_or(self.epoch);
        let lasted = self.clock.now().saturating_duration_since(since);
        let before = times.rejected_before.load(Ordering::Acquire);
        let rejected = self.rejected().saturating_sub(before);
        times.since.store(Limit::NONE.in_nanos(), Ordering::Release);
        let name = &*self.name;
        if times.is_logged.load(Ordering::Acquire) != 0 {
            note(|| {
                log::info!(
                    target: "bulkman", bulkhead = name, rejected = rejected, lasted:? = lasted;
                    "bulkhead `{name}` has room again after {lasted:?}, in which it refused {rejected} calls as full"
                );
            });
        }
        self.tell(|| BulkheadEvent::SaturationEnded {
            bulkhead: name,
            lasted,
            rejected,
        });
    }

    /// Nobody may wait for the bulkhead here: the thread that gives a place back may hold up its end.
    fn tell<'a>(&self, event: impl FnOnce() -> BulkheadEvent<'a>) {
        if self.listeners.is_empty() {
            return;
        }
        while_holding_permit(self.serial, || self.listeners.tell(&self.name, event));
    }
}
