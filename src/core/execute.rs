//! What is counted and told around a task, and in which order.
//!
//! A call that starts: shown in its slot ([`Engine::show`]), counted as started, told, run, told; then the circuit hears the
//! verdict, the end is counted, and the slot forgets the call. Only after that the caller of [`execute`] gives the place
//! back, and last of all it publishes the outcome. The end is counted before the slot forgets the call, see
//! `shutdown.rs`.
//!
//! Listeners hear of the start and the end inside the context that the call has brought along ([`run_task`]), so that what
//! they write carries the request. The circuit hears the verdict outside of it: that may end other calls, which are none of
//! this request's business. The span of the call ends with that context.
//!
//! A call that never starts: the circuit gets its ticket back, the end is counted, the place is given back
//! ([`release_unstarted`]), and only then user code runs: the drop of the task, and the listeners
//! ([`drop_unstarted`]). The place goes first because that user code may shut the bulkhead down and wait for all places.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_data::CallData;
use super::engine::Engine;
use super::failure::JudgedResult;
use super::outcome::{EndReason, Outcome};
use super::permit::Permit;
use super::running_slot::{Shown, SlotData};
use super::this_thread::while_holding_permit;
use crate::circuit::{Run, Ticket, Verdict};
use crate::context::{CallTrace, event_of_caller_timeout};
use crate::event::{BulkheadEvent, CallInfo, FinishedOutcome};
use crate::panic::{Panic, catch, contain};

/// What came of a task, and when.
pub(crate) struct TaskEnd<T, E> {
    result: Result<T, EndReason<E>>,
    verdict: Verdict,
    outcome: FinishedOutcome,
    at: Instant,
}

/// A call that holds a place, and whose task is about to run.
pub(crate) struct Execution<'a> {
    pub(crate) data: &'a CallData,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) since: Instant,
    pub(crate) queued_time: Duration,
    /// Where it runs.
    pub(crate) slot: SlotData<'a>,
    pub(crate) shown: Shown,
    /// Whether it runs on top of the call that made it, in the same thread and slot.
    pub(crate) is_nested: bool,
}

impl Execution<'_> {
    fn info<'a>(&'a self, engine: &'a Engine) -> CallInfo<'a> {
        self.data.info(&engine.name)
    }
}

/// Runs a task, and says what its result counts as.
#[inline(always)]
pub(crate) fn judge<T, E>(
    engine: &Engine,
    task: impl FnOnce() -> Result<T, E>,
    classify: impl FnOnce(&E) -> Verdict,
) -> JudgedResult<T, E> {
    let result = task();
    let verdict = match &result {
        Err(error) if engine.breaker.is_some() => {
            contain(&engine.name, "a failure classifier", || classify(error))
                .unwrap_or(Verdict::Failure)
        }
        _ => Verdict::Success,
    };
    (result, verdict)
}

/// Runs the task, and tells the listeners before and after.
#[inline(always)]
pub(crate) fn run_task<T, E>(
    engine: &Engine,
    call: &Execution<'_>,
    trace: &CallTrace,
    task: impl FnOnce(&Engine) -> JudgedResult<T, E>,
) -> TaskEnd<T, E> {
    call.tell_started(engine);
    let result = catch(|| task(engine));
    let at = engine.clock.now();

    let (result, verdict, outcome) = match result {
        Ok((Ok(value), verdict)) => (Ok(value), verdict, FinishedOutcome::Succeeded),
        Ok((Err(error), verdict)) => (
            Err(EndReason::Failed(error)),
            verdict,
            FinishedOutcome::Failed,
        ),
        Err(payload) => {
            let panic = Box::new(Panic::new(Arc::clone(&engine.name), payload));
            (
                Err(EndReason::Panicked(panic)),
                Verdict::Failure,
                FinishedOutcome::Panicked,
            )
        }
    };
    call.tell_finished(engine, outcome, at);
    trace.record_end(&engine.name, outcome);
    TaskEnd {
        result,
        verdict,
        outcome,
        at,
    }
}

/// Runs `body`, which ends in [`run_task`] and must not panic. Gives the outcome, and when the task ended.
#[inline(always)]
pub(crate) fn execute<T, E>(
    engine: &Engine,
    call: Execution<'_>,
    body: impl FnOnce(&Execution<'_>) -> TaskEnd<T, E>,
) -> (Outcome<T, E>, Instant) {
    let is_nested = call.is_nested;
    execute_with(engine, call, body, |time| is_nested.then_some(time))
}

/// As [`execute`], for a call that may be nested no more when it ends, or nested since: see [`Execution::end`].
#[inline(always)]
pub(crate) fn execute_with<T, E>(
    engine: &Engine,
    call: Execution<'_>,
    body: impl FnOnce(&Execution<'_>) -> TaskEnd<T, E>,
    nested_time: impl FnOnce(Duration) -> Option<Duration>,
) -> (Outcome<T, E>, Instant) {
    call.start(engine);
    let TaskEnd {
        result,
        verdict,
        outcome,
        at: ended,
    } = body(&call);
    let queued_time = call.queued_time;
    let execution_time = call.end(engine, outcome, verdict, ended, nested_time);
    (Outcome::new(result, queued_time, execution_time), ended)
}

impl Execution<'_> {
    /// Tells the listeners that the task is about to start.
    #[inline(always)]
    pub(crate) fn tell_started(&self, engine: &Engine) {
        engine.tell(|| BulkheadEvent::Started {
            call: self.info(engine),
            queued_time: self.queued_time,
        });
    }

    /// Tells the listeners that the task has ended.
    #[inline(always)]
    pub(crate) fn tell_finished(&self, engine: &Engine, outcome: FinishedOutcome, at: Instant) {
        engine.tell(|| BulkheadEvent::Finished {
            call: self.info(engine),
            outcome,
            queued_time: self.queued_time,
            execution_time: at.saturating_duration_since(self.since),
        });
    }

    /// Counts the start.
    #[inline(always)]
    pub(crate) fn start(&self, engine: &Engine) {
        let counters = self.slot.counters;
        if self.is_nested {
            engine.ledger.shared.start_nested();
        } else {
            counters.start();
        }
        counters.queue_wait.record(self.queued_time);
    }

    /// Ends a call that has [started](Self::start): tells the circuit, counts the end, and takes the call out of its slot.
    /// Gives the time that the call ran.
    ///
    /// `nested_time` says whether the end counts as that of a nested call, and for how much of the given time another call ran
    /// in the slot that lasts longer. It is asked when no more user code runs.
    #[inline(always)]
    pub(crate) fn end(
        self,
        engine: &Engine,
        outcome: FinishedOutcome,
        verdict: Verdict,
        ended: Instant,
        nested_time: impl FnOnce(Duration) -> Option<Duration>,
    ) -> Duration {
        let SlotData { counters, running } = self.slot;
        let execution_time = ended.saturating_duration_since(self.since);
        let is_err = outcome == FinishedOutcome::Failed;
        let run = Run {
            time: execution_time,
            ended,
        };
        engine.judge_end(self.data, self.ticket, is_err, verdict, run);
        counters.run_time.record(execution_time);
        match nested_time(execution_time) {
            Some(nested_time) => engine.ledger.shared.end_nested(outcome, nested_time),
            None => counters.end(outcome),
        }
        running.end(self.shown, self.data);
        execution_time
    }
}

/// Ends a call that has left the queue and never starts: afterwards its place is free.
pub(crate) fn release_unstarted<E>(
    engine: &Engine,
    permit: Permit<'_>,
    ticket: Option<Ticket>,
    reason: &EndReason<E>,
) {
    // A probe that was out too long opens the circuit now. Its listeners run while this thread holds the permit.
    while_holding_permit(engine.serial, || engine.give_ticket_back(ticket));
    match reason {
        EndReason::Cancelled { by_shutdown } => engine.ledger.shared.cancel(*by_shutdown),
        EndReason::CircuitOpen { .. } | EndReason::TooDeep { .. } | EndReason::NoThread { .. } => {
            engine.ledger.shared.refuse_in_queue();
        }
        _ => engine.ledger.shared.time_out(),
    }
    drop(permit);
}

/// After [`release_unstarted`]: drops the task and tells the listeners.
pub(crate) fn drop_unstarted<E>(
    engine: &Engine,
    task: impl Sized,
    data: &CallData,
    reason: &EndReason<E>,
    queued_time: Duration,
) {
    const WHAT: &str = "the drop of a task that never started";
    contain(&engine.name, WHAT, || drop(task));
    let call = data.info(&engine.name);
    engine.tell(|| match reason {
        EndReason::Cancelled { .. } => BulkheadEvent::Cancelled { call, queued_time },
        EndReason::CircuitOpen { retry_after } => BulkheadEvent::RefusedInQueue {
            call,
            queued_time,
            retry_after: retry_after.longest(),
        },
        EndReason::TooDeep { max_nested_calls } => BulkheadEvent::TooDeep {
            call,
            queued_time,
            max_nested_calls: *max_nested_calls,
        },
        EndReason::NoThread { kind } => BulkheadEvent::NoThread {
            call,
            queued_time,
            kind: *kind,
        },
        _ => BulkheadEvent::Expired { call, queued_time },
    });
}

/// A caller has left at its limit, and this is its thread: counts it, and tells the listeners. The call itself is counted by
/// its own end.
#[cold]
pub(crate) fn caller_timed_out(engine: &Engine, data: &CallData, started: bool) {
    engine.ledger.shared.caller_timed_out(started);
    if engine.trace.wants_events() {
        event_of_caller_timeout(&data.info(&engine.name), started);
    }
    engine.tell(|| BulkheadEvent::CallerTimedOut {
        call: data.info(&engine.name),
        limit: data.timeout.duration(),
        started,
    });
}
