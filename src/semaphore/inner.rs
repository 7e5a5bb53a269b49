//! Calls that run in their callers' threads: how one gets a slot, runs, and ends.
//!
//! A call on a thread that is in a call of the same bulkhead is nested: it runs in the slot that the thread has. As long as
//! calls end in the reverse of the order in which they began, the slot goes back with the call that took it. Guards end in any
//! order. So the slot goes back with the last of the thread's calls to end, and what the end counts as is decided then:
//!
//! | the call that ends | counts as the end of | the slot |
//! |---|---|---|
//! | the thread has other calls of the bulkhead | a nested call | stays with them |
//! | it has none | the call that took the slot, or a nested call if that end is counted already | goes back |
//!
//! So no more ends than starts are counted of either, at any moment.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slots::{SlotPool, WaitOutcome};
use crate::circuit::Ticket;
use crate::clock::Clock;
use crate::context::CallTrace;
use crate::core::{
    BulkheadView, CallData, EndReason, Engine, Execution, JudgedResult, Kind, Limits, OtherCalls,
    Outcome, Permit, RETRY_SOON, ResizeTarget, RunningCall, SemaphoreKind, Shown, ShutdownTarget,
    SlotData, caller_timed_out, drop_unstarted, execute_with, other_calls, release_unstarted,
    run_for_caller, run_task, slot_of_this_thread,
};
use crate::error::BuildError;

/// An engine, and slots behind it.
pub(crate) struct Inner {
    pub(super) engine: Engine,
    pub(super) slots: Arc<SlotPool<WaitingCall>>,
}

/// What a waiting caller brings along.
pub(crate) struct WaitingCall {
    /// For the thread that ends the call.
    ticket: Option<Ticket>,
    pub(super) admitted_at: Instant,
}

/// What only a bulkhead without threads is told by its builder.
pub(crate) struct Rules {
    pub(super) is_fair: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { is_fair: true }
    }
}

/// How a call ends that has run in a slot. `nested_time` is that of [`Execution::end`].
#[derive(Clone, Copy)]
pub(super) enum EndInSlot {
    /// The slot goes back.
    Last { nested_time: Option<Duration> },
    /// The slot stays with other calls of this thread.
    WithOthers { nested_time: Duration },
}

impl EndInSlot {
    pub(super) fn nested_time(self) -> Option<Duration> {
        match self {
            Self::Last { nested_time } => nested_time,
            Self::WithOthers { nested_time } => Some(nested_time),
        }
    }

    pub(super) fn is_last(self) -> bool {
        matches!(self, Self::Last { .. })
    }
}

/// The right to run a task now.
pub(super) struct Slot<'a> {
    pub(super) permit: Permit<'a>,
    pub(super) ticket: Option<Ticket>,
    pub(super) since: Instant,
    pub(super) queued_time: Duration,
    pub(super) index: usize,
    /// Whether the slot belonged to a call of this thread when this one began.
    pub(super) is_nested: bool,
}

impl Inner {
    /// Waits for a slot and runs the task there, or drops it.
    #[inline(always)]
    pub(super) fn call<T, E, F>(
        self: &Arc<Self>,
        data: &CallData,
        trace: CallTrace,
        ticket: Option<Ticket>,
        permit: Permit<'_>,
        task: F,
        run: impl FnOnce(&Engine, F) -> JudgedResult<T, E>,
    ) -> Outcome<T, E> {
        let engine = &self.engine;
        let slot = self.slot(data, ticket, permit);
        match slot.and_then(|slot| self.show(slot, data)) {
            Ok((slot, slot_data, shown)) => {
                self.run(slot, slot_data, shown, data, trace, |engine| {
                    run(engine, task)
                })
            }
            Err(reason) => {
                let queued_time = data.queued_for(engine.clock.now());
                trace.end_unstarted(&engine.name, reason.outcome(), queued_time);
                drop_unstarted(engine, task, data, &reason, queued_time);
                if let EndReason::Timeout { started } = reason {
                    caller_timed_out(engine, data, started);
                }
                Outcome::new(Err(reason), queued_time, Duration::ZERO)
            }
        }
    }

    /// Whether a call on this thread would find a slot at this moment.
    #[inline]
    pub(super) fn may_have_slot(&self) -> bool {
        self.slots.has_free() || slot_of_this_thread(self.engine.serial).is_some()
    }

    /// A slot, or the reason why the call has ended without one: then its place has been given back.
    #[inline(always)]
    pub(super) fn slot<'a, E>(
        self: &'a Arc<Self>,
        data: &CallData,
        ticket: Option<Ticket>,
        permit: Permit<'a>,
    ) -> Result<Slot<'a>, EndReason<E>> {
        let own = slot_of_this_thread(self.engine.serial);
        if let Some(index) = own.or_else(|| self.slots.try_take()) {
            let slot = Slot {
                permit,
                ticket,
                since: data.admitted_at,
                queued_time: Duration::ZERO,
                index,
                is_nested: own.is_some(),
            };
            return self.in_time(slot, data);
        }
        self.wait_for_slot(data, ticket, permit)
    }

    #[cold]
    fn wait_for_slot<'a, E>(
        self: &'a Arc<Self>,
        data: &CallData,
        ticket: Option<Ticket>,
        permit: Permit<'a>,
    ) -> Result<Slot<'a>, EndReason<E>> {
        let engine = &self.engine;
        let mut permit = Some(permit);
        let park = || permit.take().into_iter().for_each(Permit::into_parked);
        let gives_up = |call: &WaitingCall| engine.refusal_in_queue(call.ticket).is_some();
        let call = WaitingCall {
            ticket,
            admitted_at: data.admitted_at,
        };
        let deadline = data.start_deadline();
        let outcome = self
            .slots
            .wait(&engine.clock, deadline, call, park, gives_up);
        let cancelled = EndReason::Cancelled { by_shutdown: true };
        if outcome == WaitOutcome::TakenOut {
            return Err(cancelled);
        }
        let permit = permit.unwrap_or_else(|| engine.permits.reclaim());
        let now = engine.clock.now();
        let reason = match outcome {
            WaitOutcome::Slot(index) => {
                let slot = Slot {
                    permit,
                    ticket,
                    since: now,
                    queued_time: data.queued_for(now),
                    index,
                    is_nested: false,
                };
                let slot = self.in_time(slot, data)?;
                return self.past_circuit(slot);
            }
            WaitOutcome::GaveUp => {
                EndReason::circuit_open(engine.refusal_in_queue(ticket).unwrap_or(RETRY_SOON))
            }
            _ => EndReason::too_late(data, now).unwrap_or(cancelled),
        };
        release_unstarted(engine, permit, ticket, &reason);
        Err(reason)
    }

    /// A call that has waited asks the circuit again, if that has changed meanwhile.
    fn past_circuit<'a, E>(self: &Arc<Self>, slot: Slot<'a>) -> Result<Slot<'a>, EndReason<E>> {
        let renew = || self.engine.renew_ticket(slot.ticket);
        match run_for_caller(self.engine.serial, self, slot.index, renew) {
            Ok(ticket) => Ok(Slot { ticket, ..slot }),
            Err(retry_after) => Err(self.give_up(slot, EndReason::circuit_open(retry_after))),
        }
    }

    /// Ends a call that has a slot and does not start.
    fn give_up<E>(&self, slot: Slot<'_>, reason: EndReason<E>) -> EndReason<E> {
        self.give_back_unstarted(slot.index);
        release_unstarted(&self.engine, slot.permit, slot.ticket, &reason);
        reason
    }

    /// Gives the slot of a call back that does not start; the place is still taken.
    pub(super) fn give_back_unstarted(&self, index: usize) {
        // A call that was nested leaves the slot to those around it, and so does one in whose slot a listener of the circuit
        // has acquired a guard.
        if slot_of_this_thread(self.engine.serial).is_none() {
            self.slots.give_back(index);
        }
    }

    /// Shows the call in its slot, unless a shutdown cancels it.
    #[inline(always)]
    pub(super) fn show<'a, E>(
        &'a self,
        slot: Slot<'a>,
        data: &CallData,
    ) -> Result<(Slot<'a>, SlotData<'a>, Shown), EndReason<E>> {
        let is_listed = slot.is_nested || data.inherits();
        let slot_data = self.engine.slot_data(slot.index);
        let shown = self
            .engine
            .show(slot_data.running, data, slot.since, is_listed);
        match shown {
            Some(shown) => Ok((slot, slot_data, shown)),
            None => Err(self.give_up(slot, EndReason::Cancelled { by_shutdown: true })),
        }
    }

    /// A slot that has come too late is of no use.
    #[inline(always)]
    pub(super) fn in_time<'a, E>(
        &self,
        slot: Slot<'a>,
        data: &CallData,
    ) -> Result<Slot<'a>, EndReason<E>> {
        match EndReason::too_late(data, slot.since) {
            None => Ok(slot),
            Some(reason) => Err(self.give_up(slot, reason)),
        }
    }

    /// What the end of a call counts as, and whether the thread has others in the slot.
    #[inline(always)]
    pub(super) fn end_in_slot(
        &self,
        slot: &Slot<'_>,
        data: &CallData,
        time: Duration,
    ) -> EndInSlot {
        match other_calls(self.engine.serial, slot.is_nested) {
            OtherCalls::None if !slot.is_nested => EndInSlot::Last { nested_time: None },
            OtherCalls::None => {
                let is_started = self.engine.ledger.slot(slot.index).is_started();
                let nested_time = (!is_started).then_some(Duration::ZERO);
                EndInSlot::Last { nested_time }
            }
            OtherCalls::Outer => EndInSlot::WithOthers { nested_time: time },
            OtherCalls::Some => {
                let others = self.engine.slot(slot.index).others_busy_since(data);
                let apart = others.map(|others| others.saturating_duration_since(slot.since));
                let nested_time = time.saturating_sub(apart.unwrap_or(time));
                EndInSlot::WithOthers { nested_time }
            }
        }
    }

    #[inline(always)]
    fn run<T, E>(
        self: &Arc<Self>,
        slot: Slot<'_>,
        slot_data: SlotData<'_>,
        shown: Shown,
        data: &CallData,
        trace: CallTrace,
        task: impl FnOnce(&Engine) -> JudgedResult<T, E>,
    ) -> Outcome<T, E> {
        let engine = &self.engine;
        let call = Execution {
            data,
            ticket: slot.ticket,
            since: slot.since,
            queued_time: slot.queued_time,
            slot: slot_data,
            shown,
            is_nested: slot.is_nested,
        };
        let mut is_last = true;
        let nested_time = |time| {
            let end = self.end_in_slot(&slot, data, time);
            is_last = end.is_last();
            end.nested_time()
        };
        let run = |call: &Execution<'_>| {
            let entered = trace.enter(&engine.name, call.queued_time);
            let end = run_task(engine, call, &trace, task);
            trace.leave(&engine.name, entered);
            end
        };
        let body = || execute_with(engine, call, run, nested_time);
        let (outcome, _) = run_for_caller(engine.serial, self, slot.index, body);
        if is_last {
            self.slots.give_back(slot.index);
        }
        drop(slot.permit);
        outcome
    }
}

impl Kind for SemaphoreKind {
    type Inner = Inner;
    type Collaborators = Rules;
    const CALL: &'static str = "SemaphoreCall";
    const BUILDER: &'static str = "SemaphoreBulkheadBuilder";

    fn engine(inner: &Inner) -> &Engine {
        &inner.engine
    }
}

impl ShutdownTarget for Inner {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn cancel_queued(&self) {
        let engine = &self.engine;
        self.slots.close(|call| {
            let reason = EndReason::<Infallible>::Cancelled { by_shutdown: true };
            release_unstarted(engine, engine.permits.reclaim(), call.ticket, &reason);
        });
    }

    fn join(&self) {}
}

impl ResizeTarget for Inner {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn reserve(&self, _: Limits) -> Result<(), BuildError> {
        Ok(())
    }

    fn set_concurrent_calls(&self, count: usize) -> Result<(), BuildError> {
        self.slots.resize(count);
        Ok(())
    }

    fn settle(&self) {}
}

impl BulkheadView for Inner {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    fn clock(&self) -> &Clock {
        &self.engine.clock
    }

    fn innermost(&self, slot: usize) -> Option<RunningCall> {
        self.engine.innermost(slot)
    }
}
