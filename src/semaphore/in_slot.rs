//! How a call without a closure gets its slot and begins. Its guard ends it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inner::{Inner, Slot};
use crate::circuit::{Ticket, Verdict};
use crate::context::{CallTrace, EnteredTrace};
use crate::core::{
    CallData, CallOptions, EndReason, Execution, Outcome, Permit, Refusal, Shown, SlotData,
    begin_guard, caller_timed_out, check_circuit, drop_unstarted, end_guard, reject,
    run_for_caller, slot_of_this_thread, tell_admitted, while_holding_permit,
};
use crate::error::BulkheadError;
use crate::event::FinishedOutcome;

/// A call that has begun, and the slot that it holds.
pub(super) struct InSlot<'a> {
    slot: Slot<'a>,
    slot_data: SlotData<'a>,
    shown: Shown,
    /// The number of the guard on its thread.
    guard: u64,
    trace: CallTrace,
    entered: EnteredTrace,
}

impl<'a> InSlot<'a> {
    pub(super) fn queued_time(&self) -> Duration {
        self.slot.queued_time
    }

    pub(super) fn since(&self) -> Instant {
        self.slot.since
    }

    #[inline(always)]
    fn execution<'d>(&self, data: &'d CallData) -> Execution<'d>
    where
        'a: 'd,
    {
        Execution {
            data,
            ticket: self.slot.ticket,
            since: self.slot.since,
            queued_time: self.slot.queued_time,
            slot: self.slot_data,
            shown: self.shown,
            is_nested: self.slot.is_nested,
        }
    }
}

impl Inner {
    /// Waits for a slot and begins a call there that a guard ends.
    pub(super) fn begin_guard<'a>(
        self: &'a Arc<Self>,
        data: &CallData,
        trace: CallTrace,
        ticket: Option<Ticket>,
        permit: Permit<'a>,
    ) -> Result<InSlot<'a>, BulkheadError<Infallible>> {
        let slot = self.slot(data, ticket, permit);
        self.begin_guard_in(slot, data, Some(trace), || {})
    }

    /// As [`begin_guard`](Self::begin_guard), but gives up at once if no slot is free.
    pub(super) fn try_begin_guard<'a>(
        self: &'a Arc<Self>,
        options: CallOptions,
        permit: Permit<'a>,
    ) -> Result<(CallData, InSlot<'a>), BulkheadError<Infallible>> {
        let engine = &self.engine;
        let own = slot_of_this_thread(engine.serial);
        let taken = match own.or_else(|| self.slots.try_take()) {
            None => return Err(self.reject_without_slot(&options, None, permit)),
            Some(_) if own.is_some() => None,
            Some(index) => Some(index),
        };
        // Listeners of the circuit may run here. A call that they make must not wait for the slot.
        let checked = match taken {
            Some(index) => run_for_caller(engine.serial, self, index, || check_circuit(engine)),
            None => check_circuit(engine),
        };
        let ticket = match checked {
            Ok(ticket) => ticket,
            Err(refusal) => {
                taken
                    .into_iter()
                    .for_each(|index| self.give_back_unstarted(index));
                drop(permit);
                return Err(reject(engine, refusal, &options, ()).reason.into());
            }
        };
        // They may also have dropped the guard whose slot this was to be.
        let own = slot_of_this_thread(engine.serial).filter(|_| taken.is_none());
        let Some(index) = taken.or(own).or_else(|| self.slots.try_take()) else {
            return Err(self.reject_without_slot(&options, ticket, permit));
        };
        let data = options.into_data(&engine.default_timeouts, &engine.clock, None);
        let slot = Slot {
            permit,
            ticket,
            since: data.admitted_at,
            queued_time: Duration::ZERO,
            index,
            is_nested: own.is_some(),
        };
        // Listeners hear of the place when the guard has begun, so that they cannot take the slot away.
        let tell = || tell_admitted(engine, &data);
        let in_slot = self.begin_guard_in(self.in_time(slot, &data), &data, None, tell)?;
        Ok((data, in_slot))
    }

    #[cold]
    fn reject_without_slot(
        &self,
        options: &CallOptions,
        ticket: Option<Ticket>,
        permit: Permit<'_>,
    ) -> BulkheadError<Infallible> {
        let engine = &self.engine;
        while_holding_permit(engine.serial, || engine.give_ticket_back(ticket));
        engine.ledger.shared.reject_without_slot();
        drop(permit);
        reject(engine, Refusal::NoSlot, options, ()).reason.into()
    }

    /// Without a trace it begins one when the slot is the thread's own. Before that a call that a subscriber makes would wait
    /// for the slot.
    #[inline(always)]
    fn begin_guard_in<'a>(
        self: &'a Arc<Self>,
        slot: Result<Slot<'a>, EndReason<Infallible>>,
        data: &CallData,
        trace: Option<CallTrace>,
        tell_admitted: impl FnOnce(),
    ) -> Result<InSlot<'a>, BulkheadError<Infallible>> {
        match slot.and_then(|slot| self.show(slot, data)) {
            Ok((slot, slot_data, shown)) => {
                let guard = begin_guard(self.engine.serial, self, slot.index);
                let mut in_slot = InSlot {
                    slot,
                    slot_data,
                    shown,
                    guard,
                    trace: CallTrace::default(),
                    entered: EnteredTrace::default(),
                };
                let call = in_slot.execution(data);
                call.start(&self.engine);
                in_slot.trace = trace.unwrap_or_else(|| self.engine.begin_trace_in_caller(data));
                tell_admitted();
                in_slot.entered = in_slot.trace.enter(&self.engine.name, call.queued_time);
                call.tell_started(&self.engine);
                Ok(in_slot)
            }
            Err(reason) => {
                tell_admitted();
                Err(self.unstarted(data, trace, reason))
            }
        }
    }

    #[cold]
    fn unstarted(
        &self,
        data: &CallData,
        trace: Option<CallTrace>,
        reason: EndReason<Infallible>,
    ) -> BulkheadError<Infallible> {
        let engine = &self.engine;
        let queued_time = data.queued_for(engine.clock.now());
        if let Some(trace) = trace {
            trace.end_unstarted(&engine.name, reason.outcome(), queued_time);
        }
        drop_unstarted(engine, (), data, &reason, queued_time);
        if let EndReason::Timeout { started } = reason {
            caller_timed_out(engine, data, started);
        }
        let outcome = Outcome::<Infallible, _>::new(Err(reason), queued_time, Duration::ZERO);
        match outcome.into_result(data, &engine.name).result {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Ends the call of a guard. Gives the time that it has taken.
    #[inline(always)]
    pub(super) fn end_guard(
        &self,
        in_slot: InSlot<'_>,
        data: &CallData,
        outcome: FinishedOutcome,
        verdict: Verdict,
    ) -> Duration {
        let engine = &self.engine;
        let ended = engine.clock.now();
        let call = in_slot.execution(data);
        call.tell_finished(engine, outcome, ended);
        let InSlot {
            slot,
            guard,
            trace,
            entered,
            ..
        } = in_slot;
        trace.record_end(&engine.name, outcome);
        trace.leave(&engine.name, entered);
        let mut is_last = true;
        let execution_time = call.end(engine, outcome, verdict, ended, |time| {
            let end = self.end_in_slot(&slot, data, time);
            is_last = end.is_last();
            end.nested_time()
        });
        end_guard(guard);
        if is_last {
            self.slots.give_back(slot.index);
        }
        drop(slot.permit);
        execution_time
    }
}
