//! Calls that run in their callers' threads: how one gets a slot, runs, and ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slots::{SlotPool, WaitOutcome};
use crate::circuit::Ticket;
use crate::clock::Clock;
use crate::core::{
    BulkheadView, CallData, EndReason, Engine, Execution, JudgedResult, Kind, Outcome, Permit,
    RETRY_SOON, RunningCall, SemaphoreKind, Shown, ShutdownTarget, caller_timed_out,
    drop_unstarted, execute, release_unstarted, run_for_caller, run_task, slot_of_this_thread,
};

/// An engine, and slots behind it.
pub(crate) struct Inner {
    pub(super) engine: Engine,
    /// A waiting caller brings the ticket of its call along.
    pub(super) slots: Arc<SlotPool<Option<Ticket>>>,
}

/// The right to run a task now.
struct Slot<'a> {
    permit: Permit<'a>,
    ticket: Option<Ticket>,
    since: Instant,
    queued_time: Duration,
    index: usize,
    /// Whether the slot belongs to the call that makes this one.
    is_nested: bool,
}

impl Inner {
    /// Waits for a slot and runs the task there, or drops it.
    #[inline(always)]
    pub(super) fn call<T, E, F>(
        self: &Arc<Self>,
        data: &CallData,
        ticket: Option<Ticket>,
        permit: Permit<'_>,
        task: F,
        run: impl FnOnce(&Engine, F) -> JudgedResult<T, E>,
    ) -> Outcome<T, E> {
        let engine = &self.engine;
        let slot = self.slot(data, ticket, permit);
        match slot.and_then(|slot| self.show(slot, data)) {
            Ok((slot, shown)) => self.run(slot, shown, data, |engine| run(engine, task)),
            Err(reason) => {
                let queued_time = data.queued_for(engine.clock.now());
                drop_unstarted(engine, task, data, &reason, queued_time);
                if let EndReason::Timeout { started } = reason {
                    caller_timed_out(engine, data, started);
                }
                Outcome::new(Err(reason), queued_time, Duration::ZERO)
            }
        }
    }

    /// A slot, or the reason why the call has ended without one: then its place has been given back.
    #[inline(always)]
    fn slot<'a, E>(
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
        let gives_up = |ticket: &Option<Ticket>| engine.refusal_in_queue(*ticket).is_some();
        let deadline = data.start_deadline();
        let outcome = self
            .slots
            .wait(&engine.clock, deadline, ticket, park, gives_up);
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
        let ticket = slot.ticket;
        let permit = self.give_back(slot);
        release_unstarted(&self.engine, permit, ticket, &reason);
        reason
    }

    /// Shows the call in its slot, unless a shutdown cancels it.
    #[inline(always)]
    fn show<'a, E>(
        &self,
        slot: Slot<'a>,
        data: &CallData,
    ) -> Result<(Slot<'a>, Shown), EndReason<E>> {
        let is_listed = slot.is_nested || data.inherits();
        let shown = self.engine.show(slot.index, data, slot.since, is_listed);
        match shown {
            Some(shown) => Ok((slot, shown)),
            None => Err(self.give_up(slot, EndReason::Cancelled { by_shutdown: true })),
        }
    }

    /// A slot that has come too late is of no use.
    #[inline(always)]
    fn in_time<'a, E>(&self, slot: Slot<'a>, data: &CallData) -> Result<Slot<'a>, EndReason<E>> {
        match EndReason::too_late(data, slot.since) {
            None => Ok(slot),
            Some(reason) => Err(self.give_up(slot, reason)),
        }
    }

    /// Gives the slot back; the place is still taken.
    #[inline(always)]
    fn give_back<'a>(&self, slot: Slot<'a>) -> Permit<'a> {
        if !slot.is_nested {
            self.slots.give_back(slot.index);
        }
        slot.permit
    }

    #[inline(always)]
    fn run<T, E>(
        self: &Arc<Self>,
        slot: Slot<'_>,
        shown: Shown,
        data: &CallData,
        task: impl FnOnce(&Engine) -> JudgedResult<T, E>,
    ) -> Outcome<T, E> {
        let engine = &self.engine;
        let call = Execution {
            data,
            ticket: slot.ticket,
            since: slot.since,
            queued_time: slot.queued_time,
            slot: slot.index,
            shown,
            is_nested: slot.is_nested,
        };
        let body = || execute(engine, call, |call| run_task(engine, call, task));
        let (outcome, _) = run_for_caller(engine.serial, self, slot.index, body);
        drop(self.give_back(slot));
        outcome
    }
}

impl Kind for SemaphoreKind {
    type Inner = Inner;
    type Collaborators = ();
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
        self.slots.close(|ticket| {
            let reason = EndReason::<Infallible>::Cancelled { by_shutdown: true };
            release_unstarted(engine, engine.permits.reclaim(), *ticket, &reason);
        });
    }

    fn join(&self) {}
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
