//! The cell of one call: its task, its state, its outcome, and whoever waits for it, in one allocation.
//!
//! The queue holds it as a [`Job`], the handle as a [`Pending`]. Everything that changes is behind the
//! cell's lock, and no user code ever runs under that lock: closures, outcomes and wakers are moved
//! out first.
//!
//! | stage | the task | its place | who may end the stage |
//! |---|---|---|---|
//! | `Queued` | in the cell | held by the cell | anybody, through [`Cell::take`]: worker, waiter, handle, shutdown |
//! | `Running` | on the stack of the worker that took it | held by that worker | that worker alone |
//! | `Leaving` | in the hands of who took it, to be dropped | held by them | they alone |
//! | `Finished` | gone | given back | the handle: collects, or goes and drops the outcome |
//! | `Over` | gone | given back | nobody |
//!
//! `take` is the only way out of `Queued` and succeeds once, so exactly one party runs or drops the
//! task, and exactly one `finish` follows. On the way to `Finished` the order is always the same:
//!
//! 1. the breaker hears the verdict, or gets its ticket back;
//! 2. the ledger counts the call;
//! 3. its place is given back;
//! 4. the outcome is published, and the waiter woken.
//!
//! So whoever sees an outcome finds the place free and the numbers right. User code runs behind a catch of
//! its own and before 4: the task and the listeners of a call that ran before 1, on a worker; the drop of a
//! task that never started, and its listeners, after 3.
//!
//! Who takes a task while its entry is still in the channel counts a shell first, see `queue.rs`.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::circuit::Ticket;
use crate::clock::earlier;
use crate::context::Luggage;
use crate::current::{ThisThread, while_helping};
use crate::head::{Execution, Head, Host};
use crate::outcome::{Outcome, Why};
use crate::panics::contain;
use crate::queue::Job;
use crate::result::ExecutionResult;
use crate::run::{Judged, Run};
use crate::shared::Shared;
use crate::sync::{AtomicU8, Mutex, Ordering, Thread, this_thread};

pub(crate) struct Cell<F, T, E> {
    head: Head,
    shared: Arc<Shared>,
    /// Follows the stage, for looks without the lock. Never ahead of it.
    phase: AtomicU8,
    inner: Mutex<Inner<F, T, E>>,
}

/// The task is in the cell.
const QUEUED: u8 = 0;
/// The task has been taken.
const TAKEN: u8 = 1;
/// The outcome is in the cell, or was.
const FINISHED: u8 = 2;

struct Inner<F, T, E> {
    stage: Stage<F, T, E>,
    handle: Handle,
    /// Counted in the ledger as running with nobody to wait for it.
    abandoned: bool,
}

enum Stage<F, T, E> {
    Queued(Work<F>),
    Running { since: Instant },
    Leaving,
    Finished(Outcome<T, E>),
    Over,
}

/// The other end of the cell.
enum Handle {
    /// Exists, and nobody waits for it.
    Held,
    /// Exists, and its owner sleeps.
    Parked(Thread),
    /// Exists, and was polled as a future.
    Polled(Waker),
    Dropped,
}

/// What it takes to run a task.
pub(crate) struct Work<F> {
    pub(crate) task: F,
    pub(crate) luggage: Luggage,
    pub(crate) ticket: Option<Ticket>,
}

/// A call as its handle sees it.
pub(crate) trait Pending<T, E>: Send + Sync {
    fn head(&self) -> &Head;
    fn is_finished(&self) -> bool;
    /// Waits for the outcome, at the longest until `until`, and collects it.
    fn wait(&self, until: Option<Instant>) -> Option<ExecutionResult<T, E>>;
    fn poll(&self, context: &mut Context<'_>) -> Poll<ExecutionResult<T, E>>;
    fn cancel(&self) -> bool;
    /// Whether this thread is a worker that had better run the task than wait for it.
    fn wants_help(&self) -> bool;
    /// Runs the task here.
    fn help(self: Arc<Self>);
    /// The handle goes.
    fn detach(&self);
    fn now(&self) -> Instant;
}

/// What somebody who waits finds.
enum Look<T, E> {
    Done(Outcome<T, E>),
    /// Still queued, and too late to start.
    TooLate,
    /// Running beyond the caller's limit.
    OverLimit {
        since: Instant,
        now: Instant,
    },
    /// Nothing to see until then; `None`: until woken.
    NotYet(Option<Instant>),
}

// ---- transitions: the only code that changes the stage

impl<F, T, E> Cell<F, T, E> {
    pub(crate) fn new(head: Head, shared: Arc<Shared>, work: Work<F>) -> Self {
        Self {
            head,
            shared,
            phase: AtomicU8::new(QUEUED),
            inner: Mutex::new(Inner {
                stage: Stage::Queued(work),
                handle: Handle::Held,
                abandoned: false,
            }),
        }
    }

    /// `Queued` to `next`, which is `Running` or `Leaving`. `None`: somebody else was first.
    #[must_use]
    fn take(&self, next: Stage<F, T, E>) -> Option<Work<F>> {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::Queued(_)) {
            return None;
        }
        if matches!(next, Stage::Running { .. }) && matches!(inner.handle, Handle::Dropped) {
            inner.abandoned = true;
            self.shared.ledger.shared.abandon();
        }
        // ORDERING: Release everywhere, Acquire on the other side: the phase is a message about what
        // was done under the lock.
        self.phase.store(TAKEN, Ordering::Release);
        match std::mem::replace(&mut inner.stage, next) {
            Stage::Queued(work) => Some(work),
            _ => None,
        }
    }

    /// `take` for somebody who does not hold the entry from the channel: leaves a shell there.
    #[must_use]
    fn take_early(&self, next: Stage<F, T, E>) -> Option<Work<F>> {
        if self.is_taken() {
            return None;
        }
        let shell = self.shared.queue.reserve_shell();
        let work = self.take(next);
        if work.is_some() {
            shell.made();
        } else {
            shell.not_made();
        }
        work
    }

    /// `Running` or `Leaving` to `Finished`, or to `Over` if nobody is left to collect. Tells whether nobody was
    /// there to be woken and nothing to be dropped.
    fn finish(&self, outcome: Outcome<T, E>) -> bool {
        let (unwanted, waiter) = {
            let mut inner = self.inner.lock();
            if std::mem::take(&mut inner.abandoned) {
                self.shared.ledger.shared.end_abandoned();
            }
            if matches!(inner.handle, Handle::Dropped) {
                inner.stage = Stage::Over;
                (Some(outcome), Handle::Dropped)
            } else {
                inner.stage = Stage::Finished(outcome);
                let waiter = std::mem::replace(&mut inner.handle, Handle::Held);
                (None, waiter)
            }
        };
        self.phase.store(FINISHED, Ordering::Release);
        let name = &self.shared.name;
        let unnoticed = matches!(waiter, Handle::Held);
        match waiter {
            Handle::Held | Handle::Dropped => {}
            Handle::Parked(thread) => thread.unpark(),
            Handle::Polled(waker) => {
                contain(name, "a waker", || waker.wake());
            }
        }
        if let Some(unwanted) = unwanted {
            contain(name, "the drop of a result that nobody waits for", || {
                drop(unwanted);
            });
        }
        unnoticed
    }

    /// `Finished` to `Over`, for the handle.
    #[must_use]
    fn collect(inner: &mut Inner<F, T, E>) -> Option<Outcome<T, E>> {
        if !matches!(inner.stage, Stage::Finished(_)) {
            return None;
        }
        match std::mem::replace(&mut inner.stage, Stage::Over) {
            Stage::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The handle goes, with the outcome if there is one by now.
    #[must_use]
    fn let_go(&self) -> Option<Outcome<T, E>> {
        let (handle, outcome) = {
            let mut inner = self.inner.lock();
            if matches!(inner.stage, Stage::Running { .. }) {
                inner.abandoned = true;
                self.shared.ledger.shared.abandon();
            }
            let handle = std::mem::replace(&mut inner.handle, Handle::Dropped);
            (handle, Self::collect(&mut inner))
        };
        self.forget_waiter(handle);
        outcome
    }

    /// Drops a waker that is not needed any more, which is user code.
    fn forget_waiter(&self, handle: Handle) {
        if let Handle::Polled(waker) = handle {
            contain(&self.shared.name, "the drop of a waker", || drop(waker));
        }
    }
}

// ---- what follows from a transition

impl<F, T, E> Cell<F, T, E> {
    fn is_taken(&self) -> bool {
        self.phase.load(Ordering::Acquire) != QUEUED
    }

    /// Ends a call whose task was taken to be dropped.
    fn leave(&self, work: Work<F>, why: Why<E>, now: Instant) {
        let shared = &*self.shared;
        let queued_time = self.head.queued_for(now);
        shared.leave(shared.admission.unpark(), work.ticket, &why);
        work.luggage.discard(&shared.name);
        shared.has_left(work.task, &self.head, &why, queued_time);
        self.finish(Outcome::new(Err(why), queued_time, Duration::ZERO));
    }

    /// Cancels a task whose entry is in the channel.
    fn cancel_early(&self, by_shutdown: bool) -> bool {
        match self.take_early(Stage::Leaving) {
            Some(work) => {
                let now = self.shared.clock.now();
                self.leave(work, Why::Cancelled { by_shutdown }, now);
                true
            }
            None => false,
        }
    }

    /// For the submitter that finds a shutdown has emptied the queue before it pushed.
    pub(crate) fn cancel_late(&self) {
        self.cancel_early(true);
    }

    /// The waiter's own expiry, at the deadline itself.
    fn expire(&self) {
        let now = self.shared.clock.now();
        if let Some(why) = Why::too_late(&self.head, now) {
            if let Some(work) = self.take_early(Stage::Leaving) {
                self.leave(work, why, now);
            }
        }
    }

    /// How long somebody who waits, at the longest until `until`, has before there is something to do; `None`: any time.
    fn time_to_wait(&self, until: Option<Instant>) -> Option<Duration> {
        let in_queue = if self.is_taken() {
            None
        } else {
            self.head.queue_deadline()
        };
        let at = earlier(until, earlier(in_queue, self.head.deadline()))?;
        Some(at.saturating_duration_since(self.shared.clock.now()))
    }

    fn look(&self, inner: &mut Inner<F, T, E>) -> Look<T, E> {
        if let Some(outcome) = Self::collect(inner) {
            return Look::Done(outcome);
        }
        let deadline = match inner.stage {
            Stage::Queued(_) => self.head.start_deadline(),
            Stage::Running { .. } => self.head.deadline(),
            // Also `Leaving`: how the call ends is decided, and the waiter is to hear just that.
            _ => None,
        };
        let Some(at) = deadline else {
            return Look::NotYet(None);
        };
        let now = self.shared.clock.now();
        match inner.stage {
            _ if now < at => Look::NotYet(deadline),
            Stage::Running { since } => Look::OverLimit { since, now },
            _ => Look::TooLate,
        }
    }

    fn result(&self, outcome: Outcome<T, E>) -> ExecutionResult<T, E> {
        outcome.in_words(&self.head, &self.shared.name)
    }

    /// The caller's limit passed while the task runs: it is asked to stop, and goes on alone. This is the handle's
    /// result, so the handle goes.
    fn over_limit(&self, since: Instant, now: Instant) -> ExecutionResult<T, E> {
        self.request_cancel();
        // It may have come to its end just now.
        let outcome = self.let_go().unwrap_or_else(|| {
            Outcome::new(
                Err(Why::Timeout { started: true }),
                self.head.queued_for(since),
                now.saturating_duration_since(since),
            )
        });
        self.result(outcome)
    }

    fn request_cancel(&self) {
        // ORDERING: Release, see `CurrentExecution::is_cancelled`.
        self.head.cancel_requested.store(true, Ordering::Release);
    }
}

impl<F, T, E> Cell<F, T, E>
where
    F: FnOnce() -> Judged<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Runs a task that was taken, as or on worker `worker`, to its very end. Gives the time when the task ended, if no
    /// other code of the user's ran and nobody was woken since then.
    fn run(&self, work: Work<F>, since: Instant, worker: usize, in_turn: bool) -> Option<Instant> {
        let shared = &*self.shared;
        let quiet = shared.has_no_onlookers();
        let permit = shared.admission.unpark();
        let Work {
            task,
            luggage,
            ticket,
        } = work;
        let call = Run {
            head: &self.head,
            ticket,
            since,
            queued_time: self.head.queued_for(since),
            seat: worker,
            in_turn,
        };
        let (outcome, ended) = shared.run(call, || {
            luggage.run_with(&shared.name, || shared.run_task(task))
        });
        drop(permit);
        let unnoticed = self.finish(outcome);
        (quiet && unnoticed).then_some(ended)
    }
}

// ---- the two views

impl<F, T, E> Job for Cell<F, T, E>
where
    F: FnOnce() -> Judged<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn take_turn(&self, worker: usize, just_now: Option<Instant>) -> Option<Instant> {
        if self.shared.is_discarding() {
            self.cancel_for_shutdown();
            return None;
        }
        let now = match just_now {
            // Where it decides, the time is read anew: this thread may have been held up.
            Some(just_now) if !self.head.is_limited() => just_now,
            _ => self.shared.clock.now(),
        };
        if let Some(why) = Why::too_late(&self.head, now) {
            match self.take(Stage::Leaving) {
                Some(work) => self.leave(work, why, now),
                None => self.shared.queue.shell_left(),
            }
            return None;
        }
        match self.take(Stage::Running { since: now }) {
            Some(work) => self.run(work, now, worker, true),
            None => {
                self.shared.queue.shell_left();
                None
            }
        }
    }

    fn cancel_for_shutdown(&self) {
        match self.take(Stage::Leaving) {
            Some(work) => {
                let now = self.shared.clock.now();
                self.leave(work, Why::Cancelled { by_shutdown: true }, now);
            }
            None => self.shared.queue.shell_left(),
        }
    }

    fn is_shell(&self) -> bool {
        self.is_taken()
    }

    fn is_running(&self) -> bool {
        matches!(self.inner.lock().stage, Stage::Running { .. })
    }

    fn as_execution(self: Arc<Self>) -> Arc<dyn Execution> {
        self
    }
}

impl<F, T, E> Execution for Cell<F, T, E>
where
    F: Send,
    T: Send,
    E: Send,
{
    fn head(&self) -> &Head {
        &self.head
    }

    fn host(&self) -> &dyn Host {
        &self.shared.gate
    }
}

impl<F, T, E> Pending<T, E> for Cell<F, T, E>
where
    F: FnOnce() -> Judged<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn head(&self) -> &Head {
        &self.head
    }

    fn is_finished(&self) -> bool {
        self.phase.load(Ordering::Acquire) == FINISHED
    }

    fn wait(&self, until: Option<Instant>) -> Option<ExecutionResult<T, E>> {
        let within = || self.time_to_wait(until);
        let finished = || Pending::is_finished(self).then_some(());
        let _or_it_takes_longer = self.shared.spinning.until(within, finished, || 0);
        let mut inner = self.inner.lock();
        loop {
            let wake_at = match self.look(&mut inner) {
                Look::Done(outcome) => {
                    drop(inner);
                    return Some(self.result(outcome));
                }
                Look::OverLimit { since, now } => {
                    drop(inner);
                    return Some(self.over_limit(since, now));
                }
                Look::TooLate => {
                    drop(inner);
                    self.expire();
                    inner = self.inner.lock();
                    continue;
                }
                Look::NotYet(at) => at,
            };
            if until.is_some_and(|until| self.shared.clock.now() >= until) {
                let waiter = std::mem::replace(&mut inner.handle, Handle::Held);
                drop(inner);
                self.forget_waiter(waiter);
                return None;
            }
            let waiter = std::mem::replace(&mut inner.handle, Handle::Parked(this_thread()));
            drop(inner);
            self.forget_waiter(waiter);
            self.shared.clock.park_until(earlier(until, wake_at));
            inner = self.inner.lock();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<ExecutionResult<T, E>> {
        // Cloning and dropping wakers is user code.
        let mut waker = Some(context.waker().clone());
        loop {
            let mut inner = self.inner.lock();
            match self.look(&mut inner) {
                Look::Done(outcome) => {
                    drop(inner);
                    return Poll::Ready(self.result(outcome));
                }
                Look::OverLimit { since, now } => {
                    drop(inner);
                    return Poll::Ready(self.over_limit(since, now));
                }
                Look::TooLate => {
                    drop(inner);
                    self.expire();
                }
                Look::NotYet(_) => {
                    if let Some(waker) = waker.take() {
                        let before = std::mem::replace(&mut inner.handle, Handle::Polled(waker));
                        drop(inner);
                        self.forget_waiter(before);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn cancel(&self) -> bool {
        let cancelled = self.cancel_early(false);
        if !cancelled {
            self.request_cancel();
        }
        cancelled
    }

    fn wants_help(&self) -> bool {
        !self.is_taken() && matches!(self.shared.this_thread(), ThisThread::Worker(_))
    }

    fn help(self: Arc<Self>) {
        let ThisThread::Worker(worker) = self.shared.this_thread() else {
            return;
        };
        if self.shared.is_discarding() {
            self.cancel_early(true);
            return;
        }
        let now = self.shared.clock.now();
        if Why::<E>::too_late(&self.head, now).is_some() {
            // The wait that follows expires it.
            return;
        }
        if let Some(work) = self.take_early(Stage::Running { since: now }) {
            let job = Arc::clone(&self) as Arc<dyn Job>;
            while_helping(job, || self.run(work, now, worker, false));
        }
    }

    fn detach(&self) {
        // In the thread of the handle's owner, who sees a panic of its own value's drop.
        drop(self.let_go());
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }
}
