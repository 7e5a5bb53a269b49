//! The slots by themselves, and the line of callers that wait for one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bulkman::model::ModelSlots;
use loom::thread::{self};

use crate::support::explore;

/// Slots that are marked while somebody has them: nobody else may have the same one.
pub struct Marked {
    pub seats: ModelSlots,
    taken: [AtomicBool; 2],
}

impl Marked {
    pub fn new(seats: usize) -> Arc<Self> {
        Self::of(ModelSlots::new(seats))
    }

    pub fn of(seats: ModelSlots) -> Arc<Self> {
        let taken = Default::default();
        Arc::new(Self { seats, taken })
    }

    pub fn mark(&self, seat: usize) -> usize {
        let before = self.taken[seat].swap(true, Ordering::Relaxed);
        assert!(!before, "two have the same seat");
        seat
    }

    pub fn try_take(&self) -> Option<usize> {
        self.seats.try_take().map(|seat| self.mark(seat))
    }

    pub fn take(&self) -> usize {
        self.mark(self.seats.take(|| ()))
    }

    pub fn give_back(&self, seat: usize) {
        self.taken[seat].store(false, Ordering::Relaxed);
        self.seats.give_back(seat);
    }

    /// Nobody has a slot any more: all are there, and no more than these.
    pub fn assert_whole(&self, seats: usize) {
        for _ in 0..seats {
            self.try_take().expect("a seat was lost");
        }
        assert!(self.try_take().is_none(), "there is a seat too many");
    }
}

/// G4: one thread looks at the topmost slot. Before it takes that slot, another thread takes it and the next one, and
/// gives the first back. The word looks the same but for its count, and the slot below is taken.
#[test]
fn taking_against_the_same_seat_on_top_again() {
    explore("the same seat on top again", 3, || {
        let marked = Marked::new(2);
        let other = Arc::clone(&marked);
        let taking = thread::spawn(move || {
            if let Some(seat) = other.try_take() {
                thread::yield_now();
                other.give_back(seat);
            }
        });
        let first = marked.try_take().expect("two seats, two callers");
        let second = marked.try_take();
        marked.give_back(first);
        thread::yield_now();
        if let Some(second) = second {
            marked.give_back(second);
        }
        taking.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G3: slots come back in another order than they went, while one is taken. The last owner of a slot says which slot
/// lies below it.
#[test]
fn taking_against_seats_that_come_back_in_another_order() {
    explore("another order", 3, || {
        let marked = Marked::new(2);
        let [first, second] = [0, 1].map(|_| marked.try_take().expect("it is free"));
        let other = Arc::clone(&marked);
        let taking = thread::spawn(move || {
            if let Some(seat) = other.try_take() {
                other.give_back(seat);
            }
        });
        marked.give_back(first);
        marked.give_back(second);
        taking.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G2, G3: the same for a caller that finds none free and gets into line: it has one of the two, and the other is
/// there.
#[test]
fn getting_into_line_against_seats_that_come_back() {
    explore("getting into line, two seats", 3, || {
        let marked = Marked::new(2);
        let [first, second] = [0, 1].map(|_| marked.try_take().expect("it is free"));
        let other = Arc::clone(&marked);
        let waiting = thread::spawn(move || {
            let seat = other.take();
            other.give_back(seat);
        });
        marked.give_back(first);
        marked.give_back(second);
        waiting.join().unwrap();
        marked.assert_whole(2);
    });
}

/// G2: the only slot comes back while two get into line: each has it in the end, and no wake-up is lost.
#[test]
fn getting_into_line_against_the_only_seat() {
    explore("getting into line", 3, || {
        let marked = Marked::new(1);
        let seat = marked.try_take().expect("it is free");
        let waiting = [0, 1].map(|_| {
            let marked = Arc::clone(&marked);
            thread::spawn(move || {
                let seat = marked.take();
                thread::yield_now();
                marked.give_back(seat);
            })
        });
        marked.give_back(seat);
        for waiting in waiting {
            waiting.join().unwrap();
        }
        marked.assert_whole(1);
    });
}

/// Slots go to callers in the order in which they came to the line, also while a slot comes back and a new caller
/// comes.
#[test]
fn turns_in_the_order_of_the_line() {
    explore("order of the line", 3, || {
        let seats = Arc::new(ModelSlots::new(1));
        let came = Arc::new(Mutex::new(Vec::new()));
        let had = Arc::new(Mutex::new(Vec::new()));
        let seat = seats.try_take().expect("it is free");
        let waiting = [1, 2].map(|me| {
            let (seats, came, had) = (Arc::clone(&seats), Arc::clone(&came), Arc::clone(&had));
            thread::spawn(move || {
                let in_line = || came.lock().unwrap().push(me);
                let seat = seats.take(in_line);
                had.lock().unwrap().push(me);
                seats.give_back(seat);
            })
        });
        seats.give_back(seat);
        let in_line = came.lock().unwrap().clone();
        if let Some(seat) = seats.try_take() {
            let had = had.lock().unwrap().clone();
            for before_me in &in_line {
                assert!(had.contains(before_me), "overtaken");
            }
            seats.give_back(seat);
        }
        for waiting in waiting {
            waiting.join().unwrap();
        }
        let had = had.lock().unwrap().clone();
        let in_line: Vec<_> = came.lock().unwrap().clone();
        // A caller that found the slot free on its way has never come to the line.
        let had_in_line: Vec<_> = had.into_iter().filter(|me| in_line.contains(me)).collect();
        assert_eq!(had_in_line, in_line);
    });
}
