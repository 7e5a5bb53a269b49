//! The N slots of a bulkhead whose tasks run in their callers' threads, and the wait list of callers.
//!
//! The free slots are a stack, a *tagged Treiber stack*: one word is its top.
//!
//! | bits of `top` | |
//! |---|---|
//! | 0 to 16 | the topmost free slot, counted from 1; 0: none is free |
//! | 17 | a caller waits |
//! | 18 and more | the tag: how often a slot has been taken |
//!
//! `below` holds the slot beneath each free one. The last owner writes it before it gives the slot back.
//!
//! * Taking and giving back are one compare-and-swap each. It fails if any slot was taken meanwhile, so what was read from
//!   `below` still holds when it succeeds. (The tag comes round after 2^46 takings, which last months.)
//! * While a caller waits, no slot is taken past it and none is put on the stack: the thread that gives one back sees the
//!   bit, in the same word, and hands the slot to the first in the wait list. So slots go in the order in which callers
//!   came. And no caller waits in vain: the first one sets the bit, and then looks once more whether a slot is free.
//! * A caller leaves the wait list in one of three ways, each under its lock, and only once: it is given a slot, it gives
//!   up, at its deadline or because the circuit has opened, or a shutdown takes it out. The two parties never both believe
//!   that they did it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{AdaptiveSpin, AtomicU64, Condvar, Mutex, Ordering, Padded};

const SLOT: u64 = (1 << 17) - 1;
const HAS_WAITERS: u64 = 1 << 17;
const ONE_TAKEN: u64 = 1 << 18;

/// `P` is what each waiting caller brings along, for the thread that ends its call.
pub(crate) struct SlotPool<P> {
    top: Padded<AtomicU64>,
    below: Box<[AtomicU64]>,
    list: Mutex<WaitList<P>>,
    /// Whether it pays to look again before sleeping.
    spin: Padded<AdaptiveSpin>,
}

struct WaitList<P> {
    /// By their numbers, so the first has waited longest.
    waiters: BTreeMap<u64, Arc<Waiter<P>>>,
    next_number: u64,
    /// A shutdown has cancelled all that waited, and cancels all that come.
    is_closed: bool,
}

impl<P> Default for WaitList<P> {
    fn default() -> Self {
        Self {
            waiters: BTreeMap::new(),
            next_number: 0,
            is_closed: false,
        }
    }
}

/// A caller that waits.
pub(crate) struct Waiter<P> {
    pub(crate) payload: P,
    /// `NO_ANSWER`, a slot counted from 1, or `CANCELLED`.
    answer: AtomicU64,
    answered: Condvar,
}

const NO_ANSWER: u64 = 0;
const CANCELLED: u64 = u64::MAX;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum WaitOutcome {
    /// The caller owns this slot.
    Slot(usize),
    /// The deadline came first. The caller has left the list.
    TooLate,
    /// A shutdown has taken the caller out of the list, and ended the call.
    TakenOut,
    /// A shutdown has closed the list.
    Closed,
    /// The caller did not want to wait any longer, and has left the list.
    GaveUp,
}

impl<P> SlotPool<P> {
    /// All `slots` are free; at most 65,536.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            top: Padded(AtomicU64::new(1)),
            // The first is on top, and below the last is none.
            below: (1..=slots as u64)
                .map(|slot| AtomicU64::new((slot + 1) % (slots as u64 + 1)))
                .collect(),
            list: Mutex::default(),
            spin: Padded::default(),
        }
    }

    /// Takes a slot, unless none is free or a caller waits for one. Never waits, and takes no lock.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<usize> {
        // ORDERING: Acquire, here and in `pop`: the owner of a slot sees what its last owners wrote there.
        let word = self.top.load(Ordering::Acquire);
        self.pop(word, |word| word & HAS_WAITERS != 0)
    }

    #[inline]
    fn pop(&self, mut word: u64, gives_up: impl Fn(u64) -> bool) -> Option<usize> {
        while word & SLOT != 0 && !gives_up(word) {
            let slot = (word & SLOT) as usize - 1;
            // ORDERING: Relaxed. If it is not what belongs to `word`, the compare-and-swap fails.
            let below = self.below[slot].load(Ordering::Relaxed);
            let next = ((word & !SLOT) | below).wrapping_add(ONE_TAKEN);
            match self
                .top
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(slot),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Gives a slot back: to the first waiter, or else onto the stack.
    #[inline]
    pub(crate) fn give_back(&self, slot: usize) {
        // ORDERING: Relaxed, nothing is read through it; Release below hands the slot over.
        let mut word = self.top.load(Ordering::Relaxed);
        loop {
            if word & HAS_WAITERS != 0 {
                if self.hand_over(slot) {
                    return;
                }
                word = self.top.load(Ordering::Relaxed);
                continue;
            }
            self.below[slot].store(word & SLOT, Ordering::Relaxed);
            let next = (word & !SLOT) | (slot as u64 + 1);
            match self
                .top
                .compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Gives a slot to the first waiter; `false` if all have left the list meanwhile.
    #[cold]
    fn hand_over(&self, slot: usize) -> bool {
        let mut list = self.list.lock();
        let first = list.waiters.pop_first();
        self.clear_bit_if_empty(&list);
        if let Some((_, first)) = &first {
            self.answer(first, slot as u64 + 1);
        }
        first.is_some()
    }

    /// Under the lock, after a caller has left the list.
    fn clear_bit_if_empty(&self, list: &WaitList<P>) {
        if list.waiters.is_empty() {
            // ORDERING: Relaxed, the bit says no more than to look under the lock.
            self.top.fetch_and(!HAS_WAITERS, Ordering::Relaxed);
        }
    }

    /// Under the lock.
    fn answer(&self, waiter: &Waiter<P>, answer: u64) {
        // ORDERING: Release, the other half of `outcome`.
        waiter.answer.store(answer, Ordering::Release);
        waiter.answered.notify_one();
    }

    /// Takes a slot, waiting for one until `deadline` (`None`: for ever), or until `gives_up`, which is asked under the lock
    /// and again after each [`look_again`](Self::look_again).
    ///
    /// `in_list` is called before this thread waits. A place that it gives away then belongs to the thread
    /// that takes the caller out of the list. With `TakenOut` a thread has; otherwise it is the caller's again.
    pub(crate) fn wait(
        &self,
        clock: &Clock,
        deadline: Option<Instant>,
        payload: P,
        in_list: impl FnOnce(),
        gives_up: impl Fn(&P) -> bool,
    ) -> WaitOutcome {
        let mut list = self.list.lock();
        if list.is_closed {
            return WaitOutcome::Closed;
        }
        if list.waiters.is_empty() {
            // From here on, a thread that gives a slot back comes to the lock. A slot that came back before is on the
            // stack.
            // ORDERING: Acquire, as in `try_take`.
            let word = self.top.fetch_or(HAS_WAITERS, Ordering::Acquire) | HAS_WAITERS;
            if let Some(slot) = self.pop(word, |_| false) {
                self.clear_bit_if_empty(&list);
                return WaitOutcome::Slot(slot);
            }
        }
        let number = list.next_number;
        list.next_number += 1;
        let me = Arc::new(Waiter {
            payload,
            answer: AtomicU64::new(NO_ANSWER),
            answered: Condvar::new(),
        });
        list.waiters.insert(number, Arc::clone(&me));
        in_list();
        drop(list);

        let time = || Some(deadline?.saturating_duration_since(clock.now()));
        if let Some(soon) = self.spin.until(time, || me.outcome(), || 0) {
            return soon;
        }
        let mut list = self.list.lock();
        let mut deadline = deadline;
        loop {
            if let Some(outcome) = me.outcome() {
                return outcome;
            }
            let is_late = deadline.is_some_and(|deadline| clock.now() >= deadline);
            if is_late || gives_up(&me.payload) {
                if list.waiters.remove(&number).is_some() {
                    self.clear_bit_if_empty(&list);
                    return if is_late {
                        WaitOutcome::TooLate
                    } else {
                        WaitOutcome::GaveUp
                    };
                }
                // Another thread has taken it out, and is about to answer.
                deadline = None;
            }
            clock.wait_until(&me.answered, &mut list, deadline);
        }
    }

    /// Lets each waiting caller ask itself whether it gives up.
    pub(crate) fn look_again(&self) {
        let list = self.list.lock();
        for waiter in list.waiters.values() {
            waiter.answered.notify_one();
        }
    }

    /// Takes all callers out of the list and closes it. `end` ends each call, under no lock, before its caller is told.
    pub(crate) fn close(&self, mut end: impl FnMut(&P)) {
        let all = {
            let mut list = self.list.lock();
            list.is_closed = true;
            let all = std::mem::take(&mut list.waiters);
            self.clear_bit_if_empty(&list);
            all
        };
        for waiter in all.into_values() {
            end(&waiter.payload);
            let _answered_under_the_lock = self.list.lock();
            self.answer(&waiter, CANCELLED);
        }
    }
}

impl<P> Waiter<P> {
    fn outcome(&self) -> Option<WaitOutcome> {
        // ORDERING: Acquire, so that the owner of a slot sees what its last owner wrote there.
        match self.answer.load(Ordering::Acquire) {
            NO_ANSWER => None,
            CANCELLED => Some(WaitOutcome::TakenOut),
            slot => Some(WaitOutcome::Slot(slot as usize - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::thread;

    use super::*;

    fn take(slots: &SlotPool<()>) -> usize {
        slots.try_take().expect("a slot is free")
    }

    #[test]
    fn every_slot_is_there_once() {
        for indices in [1, 2, 65_536] {
            let slots = SlotPool::new(indices);
            for _ in 0..2 {
                let mut taken: Vec<_> = (0..indices).map(|_| take(&slots)).collect();
                assert_eq!(slots.try_take(), None);
                taken.iter().rev().for_each(|slot| slots.give_back(*slot));
                taken.sort_unstable();
                assert!(taken.into_iter().eq(0..indices));
            }
        }
    }

    #[test]
    fn the_slot_given_back_last_is_taken_first() {
        let slots = SlotPool::new(3);
        let indices = [take(&slots), take(&slots), take(&slots)];
        slots.give_back(indices[1]);
        slots.give_back(indices[0]);
        assert_eq!([take(&slots), take(&slots)], [indices[0], indices[1]]);
    }

    #[test]
    fn slots_go_in_the_order_of_the_line() {
        let slots = SlotPool::new(1);
        let order = Mutex::new(Vec::new());
        let slot = take(&slots);
        thread::scope(|scope| {
            let (slots, order) = (&slots, &order);
            for number in 0..8 {
                let (joined, has_joined) = mpsc::channel();
                scope.spawn(move || {
                    let in_list = || joined.send(()).expect("somebody listens");
                    let outcome = slots.wait(&Clock::system(), None, (), in_list, |()| false);
                    assert_eq!(outcome, WaitOutcome::Slot(slot));
                    order.lock().unwrap().push(number);
                    slots.give_back(slot);
                });
                has_joined.recv().expect("it joins the wait list");
            }
            assert_eq!(slots.try_take(), None, "past the wait list");
            slots.give_back(slot);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(slots.try_take(), Some(slot));
    }
}
