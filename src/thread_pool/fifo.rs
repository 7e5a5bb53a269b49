//! The bounded channel that holds the entries, and the front, by which entries leave it out of turn.
//!
//! crossbeam's channel gives entries out at its head only. To remove one from the middle, a thread *gathers*: it moves all
//! entries into the front, a second queue that goes before the channel, and removes the entry there.
//!
//! * Every entry in the front is older than each in the channel. So entries that are taken from the front first are taken in
//!   the order in which they came, however often a thread gathers.
//! * `has_front` is set before the first entry moves. It is cleared under the lock of the front, when the front is empty. While
//!   it is not set, taking an entry costs one look at it and takes no lock.
//! * A worker that looks just before a thread gathers may take one entry past those that are on their way into the front. It
//!   finds `has_front` set the next time. So an entry is overtaken at most once by each worker, and then never again.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::sync::{
    AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, Receiver, Sender, bounded,
};

pub(super) struct Fifo<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    capacity: usize,
    front: Mutex<VecDeque<T>>,
    has_front: AtomicBool,
    /// How many entries are in the front. Written under its lock.
    in_front: AtomicUsize,
}

impl<T> Fifo<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self {
            sender,
            receiver,
            capacity,
            front: Mutex::default(),
            has_front: AtomicBool::new(false),
            in_front: AtomicUsize::new(0),
        }
    }

    /// Appends an entry, for which there has to be room.
    pub(super) fn send(&self, entry: T) {
        let sent = self.sender.try_send(entry).is_ok();
        debug_assert!(sent, "the sender has seen to the room");
    }

    /// Takes the next entry, if there is one.
    #[inline]
    pub(super) fn try_take(&self) -> Option<T> {
        // ORDERING: Relaxed. A worker about to sleep looks after a fence, and a thread that has gathered looks for sleeping
        // workers after another, see `sleep.rs`. A worker that is awake finds the flag a moment later.
        if self.has_front.load(Ordering::Relaxed) {
            let first = self.take_from_front();
            if first.is_some() {
                return first;
            }
        }
        self.receiver.try_recv().ok()
    }

    #[cold]
    fn take_from_front(&self) -> Option<T> {
        let mut front = self.front.lock();
        let first = front.pop_front();
        self.note(&front);
        first
    }

    /// How many entries there are. While a thread gathers, it may be too few.
    pub(super) fn len(&self) -> usize {
        self.receiver.len() + self.in_front.load(Ordering::Relaxed)
    }

    /// Removes the first entry that is `wanted`.
    pub(super) fn take_first(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut front = self.gather();
        let index = front.iter().position(wanted);
        let first = index.and_then(|index| front.remove(index));
        self.note(&front);
        first
    }

    /// Shows the first entry to `look`. If that says `Continue`, drops the entry, under the lock of the front, and shows the
    /// next one.
    pub(super) fn look_at_first<R>(&self, look: impl Fn(&T) -> ControlFlow<R>) -> Option<R> {
        let mut front = self.front.lock();
        let mut found = None;
        // Not for ever, as in `gather`.
        for _ in 0..self.capacity {
            if front.is_empty() {
                self.has_front.store(true, Ordering::Relaxed);
                front.extend(self.receiver.try_recv());
            }
            match front.front().map(&look) {
                None => break,
                Some(ControlFlow::Break(first)) => {
                    found = Some(first);
                    break;
                }
                Some(ControlFlow::Continue(())) => drop(front.pop_front()),
            }
        }
        self.note(&front);
        found
    }

    /// Drops all entries that are not to be kept, under the lock of the front.
    pub(super) fn retain(&self, keep: impl FnMut(&T) -> bool) {
        let mut front = self.gather();
        front.retain(keep);
        self.note(&front);
    }

    /// Moves all entries into the front.
    fn gather(&self) -> MutexGuard<'_, VecDeque<T>> {
        let mut front = self.front.lock();
        self.has_front.store(true, Ordering::Relaxed);
        // Not for ever, even if others go on sending.
        for _ in 0..self.capacity {
            match self.receiver.try_recv() {
                Ok(entry) => front.push_back(entry),
                Err(_) => break,
            }
        }
        front
    }

    /// Under the lock, after a change.
    fn note(&self, front: &VecDeque<T>) {
        self.in_front.store(front.len(), Ordering::Relaxed);
        self.has_front.store(!front.is_empty(), Ordering::Relaxed);
    }
}
