//! What the model tests may touch beside the public API: the virtual clock, spurious wake-ups, and two parts alone.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::core::ShutdownTarget;
use crate::semaphore::SemaphoreBulkhead;
use crate::semaphore::slots::{SlotPool, WaitOutcome};
use crate::sync;
use crate::thread_pool::awaited_deadlines;
use crate::thread_pool::sleep::{Taken, Taker, WorkerChannel};

/// Moves the virtual clock.
pub fn advance(by: Duration) {
    sync::advance(by);
}

/// Lets the next `n` waits of this execution end without a reason.
pub fn spurious_wake_ups(n: usize) {
    sync::spurious_wake_ups(n);
}

/// Makes a shutdown that cancels wait for no calls that are just being pushed.
pub fn ignore_late_pushes() {
    sync::ignore_late_pushes();
}

/// Waits until the thread of alarms has ended, as the model of a test has to that awaits with a limit.
pub fn wait_for_alarms() {
    awaited_deadlines::wait_for_end();
}

/// How many threads wait for a moment without calls, each of them asleep or about to look again.
pub fn threads_awaiting_idle(bulkhead: &SemaphoreBulkhead) -> usize {
    bulkhead.shutdown_target().engine().permits.awaiting_idle()
}

/// The workers' channel by itself, without a bulkhead around it.
pub struct ModelChannel(WorkerChannel<usize>);

/// A thread that takes from a [`ModelChannel`].
pub struct ModelWorker(Taker);

impl ModelChannel {
    /// For workers that the channel does not count.
    pub fn new(capacity: usize) -> Self {
        Self(WorkerChannel::new(capacity, 0, None, Arc::default()))
    }

    /// For workers that start when they are needed, and leave after `idle_timeout`; without one, that all start in
    /// [`set_workers`](Self::set_workers).
    pub fn with_workers(capacity: usize, workers: usize, idle_timeout: Option<Duration>) -> Self {
        Self(WorkerChannel::new(
            capacity,
            workers,
            idle_timeout,
            Arc::default(),
        ))
    }

    /// `start` starts a thread that works as [`ModelWorker::started`], or tells that it cannot.
    pub fn start_by(&self, start: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.start_by(start);
    }

    pub fn set_workers(&self, workers: usize) {
        self.0.set_workers(workers);
        self.0.start_needed();
    }

    pub fn reserve(&self, capacity: usize) {
        self.0.reserve(capacity);
    }

    /// As [`WorkerChannel::has_not_started`].
    pub fn has_not_started(&self) -> bool {
        self.0.has_not_started()
    }

    /// A worker that was told to leave has gone.
    pub fn has_left(&self) {
        self.0.has_left();
    }

    /// Nobody is started any more.
    pub fn stop(&self) {
        self.0.stop();
    }

    pub fn workers(&self) -> usize {
        self.0.workers()
    }

    pub fn send(&self, entry: usize) {
        self.0.send(entry);
    }

    pub fn try_take(&self) -> Option<usize> {
        self.0.try_take()
    }

    /// Removes an entry. The others keep their order.
    pub fn remove(&self, entry: usize) {
        self.0.retain(|other| *other != entry);
    }

    /// The first entry that is not `dropped`; those before it are dropped.
    pub fn first_but(&self, dropped: usize) -> Option<usize> {
        self.0.look_at_first(|entry| {
            if *entry == dropped {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(*entry)
            }
        })
    }

    pub fn take(&self, worker: &mut ModelWorker) -> usize {
        self.take_or_leave(worker)
            .expect("nobody says that there are too many")
    }

    /// `None`: the worker has to leave.
    pub fn take_or_leave(&self, worker: &mut ModelWorker) -> Option<usize> {
        match self.0.take(&mut worker.0) {
            Taken::Entry { entry, .. } => Some(entry),
            Taken::Leave => None,
        }
    }
}

impl ModelWorker {
    pub fn this_thread() -> Self {
        Self(Taker::this_thread(false))
    }

    /// In a thread that the channel has counted.
    pub fn started() -> Self {
        Self(Taker::this_thread(true))
    }
}

/// The slots of a semaphore bulkhead by themselves.
pub struct ModelSlots(SlotPool<()>);

impl ModelSlots {
    pub fn new(slots: usize) -> Self {
        Self(SlotPool::new(slots, true))
    }

    /// Slots that a caller may take past those that wait.
    pub fn unfair(slots: usize) -> Self {
        Self(SlotPool::new(slots, false))
    }

    /// From here on there are so many slots.
    pub fn resize(&self, slots: usize) {
        self.0.resize(slots);
    }

    pub fn try_take(&self) -> Option<usize> {
        self.0.try_take()
    }

    pub fn give_back(&self, slot: usize) {
        self.0.give_back(slot);
    }

    /// Waits for ever. `in_line` is called while no other caller can join the wait list.
    pub fn take(&self, in_line: impl FnOnce()) -> usize {
        self.wait(None, in_line, || ()).expect("it waits for ever")
    }

    /// Waits, at the longest for `limit`. `looked` is called each time that the caller has looked and found no slot, and
    /// has not slept since.
    pub fn wait(
        &self,
        limit: Option<Duration>,
        in_line: impl FnOnce(),
        looked: impl Fn(),
    ) -> Option<usize> {
        let clock = Clock::system();
        let deadline = limit.map(|limit| clock.now() + limit);
        let gives_up = |&(): &()| {
            looked();
            false
        };
        match self.0.wait(&clock, deadline, (), in_line, gives_up) {
            WaitOutcome::Slot(slot) => Some(slot),
            WaitOutcome::TooLate => None,
            other => unreachable!("{other:?}"),
        }
    }
}
