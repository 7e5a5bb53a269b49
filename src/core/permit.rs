//! The permits for the N + Q places: the one count that decides who gets in.
//!
//! Two words decide. Both only ever grow, so that a stale reading errs on the safe side:
//!
//! | word | upper bits | low bits | written by |
//! |---|---|---|---|
//! | `admitted` | calls ever admitted | 1: closed; the next 7: how often the limits have changed | submitters, `set_limits`, and `close` once |
//! | `returned` | places ever given back | 1: a caller waits for a place, 2: closing, 4: a thread waits until all are free, 8: saturated, 16: its end is looked for | the thread that ends a call |
//!
//! Places taken are `admitted - returned`. A submitter compares against the last `returned` that a submitter saw, which
//! is never too high. It looks at the real word, which the workers keep writing, only when that says "full": with room
//! to spare, submitting and finishing calls share no cache line.
//!
//! * **Exact.** One compare-and-swap of `admitted` admits a call, from a value under which there was a place. A call is
//!   refused only if there was none, counted at the last admission that it sees, with every return that it could know of.
//! * **Limits that change.** `set_limits` stores the new limits, and then changes the bits for it in `admitted`. So a
//!   compare-and-swap that goes by the old limits either comes before that or fails: once `set_limits` has returned, nobody is
//!   admitted by them. Calls that are in flight stay. If they are more than the new limit, nobody is admitted until there is
//!   room. (For the bits to come round, the limits must change 128 times between one thread's look and its
//!   compare-and-swap, and nobody be admitted.)
//! * **Closed.** Closing sets a bit in that same word. So each call is either admitted before the close or refused, and
//!   after the close the number of admitted calls is final.
//! * **No lost wake-up.** The addition that gives a place back also tells whether somebody waits or a shutdown is under
//!   way. All bits are set by read-modify-writes of the same word: either the addition sees the bit, or the thread
//!   that set the bit sees the place. While no bit is set, nothing else happens.
//! * **One end.** The thread that makes `returned` reach the final `admitted`, with the last call or in `close` itself,
//!   calls `drained`. That happens exactly once.
//! * **Idle.** A thread that reads `returned` first, and then an equal `admitted`, knows that there was a moment without any
//!   call: neither word goes back. The thread that gives the last place back leaves the moment under the lock of those that
//!   wait. So they hear of it also if calls have come since.
//! * **Saturation.** A refused caller that sets `SATURATED` tells of the beginning, and sets `AWAITING_RELIEF` after that. A
//!   thread that gives a place back and finds no more than half of them taken clears `AWAITING_RELIEF`, tells of the end, and
//!   clears `SATURATED` after that. So beginnings and ends are told in turn, and never at the same time. The last place that
//!   comes back finds them free, so each saturation ends; the caller that has set the bit looks for itself.

use std::fmt;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{self, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Padded};

const CLOSED: u64 = 1;
const ONE_CHANGE: u64 = 2;
const CHANGES: u64 = 127 * ONE_CHANGE;
const ONE_ADMITTED: u64 = 256;

const WAITING: u64 = 1;
const CLOSING: u64 = 2;
const AWAITING_IDLE: u64 = 4;
/// A saturation has begun, and its end is not told yet.
const SATURATED: u64 = 8;
/// The beginning of the saturation is told, and the end is not found yet.
const AWAITING_RELIEF: u64 = 16;
const ONE_RETURNED: u64 = 32;

pub(crate) struct Permits {
    submit_side: Padded<SubmitSide>,
    returned: Padded<AtomicU64>,
    /// How many callers wait for a place.
    waiting: Mutex<usize>,
    freed: Condvar,
    idle: Mutex<Idle>,
    became_idle: Condvar,
    /// Held while the limits change, and while a snapshot is taken.
    most_taken: Mutex<u64>,
    drained: Box<dyn Fn() + Send + Sync>,
    relieved: Box<dyn Fn() + Send + Sync>,
}

/// N and Q.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_concurrent_calls: usize,
    pub(crate) max_queue_size: usize,
}

impl Limits {
    pub(crate) fn new(max_concurrent_calls: usize, max_queue_size: usize) -> Self {
        Self {
            max_concurrent_calls,
            max_queue_size,
        }
    }

    /// N + Q.
    pub(crate) fn places(self) -> usize {
        self.max_concurrent_calls + self.max_queue_size
    }

    /// In one word, so that nobody sees an old N beside a new Q: N above, and below N + Q, which each submitter reads.
    fn in_word(self) -> u64 {
        (self.max_concurrent_calls as u64) << 32 | self.places() as u64
    }

    #[inline]
    fn of_word(word: u64) -> Self {
        let (concurrent, places) = (word >> 32, places(word));
        Self {
            max_concurrent_calls: concurrent as usize,
            max_queue_size: (places - concurrent) as usize,
        }
    }
}

fn places(limits: u64) -> u64 {
    limits & u64::from(u32::MAX)
}

/// Threads that wait until no place is taken.
#[derive(Default)]
struct Idle {
    waiting: usize,
    /// The last moment without a call that was found: how many calls had been admitted by then.
    last_seen: u64,
}

/// The cache line of the submitters.
#[derive(Default)]
struct SubmitSide {
    admitted: AtomicU64,
    /// As [`Limits::in_word`] has them.
    limits: AtomicU64,
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
/// While a call is queued, its cell, or its caller's entry in the wait list, stands in for the permit:
/// [`into_parked`](Self::into_parked) leaves the place to that entry, and the thread that takes the call out of there gets
/// the permit back from [`Permits::reclaim`].
#[must_use = "dropping a permit gives its place back"]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permit<'_> {
    /// Leaves the place taken without a guard.
    pub(crate) fn into_parked(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Permits {
    /// `drained` is called once, after the close, when no place is taken any more; `relieved` at the end of each saturation.
    /// Both run under no lock, in the thread that has given a place back or that closes.
    pub(crate) fn new(
        limits: Limits,
        drained: impl Fn() + Send + Sync + 'static,
        relieved: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            submit_side: Padded(SubmitSide {
                limits: AtomicU64::new(limits.in_word()),
                ..SubmitSide::default()
            }),
            returned: Padded::default(),
            waiting: Mutex::new(0),
            freed: Condvar::new(),
            idle: Mutex::default(),
            became_idle: Condvar::new(),
            most_taken: Mutex::new(limits.places() as u64),
            drained: Box::new(drained),
            relieved: Box::new(relieved),
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
        // ORDERING: Acquire, here and in the compare-and-swap: a thread that sees the last admission also sees the
        // returns that made room for it. With less, a fresh `admitted` beside a stale `returned` would look full when
        // it never was.
        let mut word = self.submit_side.admitted.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Err(Denied::Closed);
            }
            let admitted = word / ONE_ADMITTED;
            // ORDERING: Acquire, so that a submitter that goes by new limits also sees the room that was made for them. It
            // sees at least those that belong to `word`, see `set_limits`.
            let limit = places(self.submit_side.limits.load(Ordering::Acquire));
            // ORDERING: Acquire, as below: the new owner of a place sees what its last owner did before, such as taking
            // the entry out of the channel. Any earlier value is a valid lower bound. It can be ahead of `admitted`
            // when that is stale, which the compare-and-swap then finds out.
            let seen = self.submit_side.returned_seen.load(Ordering::Acquire);
            if admitted.saturating_sub(seen) >= limit {
                // ORDERING: Acquire, so that a caller that gets the place of a finished call sees what that call did
                // before it gave the place back.
                let returned = self.returned.load(Ordering::Acquire) / ONE_RETURNED;
                if admitted.saturating_sub(returned) >= limit {
                    return Err(Denied::Full);
                }
                self.submit_side
                    .returned_seen
                    .store(returned, Ordering::Release);
            }
            // ORDERING: Release, the other half of the above.
            match self.submit_side.admitted.compare_exchange_weak(
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
            // ORDERING: AcqRel. The attempt below sees a place given back before this; a thread that gives one back after
            // it sees the bit.
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

    /// The permit of a queued call, for the thread that took the call out of its cell or of the wait list.
    pub(crate) fn reclaim(&self) -> Permit<'_> {
        Permit(self)
    }

    #[inline]
    fn give_back(&self) {
        // ORDERING: Release, so that the next owner of the place sees what this call did. Acquire, so that a set bit
        // comes with what was done before it was set: the close, the waiter's announcement.
        let before = self.returned.fetch_add(ONE_RETURNED, Ordering::AcqRel);
        if before % ONE_RETURNED != 0 {
            self.tell_of_return(before);
        }
    }

    /// `before` is the word to which a place was added.
    #[inline(never)]
    fn tell_of_return(&self, before: u64) {
        if before & WAITING != 0 {
            // Under the lock, a waiter that announced itself is either asleep or about to look again.
            let _waiting = self.waiting.lock();
            self.freed.notify_one();
        }
        if before & AWAITING_IDLE != 0 && self.none_taken(before + ONE_RETURNED) {
            let mut idle = self.idle.lock();
            idle.last_seen = idle.last_seen.max(before / ONE_RETURNED + 1);
            self.became_idle.notify_all();
        }
        if before & AWAITING_RELIEF != 0 {
            self.end_saturation_if_relieved(before + ONE_RETURNED);
        }
        if before & CLOSING != 0 {
            self.finish_if_drained(before + ONE_RETURNED);
        }
    }

    /// A call was refused as full. `true`: that begins a saturation, and this thread has to tell of it, and to call
    /// [`look_for_relief`](Self::look_for_relief) then.
    #[inline]
    #[must_use]
    pub(crate) fn begin_saturation(&self) -> bool {
        // ORDERING: Relaxed. After a stale look this call is refused within the saturation before.
        self.returned.load(Ordering::Relaxed) & SATURATED == 0 && self.set_saturated()
    }

    #[cold]
    fn set_saturated(&self) -> bool {
        // ORDERING: Acquire, so that this thread sees what was done at the end of the last saturation.
        self.returned.fetch_or(SATURATED, Ordering::Acquire) & SATURATED == 0
    }

    /// The beginning of the saturation is told: from here on its end is looked for.
    pub(crate) fn look_for_relief(&self) {
        // ORDERING: AcqRel. Either this sees a place that has come back, or the thread that gives it back sees the bit, and
        // then all that was done at the beginning.
        let before = self.returned.fetch_or(AWAITING_RELIEF, Ordering::AcqRel);
        self.end_saturation_if_relieved(before | AWAITING_RELIEF);
    }

    /// The limits have changed, so that a saturation may be over. To be called under no lock.
    pub(crate) fn look_for_relief_after_change(&self) {
        // ORDERING: AcqRel, and an addition of nothing, not a load. Either this sees a place that has come back, or the thread
        // that gives it back sees the new limits.
        let word = self.returned.fetch_add(0, Ordering::AcqRel);
        if word & AWAITING_RELIEF != 0 {
            self.end_saturation_if_relieved(word);
        }
    }

    #[cold]
    fn end_saturation_if_relieved(&self, returned_word: u64) {
        if self.claim_relief(returned_word) {
            (self.relieved)();
            // ORDERING: Release, see `set_saturated`.
            self.returned.fetch_and(!SATURATED, Ordering::Release);
        }
    }

    /// Whether this thread ends the saturation, since no more than half of the places were taken when `returned` was this
    /// word. If another place has come back since, the thread that gave it back decides.
    fn claim_relief(&self, returned_word: u64) -> bool {
        let returned = returned_word / ONE_RETURNED;
        if self.admitted().saturating_sub(returned) > self.limits().places() as u64 / 2 {
            return false;
        }
        let mut word = returned_word;
        while word & AWAITING_RELIEF != 0 && word / ONE_RETURNED == returned {
            // ORDERING: AcqRel, as in `look_for_relief`.
            match self.returned.compare_exchange_weak(
                word,
                word & !AWAITING_RELIEF,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Admits no call from here on and wakes all that wait. For the first caller, calls `closed` before `drained` can be
    /// called.
    pub(crate) fn close(&self, closed: impl FnOnce()) {
        let before = self.submit_side.admitted.fetch_or(CLOSED, Ordering::AcqRel);
        if before & CLOSED != 0 {
            return;
        }
        {
            let _waiting = self.waiting.lock();
            self.freed.notify_all();
        }
        closed();
        // ORDERING: Release, so that a thread that sees the bit sees the closed, final `admitted`.
        let returned = self.returned.fetch_or(CLOSING, Ordering::AcqRel);
        self.finish_if_drained(returned);
    }

    fn finish_if_drained(&self, returned_word: u64) {
        if self.none_taken(returned_word) {
            (self.drained)();
        }
    }

    /// Whether no place was taken at the moment when `returned` was this word.
    fn none_taken(&self, returned_word: u64) -> bool {
        returned_word / ONE_RETURNED == self.admitted()
    }

    /// Waits for a moment at which no place is taken, at the longest until `deadline` (`None`: for ever). `false`: there was
    /// none.
    pub(crate) fn wait_idle(&self, deadline: Option<Instant>) -> bool {
        let mut idle = self.idle.lock();
        idle.waiting += 1;
        // A thread may still be on its way to the lock with a moment from before these calls.
        let admitted = self.admitted();
        let was_idle = loop {
            // ORDERING: AcqRel. Either this sees the place that the last call gives back, or that call's thread sees the bit.
            let returned = self.returned.fetch_or(AWAITING_IDLE, Ordering::AcqRel);
            if idle.last_seen >= admitted || self.none_taken(returned) {
                break true;
            }
            if deadline.is_some_and(|deadline| sync::now() >= deadline) {
                break false;
            }
            sync::wait_until(&self.became_idle, &mut idle, deadline);
        };
        idle.waiting -= 1;
        if idle.waiting == 0 {
            // ORDERING: Relaxed, the lock orders it against the next waiter's announcement.
            self.returned.fetch_and(!AWAITING_IDLE, Ordering::Relaxed);
        }
        was_idle
    }

    #[allow(dead_code, reason = "for the model tests alone")]
    pub(crate) fn awaiting_idle(&self) -> usize {
        self.idle.lock().waiting
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.submit_side.admitted.load(Ordering::Acquire) & CLOSED != 0
    }

    #[inline]
    pub(crate) fn limits(&self) -> Limits {
        // ORDERING: Relaxed, it is for messages and snapshots.
        Limits::of_word(self.submit_side.limits.load(Ordering::Relaxed))
    }

    /// Admits calls by these limits from here on. `false`: it is closed, and nothing has changed.
    #[must_use]
    pub(crate) fn set_limits(&self, limits: Limits) -> bool {
        {
            let mut most_taken = self.most_taken.lock();
            let mut word = self.submit_side.admitted.load(Ordering::Acquire);
            if word & CLOSED != 0 {
                return false;
            }
            self.submit_side
                .limits
                .store(limits.in_word(), Ordering::Release);
            // ORDERING: Acquire. See below, `returned` first.
            let returned = self.returned.load(Ordering::Acquire) / ONE_RETURNED;
            // ORDERING: AcqRel, so that who sees the changed bits sees the new limits too. Not `fetch_add`, which would
            // carry into the count.
            while let Err(now) = self.submit_side.admitted.compare_exchange_weak(
                word,
                word & !CHANGES | (word + ONE_CHANGE) & CHANGES,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                word = now;
            }
            let taken = (word / ONE_ADMITTED).saturating_sub(returned);
            *most_taken = taken.max(limits.places() as u64);
        }
        // A caller that waits for a place may find one.
        let _waiting = self.waiting.lock();
        self.freed.notify_all();
        true
    }

    /// How many places can be taken at most, as long as the guard is held: N + Q, or after a change to fewer what was taken
    /// then.
    pub(crate) fn most_taken(&self) -> MutexGuard<'_, u64> {
        let mut most_taken = self.most_taken.lock();
        let limit = self.limits().places() as u64;
        if *most_taken > limit && self.taken() <= limit {
            // From here on a call is admitted only below the limit.
            *most_taken = limit;
        }
        most_taken
    }

    /// How many places are taken, or a few more.
    fn taken(&self) -> u64 {
        // ORDERING: Acquire. `returned` first: the other way round, calls that come and go in between would be taken off
        // twice.
        let returned = self.returned.load(Ordering::Acquire) / ONE_RETURNED;
        self.admitted().saturating_sub(returned)
    }

    /// Calls ever admitted.
    pub(crate) fn admitted(&self) -> u64 {
        self.submit_side.admitted.load(Ordering::Acquire) / ONE_ADMITTED
    }

    /// Places free at this moment.
    pub(crate) fn available(&self) -> usize {
        let limit = self.limits().places();
        usize::try_from(self.taken()).map_or(0, |taken| limit.saturating_sub(taken))
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("limits", &self.limits())
            .field("admitted", &self.admitted())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
