//! How workers sleep at the bounded channel, and how many of them there are.
//!
//! No worker blocks on crossbeam's channel, since that keeps all blocked threads in a list and wakes the one that has waited
//! longest, whose stack and caches are the coldest. Here the worker that fell asleep last is woken first, at the same cost
//! for any number of workers, and none is woken while a worker that is awake will take the entry.
//!
//! A worker without work *searches* for a while, where that pays, and then *sleeps* until it is *woken*. A worker that has
//! been woken counts as searching, and so does one that is about to start. A worker *leaves* when there are too many, or when
//! it has slept for the idle timeout. A worker is *missing* when there are fewer than there are to be; such a one is *started*
//! when it is needed. The invariant: while a worker sleeps or is missing, there are no more entries than workers that
//! search, or the thread that made it so is about to wake or start one. Six events could break it. A fence follows each,
//! and after the fence a look at what the event has left behind:
//!
//! | event | after the fence |
//! |---|---|
//! | an entry is sent | if there are more entries than workers that search, wake one that sleeps, or start one that is missing |
//! | entries have moved into the front of the channel, see `fifo.rs` | the same, until nothing is left to do |
//! | a worker no longer searches: it has an entry in hand, or leaves since there are too many | the same, once |
//! | a worker falls asleep, and no longer searches | it looks for an entry once more, and goes on if it finds one |
//! | a worker no longer sleeps, since its idle timeout is over | it goes on if there are more entries than workers that search |
//! | a worker is missing, since one has left or more are wanted | the same as after a send, until nothing is left to do |
//!
//! The last of these fences comes after everything that happened before the others. So the thread that passes it finds
//! what is missing; later events, taking an entry or beginning to search, only make it less.
//!
//! A worker that leaves runs its stop hooks first and counts as missing only then. So there are never two workers of one
//! index. If the system refuses a thread, the worker is missing again, and nobody tries anew until the next event. If no worker is
//! left at all, the thread that has tried ends the queued calls.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fifo::Fifo;
use crate::sync::{
    AdaptiveSpin, AtomicBool, AtomicU64, Latch, Mutex, OnceLock, Ordering, Padded, Thread, after,
    fence, now, park_until, soon, this_thread,
};

pub(crate) struct WorkerChannel<T> {
    entries: Fifo<T>,
    /// How many workers sleep, are missing, and search, in 21 bits each.
    idle: Padded<AtomicU64>,
    counts: Mutex<WorkerCounts>,
    /// There are too many workers. Changes under the lock of `counts`.
    is_overstaffed: AtomicBool,
    /// Whether it pays for a worker to search before it sleeps.
    spin: Padded<AdaptiveSpin>,
    /// Counts the workers, for shutdowns.
    latch: Arc<Latch>,
    /// How long a worker sleeps before it leaves; `None`: for ever, and then all workers are there from the start.
    idle_timeout: Option<Duration>,
    /// Starts a worker that [`begin_start`](Self::begin_start) has counted.
    start: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

/// How many workers there are, and which of them sleep.
struct WorkerCounts {
    /// The worker that fell asleep last is the last in here.
    sleepers: Vec<Arc<Sleeper>>,
    /// How many workers there are to be.
    wanted: usize,
    /// How many there are, with those that leave and those that are about to start.
    here: usize,
    /// How many of them leave.
    leaving: usize,
    /// How many `idle` counts as missing.
    missing: usize,
    /// As the flag for all says.
    is_overstaffed: bool,
    /// Nobody is started any more.
    is_stopped: bool,
}

const ONE_ASLEEP: u64 = 1;
const ONE_MISSING: u64 = 1 << 21;
const ONE_SEARCHING: u64 = 1 << 42;

/// Whether a worker sleeps or is missing.
fn can_have_more(idle: u64) -> bool {
    idle % ONE_SEARCHING != 0
}

fn searching(idle: u64) -> u64 {
    idle / ONE_SEARCHING
}

/// What a worker finds at the channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    Entry {
        entry: T,
        /// Whether it had to be waited for.
        waited: bool,
    },
    /// The worker is to leave.
    Leave,
}

/// A worker at the channel, for itself.
pub(crate) struct Taker {
    sleeper: Arc<Sleeper>,
    /// Whether `idle` counts it among those that search.
    is_searching: bool,
}

/// A worker that has nothing to do, for others.
struct Sleeper {
    thread: Thread,
    /// Whether another thread has taken it out of `sleepers`. Changes under the lock of that list.
    woken: AtomicBool,
}

impl Taker {
    /// For the calling thread. `is_counted`: the channel has counted it before it started.
    pub(crate) fn this_thread(is_counted: bool) -> Self {
        Self {
            sleeper: Arc::new(Sleeper {
                thread: this_thread(),
                woken: AtomicBool::new(false),
            }),
            is_searching: is_counted,
        }
    }
}

impl Sleeper {
    /// Sleeps until woken, at the longest until `deadline`. Tells whether it was woken.
    fn sleep(&self, deadline: Option<Instant>) -> bool {
        // Parking may end without a reason, such as a token that a task has left behind.
        while !self.woken.load(Ordering::Acquire) {
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return false;
            }
            park_until(deadline);
        }
        true
    }
}

impl WorkerCounts {
    /// How many are too many.
    fn excess(&self) -> usize {
        (self.here - self.leaving).saturating_sub(self.wanted)
    }
}

impl<T> WorkerChannel<T> {
    /// For `workers` workers, none of which is there yet.
    pub(crate) fn new(
        capacity: usize,
        workers: usize,
        idle_timeout: Option<Duration>,
        latch: Arc<Latch>,
    ) -> Self {
        Self {
            entries: Fifo::new(capacity),
            idle: Padded(AtomicU64::new(workers as u64 * ONE_MISSING)),
            counts: Mutex::new(WorkerCounts {
                // Falling asleep takes no memory where all workers are there.
                sleepers: Vec::with_capacity(if idle_timeout.is_none() { workers } else { 0 }),
                wanted: workers,
                here: 0,
                leaving: 0,
                missing: workers,
                is_overstaffed: false,
                is_stopped: false,
            }),
            is_overstaffed: AtomicBool::new(false),
            spin: Padded::default(),
            latch,
            idle_timeout,
            start: OnceLock::new(),
        }
    }

    /// Says how a worker is started, before the first is. `start` tells whether it was, and
    /// calls [`has_not_started`](Self::has_not_started) if not.
    pub(crate) fn start_by(&self, start: impl Fn() -> bool + Send + Sync + 'static) {
        self.start.get_or_init(|| Box::new(start));
    }

    /// Appends an entry, for which there has to be room.
    #[inline]
    pub(crate) fn send(&self, entry: T) {
        self.entries.send(entry);
        self.look_after_event();
    }

    /// As [`Fifo::reserve`].
    pub(crate) fn reserve(&self, capacity: usize) {
        self.entries.reserve(capacity);
    }

    /// For how many entries there is room.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Takes the next entry, if there is one.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<T> {
        self.entries.try_take()
    }

    /// Takes the next entry, waiting for one.
    #[inline]
    pub(crate) fn take(&self, me: &mut Taker) -> Taken<T> {
        if !me.is_searching {
            if let Some(entry) = self.try_take() {
                // ORDERING: Relaxed, here and below. An entry that was sent after the number of workers has changed brings
                // the flag along.
                if !self.is_overstaffed.load(Ordering::Relaxed) {
                    return Taken::Entry {
                        entry,
                        waited: false,
                    };
                }
                self.put_back(entry);
            }
        }
        self.wait(me)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes the first entry that is `wanted`. The others keep their order.
    pub(crate) fn take_first(&self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let first = self.entries.take_first(wanted);
        self.look_after_move();
        first
    }

    /// Shows the first entry to `look`, and drops it if that says `Continue`, to show the next one. The others keep their
    /// order.
    pub(crate) fn look_at_first<R>(&self, look: impl Fn(&T) -> ControlFlow<R>) -> Option<R> {
        let found = self.entries.look_at_first(look);
        self.look_after_move();
        found
    }

    /// Drops all entries that are not to be kept. The others keep their order.
    pub(crate) fn retain(&self, keep: impl FnMut(&T) -> bool) {
        self.entries.retain(keep);
        self.look_after_move();
    }

    fn put_back(&self, entry: T) {
        self.entries.put_back(entry);
        self.look_after_move();
    }

    // ---- events

    /// After one entry more, or one worker less that searches.
    #[inline]
    fn look_after_event(&self) {
        // ORDERING: SeqCst, as the other fences: of two events at the same time at least one sees the other.
        fence(Ordering::SeqCst);
        self.get_one_if_needed(self.idle.load(Ordering::Relaxed));
    }

    /// After entries have moved, or workers are missing: until nothing is left to do.
    fn look_after_move(&self) {
        // ORDERING: SeqCst, see `look_after_event`.
        fence(Ordering::SeqCst);
        while self.get_one_if_needed(self.idle.load(Ordering::Relaxed)) {}
    }

    /// Wakes or starts a worker, if need be. Tells whether it has.
    #[inline]
    fn get_one_if_needed(&self, idle: u64) -> bool {
        can_have_more(idle) && self.len() as u64 > searching(idle) && self.get_one()
    }

    #[cold]
    fn get_one(&self) -> bool {
        if self.wake_one() {
            return true;
        }
        // A worker that has just published an outcome is back in a moment: that is quicker than a new thread. Others may have
        // started one meanwhile.
        let has_searcher = || self.len() as u64 <= searching(self.idle.load(Ordering::Relaxed));
        !soon(has_searcher) && self.start_missing()
    }

    /// Wakes the worker that fell asleep last, if one sleeps.
    fn wake_one(&self) -> bool {
        let woken = self.wake_last(&mut self.counts.lock());
        if let Some(woken) = &woken {
            woken.thread.unpark();
        }
        woken.is_some()
    }

    /// Takes the worker out of the list that fell asleep last, to be unparked.
    #[must_use]
    fn wake_last(&self, counts: &mut WorkerCounts) -> Option<Arc<Sleeper>> {
        let last = counts.sleepers.pop()?;
        self.idle
            .fetch_add(ONE_SEARCHING - ONE_ASLEEP, Ordering::Relaxed);
        // ORDERING: Release, so that it counts as searching before it can stop.
        last.woken.store(true, Ordering::Release);
        Some(last)
    }

    // ---- how many workers there are

    /// Counts a worker that is about to start, if one is missing.
    #[must_use]
    fn begin_start(&self, counts: &mut WorkerCounts) -> bool {
        if counts.missing == 0 {
            return false;
        }
        counts.here += 1;
        self.latch.count_up();
        self.idle.fetch_add(ONE_SEARCHING, Ordering::Relaxed);
        self.note(counts);
        true
    }

    /// Starts a worker, if one is missing, whether or not there is an entry for it. `false`: none was missing, or the system
    /// has refused the thread.
    #[must_use]
    fn start_missing(&self) -> bool {
        let is_missing = self.begin_start(&mut self.counts.lock());
        is_missing && self.start()
    }

    /// Starts a worker that is counted. `false`: the system has refused the thread.
    #[must_use]
    fn start(&self) -> bool {
        let start = self
            .start
            .get()
            .expect("it is set before there is an entry");
        start()
    }

    /// The system has refused the thread of a worker that was counted. `true`: there is no other.
    #[must_use]
    pub(crate) fn has_not_started(&self) -> bool {
        let is_last = {
            let mut counts = self.counts.lock();
            self.idle.fetch_sub(ONE_SEARCHING, Ordering::Relaxed);
            counts.here -= 1;
            self.note(&mut counts);
            counts.here == 0
        };
        // That one more could be started is no news: it was just refused.
        while self.wake_one_if_needed() {}
        is_last
    }

    /// Wakes a worker, if need be and if one sleeps. Tells whether it has.
    fn wake_one_if_needed(&self) -> bool {
        // ORDERING: SeqCst, see `look_after_event`.
        fence(Ordering::SeqCst);
        if self.len() as u64 <= searching(self.idle.load(Ordering::Relaxed)) {
            return false;
        }
        self.wake_one()
    }

    /// A worker ends, after its stop hooks.
    pub(crate) fn has_left(&self) {
        {
            let mut counts = self.counts.lock();
            counts.here -= 1;
            counts.leaving -= 1;
            self.note(&mut counts);
        }
        if self.idle_timeout.is_none() {
            while self.start_missing() {}
        }
        self.look_after_move();
    }

    /// From here on there are to be so many workers. If all are to be there from the start, starts those that are missing;
    /// otherwise [`start_needed`](Self::start_needed) has to be called.
    pub(crate) fn set_workers(&self, workers: usize) {
        let woken: Vec<_> = {
            let mut counts = self.counts.lock();
            counts.wanted = workers;
            self.note(&mut counts);
            // Those that sleep leave first. Whoever is awake sees the flag.
            let stay = counts.sleepers.len().saturating_sub(counts.excess());
            (stay..counts.sleepers.len())
                .filter_map(|_| self.wake_last(&mut counts))
                .collect()
        };
        woken.iter().for_each(|sleeper| sleeper.thread.unpark());
        if self.idle_timeout.is_none() {
            while self.start_missing() {}
        }
    }

    /// Starts the workers that are missing and needed.
    pub(crate) fn start_needed(&self) {
        if self.idle_timeout.is_some() {
            self.look_after_move();
        }
    }

    /// Nobody is started from here on.
    pub(crate) fn stop(&self) {
        let mut counts = self.counts.lock();
        counts.is_stopped = true;
        self.note(&mut counts);
    }

    /// How many workers there are, with those that are about to start and those that run their stop hooks.
    pub(crate) fn workers(&self) -> usize {
        self.counts.lock().here
    }

    /// Under the lock, after a change of the numbers.
    fn note(&self, counts: &mut WorkerCounts) {
        let missing = if counts.is_stopped {
            0
        } else {
            counts.wanted.saturating_sub(counts.here)
        };
        if missing != counts.missing {
            let more = (missing as u64).wrapping_sub(counts.missing as u64);
            counts.missing = missing;
            self.idle
                .fetch_add(more.wrapping_mul(ONE_MISSING), Ordering::Relaxed);
        }
        if (counts.excess() > 0) != counts.is_overstaffed {
            counts.is_overstaffed = !counts.is_overstaffed;
            self.is_overstaffed
                .store(counts.is_overstaffed, Ordering::Relaxed);
        }
    }

    // ---- a worker without work

    fn wait(&self, me: &mut Taker) -> Taken<T> {
        if !me.is_searching {
            me.is_searching = true;
            self.idle.fetch_add(ONE_SEARCHING, Ordering::Relaxed);
        }
        let take = || self.try_take();
        let mut found = self.spin.until(|| None, take, || self.len());
        loop {
            if self.is_overstaffed.load(Ordering::Relaxed) {
                found.into_iter().for_each(|entry| self.put_back(entry));
                if self.leave_if_overstaffed(me) {
                    return Taken::Leave;
                }
            } else if let Some(entry) = found {
                self.stop_searching(me);
                return Taken::Entry {
                    entry,
                    waited: true,
                };
            } else if self.fall_asleep(me) {
                // ORDERING: SeqCst, see `look_after_event`.
                fence(Ordering::SeqCst);
                if let Some(entry) = self.try_take() {
                    self.get_up(me);
                    found = Some(entry);
                    continue;
                }
                let deadline = self.idle_timeout.and_then(|limit| after(now(), limit));
                if me.sleeper.sleep(deadline) {
                    me.is_searching = true;
                } else if self.leave_if_idle(me) {
                    return Taken::Leave;
                }
            }
            found = self.try_take();
        }
    }

    /// The worker counts as asleep, and no longer as searching. `false`: there are too many, and it is awake.
    fn fall_asleep(&self, me: &mut Taker) -> bool {
        let mut counts = self.counts.lock();
        if counts.is_overstaffed {
            return false;
        }
        me.is_searching = false;
        me.sleeper.woken.store(false, Ordering::Relaxed);
        counts.sleepers.push(Arc::clone(&me.sleeper));
        self.idle
            .fetch_add(ONE_ASLEEP.wrapping_sub(ONE_SEARCHING), Ordering::Relaxed);
        true
    }

    /// The worker does not sleep after all, and counts as searching.
    fn get_up(&self, me: &mut Taker) {
        self.get_up_in(&mut self.counts.lock(), me);
    }

    /// If it is not in the list, another thread has just woken it.
    fn get_up_in(&self, counts: &mut WorkerCounts, me: &mut Taker) {
        me.is_searching = true;
        let mut all = counts.sleepers.iter();
        let place = all.rposition(|other| Arc::ptr_eq(other, &me.sleeper));
        if let Some(place) = place {
            counts.sleepers.remove(place);
            self.idle
                .fetch_add(ONE_SEARCHING - ONE_ASLEEP, Ordering::Relaxed);
        }
    }

    /// The worker has an entry in hand, and no longer counts as searching.
    fn stop_searching(&self, me: &mut Taker) {
        me.is_searching = false;
        let idle = self.idle.fetch_sub(ONE_SEARCHING, Ordering::Relaxed) - ONE_SEARCHING;
        if can_have_more(idle) {
            self.look_after_event();
        }
    }

    /// The worker, which searches, leaves if there are too many.
    #[must_use]
    fn leave_if_overstaffed(&self, me: &mut Taker) -> bool {
        let leaves = {
            let mut counts = self.counts.lock();
            let leaves = counts.excess() > 0;
            if leaves {
                counts.leaving += 1;
                self.note(&mut counts);
            }
            leaves
        };
        if leaves {
            self.stop_searching(me);
        }
        leaves
    }

    /// The worker, which slept, leaves if nothing is left to do. Otherwise it counts as searching.
    #[must_use]
    fn leave_if_idle(&self, me: &mut Taker) -> bool {
        {
            let mut counts = self.counts.lock();
            self.get_up_in(&mut counts, me);
            if me.sleeper.woken.load(Ordering::Relaxed) {
                return false;
            }
            counts.leaving += 1;
            self.note(&mut counts);
            me.is_searching = false;
            self.idle.fetch_sub(ONE_SEARCHING, Ordering::Relaxed);
        }
        // ORDERING: SeqCst, see `look_after_event`.
        fence(Ordering::SeqCst);
        if self.len() as u64 <= searching(self.idle.load(Ordering::Relaxed)) {
            return true;
        }
        let mut counts = self.counts.lock();
        counts.leaving -= 1;
        self.note(&mut counts);
        me.is_searching = true;
        self.idle.fetch_add(ONE_SEARCHING, Ordering::Relaxed);
        false
    }

    /// The worker, which has taken an entry that ends it, leaves.
    pub(crate) fn leave(&self) {
        let mut counts = self.counts.lock();
        counts.leaving += 1;
        self.note(&mut counts);
    }
}
