//! The bounded channel between submitters and workers, and the shells in it.
//!
//! A call that leaves the queue by another way than its turn (cancelled, expired under its waiter's
//! eyes, run by a waiting worker) leaves its entry behind, an empty *shell* that a worker will throw
//! away. Its place is free at once, so the channel has to have room for shells beside the calls:
//!
//! * The channel holds `calls + shells + 1` entries, where `calls` is the limit of the admission, as
//!   many shells are allowed, and the last is the stop token. So sending never fails.
//! * Who is about to make a shell counts it first ([`Queue::reserve_shell`]). Within the allowance
//!   that is all. Beyond it, the shell is swept out before its place is given back: a sweep takes every
//!   entry out once, drops the shells and puts the others back in order; what is submitted in that moment
//!   goes first. It throws out as many shells as there may be calls, so a cancel costs the same however
//!   long the queue is.
//! * Sweeps are serialized, and nobody but a sweep puts an entry back. An entry that is a shell when
//!   a sweep begins has therefore left the channel when it ends.
//!
//! The stop token is sent once, when the last call has ended after the close; each worker passes it
//! on to the next and ends. Nothing but the token is left then: shells are in front of it, and who sweeps still has a
//! place.

use std::sync::Arc;
use std::time::Instant;

use crate::channel::{Channel, Sleeper};
use crate::head::Execution;
use crate::sync::{AtomicUsize, Mutex, Ordering, Padded};

/// A call as the queue and the workers see it.
pub(crate) trait Job: Send + Sync {
    /// The worker's turn: run the task, or find that it is too late or nothing is left. Takes the time, if that is
    /// just known, and gives it back, if it is then.
    fn take_turn(&self, worker: usize, just_now: Option<Instant>) -> Option<Instant>;
    /// Cancels the task if it is still queued, for a shutdown that has taken the entry out.
    fn cancel_for_shutdown(&self);
    /// Whether the task has left the queue.
    fn is_shell(&self) -> bool;
    fn is_running(&self) -> bool;
    /// For the task that asks about itself.
    fn as_execution(self: Arc<Self>) -> Arc<dyn Execution>;
}

/// A call, or the stop token.
type Entry = Option<Arc<dyn Job>>;

pub(crate) struct Queue {
    channel: Arc<Channel<Entry>>,
    /// How many shells may be in the channel.
    allowance: usize,
    /// Shells in the channel, or about to be.
    shells: Padded<AtomicUsize>,
    sweeping: Mutex<()>,
}

impl Queue {
    pub(crate) fn new(calls: usize, workers: usize) -> Self {
        let allowance = calls;
        Self {
            channel: Arc::new(Channel::new(calls + allowance + 1, workers)),
            allowance,
            shells: Padded::default(),
            sweeping: Mutex::new(()),
        }
    }

    /// Sends the stop token, once.
    pub(crate) fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let channel = Arc::clone(&self.channel);
        move || channel.send(None)
    }

    /// Appends a call that holds a permit.
    pub(crate) fn push(&self, job: Arc<dyn Job>) {
        self.channel.send(Some(job));
    }

    /// Waits for the next call, and tells whether there was none at first; `None` when there will be none.
    pub(crate) fn next(&self, worker: &Arc<Sleeper>) -> Option<(Arc<dyn Job>, bool)> {
        let (entry, waited) = self.channel.take(worker);
        if entry.is_none() {
            self.channel.send(None);
        }
        entry.map(|job| (job, waited))
    }

    /// Counts a shell before there is one.
    pub(crate) fn reserve_shell(&self) -> ShellToBe<'_> {
        // ORDERING: AcqRel on `shells`: the number is all that is handed over, one order is enough.
        let before = self.shells.fetch_add(1, Ordering::AcqRel);
        ShellToBe {
            queue: self,
            over: before >= self.allowance,
        }
    }

    /// A shell has been taken out of the channel.
    pub(crate) fn shell_left(&self) {
        self.shells.fetch_sub(1, Ordering::AcqRel);
    }

    fn sweep(&self) {
        let _one_at_a_time = self.sweeping.lock();
        let entries = self.channel.len();
        let mut others = Vec::with_capacity(entries.saturating_sub(self.allowance));
        for _ in 0..entries {
            match self.channel.try_take() {
                // A shell has neither closure nor outcome left: nothing of the user's is dropped here.
                Some(Some(job)) if job.is_shell() => self.shell_left(),
                Some(other) => others.push(other),
                None => break,
            }
        }
        for other in others {
            self.channel.send(other);
        }
    }

    /// Takes out everything that is queued and hands the calls to `each`.
    pub(crate) fn drain(&self, mut each: impl FnMut(Arc<dyn Job>)) {
        loop {
            // One at a time, so that `each` runs under no lock and a sweep has nothing in its hands.
            let entry = {
                let _no_sweep = self.sweeping.lock();
                self.channel.try_take()
            };
            match entry {
                Some(Some(job)) => each(job),
                Some(None) => {
                    self.channel.send(None);
                    break;
                }
                None => break,
            }
        }
    }
}

/// A shell that is counted and may come into being.
#[must_use]
pub(crate) struct ShellToBe<'a> {
    queue: &'a Queue,
    over: bool,
}

impl ShellToBe<'_> {
    /// The entry is a shell now. Afterwards its place may be given back.
    pub(crate) fn made(self) {
        if self.over {
            self.queue.sweep();
        }
    }

    /// The entry is not a shell after all.
    pub(crate) fn not_made(self) {
        self.queue.shell_left();
    }
}
