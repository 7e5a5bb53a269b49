//! The queue between submitters and workers, and the tombstones in it.
//!
//! A call can leave the queue before a worker takes its entry: it is cancelled, it expires before its waiter's eyes, or a
//! waiting worker runs it. The entry stays behind, an empty *tombstone* that a worker will throw away. The place of the call
//! is free at once, so the channel has room for tombstones beside the calls:
//!
//! * The channel holds `calls + tombstones + 1` entries. `calls` is the number of permits, as many tombstones are allowed,
//!   and the last entry is the stop token. So sending never fails.
//! * A thread counts a tombstone before it makes one ([`Queue::reserve_tombstone`]). Within the allowance that is all. Beyond
//!   it, the thread compacts the queue before the call's place is given back: it drops the tombstones. The other entries keep
//!   their order, see `fifo.rs`. Compacting drops as many tombstones as there may be calls, so a cancel costs the same however
//!   long the queue is.
//! * One thread compacts at a time. So an entry that is a tombstone when compacting begins has left the channel when it ends.
//!
//! The stop token is sent once, when the last call has ended after the close; each worker passes it on to the next and
//! ends. Nothing but the token is left then: tombstones are in front of it, and a thread that compacts still has a place.
//!
//! When there are to be more calls, the channel gets room for them first, see `fifo.rs`. When there are to be fewer, the room
//! stays.

use std::collections::TryReserveError;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sleep::{Taken, Taker, WorkerChannel};
use crate::core::Job;
use crate::sync::{AtomicUsize, Latch, Ordering, Padded, fence};

/// A call, or the stop token.
pub(super) type Entry = Option<Arc<dyn Job>>;

pub(super) struct Queue {
    entries: Arc<Entries>,
    /// How many tombstones may be in the channel.
    allowance: AtomicUsize,
}

/// What a worker finds.
pub(super) enum Next {
    Job {
        job: Arc<dyn Job>,
        /// Whether it had to be waited for.
        waited: bool,
    },
    /// The worker leaves a bulkhead that goes on.
    Leave,
    /// There will be no more calls.
    Stop,
}

struct Entries {
    channel: WorkerChannel<Entry>,
    latch: Arc<Latch>,
    /// Tombstones in the channel, or about to be.
    tombstones: Padded<AtomicUsize>,
}

impl Queue {
    /// Takes all its memory, or is refused it. `latch` counts the workers, and one more until the end.
    pub(super) fn new(
        calls: usize,
        workers: usize,
        idle_timeout: Option<Duration>,
        latch: Arc<Latch>,
    ) -> Result<Self, TryReserveError> {
        let capacity = capacity_for(calls);
        check_memory(capacity)?;
        latch.count_up();
        let workers_latch = Arc::clone(&latch);
        Ok(Self {
            entries: Arc::new(Entries {
                channel: WorkerChannel::new(capacity, workers, idle_timeout, workers_latch),
                latch,
                tombstones: Padded::default(),
            }),
            allowance: AtomicUsize::new(calls),
        })
    }

    /// Takes the memory for so many calls, or is refused it. One thread at a time calls this.
    pub(super) fn reserve(&self, calls: usize) -> Result<(), TryReserveError> {
        let capacity = capacity_for(calls);
        if capacity > self.entries.channel.capacity() {
            check_memory(capacity)?;
            self.entries.channel.reserve(capacity);
        }
        // ORDERING: Release, and Acquire where it is read. A thread that leaves a tombstone beyond the old allowance has seen the
        // new channel, and so has whoever gets the place that it gives back. So the old channel, to which others may still send,
        // has no more tombstones than it has room for. With the old number a thread compacts sooner.
        let allowance = self.allowance.load(Ordering::Relaxed);
        self.allowance
            .store(allowance.max(calls), Ordering::Release);
        Ok(())
    }

    /// The workers at the channel: how many there are, and are to be.
    pub(super) fn workers(&self) -> &WorkerChannel<Entry> {
        &self.entries.channel
    }

    /// Sends the stop token, once.
    pub(super) fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let entries = Arc::clone(&self.entries);
        move || {
            entries.channel.stop();
            entries.channel.send(None);
            entries.latch.count_down();
        }
    }

    /// Ends the queued calls that the open circuit refuses.
    pub(super) fn refuser(&self) -> impl Fn() + Send + Sync + 'static {
        let entries = Arc::clone(&self.entries);
        let is_refused = |entry: &Entry| {
            entry
                .as_ref()
                .is_some_and(|job| job.is_refused_by_circuit())
        };
        move || {
            // ORDERING: SeqCst, with the fence in `send`. A submitter pushes and then looks whether the circuit has opened.
            // The circuit opens and then this thread looks for entries. At least one of the two sees the other.
            fence(Ordering::SeqCst);
            // Each look for a call begins at the oldest entry: without tombstones it need not look far.
            entries.compact();
            // One at a time, as in `drain`.
            while let Some(entry) = entries.channel.take_first(is_refused) {
                entry.into_iter().for_each(|job| job.refuse_for_circuit());
            }
        }
    }

    /// How many workers there are.
    pub(super) fn worker_count(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let entries = Arc::clone(&self.entries);
        move || entries.channel.workers()
    }

    /// When the call was admitted that has been in the queue longest.
    pub(super) fn oldest(&self) -> impl Fn() -> Option<Instant> + Send + Sync + 'static {
        let entries = Arc::clone(&self.entries);
        move || {
            let oldest = entries.channel.look_at_first(|entry| match entry {
                Some(job) => match job.queued_since() {
                    Some(since) => ControlFlow::Break(Some(since)),
                    None => {
                        entries.tombstone_removed();
                        ControlFlow::Continue(())
                    }
                },
                None => ControlFlow::Break(None),
            });
            oldest.flatten()
        }
    }

    /// Appends a call that holds a permit.
    #[inline]
    pub(super) fn push(&self, job: Arc<dyn Job>) {
        self.entries.channel.send(Some(job));
    }

    /// Waits for the next call.
    #[inline]
    pub(super) fn next(&self, worker: &mut Taker) -> Next {
        let channel = &self.entries.channel;
        match channel.take(worker) {
            Taken::Entry {
                entry: Some(job),
                waited,
            } => Next::Job { job, waited },
            Taken::Entry { entry: None, .. } => {
                channel.send(None);
                channel.leave();
                Next::Stop
            }
            Taken::Leave => Next::Leave,
        }
    }

    /// Counts a tombstone before there is one.
    pub(super) fn reserve_tombstone(&self) -> ReservedTombstone<'_> {
        // ORDERING: AcqRel on `tombstones`: the number is all that is handed over, one order is enough.
        let before = self.entries.tombstones.fetch_add(1, Ordering::AcqRel);
        ReservedTombstone {
            queue: self,
            is_over: before >= self.allowance.load(Ordering::Acquire),
        }
    }

    /// A tombstone has been taken out of the channel.
    pub(super) fn tombstone_removed(&self) {
        self.entries.tombstone_removed();
    }

    /// Takes out everything that is queued and hands the calls to `each`.
    pub(super) fn drain(&self, mut each: impl FnMut(Arc<dyn Job>)) {
        // One at a time, so that `each` runs under no lock, and no call is out of the queue longer than it takes to end it.
        let channel = &self.entries.channel;
        while let Some(entry) = channel.take_first(|_| true) {
            match entry {
                Some(job) => each(job),
                None => {
                    channel.send(None);
                    break;
                }
            }
        }
    }
}

impl Entries {
    fn tombstone_removed(&self) {
        self.tombstones.fetch_sub(1, Ordering::AcqRel);
    }

    /// Drops the tombstones.
    fn compact(&self) {
        // A tombstone has neither closure nor outcome left: no user code runs in its drop.
        self.channel.retain(|entry| {
            let is_tombstone = entry.as_ref().is_some_and(|job| job.is_tombstone());
            if is_tombstone {
                self.tombstone_removed();
            }
            !is_tombstone
        });
    }
}

/// The room that so many calls need.
fn capacity_for(calls: usize) -> usize {
    let tombstones = calls;
    calls + tombstones + 1
}

/// Asks for the memory of a channel, and gives it back: the channel itself would abort the process if it got none.
fn check_memory(capacity: usize) -> Result<(), TryReserveError> {
    // As crossbeam has it: a stamp beside each entry.
    let mut entries = Vec::<(u64, Entry)>::new();
    let refused_or_not = entries.try_reserve_exact(capacity);
    // Else the compiler may do without the memory, since nothing uses it.
    black_box(&mut entries);
    refused_or_not
}

/// A tombstone that is counted and may come into being.
#[must_use]
pub(super) struct ReservedTombstone<'a> {
    queue: &'a Queue,
    is_over: bool,
}

impl ReservedTombstone<'_> {
    /// The entry is a tombstone now. Afterwards the call's place may be given back.
    pub(super) fn confirm(self) {
        if self.is_over {
            self.queue.entries.compact();
        }
    }

    /// The entry is no tombstone after all.
    pub(super) fn release(self) {
        self.queue.tombstone_removed();
    }
}
