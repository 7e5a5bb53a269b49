//! Admission: the one count that decides who gets in, and the permit that gives a place back.
//!
//! Two words, both of which only ever grow, so that a stale reading errs on the safe side:
//!
//! | word | upper bits | low bits | written by |
//! |---|---|---|---|
//! | `admitted` | calls ever admitted | 1: closed | submitters, and `close` once |
//! | `returned` | places ever given back | 1: somebody waits for a place, 2: closing | whoever ends a call |
//!
//! Places taken are `admitted - returned`. A submitter compares against the last `returned` that it
//! saw, which is never too high, and looks at the real word, which the workers keep writing, only
//! when that says "full": with room to spare, submitting and finishing calls share no cache line.
//!
//! * A call is admitted by one compare-and-swap of `admitted` from a value under which there was a
//!   place; closing sets a bit in that same word. So each call is either admitted before the close
//!   or refused, and after it the number of admitted calls is final.
//! * It is refused only if there was no place: counted at the last admission that it sees, with every
//!   return that it could know of.
//! * Who gives back a place learns from that same addition whether somebody waits or a shutdown is
//!   under way. Both bits are set by read-modify-writes of the same word, so either the bit is seen
//!   or the one who set it sees the place.
//! * Whoever makes `returned` reach the final `admitted`, the last call or `close` itself, calls
//!   `drained`. That happens exactly once.

use std::fmt;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, Padded};

const CLOSED: u64 = 1;
const ONE_ADMITTED: u64 = 2;

const WAITING: u64 = 1;
const CLOSING: u64 = 2;
const ONE_RETURNED: u64 = 4;

pub(crate) struct Admission {
    limit: u64,
    door: Padded<Door>,
    returned: Padded<AtomicU64>,
    /// How many callers wait for a place.
    waiting: Mutex<usize>,
    freed: Condvar,
    drained: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Door {
    admitted: AtomicU64,
    /// A lower bound of the places given back.
    returned_seen: AtomicU64,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Full,
    Closed,
}

/// One of the N + Q places. Dropping it gives the place back.
///
/// While a call is queued, its cell, or its caller's entry in line, stands in for the permit: `park` hands the place over
/// to that, and whoever takes the call out of there takes the place back with [`Admission::unpark`].
#[must_use = "dropping a permit gives its place back"]
pub(crate) struct Permit<'a>(&'a Admission);

impl Permit<'_> {
    /// Leaves the place taken without a guard.
    pub(crate) fn park(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Admission {
    /// `drained` is called once, after the close, when no place is taken any more.
    pub(crate) fn new(limit: usize, drained: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            limit: limit as u64,
            door: Padded::default(),
            returned: Padded::default(),
            waiting: Mutex::new(0),
            freed: Condvar::new(),
            drained: Box::new(drained),
        }
    }

    /// Takes a place without waiting and without a lock.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<Permit<'_>, Denied> {
        self.count_in().map(|()| Permit(self))
    }

    /// The decision itself.
    #[inline]
    fn count_in(&self) -> Result<(), Denied> {
        // ORDERING: Acquire, here and in the compare-and-swap: who sees the last admission also sees the
        // returns that made room for it. With less, a fresh `admitted` beside a stale `returned` would
        // look full when it never was.
        let mut word = self.door.admitted.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Err(Denied::Closed);
            }
            let admitted = word / ONE_ADMITTED;
            // ORDERING: Acquire, as below: who takes a place sees what its last owner did before, such as taking
            // the entry out of the channel. Any earlier value is a valid lower bound. It can be ahead of `admitted`
            // when that is stale, which the compare-and-swap then finds out.
            let seen = self.door.returned_seen.load(Ordering::Acquire);
            if admitted.saturating_sub(seen) >= self.limit {
                // ORDERING: Acquire, so that a caller who gets the place of a finished call sees
                // what that call did before it gave the place back.
                let returned = self.returned.load(Ordering::Acquire) / ONE_RETURNED;
                if admitted.saturating_sub(returned) >= self.limit {
                    return Err(Denied::Full);
                }
                self.door.returned_seen.store(returned, Ordering::Release);
            }
            // ORDERING: Release, the other half of the above.
            match self.door.admitted.compare_exchange_weak(
                word,
                word + ONE_ADMITTED,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Takes a place, waiting for one until `deadline` (`None`: for ever) or the close.
    pub(crate) fn acquire(
        &self,
        clock: &Clock,
        deadline: Option<Instant>,
    ) -> Result<Permit<'_>, Denied> {
        match self.try_acquire() {
            Err(Denied::Full) => {}
            decided => return decided,
        }
        let mut waiting = self.waiting.lock();
        *waiting += 1;
        let decided = loop {
            // ORDERING: AcqRel, see the essay above: a place given back before this is seen by the
            // attempt below, one given back after it sees the bit.
            self.returned.fetch_or(WAITING, Ordering::AcqRel);
            match self.try_acquire() {
                Err(Denied::Full) if deadline.is_none_or(|deadline| clock.now() < deadline) => {
                    clock.wait_until(&self.freed, &mut waiting, deadline);
                }
                decided => break decided,
            }
        };
        *waiting -= 1;
        if *waiting == 0 {
            // ORDERING: Relaxed, the lock orders it against the next waiter's announcement.
            self.returned.fetch_and(!WAITING, Ordering::Relaxed);
        }
        decided
    }

    /// The permit of a queued call, for the one who took it out of its cell, or of the line.
    pub(crate) fn unpark(&self) -> Permit<'_> {
        Permit(self)
    }

    #[inline]
    fn give_back(&self) {
        // ORDERING: Release, the next owner of the place sees what this call did. Acquire, a set
        // bit comes with what was done before it was set: the close, the waiter's place in line.
        let before = self.returned.fetch_add(ONE_RETURNED, Ordering::AcqRel);
        if before & WAITING != 0 {
            // Under the lock, a waiter that announced itself is either asleep or about to look again.
            let _in_line = self.waiting.lock();
            self.freed.notify_one();
        }
        if before & CLOSING != 0 {
            self.finish_if_drained(before + ONE_RETURNED);
        }
    }

    /// Admits nobody from here on and wakes all who wait. `true` for the first caller.
    pub(crate) fn close(&self) -> bool {
        let before = self.door.admitted.fetch_or(CLOSED, Ordering::AcqRel);
        if before & CLOSED != 0 {
            return false;
        }
        {
            let _in_line = self.waiting.lock();
            self.freed.notify_all();
        }
        // ORDERING: Release, who sees the bit sees the closed, final `admitted`.
        let returned = self.returned.fetch_or(CLOSING, Ordering::AcqRel);
        self.finish_if_drained(returned);
        true
    }

    fn finish_if_drained(&self, returned_word: u64) {
        let admitted = self.door.admitted.load(Ordering::Acquire) / ONE_ADMITTED;
        if returned_word / ONE_RETURNED == admitted {
            (self.drained)();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.door.admitted.load(Ordering::Acquire) & CLOSED != 0
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Calls ever admitted.
    pub(crate) fn admitted(&self) -> u64 {
        self.door.admitted.load(Ordering::Acquire) / ONE_ADMITTED
    }

    /// Places free at this moment.
    pub(crate) fn available(&self) -> usize {
        // `returned` first: the other way round, calls that come and go in between would be
        // taken off twice.
        let returned = self.returned.load(Ordering::Acquire) / ONE_RETURNED;
        let taken = self.admitted().saturating_sub(returned).min(self.limit);
        usize::try_from(self.limit - taken).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("limit", &self.limit)
            .field("admitted", &self.admitted())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
