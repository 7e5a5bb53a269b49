//! Which of many calls to look at next, for the one thread that waits for them.
//!
//! | why to look at a call | how the waiting thread hears of it |
//! |---|---|
//! | it has ended | the cell wakes the call's [`CallWaker`], which appends the call's number to a list |
//! | a limit of it is over | the waiting thread keeps the limits in order and sleeps until the first |
//!
//! So the end of one call costs the same however many others are waited for, and no timer thread is needed. A number in
//! the list is only a hint to look: the call may be gone from the set, or not have ended. A wake-up is not lost, since the
//! waker appends under the lock under which the waiting thread looks before it sleeps.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::{self, AdaptiveSpin, AtomicUsize, Condvar, Mutex, Ordering, earlier};

/// What a waiting thread knows of the calls that it waits for.
#[derive(Default)]
pub(super) struct Watch {
    ready: Arc<Ready>,
    /// When to look at which call again.
    limits: BTreeSet<(Instant, u64)>,
}

/// The calls to look at because they have ended. It outlives the set until the last waker is gone.
#[derive(Default)]
struct Ready {
    numbers: Mutex<VecDeque<u64>>,
    /// How many there are, for looks without the lock.
    len: AtomicUsize,
    added: Condvar,
    /// Whether it pays to look again before sleeping.
    spin: AdaptiveSpin,
}

impl Ready {
    fn mark_ready(&self, number: u64) {
        let mut numbers = self.numbers.lock();
        numbers.push_back(number);
        // ORDERING: Relaxed. It is only a reason to take the lock, under which the numbers are.
        self.len.store(numbers.len(), Ordering::Relaxed);
        drop(numbers);
        self.added.notify_one();
    }

    fn take(&self) -> Option<u64> {
        let mut numbers = self.numbers.lock();
        let number = numbers.pop_front();
        self.len.store(numbers.len(), Ordering::Relaxed);
        number
    }

    /// Waits until a number is there, or `until`.
    fn wait(&self, until: Option<Instant>) {
        let within = || until.map(|until| until.saturating_duration_since(sync::now()));
        let look = || (self.len.load(Ordering::Relaxed) > 0).then_some(());
        if self.spin.until(within, look, || 0).is_some() {
            return;
        }
        let mut numbers = self.numbers.lock();
        while numbers.is_empty() && until.is_none_or(|until| sync::now() < until) {
            sync::wait_until(&self.added, &mut numbers, until);
        }
    }
}

/// The waker of one call.
struct CallWaker {
    ready: Arc<Ready>,
    number: u64,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        self.ready.mark_ready(self.number);
    }
}

impl Watch {
    /// The waker for the call of that number.
    pub(super) fn waker(&self, number: u64) -> Waker {
        Waker::from(Arc::new(CallWaker {
            ready: Arc::clone(&self.ready),
            number,
        }))
    }

    /// A call that has ended already.
    pub(super) fn mark_ready(&self, number: u64) {
        self.ready.mark_ready(number);
    }

    /// Says when to look at a call, instead of `before`.
    pub(super) fn look_at(&mut self, number: u64, before: Option<Instant>, at: Option<Instant>) {
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.limits.remove(&(before, number));
        }
        if let Some(at) = at {
            self.limits.insert((at, number));
        }
    }

    /// A call to look at now. One whose limit is over comes first, since its caller is to hear of that in time.
    pub(super) fn take(&mut self) -> Option<u64> {
        if let Some(&(at, number)) = self.limits.first() {
            if at <= sync::now() {
                return Some(number);
            }
        }
        self.ready.take()
    }

    /// Waits until there may be a call to look at, or until `until`; `false`: it added to that.
    pub(super) fn wait(&self, until: Option<Instant>) -> bool {
        if until.is_some_and(|until| until <= sync::now()) {
            return false;
        }
        let first = self.limits.first().map(|(at, _)| *at);
        self.ready.wait(earlier(first, until));
        true
    }

    /// Whether a call has probably ended.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.len.load(Ordering::Relaxed) > 0
    }
}

/// `limit` from now on, by the system's clock: the handles may belong to bulkheads with different clocks.
pub(super) fn deadline(limit: Duration) -> Option<Instant> {
    sync::after(sync::now(), limit)
}
