//! Which call runs in one of the N slots, as other threads see it: for shutdown reports and `current()`.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::call_data::{CallData, RunningCall};
use crate::stats::SlotCounters;
use crate::sync::{AtomicU64, Limit, Mutex, Ordering, nanos};

/// What is kept for one slot. A worker looks it up once, and a caller once for each call.
#[derive(Clone, Copy)]
pub(crate) struct SlotData<'a> {
    pub(crate) counters: &'a SlotCounters,
    pub(crate) running: &'a RunningSlot,
}

/// The call that runs in a slot, and on top of it the calls that it has made itself and that run in its stead. One thread
/// at a time owns the slot: a worker for its whole life, or a caller. The owner alone writes here. Calls of guards, which are
/// dropped in any order, may end before those on top of them.
///
/// Most calls are not nested, have no name and inherit nothing. A few words hold what is to be seen of them. These words
/// are a *seqlock*:
///
/// * The owner makes `version` odd when the words are written and a call runs, and even when it has ended. It writes the
///   words while `version` is even, with plain stores.
/// * A reader that finds the same odd `version` before and after it has read the words has read one call's words. Had it
///   read a later call's, it would also see the `version` in between.
///
/// All other calls are kept in a list under a lock. (What a worker's call inherits is not looked for here.)
///
/// Each slot has cache lines of its own, as in [`Padded`](crate::sync::Padded), since every call writes them.
#[repr(align(128))]
pub(crate) struct RunningSlot {
    version: AtomicU64,
    id: [AtomicU64; 2],
    /// In nanoseconds from `epoch`, as the next.
    since: AtomicU64,
    /// When the caller's limit is over, as a [`Limit`].
    deadline: AtomicU64,
    epoch: Instant,
    /// The last `version` at which a call in the words was abandoned; 0: none. Written by the thread that leaves the call.
    abandoned: AtomicU64,
    listed: Mutex<Vec<RunningCall>>,
}

/// Where a running call is shown, for its end.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) enum Shown {
    InWords,
    InList,
}

impl RunningSlot {
    /// No call starts before `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            version: AtomicU64::new(0),
            id: Default::default(),
            since: AtomicU64::new(0),
            deadline: AtomicU64::new(Limit::NONE.in_nanos()),
            epoch,
            abandoned: AtomicU64::new(0),
            listed: Mutex::default(),
        }
    }

    /// A call begins in this slot. `is_listed`: the words cannot hold what is to be seen of it.
    #[inline]
    pub(crate) fn begin(&self, data: &CallData, since: Instant, is_listed: bool) -> Shown {
        let deadline = data.deadline();
        if is_listed || data.operation.is_some() {
            let running = RunningCall {
                execution_id: data.execution_id,
                operation: data.operation.clone(),
                since,
                deadline,
                inherited: data.inherited.clone(),
                is_abandoned: false,
            };
            self.listed.lock().push(running);
            return Shown::InList;
        }
        // ORDERING: Release, here and in `advance`, and Acquire in `in_words`: see above.
        let (high, low) = data.execution_id.as_u64_pair();
        self.id[0].store(high, Ordering::Release);
        self.id[1].store(low, Ordering::Release);
        let from_epoch = |at: Instant| at.saturating_duration_since(self.epoch);
        self.since
            .store(nanos(from_epoch(since)), Ordering::Release);
        let deadline = Limit::new(deadline.map(from_epoch));
        self.deadline.store(deadline.in_nanos(), Ordering::Release);
        self.advance();
        Shown::InWords
    }

    /// A call that has begun here is over. Most often it is the last one that has.
    #[inline]
    pub(crate) fn end(&self, shown: Shown, data: &CallData) {
        match shown {
            Shown::InWords => self.advance(),
            Shown::InList => {
                let mut listed = self.listed.lock();
                let is_it = |call: &RunningCall| call.execution_id == data.execution_id;
                if let Some(place) = listed.iter().rposition(is_it) {
                    listed.remove(place);
                }
            }
        }
    }

    /// The caller of a call is gone. `false`: the call does not run here, or has just ended.
    pub(crate) fn abandon(&self, data: &CallData) -> bool {
        let version = self.version.load(Ordering::Acquire);
        let id = [&self.id[0], &self.id[1]].map(|half| half.load(Ordering::Acquire));
        if version % 2 == 1 && Uuid::from_u64_pair(id[0], id[1]) == data.execution_id {
            // ORDERING: Release, as for the words. If the call has ended meanwhile, no reader takes this version for its own.
            self.abandoned.fetch_max(version, Ordering::Release);
            return true;
        }
        let mut listed = self.listed.lock();
        let is_it = |call: &&mut RunningCall| call.execution_id == data.execution_id;
        match listed.iter_mut().find(is_it) {
            Some(call) => {
                call.is_abandoned = true;
                true
            }
            None => false,
        }
    }

    /// The call that has just begun here has no caller any more. Asked by the owner.
    pub(crate) fn abandon_own(&self, shown: Shown, data: &CallData) {
        match shown {
            // ORDERING: Release, as in `abandon`. Not `fetch_max`: another thread has a lower version at the most, of a call
            // that has ended here.
            Shown::InWords => {
                let version = self.version.load(Ordering::Relaxed);
                self.abandoned.store(version, Ordering::Release);
            }
            Shown::InList => {
                let _found = self.abandon(data);
            }
        }
    }

    #[inline]
    fn advance(&self) {
        // ORDERING: Relaxed. The load reads the last store of an owner of the slot; each owner hands the slot to the next.
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// In the order in which they began.
    pub(crate) fn running(&self) -> Vec<RunningCall> {
        let mut running: Vec<_> = self.in_words().into_iter().collect();
        running.extend(self.listed.lock().iter().cloned());
        running
    }

    /// When the first of the calls that run here began.
    pub(crate) fn busy_since(&self) -> Option<Instant> {
        let in_words = loop {
            // As in `in_words`, for one of the words.
            let version = self.version.load(Ordering::Acquire);
            if version % 2 == 0 {
                break None;
            }
            let since = self.since.load(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                break Some(self.epoch + Duration::from_nanos(since));
            }
        };
        in_words.or_else(|| self.listed.lock().first().map(|call| call.since))
    }

    /// When the first of the abandoned calls that run here began.
    pub(crate) fn abandoned_since(&self) -> Option<Instant> {
        let running = self.running();
        let abandoned = running.iter().filter(|call| call.is_abandoned);
        abandoned.map(|call| call.since).min()
    }

    /// The same as `busy_since` of the calls other than this one. Asked by the owner.
    pub(crate) fn others_busy_since(&self, data: &CallData) -> Option<Instant> {
        let running = self.running();
        let is_other = |call: &&RunningCall| call.execution_id != data.execution_id;
        let others = running.iter().filter(is_other);
        others.map(|call| call.since).min()
    }

    /// The call that began last. Asked by the owner.
    pub(crate) fn innermost(&self) -> Option<RunningCall> {
        let listed = self.listed.lock().last().cloned();
        listed.or_else(|| self.in_words())
    }

    fn in_words(&self) -> Option<RunningCall> {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version % 2 == 0 {
                return None;
            }
            let [high, low] = [&self.id[0], &self.id[1]].map(|half| half.load(Ordering::Acquire));
            let since = self.since.load(Ordering::Acquire);
            let deadline = self.deadline.load(Ordering::Acquire);
            let is_abandoned = self.abandoned.load(Ordering::Acquire) == version;
            // ORDERING: Relaxed is enough after the Acquire of the words.
            if self.version.load(Ordering::Relaxed) == version {
                return Some(RunningCall {
                    execution_id: Uuid::from_u64_pair(high, low),
                    operation: None,
                    since: self.epoch + Duration::from_nanos(since),
                    deadline: Limit::of_nanos(deadline).from(self.epoch),
                    inherited: None,
                    is_abandoned,
                });
            }
        }
    }
}
