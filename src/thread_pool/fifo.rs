//! The bounded channel that holds the entries, and the front, by which entries leave it out of turn.
//!
//! crossbeam's channel gives entries out at its head only. To remove one from the middle, a thread *gathers*: it moves all
//! entries into the front, a second queue that goes before the channel, and removes the entry there.
//!
//! * Every entry in the front is older than each in the channel. So entries that are taken from the front first are taken in
//!   the order in which they came, however often a thread gathers.
//! * The bit `HAS_FRONT` is set before the first entry moves. It is cleared under the lock of the front, when the front is
//!   empty. While it is not set, taking an entry costs one look at it and takes no lock.
//! * A worker that looks just before a thread gathers may take one entry past those that are on their way into the front. It
//!   finds the bit set the next time. So an entry is overtaken at most once by each worker, and then never again.
//!
//! A channel cannot grow. When there has to be more room, a larger one comes *behind* it: entries are sent to the newest
//! channel, and taken from the oldest that has any. Each is at least twice as large as the one before, so there are few.
//!
//! * A channel has room for all calls that its limits admit. A submitter that was admitted by larger limits also sees the
//!   channel that was made for them. So an older channel, which late submitters may still send to, is never full either.
//! * A submitter that looks just before a channel comes behind may send an entry past those in there. It sees the new one the
//!   next time.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::sync::{
    AtomicU8, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, Receiver, Sender, bounded,
};

pub(super) struct Fifo<T> {
    first: Channel<T>,
    /// The channels behind the first.
    more: OnceLock<Box<[OnceLock<Channel<T>>; MORE_CHANNELS]>>,
    /// How many of them there are. Written under the lock of the front.
    newest: AtomicUsize,
    front: Mutex<VecDeque<T>>,
    /// `HAS_FRONT` and `HAS_MORE`. Written under the lock of the front.
    bits: AtomicU8,
    /// How many entries are in the front. Written under its lock.
    in_front: AtomicUsize,
}

/// Each of them doubles the room, and 2^25 is the most that there can be.
const MORE_CHANNELS: usize = 25;

/// There are entries in the front.
const HAS_FRONT: u8 = 1;
/// There are channels behind the first.
const HAS_MORE: u8 = 2;

struct Channel<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    capacity: usize,
}

impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        let (sender, receiver) = bounded(capacity);
        Self {
            sender,
            receiver,
            capacity,
        }
    }
}

impl<T> Fifo<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            first: Channel::new(capacity),
            more: OnceLock::new(),
            newest: AtomicUsize::new(0),
            front: Mutex::default(),
            bits: AtomicU8::new(0),
            in_front: AtomicUsize::new(0),
        }
    }

    /// Makes room for so many entries. Before it returns, nobody sends more than there was room for. One thread at a time
    /// calls this.
    pub(super) fn reserve(&self, capacity: usize) {
        let newest = self.newest.load(Ordering::Relaxed);
        let room = self.channel(newest).capacity;
        if capacity <= room {
            return;
        }
        let more = self
            .more
            .get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        more[newest].get_or_init(|| Channel::new(capacity.max(2 * room)));
        let _front = self.front.lock();
        let bits = self.bits.load(Ordering::Relaxed);
        self.bits.store(bits | HAS_MORE, Ordering::Relaxed);
        // ORDERING: Release, so that a thread that sees the number also sees the channel and the bit.
        self.newest.store(newest + 1, Ordering::Release);
    }

    /// For how many entries there is room.
    pub(super) fn capacity(&self) -> usize {
        self.channel(self.newest.load(Ordering::Acquire)).capacity
    }

    #[inline]
    fn channel(&self, number: usize) -> &Channel<T> {
        match number {
            0 => &self.first,
            _ => self.channel_behind(number - 1),
        }
    }

    #[cold]
    fn channel_behind(&self, index: usize) -> &Channel<T> {
        let channel = self.more.get().and_then(|more| more[index].get());
        channel.expect("it was made before it was counted")
    }

    /// All channels, the oldest first.
    fn channels(&self) -> impl Iterator<Item = &Channel<T>> {
        let newest = self.newest.load(Ordering::Acquire);
        (0..=newest).map(|number| self.channel(number))
    }

    /// Appends an entry, for which there has to be room.
    #[inline]
    pub(super) fn send(&self, entry: T) {
        let newest = self.channel(self.newest.load(Ordering::Acquire));
        let sent = newest.sender.try_send(entry).is_ok();
        debug_assert!(sent, "the sender has seen to the room");
    }

    /// Takes the next entry, if there is one.
    #[inline]
    pub(super) fn try_take(&self) -> Option<T> {
        // ORDERING: Relaxed. A worker about to sleep looks after a fence, and a thread that has gathered looks for sleeping
        // workers after another, see `sleep.rs`; so does one that has sent an entry to a channel behind the first. A worker
        // that is awake finds the bits a moment later.
        match self.bits.load(Ordering::Relaxed) {
            0 => self.first.receiver.try_recv().ok(),
            bits => self.take_from_all(bits),
        }
    }

    #[cold]
    fn take_from_all(&self, bits: u8) -> Option<T> {
        if bits & HAS_FRONT != 0 {
            let mut front = self.front.lock();
            let first = front.pop_front();
            self.note(&front);
            if first.is_some() {
                return first;
            }
        }
        self.take_from_channels()
    }

    /// Takes the next entry that is not in the front.
    fn take_from_channels(&self) -> Option<T> {
        self.channels()
            .find_map(|channel| channel.receiver.try_recv().ok())
    }

    /// Puts an entry back that was the first.
    pub(super) fn put_back(&self, entry: T) {
        let mut front = self.front.lock();
        front.push_front(entry);
        self.note(&front);
    }

    /// How many entries there are. While a thread gathers, it may be too few.
    #[inline]
    pub(super) fn len(&self) -> usize {
        let behind = match self.newest.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.len_behind(),
        };
        self.first.receiver.len() + behind + self.in_front.load(Ordering::Relaxed)
    }

    #[cold]
    fn len_behind(&self) -> usize {
        let behind = self.channels().skip(1);
        behind.map(|channel| channel.receiver.len()).sum()
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
        for _ in 0..self.capacity() {
            if front.is_empty() {
                self.note_front(true);
                front.extend(self.take_from_channels());
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
        self.note_front(true);
        // Not for ever, even if others go on sending.
        for channel in self.channels() {
            let entries = std::iter::from_fn(|| channel.receiver.try_recv().ok());
            front.extend(entries.take(channel.capacity));
        }
        front
    }

    /// Under the lock, after a change.
    fn note(&self, front: &VecDeque<T>) {
        self.in_front.store(front.len(), Ordering::Relaxed);
        self.note_front(!front.is_empty());
    }

    /// Under the lock: whether there are entries in the front.
    fn note_front(&self, has_front: bool) {
        let bits = self.bits.load(Ordering::Relaxed) & !HAS_FRONT;
        let front = if has_front { HAS_FRONT } else { 0 };
        self.bits.store(bits | front, Ordering::Relaxed);
    }
}
