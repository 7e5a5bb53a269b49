//! What the model tests may touch beside the public API: the virtual clock, spurious wake-ups, and two parts alone.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::core::ShutdownTarget;
use crate::semaphore::SemaphoreBulkhead;
use crate::semaphore::slots::{SlotPool, WaitOutcome};
use crate::sync;
use crate::thread_pool::alarm;
use crate::thread_pool::sleep::{Sleeper, WorkerChannel};

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
    alarm::wait_for_end();
}

/// How many threads wait for a moment without calls, each of them asleep or about to look again.
pub fn threads_awaiting_idle(bulkhead: &SemaphoreBulkhead) -> usize {
    bulkhead.shutdown_target().engine().permits.awaiting_idle()
}

/// The workers' channel by itself, without a bulkhead around it.
pub struct ModelChannel(WorkerChannel<usize>);

/// A thread that takes from a [`ModelChannel`].
pub struct ModelWorker(Arc<Sleeper>);

impl ModelChannel {
    pub fn new(capacity: usize) -> Self {
        Self(WorkerChannel::new(capacity, 0))
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

    pub fn take(&self, worker: &ModelWorker) -> usize {
        self.0.take(&worker.0).0
    }
}

impl ModelWorker {
    pub fn this_thread() -> Self {
        Self(Sleeper::this_thread())
    }
}

/// The slots of a semaphore bulkhead by themselves.
pub struct ModelSlots(SlotPool<()>);

impl ModelSlots {
    pub fn new(slots: usize) -> Self {
        Self(SlotPool::new(slots))
    }

    pub fn try_take(&self) -> Option<usize> {
        self.0.try_take()
    }

    pub fn give_back(&self, slot: usize) {
        self.0.give_back(slot);
    }

    /// Waits for ever. `in_line` is called while no other caller can join the wait list.
    pub fn take(&self, in_line: impl FnOnce()) -> usize {
        match self.0.wait(&Clock::system(), None, (), in_line, |()| false) {
            WaitOutcome::Slot(slot) => slot,
            other => unreachable!("{other:?}"),
        }
    }
}
