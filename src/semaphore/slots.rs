//! The N slots of a bulkhead whose tasks run in their callers' threads, and the wait list of callers.
//!
//! The free slots are a stack, a *tagged Treiber stack*: one word is its top.
//!
//! | bits of `top` | |
//! |---|---|
//! | 0 to 16 | the topmost free slot, counted from 1; 0: none is free |
//! | 17, `HANDS_OVER` | the next slot that comes back goes to the first waiter, and none is taken past it |
//! | 18, `WAKES` | the first waiter is to be woken when a slot comes back; only if the slots are not fair |
//! | 19, `RETIRES` | the next slot that comes back is put away |
//! | 20 and more | the tag: how often a slot has been taken |
//!
//! `below` holds the slot beneath each free one. The last owner writes it before it gives the slot back.
//!
//! * Taking and giving back are one compare-and-swap each. It fails if any slot was taken meanwhile, so what was read from
//!   `below` still holds when it succeeds. (The tag comes round after 2^44 takings, which last weeks.)
//! * **Fair**: `HANDS_OVER` is set while a caller waits. No slot is taken past it and none is put on the stack: the thread
//!   that gives one back sees the bit, in the same word, and hands the slot to the first in the wait list. So slots go in the
//!   order in which callers came. And no caller waits in vain: the first one sets the bit, and then looks once more whether a
//!   slot is free.
//! * **Not fair**: a slot goes back onto the stack, for any thread to take. The thread that gives it back takes `WAKES` away in
//!   the same compare-and-swap, and then wakes the first waiter, which tries to take the slot as anybody else does. `WAKES` is
//!   set anew by a waiter that has found no slot and sleeps again, and by a caller that joins the list, unless a waiter is awake
//!   and about to try. Each then looks once more whether a slot is free. A waiter that has one wakes the next if another is
//!   free. So when a slot is free and a caller waits, the first waiter is awake or is about to be woken.
//! * **Bounded**: a waiter that was woken in vain [`WAKE_UPS_IN_VAIN`] times sets `HANDS_OVER`: it gets the next slot that
//!   comes back. `HANDS_OVER` is only set under the lock, and stays set only if no slot is free.
//! * **Fewer slots**: [`resize`](SlotPool::resize) puts free slots away, and sets `RETIRES` for those that are taken. It sets the
//!   bit, and then looks once more whether a slot is free. A slot that comes back is put away before it is handed over. **More
//!   slots**: slots that were put away, or new ones, come back as those do that were taken.
//! * A caller leaves the wait list in one of four ways, each under its lock, and only once: it is given a slot, it takes one, it
//!   gives up, at its deadline or because the circuit has opened, or a shutdown takes it out. Two parties never both believe
//!   that they did it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{
    AdaptiveSpin, AtomicU64, Condvar, Mutex, Ordering, Padded, Table, WAKE_UPS_IN_VAIN,
};

const SLOT: u64 = (1 << 17) - 1;
const HANDS_OVER: u64 = 1 << 17;
const WAKES: u64 = 1 << 18;
const RETIRES: u64 = 1 << 19;
const ONE_TAKEN: u64 = 1 << 20;

/// `P` is what each waiting caller brings along, for the thread that ends its call.
pub(crate) struct SlotPool<P> {
    top: Padded<AtomicU64>,
    below: Table<AtomicU64>,
    list: Mutex<WaitList<P>>,
    is_fair: bool,
    /// Whether it pays to look again before sleeping.
    spin: Padded<AdaptiveSpin>,
}

struct WaitList<P> {
    /// By their numbers, so the first has waited longest.
    waiters: BTreeMap<u64, Arc<Waiter<P>>>,
    next_number: u64,
    /// Not fair: the first waiter, which was woken and has not tried since.
    woken: Option<u64>,
    /// Not fair: the first waiter, for which `HANDS_OVER` is set.
    starving: Option<u64>,
    /// A shutdown has cancelled all that waited, and cancels all that come.
    is_closed: bool,
    /// How many slots there are to be.
    slots: usize,
    /// How many of those that are taken are to be put away.
    excess: usize,
    put_away: Vec<usize>,
    /// How many have ever been made.
    made: usize,
}

impl<P> WaitList<P> {
    fn new(slots: usize) -> Self {
        Self {
            waiters: BTreeMap::new(),
            next_number: 0,
            woken: None,
            starving: None,
            is_closed: false,
            slots,
            excess: 0,
            put_away: Vec::new(),
            made: slots,
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
    /// All `slots` are free; at most 65,536. Fair: they go in the order in which callers came. Otherwise to whoever is
    /// first to take one.
    pub(crate) fn new(slots: usize, is_fair: bool) -> Self {
        Self {
            top: Padded(AtomicU64::new(1)),
            // The first is on top, and below the last is none.
            below: Table::new(
                (1..=slots as u64).map(|slot| AtomicU64::new((slot + 1) % (slots as u64 + 1))),
            ),
            list: Mutex::new(WaitList::new(slots)),
            is_fair,
            spin: Padded::default(),
        }
    }

    /// Whether [`try_take`](Self::try_take) would find a slot.
    #[inline]
    pub(crate) fn has_free(&self) -> bool {
        // ORDERING: Acquire, so that a thread that has seen a call end also sees its slot.
        let word = self.top.load(Ordering::Acquire);
        word & SLOT != 0 && word & HANDS_OVER == 0
    }

    /// Takes a slot, unless none is free or the next one is for a waiter. Never waits, and takes no lock.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<usize> {
        // ORDERING: Acquire, here and in `pop`: the owner of a slot sees what its last owners wrote there.
        let word = self.top.load(Ordering::Acquire);
        self.pop(word, |word| word & HANDS_OVER != 0)
    }

    #[inline]
    fn pop(&self, mut word: u64, gives_up: impl Fn(u64) -> bool) -> Option<usize> {
        while word & SLOT != 0 && !gives_up(word) {
            let slot = (word & SLOT) as usize - 1;
            // ORDERING: Relaxed. If it is not what belongs to `word`, the compare-and-swap fails.
            let below = self.below.get(slot).load(Ordering::Relaxed);
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

    /// Gives a slot back: to the first waiter, or else onto the stack, for anybody.
    #[inline]
    pub(crate) fn give_back(&self, slot: usize) {
        // ORDERING: Relaxed, nothing is read through it; Release below hands the slot over.
        let mut word = self.top.load(Ordering::Relaxed);
        loop {
            if word & (HANDS_OVER | RETIRES) != 0 {
                if self.put_away_or_hand_over(slot) {
                    return;
                }
                word = self.top.load(Ordering::Relaxed);
                continue;
            }
            self.below.get(slot).store(word & SLOT, Ordering::Relaxed);
            let next = (word & !SLOT & !WAKES) | (slot as u64 + 1);
            match self
                .top
                .compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) if word & WAKES != 0 => return self.wake(),
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Wakes the first waiter, after `WAKES` was taken away.
    #[cold]
    fn wake(&self) {
        self.wake_first(&mut self.list.lock());
    }

    /// Under the lock. A waiter that is awake already will try, and so will the next when that one has left.
    fn wake_first(&self, list: &mut WaitList<P>) {
        if list.woken.is_some() || list.starving.is_some() {
            return;
        }
        if let Some((number, first)) = list.waiters.first_key_value() {
            list.woken = Some(*number);
            first.answered.notify_one();
        }
    }

    /// Puts a slot away, or gives it to the first waiter; `false` if neither is to be done any more.
    #[cold]
    fn put_away_or_hand_over(&self, slot: usize) -> bool {
        let mut list = self.list.lock();
        if list.excess > 0 {
            self.put_away(&mut list, slot);
            return true;
        }
        // ORDERING: Relaxed. Both bits change under the lock alone.
        if self.top.load(Ordering::Relaxed) & HANDS_OVER == 0 {
            return false;
        }
        let Some((number, first)) = list.waiters.pop_first() else {
            return false;
        };
        self.has_left(&mut list, number);
        self.answer(&first, slot as u64 + 1);
        true
    }

    /// Under the lock, while there are too many slots.
    fn put_away(&self, list: &mut WaitList<P>, slot: usize) {
        list.put_away.push(slot);
        list.excess -= 1;
        if list.excess == 0 {
            // ORDERING: Relaxed, as in `has_left`.
            self.top.fetch_and(!RETIRES, Ordering::Relaxed);
        }
    }

    /// From here on there are so many slots, at least 1 and at most 65,536. If that is fewer, a slot that is taken goes when it
    /// comes back. Never waits for one.
    pub(crate) fn resize(&self, slots: usize) {
        let mut more = Vec::new();
        {
            let mut list = self.list.lock();
            list.excess += list.slots.saturating_sub(slots);
            let wanted = slots.saturating_sub(list.slots);
            list.slots = slots;
            let stay = wanted.min(list.excess);
            list.excess -= stay;
            for _ in stay..wanted {
                let index = list.put_away.pop().unwrap_or_else(|| {
                    let new = list.made;
                    list.made += 1;
                    self.below.reserve(list.made, |_| AtomicU64::new(0));
                    new
                });
                more.push(index);
            }
            if list.excess == 0 {
                self.top.fetch_and(!RETIRES, Ordering::Relaxed);
            } else {
                // ORDERING: Acquire, as in `try_take`.
                let mut word = self.top.fetch_or(RETIRES, Ordering::Acquire) | RETIRES;
                while list.excess > 0 {
                    let Some(slot) = self.pop(word, |_| false) else {
                        break;
                    };
                    self.put_away(&mut list, slot);
                    word = self.top.load(Ordering::Acquire);
                }
            }
        }
        more.into_iter().for_each(|slot| self.give_back(slot));
    }

    /// Under the lock, after a caller has left the list.
    fn has_left(&self, list: &mut WaitList<P>, number: u64) {
        if list.woken == Some(number) {
            list.woken = None;
        }
        let was_starving = list.starving == Some(number);
        if was_starving {
            list.starving = None;
        }
        if list.waiters.is_empty() {
            // ORDERING: Relaxed, here and below: the bits say no more than to look under the lock.
            self.top.fetch_and(!(HANDS_OVER | WAKES), Ordering::Relaxed);
        } else if !self.is_fair {
            if was_starving {
                self.top.fetch_and(!HANDS_OVER, Ordering::Relaxed);
            }
            self.pass_on(list);
        }
    }

    /// Under the lock, when callers wait: the first is woken when a slot comes back, or now if one is free.
    fn pass_on(&self, list: &mut WaitList<P>) {
        if list.woken.is_some() || list.starving.is_some() {
            return;
        }
        let word = self.top.fetch_or(WAKES, Ordering::Relaxed);
        if word & SLOT != 0 {
            self.top.fetch_and(!WAKES, Ordering::Relaxed);
            self.wake_first(list);
        }
    }

    /// Under the lock: the waiter `number` tries to take a slot, and leaves the list with it. `in_vain` counts how often it
    /// was woken and found none.
    fn try_again(&self, list: &mut WaitList<P>, number: u64, in_vain: &mut u32) -> Option<usize> {
        if !list.waiters.contains_key(&number) {
            return None;
        }
        let was_woken = list.woken == Some(number);
        if was_woken {
            list.woken = None;
            *in_vain += 1;
        }
        let mut word = self.top.load(Ordering::Acquire);
        loop {
            // While `HANDS_OVER` is set, none is free.
            if let Some(slot) = self.pop(word, |_| false) {
                list.waiters.remove(&number);
                self.has_left(list, number);
                return Some(slot);
            }
            let bit = if list.woken.is_some() || list.starving.is_some() {
                return None;
            } else if was_woken && *in_vain >= WAKE_UPS_IN_VAIN {
                HANDS_OVER
            } else {
                WAKES
            };
            // ORDERING: Acquire, as in `try_take`.
            word = self.top.fetch_or(bit, Ordering::Acquire) | bit;
            if bit == HANDS_OVER {
                list.starving = Some(number);
            }
            if word & SLOT == 0 {
                return None;
            }
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
        let time = || Some(deadline?.saturating_duration_since(clock.now()));
        if !self.is_fair {
            if let Some(slot) = self.spin.until(time, || self.try_take(), || 0) {
                return WaitOutcome::Slot(slot);
            }
        }
        let mut list = self.list.lock();
        if list.is_closed {
            return WaitOutcome::Closed;
        }
        if self.is_fair && list.waiters.is_empty() {
            // From here on, a thread that gives a slot back comes to the lock. A slot that came back before is on the
            // stack.
            // ORDERING: Acquire, as in `try_take`.
            let word = self.top.fetch_or(HANDS_OVER, Ordering::Acquire) | HANDS_OVER;
            if let Some(slot) = self.pop(word, |_| false) {
                // ORDERING: Relaxed, as in `has_left`.
                self.top.fetch_and(!HANDS_OVER, Ordering::Relaxed);
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
        if self.is_fair {
            drop(list);
            if let Some(soon) = self.spin.until(time, || me.outcome(), || 0) {
                return soon;
            }
            list = self.list.lock();
        }
        let mut in_vain = 0;
        let mut deadline = deadline;
        loop {
            if let Some(outcome) = me.outcome() {
                return outcome;
            }
            if !self.is_fair {
                if let Some(slot) = self.try_again(&mut list, number, &mut in_vain) {
                    return WaitOutcome::Slot(slot);
                }
            }
            let is_late = deadline.is_some_and(|deadline| clock.now() >= deadline);
            if is_late || gives_up(&me.payload) {
                if list.waiters.remove(&number).is_some() {
                    self.has_left(&mut list, number);
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

    /// Asks what the first waiter has brought along.
    pub(crate) fn first_waiter<R>(&self, ask: impl FnOnce(&P) -> R) -> Option<R> {
        let list = self.list.lock();
        let (_, first) = list.waiters.first_key_value()?;
        Some(ask(&first.payload))
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
            list.woken = None;
            list.starving = None;
            // ORDERING: Relaxed, as in `has_left`.
            self.top.fetch_and(!(HANDS_OVER | WAKES), Ordering::Relaxed);
            std::mem::take(&mut list.waiters)
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
    use std::sync::atomic::AtomicU32;
    use std::sync::{Mutex, mpsc};
    use std::thread;

    use super::*;

    fn take(slots: &SlotPool<()>) -> usize {
        slots.try_take().expect("a slot is free")
    }

    #[test]
    fn every_slot_is_there_once() {
        for indices in [1, 2, 65_536] {
            let slots = SlotPool::new(indices, true);
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
        let slots = SlotPool::new(3, true);
        let indices = [take(&slots), take(&slots), take(&slots)];
        slots.give_back(indices[1]);
        slots.give_back(indices[0]);
        assert_eq!([take(&slots), take(&slots)], [indices[0], indices[1]]);
    }

    #[test]
    fn slots_go_in_the_order_of_the_line() {
        let slots = SlotPool::new(1, true);
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

    /// Waits for a slot in another thread, beside `here`, which gets a count of how often the waiter has looked. Gives how often
    /// it had when it had the slot.
    fn while_one_waits(slots: &SlotPool<()>, here: impl FnOnce(&AtomicU32)) -> u32 {
        let looks = AtomicU32::new(0);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let looks = |()| looks.fetch_add(1, Ordering::SeqCst) == u32::MAX;
                let outcome = slots.wait(&Clock::system(), None, (), || (), |()| looks(()));
                let WaitOutcome::Slot(slot) = outcome else {
                    panic!("{outcome:?}");
                };
                slots.give_back(slot);
            });
            while looks.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            here(&looks);
            waiting.join().unwrap();
        });
        looks.into_inner()
    }

    #[test]
    fn a_slot_that_is_not_fair_is_for_anybody() {
        let slots = SlotPool::new(1, false);
        let slot = take(&slots);
        while_one_waits(&slots, |_| {
            // Under the lock the waiter cannot look.
            let list = slots.list.lock();
            let word = slots.top.load(Ordering::Acquire);
            assert_ne!(word & WAKES, 0, "it is to be woken");
            drop(list);
            slots.give_back(slot);
        });
        assert_eq!(take(&slots), slot);
        assert_eq!(slots.top.load(Ordering::Acquire) & (WAKES | HANDS_OVER), 0);
    }

    #[test]
    fn a_waiter_that_was_woken_in_vain_is_handed_the_slot() {
        let slots = SlotPool::new(1, false);
        let slot = take(&slots);
        let looks = while_one_waits(&slots, |looks| {
            for woken in 1..=WAKE_UPS_IN_VAIN {
                {
                    // The slot comes back and is taken again before the waiter can look.
                    let mut list = slots.list.lock();
                    let before = slots.top.fetch_and(!WAKES, Ordering::AcqRel);
                    assert_ne!(before & WAKES, 0);
                    slots.wake_first(&mut list);
                }
                while looks.load(Ordering::SeqCst) <= woken {
                    thread::yield_now();
                }
                let _the_waiter_sleeps_again = slots.list.lock();
            }
            assert_ne!(slots.top.load(Ordering::Acquire) & HANDS_OVER, 0);
            slots.give_back(slot);
        });
        assert!(looks > WAKE_UPS_IN_VAIN);
        assert_eq!(take(&slots), slot);
        assert_eq!(slots.top.load(Ordering::Acquire) & (WAKES | HANDS_OVER), 0);
    }
}
