//! How workers sleep at the bounded channel.
//!
//! No worker blocks on crossbeam's channel, since that keeps all blocked threads in a list and wakes the one that has waited
//! longest, whose stack and caches are the coldest. Here the worker that fell asleep last is woken first, at the same cost
//! for any number of workers, and none is woken while a worker that is awake will take the entry.
//!
//! A worker without work *searches* for a while, where that pays, and then *sleeps* until it is *woken*. A worker that has
//! been woken counts as searching. The invariant: while a worker sleeps, there are no more entries than workers that
//! search, or the thread that made it so is about to wake one. Four events could break it. A fence follows each, and
//! after the fence a look at what the event has left behind:
//!
//! | event | after the fence |
//! |---|---|
//! | an entry is sent | if a worker sleeps and there are more entries than workers that search, wake one |
//! | entries have moved into the front of the channel, see `fifo.rs` | the same, until nothing is left to do |
//! | a worker leaves with an entry in hand, and no longer searches or sleeps | the same |
//! | a worker falls asleep, and no longer searches | it looks for an entry once more, and leaves if it finds one |
//!
//! The last of these fences comes after everything that happened before the others. So the thread that passes it finds
//! what is missing; later events, taking an entry or beginning to search, only make it less.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::fifo::Fifo;
use crate::sync::{
    AdaptiveSpin, AtomicBool, AtomicU64, Mutex, Ordering, Padded, Thread, fence, park_until,
    this_thread,
};

pub(crate) struct WorkerChannel<T> {
    entries: Fifo<T>,
    /// Lower half: how many workers sleep. Upper half: how many search, or have been woken.
    idle: Padded<AtomicU64>,
    /// The worker that fell asleep last is the last in here.
    sleepers: Mutex<Vec<Arc<Sleeper>>>,
    /// Whether it pays for a worker to search before it sleeps.
    spin: Padded<AdaptiveSpin>,
}

const ONE_ASLEEP: u64 = 1;
const ONE_SEARCHING: u64 = 1 << 32;

fn asleep(idle: u64) -> u64 {
    idle % ONE_SEARCHING
}

fn searching(idle: u64) -> u64 {
    idle / ONE_SEARCHING
}

/// A worker that has nothing to do.
pub(crate) struct Sleeper {
    thread: Thread,
    /// Whether another thread has taken it out of `sleepers`. Changes under the lock of that list.
    woken: AtomicBool,
}

impl Sleeper {
    /// For the calling thread.
    pub(crate) fn this_thread() -> Arc<Self> {
        Arc::new(Self {
            thread: this_thread(),
            woken: AtomicBool::new(false),
        })
    }

    /// Sleeps until woken.
    fn sleep(&self) {
        // Parking may end without a reason, such as a token that a task has left behind.
        while !self.woken.load(Ordering::Acquire) {
            park_until(None);
        }
    }
}

impl<T> WorkerChannel<T> {
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        Self {
            entries: Fifo::new(capacity),
            idle: Padded::default(),
            sleepers: Mutex::new(Vec::with_capacity(workers)),
            spin: Padded::default(),
        }
    }

    /// Appends an entry, for which there has to be room.
    pub(crate) fn send(&self, entry: T) {
        self.entries.send(entry);
        // ORDERING: SeqCst, as the other fences: of two events at the same time at least one sees the other.
        fence(Ordering::SeqCst);
        self.wake_one_if_needed(self.idle.load(Ordering::Relaxed));
    }

    /// Takes the next entry, if there is one.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.entries.try_take()
    }

    /// Takes the next entry, waiting for one, and tells whether it had to wait.
    pub(crate) fn take(&self, me: &Arc<Sleeper>) -> (T, bool) {
        match self.try_take() {
            Some(entry) => (entry, false),
            None => (self.wait(me), true),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes the first entry that is `wanted`. The others keep their order.
    pub(crate) fn take_first(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let first = self.entries.take_first(wanted);
        self.wake_all_needed();
        first
    }

    /// Shows the first entry to `look`, and drops it if that says `Continue`, to show the next one. The others keep their
    /// order.
    pub(crate) fn look_at_first<R>(&self, look: impl Fn(&T) -> ControlFlow<R>) -> Option<R> {
        let found = self.entries.look_at_first(look);
        self.wake_all_needed();
        found
    }

    /// Drops all entries that are not to be kept. The others keep their order.
    pub(crate) fn retain(&self, keep: impl FnMut(&T) -> bool) {
        self.entries.retain(keep);
        self.wake_all_needed();
    }

    /// After entries have moved: a worker that fell asleep meanwhile may have missed them.
    fn wake_all_needed(&self) {
        // ORDERING: SeqCst, see `send`.
        fence(Ordering::SeqCst);
        while self.wake_one_if_needed(self.idle.load(Ordering::Relaxed)) {}
    }

    fn wait(&self, me: &Arc<Sleeper>) -> T {
        self.idle.fetch_add(ONE_SEARCHING, Ordering::Relaxed);
        let take = || self.try_take();
        if let Some(entry) = self.spin.until(|| None, take, || self.len()) {
            self.leave(ONE_SEARCHING);
            return entry;
        }
        self.fall_asleep(me);
        loop {
            // ORDERING: SeqCst, see `send`.
            fence(Ordering::SeqCst);
            if let Some(entry) = self.try_take() {
                self.get_up(me);
                return entry;
            }
            me.sleep();
            if let Some(entry) = self.try_take() {
                self.leave(ONE_SEARCHING);
                return entry;
            }
            self.fall_asleep(me);
        }
    }

    /// The worker counts as asleep, and no longer as searching.
    fn fall_asleep(&self, me: &Arc<Sleeper>) {
        let mut sleepers = self.sleepers.lock();
        me.woken.store(false, Ordering::Relaxed);
        sleepers.push(Arc::clone(me));
        self.idle
            .fetch_add(ONE_ASLEEP.wrapping_sub(ONE_SEARCHING), Ordering::Relaxed);
    }

    /// The worker does not sleep after all, but has an entry in hand.
    fn get_up(&self, me: &Arc<Sleeper>) {
        let place = {
            let mut sleepers = self.sleepers.lock();
            let place = sleepers.iter().rposition(|other| Arc::ptr_eq(other, me));
            place.map(|place| sleepers.remove(place))
        };
        // If it is not in the list, another thread has just woken it.
        let was = place.map_or(ONE_SEARCHING, |_| ONE_ASLEEP);
        self.leave(was);
    }

    /// The worker has an entry in hand, and no longer counts as it did.
    fn leave(&self, was: u64) {
        let idle = self.idle.fetch_sub(was, Ordering::Relaxed) - was;
        if asleep(idle) > 0 {
            // ORDERING: SeqCst, see `send`.
            fence(Ordering::SeqCst);
            self.wake_one_if_needed(idle);
        }
    }

    /// Tells whether it has woken one.
    fn wake_one_if_needed(&self, idle: u64) -> bool {
        asleep(idle) > 0 && self.len() as u64 > searching(idle) && self.wake_one()
    }

    #[cold]
    fn wake_one(&self) -> bool {
        let woken = {
            let mut sleepers = self.sleepers.lock();
            let Some(last) = sleepers.pop() else {
                return false;
            };
            self.idle
                .fetch_add(ONE_SEARCHING - ONE_ASLEEP, Ordering::Relaxed);
            // ORDERING: Release, so that it counts as searching before it can stop.
            last.woken.store(true, Ordering::Release);
            last
        };
        woken.thread.unpark();
        true
    }
}
