//! A seat: what can be seen from outside of what runs in one of the N places to run.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::{Limit, nanos};
use crate::head::{Head, Running};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// A place to run, where others can see what runs there: a call, and on top of it the calls that it has made itself
/// and that run in its stead. One thread at a time sits in it: a worker for its whole life, or a caller.
///
/// Most calls are a call in its turn, and without a name. What is to be seen of those fits into a few words, which
/// who sits here alone writes, with plain stores:
///
/// * While `turn` is odd, the words belong to the call that runs. They are written while it is even.
/// * So who finds the same odd number before and after reading them has read one call's words: had it read a later
///   call's, it would also see the `turn` in between.
///
/// All others are listed under a lock.
///
/// Each seat has cache lines of its own, as in [`Padded`](crate::sync::Padded): they are written with every call.
#[repr(align(128))]
pub(crate) struct Seat {
    turn: AtomicU64,
    id: [AtomicU64; 2],
    /// In nanoseconds from `epoch`, as the next.
    since: AtomicU64,
    /// When the caller's limit is over, as a [`Limit`].
    deadline: AtomicU64,
    epoch: Instant,
    listed: Mutex<Vec<Running>>,
}

/// Where a call is to be seen, for the end of it.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) enum Seated {
    InTurn,
    Listed,
}

impl Seat {
    /// No call starts before `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            turn: AtomicU64::new(0),
            id: Default::default(),
            since: AtomicU64::new(0),
            deadline: AtomicU64::new(Limit::NONE.in_nanos()),
            epoch,
            listed: Mutex::default(),
        }
    }

    /// A call begins here; `in_turn` unless it runs on top of another.
    #[inline]
    pub(crate) fn begin(&self, head: &Head, since: Instant, in_turn: bool) -> Seated {
        let deadline = head.deadline();
        if !in_turn || head.operation.is_some() {
            let running = Running {
                execution_id: head.execution_id,
                operation: head.operation.clone(),
                since,
                deadline,
            };
            self.listed.lock().push(running);
            return Seated::Listed;
        }
        // ORDERING: Release, here and in `pass`, and Acquire in `running_in_turn`: see above.
        let (high, low) = head.execution_id.as_u64_pair();
        self.id[0].store(high, Ordering::Release);
        self.id[1].store(low, Ordering::Release);
        let from_epoch = |at: Instant| at.saturating_duration_since(self.epoch);
        self.since
            .store(nanos(from_epoch(since)), Ordering::Release);
        let deadline = Limit::new(deadline.map(from_epoch));
        self.deadline.store(deadline.in_nanos(), Ordering::Release);
        self.pass();
        Seated::InTurn
    }

    /// The last call that has begun here is over.
    #[inline]
    pub(crate) fn end(&self, seated: Seated) {
        match seated {
            Seated::InTurn => self.pass(),
            Seated::Listed => {
                self.listed.lock().pop();
            }
        }
    }

    #[inline]
    fn pass(&self) {
        // ORDERING: the load is of the last store of those who sat here, which each leaves to the next.
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Release);
    }

    /// From the outermost to the innermost.
    pub(crate) fn running(&self) -> Vec<Running> {
        let mut running: Vec<_> = self.running_in_turn().into_iter().collect();
        running.extend(self.listed.lock().iter().cloned());
        running
    }

    /// Asked by the one who sits here.
    pub(crate) fn innermost(&self) -> Option<Running> {
        let listed = self.listed.lock().last().cloned();
        listed.or_else(|| self.running_in_turn())
    }

    fn running_in_turn(&self) -> Option<Running> {
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn % 2 == 0 {
                return None;
            }
            let [high, low] = [&self.id[0], &self.id[1]].map(|half| half.load(Ordering::Acquire));
            let since = self.since.load(Ordering::Acquire);
            let deadline = self.deadline.load(Ordering::Acquire);
            // ORDERING: Relaxed is enough after the Acquire of the words.
            if self.turn.load(Ordering::Relaxed) == turn {
                return Some(Running {
                    execution_id: Uuid::from_u64_pair(high, low),
                    operation: None,
                    since: self.epoch + Duration::from_nanos(since),
                    deadline: Limit::of_nanos(deadline).from(self.epoch),
                });
            }
        }
    }
}
