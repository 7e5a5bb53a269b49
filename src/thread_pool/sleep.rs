//! The bounded channel, and how workers wait at it.
//!
//! crossbeam's channel holds the entries. Nobody blocks on it, since it keeps all who do in a list and wakes the one
//! that has waited longest, whose stack and caches are the coldest. Here the last to fall asleep is the first to be
//! called, at the same cost for any number of workers, and nobody is called while there are workers awake who will
//! come for the entry.
//!
//! A worker without work *looks* for a while, where that pays, and then *sleeps* until it is *called*. Who has
//! been called is counted as looking. As long as somebody sleeps, there must come to be no more entries than workers
//! who look. Three events could break this, and each is followed by a fence and a look at what it has left behind:
//!
//! | event | afterwards |
//! |---|---|
//! | an entry is sent | if somebody sleeps and there are more entries than workers who look, one is called |
//! | a worker goes, with an entry in hand, and looks or sleeps no longer | the same |
//! | a worker lies down to sleep, and looks no longer | it looks for the last time; if it finds an entry, it goes |
//!
//! The last of these fences sees all that happened before the others. So whoever passes it finds what is missing, and
//! what comes after it, taking an entry or beginning to look, only makes it less.

use std::sync::Arc;

use crate::sync::{
    AtomicBool, AtomicU64, Mutex, Ordering, Padded, Receiver, Sender, Spinning, Thread, bounded,
    fence, park_until, this_thread,
};

pub(crate) struct Channel<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    /// How many workers sleep, in the lower half; how many look or have been called, in the upper half.
    idle: Padded<AtomicU64>,
    /// The last to fall asleep is the last in here.
    asleep: Mutex<Vec<Arc<Sleeper>>>,
    /// Whether it pays for a worker to look again before it sleeps.
    spinning: Padded<Spinning>,
}

const ONE_ASLEEP: u64 = 1;
const ONE_LOOKING: u64 = 1 << 32;

fn asleep(idle: u64) -> u64 {
    idle % ONE_LOOKING
}

fn looking(idle: u64) -> u64 {
    idle / ONE_LOOKING
}

/// A worker, when it has nothing to do.
pub(crate) struct Sleeper {
    thread: Thread,
    /// Changes under the lock, like the list of those asleep: whether it has been taken out by somebody else.
    called: AtomicBool,
}

impl Sleeper {
    /// For the calling thread.
    pub(crate) fn here() -> Arc<Self> {
        Arc::new(Self {
            thread: this_thread(),
            called: AtomicBool::new(false),
        })
    }

    /// Sleeps until called.
    fn sleep(&self) {
        // Parking may end without a reason, such as a token that a task has left behind.
        while !self.called.load(Ordering::Acquire) {
            park_until(None);
        }
    }
}

impl<T> Channel<T> {
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self {
            sender,
            receiver,
            idle: Padded::default(),
            asleep: Mutex::new(Vec::with_capacity(workers)),
            spinning: Padded::default(),
        }
    }

    /// Appends an entry, for which there has to be room.
    pub(crate) fn send(&self, entry: T) {
        let sent = self.sender.try_send(entry).is_ok();
        debug_assert!(sent, "whoever sends has seen to the room");
        // ORDERING: SeqCst, as the other two fences: of two events at the same time at least one sees the other.
        fence(Ordering::SeqCst);
        self.call_one_if_needed(self.idle.load(Ordering::Relaxed));
    }

    /// Takes the next entry, if there is one.
    pub(crate) fn try_take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Takes the next entry, waiting for one, and tells whether it had to wait.
    pub(crate) fn take(&self, me: &Arc<Sleeper>) -> (T, bool) {
        match self.try_take() {
            Some(entry) => (entry, false),
            None => (self.wait(me), true),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.receiver.len()
    }

    fn wait(&self, me: &Arc<Sleeper>) -> T {
        self.idle.fetch_add(ONE_LOOKING, Ordering::Relaxed);
        let take = || self.try_take();
        if let Some(entry) = self.spinning.until(|| None, take, || self.len()) {
            self.go(ONE_LOOKING);
            return entry;
        }
        self.lie_down(me);
        loop {
            // ORDERING: SeqCst, see `send`.
            fence(Ordering::SeqCst);
            if let Some(entry) = self.try_take() {
                self.get_up(me);
                return entry;
            }
            me.sleep();
            if let Some(entry) = self.try_take() {
                self.go(ONE_LOOKING);
                return entry;
            }
            self.lie_down(me);
        }
    }

    /// Counted as asleep, and no longer as looking.
    fn lie_down(&self, me: &Arc<Sleeper>) {
        let mut asleep = self.asleep.lock();
        me.called.store(false, Ordering::Relaxed);
        asleep.push(Arc::clone(me));
        self.idle
            .fetch_add(ONE_ASLEEP.wrapping_sub(ONE_LOOKING), Ordering::Relaxed);
    }

    /// Not asleep after all, but with an entry in hand.
    fn get_up(&self, me: &Arc<Sleeper>) {
        let place = {
            let mut asleep = self.asleep.lock();
            let place = asleep.iter().rposition(|other| Arc::ptr_eq(other, me));
            place.map(|place| asleep.remove(place))
        };
        // If it is not there, it has just been called.
        let was = place.map_or(ONE_LOOKING, |_| ONE_ASLEEP);
        self.go(was);
    }

    /// With an entry in hand, and no longer counted as it was.
    fn go(&self, was: u64) {
        let idle = self.idle.fetch_sub(was, Ordering::Relaxed) - was;
        if asleep(idle) > 0 {
            // ORDERING: SeqCst, see `send`.
            fence(Ordering::SeqCst);
            self.call_one_if_needed(idle);
        }
    }

    fn call_one_if_needed(&self, idle: u64) {
        if asleep(idle) > 0 && self.len() as u64 > looking(idle) {
            self.call_one();
        }
    }

    #[cold]
    fn call_one(&self) {
        let called = {
            let mut asleep = self.asleep.lock();
            let Some(last) = asleep.pop() else { return };
            self.idle
                .fetch_add(ONE_LOOKING - ONE_ASLEEP, Ordering::Relaxed);
            // ORDERING: Release, it is counted as looking before it can stop.
            last.called.store(true, Ordering::Release);
            last
        };
        called.thread.unpark();
    }
}
