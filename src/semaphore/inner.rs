//! Calls that run in their callers' threads: how one has its turn, runs, and ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circuit::Ticket;
use crate::current::{visited_seat, while_visiting};
use crate::gate::Gate;
use crate::head::{Head, Host, Running};
use crate::outcome::{Outcome, Why};
use crate::permit::Permit;
use crate::run::{Judged, Run};
use crate::shutdown::Ends;
use crate::turns::{Turns, Waited};

/// A gate, and turns behind it.
pub(crate) struct Turnstile {
    pub(crate) gate: Gate,
    pub(crate) turns: Turns,
}

/// The right to run a task now.
pub(crate) struct Turn<'a> {
    permit: Permit<'a>,
    since: Instant,
    queued_time: Duration,
    seat: usize,
    /// Whether the seat is this call's own, rather than that of the call that makes it.
    own: bool,
}

impl Turnstile {
    /// Waits for a turn. Without one, the call has left.
    #[inline(always)]
    pub(crate) fn turn<'a, E>(
        &'a self,
        head: &Head,
        ticket: Option<Ticket>,
        permit: Permit<'a>,
    ) -> Result<Turn<'a>, Why<E>> {
        let gate = &self.gate;
        let visited = visited_seat(gate.serial);
        if let Some(seat) = visited.or_else(|| self.turns.try_take()) {
            let turn = Turn {
                permit,
                since: head.admitted_at,
                queued_time: Duration::ZERO,
                seat,
                own: visited.is_none(),
            };
            return self.in_time(turn, head, ticket);
        }
        self.wait_for_turn(head, ticket, permit)
    }

    #[cold]
    fn wait_for_turn<'a, E>(
        &'a self,
        head: &Head,
        ticket: Option<Ticket>,
        permit: Permit<'a>,
    ) -> Result<Turn<'a>, Why<E>> {
        let gate = &self.gate;
        let mut mine = Some(permit);
        let park = || mine.take().into_iter().for_each(Permit::park);
        let waited = self
            .turns
            .wait(&gate.clock, head.start_deadline(), ticket, park);
        let over = Why::Cancelled { by_shutdown: true };
        if waited == Waited::TakenOut {
            return Err(over);
        }
        let permit = mine.unwrap_or_else(|| gate.admission.unpark());
        let now = gate.clock.now();
        if let Waited::Turn(seat) = waited {
            let turn = Turn {
                permit,
                since: now,
                queued_time: head.queued_for(now),
                seat,
                own: true,
            };
            return self.in_time(turn, head, ticket);
        }
        let why = Why::too_late(head, now).unwrap_or(over);
        gate.leave(permit, ticket, &why);
        Err(why)
    }

    /// A turn that has come too late is no turn, nor is one after a shutdown that cancels.
    #[inline(always)]
    fn in_time<'a, E>(
        &self,
        turn: Turn<'a>,
        head: &Head,
        ticket: Option<Ticket>,
    ) -> Result<Turn<'a>, Why<E>> {
        let why = if self.gate.is_discarding() {
            Why::Cancelled { by_shutdown: true }
        } else if let Some(why) = Why::too_late(head, turn.since) {
            why
        } else {
            return Ok(turn);
        };
        let permit = self.end(turn);
        self.gate.leave(permit, ticket, &why);
        Err(why)
    }

    /// Gives the seat back; the place is still taken.
    #[inline(always)]
    fn end<'a>(&self, turn: Turn<'a>) -> Permit<'a> {
        if turn.own {
            self.turns.give_back(turn.seat);
        }
        turn.permit
    }

    #[inline(always)]
    pub(crate) fn run<T, E>(
        self: &Arc<Self>,
        turn: Turn<'_>,
        head: &Head,
        ticket: Option<Ticket>,
        task: impl FnOnce() -> Judged<T, E>,
    ) -> Outcome<T, E> {
        let gate = &self.gate;
        let call = Run {
            head,
            ticket,
            since: turn.since,
            queued_time: turn.queued_time,
            seat: turn.seat,
            in_turn: turn.own,
        };
        let body = || gate.run(call, || gate.run_task(task));
        let (outcome, _) = while_visiting(gate.serial, self, turn.seat, body);
        drop(self.end(turn));
        outcome
    }
}

impl Ends for Turnstile {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn cancel_queued(&self) {
        let gate = &self.gate;
        self.turns.take_all_out(|waiter| {
            let why = Why::<Infallible>::Cancelled { by_shutdown: true };
            gate.leave(gate.admission.unpark(), waiter.ticket, &why);
        });
    }

    fn join(&self) {}
}

impl Host for Turnstile {
    fn name(&self) -> &str {
        self.gate.name()
    }

    fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    fn now(&self) -> Instant {
        self.gate.now()
    }

    fn innermost(&self, seat: usize) -> Option<Running> {
        self.gate.innermost(seat)
    }
}
