//! What becomes of an admitted call, in the thread that takes it out of the queue: it runs, or it never will. What is
//! counted and told then, and in which order.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circuit::{Ticket, Verdict};
use crate::gate::Gate;
use crate::head::Head;
use crate::listener::{BulkheadEvent, FinishedOutcome};
use crate::outcome::{Outcome, Why};
use crate::panics::{Panic, catch, contain};
use crate::permit::Permit;
use crate::stats::Ending;

/// What a task gives: its result, and what the breaker is to make of it.
pub(crate) type Judged<T, E> = (Result<T, E>, Verdict);

/// What came of a task, a panic perhaps, and when.
pub(crate) struct Ran<T, E> {
    result: Result<Judged<T, E>, Box<dyn Any + Send>>,
    ended: Instant,
}

/// A call that holds a place, and whose task is about to run.
pub(crate) struct Run<'a> {
    pub(crate) head: &'a Head,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) since: Instant,
    /// How long it waited for that.
    pub(crate) queued_time: Duration,
    /// Where it runs.
    pub(crate) seat: usize,
    /// Whether it is its turn. If not, it runs on top of the call that has made it, in the same thread.
    pub(crate) in_turn: bool,
}

impl Gate {
    #[inline(always)]
    pub(crate) fn run_task<T, E>(&self, task: impl FnOnce() -> Judged<T, E>) -> Ran<T, E> {
        let result = catch(task);
        let ended = self.clock.now();
        Ran { result, ended }
    }

    /// The life of a call from the moment that its task leaves the queue until it is counted: afterwards its place
    /// may be given back. Tells the outcome, and when the task ended. `body`, which ends in [`run_task`](Self::run_task),
    /// must not panic.
    #[inline(always)]
    pub(crate) fn run<T, E>(
        &self,
        call: Run<'_>,
        body: impl FnOnce() -> Ran<T, E>,
    ) -> (Outcome<T, E>, Instant) {
        let Run {
            head,
            ticket,
            since,
            queued_time,
            seat,
            in_turn,
        } = call;
        let tally = self.ledger.seat(seat);
        let seat = self.seat(seat);
        let info = head.info(&self.name);

        let seated = seat.begin(head, since, in_turn);
        if in_turn {
            tally.start();
        } else {
            self.ledger.shared.start_helped();
        }
        tally.queue_wait.record(queued_time);
        self.tell(|| BulkheadEvent::Started {
            call: info,
            queued_time,
        });
        let Ran { result, ended } = body();

        let execution_time = ended.saturating_duration_since(since);
        let (result, verdict, ending) = match result {
            Ok((Ok(value), verdict)) => (Ok(value), verdict, Ending::Succeeded),
            Ok((Err(error), verdict)) => (Err(Why::Failed(error)), verdict, Ending::Failed),
            Err(payload) => {
                let panic = Box::new(Panic::new(Arc::clone(&self.name), payload));
                (
                    Err(Why::Panicked(panic)),
                    Verdict::Failure,
                    Ending::Panicked,
                )
            }
        };
        if let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) {
            breaker.settle(ticket, verdict);
        }
        self.tell(|| BulkheadEvent::Finished {
            call: info,
            outcome: match ending {
                Ending::Succeeded => FinishedOutcome::Succeeded,
                Ending::Failed => FinishedOutcome::Failed,
                Ending::Panicked => FinishedOutcome::Panicked,
            },
            queued_time,
            execution_time,
        });
        tally.run_time.record(execution_time);
        // Counted before it is forgotten, see `shutdown.rs`.
        if in_turn {
            tally.end(ending);
        } else {
            self.ledger.shared.end_helped(ending);
        }
        seat.end(seated);
        (Outcome::new(result, queued_time, execution_time), ended)
    }

    /// A call has left the queue and will never run: afterwards its place is free, and its task may be dropped.
    ///
    /// The place goes before user code runs, since that may shut the bulkhead down, as the drop of a closure with the
    /// last reference to it does: on a thread that is no worker this waits for all places.
    pub(crate) fn leave<E>(&self, permit: Permit<'_>, ticket: Option<Ticket>, why: &Why<E>) {
        if let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) {
            breaker.settle(ticket, Verdict::None);
        }
        match why {
            Why::Cancelled { by_shutdown } => self.ledger.shared.cancel(*by_shutdown),
            _ => self.ledger.shared.time_out(),
        }
        drop(permit);
    }

    /// After [`leave`](Self::leave): drops the task and tells the listeners.
    pub(crate) fn has_left<E>(
        &self,
        task: impl Sized,
        head: &Head,
        why: &Why<E>,
        queued_time: Duration,
    ) {
        contain(&self.name, "the drop of a task that never started", || {
            drop(task);
        });
        let call = head.info(&self.name);
        self.tell(|| match why {
            Why::Cancelled { .. } => BulkheadEvent::Cancelled { call, queued_time },
            _ => BulkheadEvent::Expired { call, queued_time },
        });
    }
}
