//! The N turns of a bulkhead whose tasks run in their callers' threads, and the line of those who wait for one.
//!
//! A turn is a seat. The free ones are a stack, whose top is one word:
//!
//! | bits of `top` | |
//! |---|---|
//! | 0 to 16 | the topmost free seat, counted from 1; 0: none is free |
//! | 17 | somebody waits in line |
//! | 18 and more | how often a seat has been taken |
//!
//! What lies below a free seat stands in `below`, written by its last owner before it gives the seat back.
//!
//! * Taking and giving back are one compare-and-swap each. It fails if any seat was taken meanwhile, so what was read
//!   from `below` still holds when it succeeds. (The count comes round after 2^46 turns, which take months.)
//! * While somebody waits in line, nobody takes a seat past it and no seat is put on the stack: who gives one back sees
//!   the bit, in the same word, and hands it to the first in line. So turns go in the order in which callers came
//!   to the line. And nobody waits in vain: who comes to an empty line sets the bit first, and then looks once more
//!   whether a seat is free.
//! * Who waits leaves the line in one of three ways, each under its lock, and only once: it is given a seat, it gives up
//!   at its deadline, or a shutdown takes it out. The two parties never both believe that they did it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::circuit::Ticket;
use crate::clock::Clock;
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, Padded, Spinning};

const SEAT: u64 = (1 << 17) - 1;
const WAITED_FOR: u64 = 1 << 17;
const ONE_TAKEN: u64 = 1 << 18;

pub(crate) struct Turns {
    top: Padded<AtomicU64>,
    below: Box<[AtomicU64]>,
    line: Mutex<Line>,
    /// Whether it pays to look again before going to sleep.
    spinning: Padded<Spinning>,
}

#[derive(Default)]
struct Line {
    /// By their numbers, so the first is the one who waits longest.
    waiting: BTreeMap<u64, Arc<Waiter>>,
    /// How many have come.
    came: u64,
    /// A shutdown has cancelled those who waited, and cancels all who come.
    is_over: bool,
}

/// A caller in line.
pub(crate) struct Waiter {
    /// The right to make the call, which whoever ends it without a turn gives back.
    pub(crate) ticket: Option<Ticket>,
    /// What has become of it: nothing yet, a seat, or `CANCELLED`.
    told: AtomicU64,
    called: Condvar,
}

const NOTHING_YET: u64 = 0;
const CANCELLED: u64 = u64::MAX;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Waited {
    /// This seat is the caller's.
    Turn(usize),
    /// The deadline came first. The caller has left the line.
    TooLate,
    /// A shutdown has taken the caller out of the line, and ended the call.
    TakenOut,
    /// A shutdown lets nobody into the line any more.
    LineIsOver,
}

impl Turns {
    /// All `seats` are free; at most 65,536.
    pub(crate) fn new(seats: usize) -> Self {
        Self {
            top: Padded(AtomicU64::new(1)),
            // The first is on top, and below the last is none.
            below: (1..=seats as u64)
                .map(|seat| AtomicU64::new((seat + 1) % (seats as u64 + 1)))
                .collect(),
            line: Mutex::default(),
            spinning: Padded::default(),
        }
    }

    /// Takes a seat, unless none is free or somebody waits for one. Never waits, and takes no lock.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<usize> {
        // ORDERING: Acquire, here and in `pop`: who takes a seat sees what its last owners wrote there.
        let word = self.top.load(Ordering::Acquire);
        self.pop(word, |word| word & WAITED_FOR != 0)
    }

    #[inline]
    fn pop(&self, mut word: u64, gives_up: impl Fn(u64) -> bool) -> Option<usize> {
        while word & SEAT != 0 && !gives_up(word) {
            let seat = (word & SEAT) as usize - 1;
            // ORDERING: Relaxed. If it is not what belongs to `word`, the compare-and-swap fails.
            let below = self.below[seat].load(Ordering::Relaxed);
            let next = ((word & !SEAT) | below).wrapping_add(ONE_TAKEN);
            match self
                .top
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(seat),
                Err(now) => word = now,
            }
        }
        None
    }

    /// Gives a seat back: to the first in line, or else onto the stack.
    #[inline]
    pub(crate) fn give_back(&self, seat: usize) {
        // ORDERING: Relaxed, nothing is read through it; Release below hands the seat over.
        let mut word = self.top.load(Ordering::Relaxed);
        loop {
            if word & WAITED_FOR != 0 {
                if self.hand_on(seat) {
                    return;
                }
                word = self.top.load(Ordering::Relaxed);
                continue;
            }
            self.below[seat].store(word & SEAT, Ordering::Relaxed);
            let next = (word & !SEAT) | (seat as u64 + 1);
            match self
                .top
                .compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Gives a seat to the first in line; `false` if all have left it meanwhile.
    #[cold]
    fn hand_on(&self, seat: usize) -> bool {
        let mut line = self.line.lock();
        let first = line.waiting.pop_first();
        self.mind_the_end(&line);
        if let Some((_, first)) = &first {
            self.tell(first, seat as u64 + 1);
        }
        first.is_some()
    }

    /// Under the lock, after somebody has left the line.
    fn mind_the_end(&self, line: &Line) {
        if line.waiting.is_empty() {
            // ORDERING: Relaxed, the bit says no more than to look under the lock.
            self.top.fetch_and(!WAITED_FOR, Ordering::Relaxed);
        }
    }

    /// Under the lock.
    fn tell(&self, waiter: &Waiter, what: u64) {
        // ORDERING: Release, the other half of `is_told`.
        waiter.told.store(what, Ordering::Release);
        waiter.called.notify_one();
    }

    /// Takes a seat, waiting in line for one until `deadline` (`None`: for ever).
    ///
    /// `on_the_way` is called before this thread waits: what it leaves behind, such as its place, is from then on in the
    /// hands of whoever takes it out of the line. With `TakenOut` somebody has; otherwise it is the caller's again.
    pub(crate) fn wait(
        &self,
        clock: &Clock,
        deadline: Option<Instant>,
        ticket: Option<Ticket>,
        on_the_way: impl FnOnce(),
    ) -> Waited {
        let mut line = self.line.lock();
        if line.is_over {
            return Waited::LineIsOver;
        }
        if line.waiting.is_empty() {
            // From here on, who gives a seat back comes to the lock. One that came back before is on the stack.
            // ORDERING: Acquire, as in `try_take`.
            let word = self.top.fetch_or(WAITED_FOR, Ordering::Acquire) | WAITED_FOR;
            if let Some(seat) = self.pop(word, |_| false) {
                self.mind_the_end(&line);
                return Waited::Turn(seat);
            }
        }
        let number = line.came;
        line.came += 1;
        let me = Arc::new(Waiter {
            ticket,
            told: AtomicU64::new(NOTHING_YET),
            called: Condvar::new(),
        });
        line.waiting.insert(number, Arc::clone(&me));
        on_the_way();
        drop(line);

        let time = || Some(deadline?.saturating_duration_since(clock.now()));
        if let Some(soon) = self.spinning.until(time, || me.is_told(), || 0) {
            return soon;
        }
        let mut line = self.line.lock();
        let mut deadline = deadline;
        loop {
            if let Some(waited) = me.is_told() {
                return waited;
            }
            if deadline.is_some_and(|deadline| clock.now() >= deadline) {
                if line.waiting.remove(&number).is_some() {
                    self.mind_the_end(&line);
                    return Waited::TooLate;
                }
                // Somebody has taken it out, and is about to say why.
                deadline = None;
            }
            clock.wait_until(&me.called, &mut line, deadline);
        }
    }

    /// Takes everybody out of the line, and lets nobody in any more. `end` ends each call, under no lock, before its
    /// caller is told.
    pub(crate) fn take_all_out(&self, mut end: impl FnMut(&Waiter)) {
        let all = {
            let mut line = self.line.lock();
            line.is_over = true;
            let all = std::mem::take(&mut line.waiting);
            self.mind_the_end(&line);
            all
        };
        for waiter in all.into_values() {
            end(&waiter);
            let _told_under_the_lock = self.line.lock();
            self.tell(&waiter, CANCELLED);
        }
    }
}

impl Waiter {
    fn is_told(&self) -> Option<Waited> {
        // ORDERING: Acquire, who is given a seat sees what its last owner wrote there.
        match self.told.load(Ordering::Acquire) {
            NOTHING_YET => None,
            CANCELLED => Some(Waited::TakenOut),
            seat => Some(Waited::Turn(seat as usize - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::thread;

    use super::*;

    fn take(turns: &Turns) -> usize {
        turns.try_take().expect("a seat is free")
    }

    #[test]
    fn every_seat_is_there_once() {
        for seats in [1, 2, 65_536] {
            let turns = Turns::new(seats);
            for _ in 0..2 {
                let mut taken: Vec<_> = (0..seats).map(|_| take(&turns)).collect();
                assert_eq!(turns.try_take(), None);
                taken.iter().rev().for_each(|seat| turns.give_back(*seat));
                taken.sort_unstable();
                assert!(taken.into_iter().eq(0..seats));
            }
        }
    }

    #[test]
    fn the_seat_given_back_last_is_taken_first() {
        let turns = Turns::new(3);
        let seats = [take(&turns), take(&turns), take(&turns)];
        turns.give_back(seats[1]);
        turns.give_back(seats[0]);
        assert_eq!([take(&turns), take(&turns)], [seats[0], seats[1]]);
    }

    #[test]
    fn turns_go_in_the_order_of_the_line() {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        let seat = take(&turns);
        thread::scope(|scope| {
            let (turns, order) = (&turns, &order);
            for number in 0..8 {
                let (in_line, is_in_line) = mpsc::channel();
                scope.spawn(move || {
                    let on_the_way = || in_line.send(()).expect("somebody listens");
                    let waited = turns.wait(&Clock::system(), None, None, on_the_way);
                    assert_eq!(waited, Waited::Turn(seat));
                    order.lock().unwrap().push(number);
                    turns.give_back(seat);
                });
                is_in_line.recv().expect("it comes to the line");
            }
            assert_eq!(turns.try_take(), None, "past the line");
            turns.give_back(seat);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(turns.try_take(), Some(seat));
    }
}
