//! The cell of one call: its task, its state, its outcome and its waiter, in one allocation.
//!
//! The queue holds it as a [`Job`], the handle as a [`Pending`]. Everything that changes is behind the cell's lock. No
//! user code runs under that lock: closures, outcomes and wakers are moved out first.
//!
//! | stage | the task is | its place is held by | the stage is ended by |
//! |---|---|---|---|
//! | `Queued` | in the cell | the cell | anybody, through [`TaskCell::take`]: worker, waiter, handle, shutdown |
//! | `Running` | on the stack of the worker that took it | that worker | that worker alone |
//! | `Leaving` | held by the thread that took it, to be dropped | that thread | that thread alone |
//! | `Finished` | gone | nobody, it is given back | the handle: it collects the outcome, or goes and drops it |
//! | `Over` | gone | nobody | nobody |
//!
//! `take` is the only way out of `Queued` and succeeds once. So exactly one thread runs or drops the task, and exactly one
//! `finish` follows. On the way to `Finished` the order is always the same:
//!
//! 1. the circuit hears the verdict, or gets its ticket back;
//! 2. the ledger counts the call;
//! 3. its place is given back;
//! 4. the outcome is published, and the waiter woken;
//! 5. an outcome that nobody waits for is dropped;
//! 6. the callbacks for the end of the call are called.
//!
//! So a thread that sees an outcome finds the place free and the numbers right. User code runs behind a catch of its own.
//! Before 4 it is the task and the listeners of a call that ran, before 1, on a worker; or the drop of a task that never
//! started, and its listeners, after 3. There is one exception to 1: a caller that leaves at its limit tells the circuit
//! itself, while the task runs. The worker then tells nothing, see `core/circuit_ticket.rs`.
//!
//! A callback comes last, as a waker does, so that it finds what it was told of: `is_finished` is true, and a wait ends at
//! once. One that blocks holds up no waiter. `finish` takes the list of callbacks under the lock that publishes the outcome,
//! and [`Pending::on_finish`] looks at the stage under the same lock. So a callback is either in that list, or its own
//! thread sees the outcome and calls it.
//!
//! A worker shows the call in its slot before it takes the task, so that a shutdown's report misses no call, see
//! `core/shutdown.rs`. A thread that takes a task while its entry is still in the channel counts a tombstone first, see
//! `queue.rs`.

use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::finish_callbacks::{FinishCallback, FinishCallbacks, call_back};
use super::inner::Inner;
use crate::circuit::Ticket;
use crate::context::CapturedContexts;
use crate::core::{
    BulkheadView, CallData, CallView, EndReason, Ending, Engine, Execution, Job, JudgedResult,
    Outcome, RETRY_SOON, Shown, SlotData, ThisThread, caller_timed_out, drop_unstarted, execute,
    nested_calls_of_this_thread, release_unstarted, run_nested, run_task,
};
use crate::event::BulkheadEvent;
use crate::panic::contain;
use crate::result::ExecutionResult;
use crate::sync::{AtomicU8, Mutex, Ordering, Thread, earlier, this_thread};

pub(super) struct TaskCell<F, T, E> {
    data: CallData,
    inner: Arc<Inner>,
    /// What the circuit gave the call on its way in.
    ticket: Option<Ticket>,
    /// Follows the stage, for looks without the lock. Never ahead of it.
    phase: AtomicU8,
    state: Mutex<State<F, T, E>>,
}

/// The task is in the cell.
const QUEUED: u8 = 0;
/// A bit: the task has been taken.
const TAKEN: u8 = 1;
/// A bit: it has been taken to run.
const STARTED: u8 = 2;
/// A bit: the outcome is in the cell, or was.
const FINISHED: u8 = 4;

struct State<F, T, E> {
    stage: Stage<F, T, E>,
    handle: Handle,
    callbacks: FinishCallbacks,
}

impl<F, T, E> State<F, T, E> {
    /// Whether the ledger counts the task as running without a caller.
    fn is_abandoned(&self) -> bool {
        self.abandoned_since().is_some()
    }

    /// If so, since when it has been running.
    fn abandoned_since(&self) -> Option<Instant> {
        match (&self.stage, &self.handle) {
            (Stage::Running { since, .. }, Handle::Dropped) => Some(*since),
            _ => None,
        }
    }

    /// How the call ended, if its outcome is there.
    fn ending(&self) -> Option<Ending> {
        match &self.stage {
            Stage::Finished(outcome) => Some(outcome.ending()),
            _ => None,
        }
    }
}

enum Stage<F, T, E> {
    Queued(Work<F>),
    /// The ticket is there for a waiter that leaves at its limit.
    Running {
        since: Instant,
        ticket: Option<Ticket>,
    },
    Leaving,
    Finished(Outcome<T, E>),
    Over,
}

impl<F, T, E> Stage<F, T, E> {
    /// The phase of the stages that follow `Queued`.
    fn phase(&self) -> u8 {
        match self {
            Self::Running { .. } => TAKEN | STARTED,
            _ => TAKEN,
        }
    }
}

/// The handle, at the other end of the cell.
enum Handle {
    /// It exists, and no thread waits for the outcome.
    Held,
    /// Its owner sleeps.
    Parked(Thread),
    /// It was polled as a future.
    Polled(Waker),
    Dropped,
}

/// What it takes to run a task.
pub(super) struct Work<F> {
    pub(super) task: F,
    pub(super) contexts: CapturedContexts,
}

/// How a task starts, decided before it is taken.
struct Start<'a> {
    ticket: Option<Ticket>,
    since: Instant,
    slot: SlotData<'a>,
    shown: Shown,
    is_nested: bool,
}

impl Start<'_> {
    fn stage<F, T, E>(&self) -> Stage<F, T, E> {
        Stage::Running {
            since: self.since,
            ticket: self.ticket,
        }
    }
}

/// A call as its cancel handles see it.
pub(super) trait Cancellable: Send + Sync {
    fn data(&self) -> &CallData;
    fn is_started(&self) -> bool;
    fn is_finished(&self) -> bool;
    fn cancel(&self) -> bool;
    /// Counts and tells that the caller has been given a timeout for this call, whose task started.
    fn caller_timed_out(&self);
}

/// A call as its handle sees it.
pub(super) trait Pending<T, E>: Cancellable {
    /// Waits for the outcome, at the longest until `until`, and collects it.
    fn wait(&self, until: Option<Instant>) -> Option<ExecutionResult<T, E>>;
    fn poll(&self, waker: &Waker) -> Polled<T, E>;
    /// Calls back when the call is over, at once if it is. Not for a handle that has its outcome.
    fn on_finish(&self, callback: FinishCallback);
    fn as_cancellable(self: Arc<Self>) -> Arc<dyn Cancellable>;
    /// Whether this thread is a worker that had better run the task than wait for it.
    fn wants_help(&self) -> bool;
    /// Runs the task here.
    fn help(self: Arc<Self>);
    /// The handle goes.
    fn detach(&self);
    fn now(&self) -> Instant;
}

/// What a future finds.
pub(super) enum Polled<T, E> {
    Ready(ExecutionResult<T, E>),
    /// The waker is woken at the end of the call, but not when a limit passes: then the future has to look for itself.
    Pending {
        look_at: Option<Instant>,
    },
}

/// What a waiter finds.
enum Look<T, E> {
    Done(Outcome<T, E>),
    /// Still queued, and too late to start.
    TooLate,
    /// Running beyond the caller's limit.
    OverLimit {
        since: Instant,
        now: Instant,
        ticket: Option<Ticket>,
    },
    /// Nothing changes until then; `None`: until woken.
    NotYet(Option<Instant>),
}

// ---- transitions: the only code that changes the stage

impl<F, T, E> TaskCell<F, T, E> {
    pub(super) fn new(
        data: CallData,
        inner: Arc<Inner>,
        ticket: Option<Ticket>,
        work: Work<F>,
    ) -> Self {
        Self {
            data,
            inner,
            ticket,
            phase: AtomicU8::new(QUEUED),
            state: Mutex::new(State {
                stage: Stage::Queued(work),
                handle: Handle::Held,
                callbacks: FinishCallbacks::default(),
            }),
        }
    }

    /// `Queued` to `Running`, or without a start to `Leaving`. `None`: another thread was first.
    #[must_use]
    fn take(&self, start: Option<&Start<'_>>) -> Option<Work<F>> {
        let next = start.map_or(Stage::Leaving, Start::stage);
        let mut state = self.state.lock();
        if !matches!(state.stage, Stage::Queued(_)) {
            return None;
        }
        // ORDERING: Release everywhere, Acquire on the other side: the phase is a message about what was done under the
        // lock.
        self.phase.store(next.phase(), Ordering::Release);
        let before = std::mem::replace(&mut state.stage, next);
        if let Some(start) = start.filter(|_| state.is_abandoned()) {
            self.inner.engine.ledger.shared.abandon();
            start.slot.running.abandon_own(start.shown, &self.data);
        }
        match before {
            Stage::Queued(work) => Some(work),
            _ => None,
        }
    }

    /// `take` for a thread that does not hold the entry from the channel: leaves a tombstone there.
    #[must_use]
    fn take_from_queue(&self, start: Option<&Start<'_>>) -> Option<Work<F>> {
        if self.is_taken() {
            return None;
        }
        let tombstone = self.inner.queue.reserve_tombstone();
        let work = self.take(start);
        if work.is_some() {
            tombstone.confirm();
        } else {
            tombstone.release();
        }
        work
    }

    /// `Running` or `Leaving` to `Finished`, or to `Over` if the handle is gone. Tells whether no thread was woken, nothing
    /// dropped and nobody called back.
    fn finish(&self, outcome: Outcome<T, E>) -> bool {
        let (unwanted, waiter, watched) = {
            let mut state = self.state.lock();
            if state.is_abandoned() {
                self.inner.engine.ledger.shared.end_abandoned();
            }
            let watched = (!state.callbacks.is_empty())
                .then(|| (std::mem::take(&mut state.callbacks), outcome.ending()));
            if matches!(state.handle, Handle::Dropped) {
                state.stage = Stage::Over;
                (Some(outcome), Handle::Dropped, watched)
            } else {
                state.stage = Stage::Finished(outcome);
                let waiter = std::mem::replace(&mut state.handle, Handle::Held);
                (None, waiter, watched)
            }
        };
        self.show_finished();
        let name = &self.inner.engine.name;
        let woke_nobody = matches!(waiter, Handle::Held) && watched.is_none();
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
        if let Some((callbacks, ending)) = watched {
            callbacks.call(&ending.into_summary(&self.data, name));
        }
        woke_nobody
    }

    /// The phase follows the stage, which is `Finished` or `Over`. The thread that finishes the call does this without the
    /// lock, and a thread that finds the outcome before does it too: nobody has an outcome of a call that is not finished.
    fn show_finished(&self) {
        // ORDERING: Relaxed. The load sees the bits that `take` has stored, since this thread saw what followed it under the
        // lock; and two threads here store the same.
        let phase = self.phase.load(Ordering::Relaxed);
        self.phase.store(phase | FINISHED, Ordering::Release);
    }

    /// `Finished` to `Over`, for the handle.
    #[must_use]
    fn collect(&self, state: &mut State<F, T, E>) -> Option<Outcome<T, E>> {
        if !matches!(state.stage, Stage::Finished(_)) {
            return None;
        }
        self.show_finished();
        match std::mem::replace(&mut state.stage, Stage::Over) {
            Stage::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The handle goes. Gives the outcome, if there is one by now.
    #[must_use]
    fn release_handle(&self) -> Option<Outcome<T, E>> {
        let (handle, outcome, running_since) = {
            let mut state = self.state.lock();
            let handle = std::mem::replace(&mut state.handle, Handle::Dropped);
            let running_since = state.abandoned_since();
            if running_since.is_some() {
                self.count_abandoned();
            }
            (handle, self.collect(&mut state), running_since)
        };
        self.forget_waiter(handle);
        if let Some(since) = running_since {
            self.tell_abandoned(since);
        }
        outcome
    }

    /// The task runs without a caller from here on. Under the lock, so that its worker does not end the call meanwhile.
    fn count_abandoned(&self) {
        let engine = &self.inner.engine;
        engine.ledger.shared.abandon();
        engine.mark_abandoned(&self.data);
    }

    /// The task has been running since then, and this thread is its caller's.
    fn tell_abandoned(&self, since: Instant) {
        let engine = &self.inner.engine;
        engine.tell(|| BulkheadEvent::Abandoned {
            call: self.data.info(&engine.name),
            running_for: engine.clock.now().saturating_duration_since(since),
        });
    }

    /// Drops a waker that is no longer needed, which is user code.
    fn forget_waiter(&self, handle: Handle) {
        if let Handle::Polled(waker) = handle {
            contain(&self.inner.engine.name, "the drop of a waker", || {
                drop(waker);
            });
        }
    }
}

// ---- what follows from a transition

impl<F, T, E> TaskCell<F, T, E> {
    fn is_taken(&self) -> bool {
        self.phase.load(Ordering::Acquire) != QUEUED
    }

    /// Asks the circuit once more, if need be, and shows the call in the slot of `worker`: all but the taking of the task.
    #[inline]
    fn prepare<'a>(
        &self,
        now: Instant,
        slot: SlotData<'a>,
        is_nested: bool,
    ) -> Result<Start<'a>, EndReason<E>> {
        let engine = &self.inner.engine;
        let ticket = engine
            .renew_ticket(self.ticket)
            .map_err(EndReason::circuit_open)?;
        match engine.show(slot.running, &self.data, now, is_nested) {
            Some(shown) => Ok(Start {
                ticket,
                since: now,
                slot,
                shown,
                is_nested,
            }),
            None => {
                self.give_renewed_back(ticket);
                Err(EndReason::Cancelled { by_shutdown: true })
            }
        }
    }

    /// Another thread was first to take the task.
    fn unprepare(&self, start: &Start<'_>) {
        start.slot.running.end(start.shown, &self.data);
        self.give_renewed_back(start.ticket);
    }

    /// A ticket that was renewed for this thread goes back. The first one belongs to the thread that ends the call.
    fn give_renewed_back(&self, ticket: Option<Ticket>) {
        if ticket != self.ticket {
            self.inner.engine.give_ticket_back(ticket);
        }
    }

    /// Ends a call whose task was taken to be dropped.
    fn leave(&self, work: Work<F>, reason: EndReason<E>, now: Instant) {
        let engine = &self.inner.engine;
        let queued_time = self.data.queued_for(now);
        release_unstarted(engine, engine.permits.reclaim(), self.ticket, &reason);
        work.contexts
            .discard(&engine.name, reason.outcome(), queued_time);
        drop_unstarted(engine, work.task, &self.data, &reason, queued_time);
        self.finish(Outcome::new(Err(reason), queued_time, Duration::ZERO));
    }

    /// Cancels a task whose entry is in the channel.
    pub(super) fn cancel_queued(&self, by_shutdown: bool) -> bool {
        match self.take_from_queue(None) {
            Some(work) => {
                let now = self.inner.engine.clock.now();
                self.leave(work, EndReason::Cancelled { by_shutdown }, now);
                true
            }
            None => false,
        }
    }

    /// Ends a call that the circuit refuses, and whose entry is in the channel.
    pub(super) fn refuse_queued(&self, retry_after: Duration) {
        let now = self.inner.engine.clock.now();
        self.leave_queue(EndReason::circuit_open(retry_after), now);
    }

    /// Ends a call whose entry is in the channel, unless another thread was first.
    fn leave_queue(&self, reason: EndReason<E>, now: Instant) {
        if let Some(work) = self.take_from_queue(None) {
            self.leave(work, reason, now);
        }
    }

    /// Ends a call whose entry this thread has taken out of the channel, unless it has left the queue before.
    fn leave_entry(&self, reason: EndReason<E>, now: Instant) {
        match self.take(None) {
            Some(work) => self.leave(work, reason, now),
            None => self.inner.queue.tombstone_removed(),
        }
    }

    /// The waiter's own expiry, at the deadline itself.
    fn expire(&self) {
        let now = self.inner.engine.clock.now();
        if let Some(reason) = EndReason::too_late(&self.data, now) {
            self.leave_queue(reason, now);
        }
    }

    /// How long a waiter, that waits at the longest until `until`, has before there is something to do; `None`: any time.
    fn time_to_wait(&self, until: Option<Instant>) -> Option<Duration> {
        let in_queue = if self.is_taken() {
            None
        } else {
            self.data.queue_deadline()
        };
        let at = earlier(until, earlier(in_queue, self.data.deadline()))?;
        Some(at.saturating_duration_since(self.inner.engine.clock.now()))
    }

    fn look(&self, state: &mut State<F, T, E>) -> Look<T, E> {
        if let Some(outcome) = self.collect(state) {
            return Look::Done(outcome);
        }
        let deadline = match state.stage {
            Stage::Queued(_) => self.data.start_deadline(),
            Stage::Running { .. } => self.data.deadline(),
            // Also `Leaving`: how the call ends is decided, and the waiter is to hear that.
            _ => None,
        };
        let Some(at) = deadline else {
            return Look::NotYet(None);
        };
        let now = self.inner.engine.clock.now();
        match state.stage {
            _ if now < at => Look::NotYet(deadline),
            Stage::Running { since, ticket } => Look::OverLimit { since, now, ticket },
            _ => Look::TooLate,
        }
    }

    /// What the caller gets. It may be that the caller leaves at its limit.
    fn result(&self, outcome: Outcome<T, E>) -> ExecutionResult<T, E> {
        if let Err(EndReason::Timeout { started }) = outcome.result {
            caller_timed_out(&self.inner.engine, &self.data, started);
        }
        outcome.into_result(&self.data, &self.inner.engine.name)
    }

    /// The caller's limit passed while the task runs: the circuit hears a failure, and the task goes on alone. This is the
    /// handle's result, so the handle goes.
    fn over_limit(
        &self,
        since: Instant,
        now: Instant,
        ticket: Option<Ticket>,
    ) -> ExecutionResult<T, E> {
        // The task may have come to its end just now.
        let outcome = self.release_handle().unwrap_or_else(|| {
            self.inner.engine.judge_timeout(&self.data, ticket);
            Outcome::new(
                Err(EndReason::Timeout { started: true }),
                self.data.queued_for(since),
                now.saturating_duration_since(since),
            )
        });
        self.result(outcome)
    }
}

impl<F, T, E> TaskCell<F, T, E>
where
    F: FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    /// Runs a task that was taken, in this worker, to its very end. Gives the time when the task ended, if no user code has
    /// run and no thread has been woken since then.
    fn run_taken(&self, work: Work<F>, start: Start<'_>) -> Option<Instant> {
        let engine = &self.inner.engine;
        let ran_alone = self.inner.runs_no_user_code_around_tasks() && work.contexts.is_quiet();
        let permit = engine.permits.reclaim();
        let Work { task, contexts } = work;
        let call = Execution {
            data: &self.data,
            ticket: start.ticket,
            since: start.since,
            queued_time: self.data.queued_for(start.since),
            slot: start.slot,
            shown: start.shown,
            is_nested: start.is_nested,
        };
        let (outcome, ended) = execute(engine, call, |call| {
            contexts.run_with(&engine.name, call.queued_time, |trace| {
                run_task(engine, call, trace, task)
            })
        });
        drop(permit);
        let woke_nobody = self.finish(outcome);
        (ran_alone && woke_nobody).then_some(ended)
    }
}

// ---- the two views

impl<F, T, E> Job for TaskCell<F, T, E>
where
    F: FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn run(&self, slot: SlotData<'_>, just_now: Option<Instant>) -> Option<Instant> {
        if self.is_taken() {
            self.inner.queue.tombstone_removed();
            return None;
        }
        if self.inner.engine.is_discarding() {
            self.cancel_for_shutdown();
            return None;
        }
        let now = match just_now {
            // Where it decides, the time is read anew: this thread may have been held up.
            Some(just_now) if !self.data.is_limited() => just_now,
            _ => self.inner.engine.clock.now(),
        };
        if let Some(reason) = EndReason::too_late(&self.data, now) {
            self.leave_entry(reason, now);
            return None;
        }
        let start = match self.prepare(now, slot, false) {
            Ok(start) => start,
            Err(reason) => {
                self.leave_entry(reason, now);
                return None;
            }
        };
        match self.take(Some(&start)) {
            Some(work) => self.run_taken(work, start),
            None => {
                self.inner.queue.tombstone_removed();
                self.unprepare(&start);
                None
            }
        }
    }

    fn cancel_for_shutdown(&self) {
        let now = self.inner.engine.clock.now();
        self.leave_entry(EndReason::Cancelled { by_shutdown: true }, now);
    }

    fn is_refused_by_circuit(&self) -> bool {
        let engine = &self.inner.engine;
        !self.is_taken() && engine.refusal_in_queue(self.ticket).is_some()
    }

    fn refuse_for_circuit(&self) {
        let engine = &self.inner.engine;
        let retry_after = engine.refusal_in_queue(self.ticket).unwrap_or(RETRY_SOON);
        self.leave_entry(EndReason::circuit_open(retry_after), engine.clock.now());
    }

    fn refuse_without_thread(&self, kind: io::ErrorKind) {
        let now = self.inner.engine.clock.now();
        self.leave_entry(EndReason::NoThread { kind }, now);
    }

    fn is_tombstone(&self) -> bool {
        self.is_taken()
    }

    fn queued_since(&self) -> Option<Instant> {
        (!self.is_taken()).then_some(self.data.admitted_at)
    }

    fn is_running(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Running { .. })
    }

    fn as_call(self: Arc<Self>) -> Arc<dyn CallView> {
        self
    }
}

impl<F, T, E> CallView for TaskCell<F, T, E>
where
    F: Send,
    T: Send,
    E: Send,
{
    fn data(&self) -> &CallData {
        &self.data
    }

    fn bulkhead(&self) -> &dyn BulkheadView {
        &self.inner.engine
    }
}

impl<F, T, E> Cancellable for TaskCell<F, T, E>
where
    F: Send,
    T: Send,
    E: Send,
{
    fn data(&self) -> &CallData {
        &self.data
    }

    fn is_started(&self) -> bool {
        self.phase.load(Ordering::Acquire) & STARTED != 0
    }

    fn is_finished(&self) -> bool {
        self.phase.load(Ordering::Acquire) & FINISHED != 0
    }

    fn cancel(&self) -> bool {
        let cancelled = self.cancel_queued(false);
        // A call that is over passes no cancel on to the calls that its task has made.
        if !cancelled && !self.is_finished() {
            self.data.request_cancel();
        }
        cancelled
    }

    fn caller_timed_out(&self) {
        caller_timed_out(&self.inner.engine, &self.data, true);
    }
}

impl<F, T, E> Pending<T, E> for TaskCell<F, T, E>
where
    F: FnOnce(&Engine) -> JudgedResult<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn wait(&self, until: Option<Instant>) -> Option<ExecutionResult<T, E>> {
        let within = || self.time_to_wait(until);
        let finished = || self.is_finished().then_some(());
        let _or_it_takes_longer = self.inner.spin.until(within, finished, || 0);
        let mut state = self.state.lock();
        loop {
            let wake_at = match self.look(&mut state) {
                Look::Done(outcome) => {
                    drop(state);
                    return Some(self.result(outcome));
                }
                Look::OverLimit { since, now, ticket } => {
                    drop(state);
                    return Some(self.over_limit(since, now, ticket));
                }
                Look::TooLate => {
                    drop(state);
                    self.expire();
                    state = self.state.lock();
                    continue;
                }
                Look::NotYet(at) => at,
            };
            if until.is_some_and(|until| self.inner.engine.clock.now() >= until) {
                let waiter = std::mem::replace(&mut state.handle, Handle::Held);
                drop(state);
                self.forget_waiter(waiter);
                return None;
            }
            let waiter = std::mem::replace(&mut state.handle, Handle::Parked(this_thread()));
            drop(state);
            if matches!(waiter, Handle::Polled(_)) {
                // The drop of a waker is user code, and may have used up the unpark: look again.
                self.forget_waiter(waiter);
                state = self.state.lock();
                continue;
            }
            self.inner.engine.clock.park_until(earlier(until, wake_at));
            state = self.state.lock();
        }
    }

    fn poll(&self, waker: &Waker) -> Polled<T, E> {
        // Cloning and dropping wakers is user code.
        let mut waker = Some(waker.clone());
        loop {
            let mut state = self.state.lock();
            match self.look(&mut state) {
                Look::Done(outcome) => {
                    drop(state);
                    return Polled::Ready(self.result(outcome));
                }
                Look::OverLimit { since, now, ticket } => {
                    drop(state);
                    return Polled::Ready(self.over_limit(since, now, ticket));
                }
                Look::TooLate => {
                    drop(state);
                    self.expire();
                }
                Look::NotYet(at) => {
                    if let Some(waker) = waker.take() {
                        let before = std::mem::replace(&mut state.handle, Handle::Polled(waker));
                        drop(state);
                        self.forget_waiter(before);
                    }
                    let look_at = at.map(|at| self.inner.engine.clock.look_at(at));
                    return Polled::Pending { look_at };
                }
            }
        }
    }

    fn on_finish(&self, callback: FinishCallback) {
        let (callback, ending) = {
            let mut state = self.state.lock();
            match state.ending() {
                Some(ending) => (callback, ending),
                None => return state.callbacks.push(callback),
            }
        };
        self.show_finished();
        let summary = ending.into_summary(&self.data, &self.inner.engine.name);
        call_back(callback, &summary);
    }

    fn as_cancellable(self: Arc<Self>) -> Arc<dyn Cancellable> {
        self
    }

    fn wants_help(&self) -> bool {
        !self.is_taken() && matches!(self.inner.engine.this_thread(), ThisThread::Worker(_))
    }

    fn help(self: Arc<Self>) {
        let ThisThread::Worker(worker) = self.inner.engine.this_thread() else {
            return;
        };
        if self.inner.engine.is_discarding() {
            self.cancel_queued(true);
            return;
        }
        let now = self.inner.engine.clock.now();
        if EndReason::<E>::too_late(&self.data, now).is_some() {
            // The wait that follows expires it.
            return;
        }
        let max_nested_calls = self.inner.engine.config.max_nested_calls;
        if nested_calls_of_this_thread() >= max_nested_calls {
            // Nor may this thread just wait: perhaps no other worker ever comes to the call.
            return self.leave_queue(EndReason::TooDeep { max_nested_calls }, now);
        }
        // A callback, a hook or the drop of a closure may wait while its worker runs no call: then this one is the slot's own.
        let slot = self.inner.engine.slot_data(worker);
        let is_nested = slot.running.busy_since().is_some();
        let start = match self.prepare(now, slot, is_nested) {
            Ok(start) => start,
            Err(reason) => return self.leave_queue(reason, now),
        };
        match self.take_from_queue(Some(&start)) {
            Some(work) => {
                let job = Arc::clone(&self) as Arc<dyn Job>;
                run_nested(job, || self.run_taken(work, start));
            }
            None => self.unprepare(&start),
        }
    }

    fn detach(&self) {
        // In the thread of the handle's owner, which sees a panic in the drop of its own value.
        drop(self.release_handle());
    }

    fn now(&self) -> Instant {
        self.inner.engine.clock.now()
    }
}
