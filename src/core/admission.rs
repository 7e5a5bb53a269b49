//! The way in:
//!
//! 1. A look at the circuit, which takes nothing. A call that an open circuit refuses is refused here, so it never holds a
//!    place, not even for a moment.
//! 2. Shut down and capacity: the call takes a place, or is refused.
//! 3. The circuit, which counts a probe. It comes last, so that a call that is refused as full never uses up a probe.
//!
//! A shutdown wins over the circuit in 1 too. In 3 the circuit refuses only calls that 1 could not decide: another call took
//! the last probe's turn meanwhile, or the circuit has just opened.
//!
//! A refused call is counted here. Deciding is separate from putting the refusal into words, since a refusal has to be
//! cheap: it allocates nothing, and takes no lock that a task can hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_data::CallData;
use super::call_options::CallOptions;
use super::engine::Engine;
use super::permit::{Denied, Permit};
use super::rejection_log::RejectedAs;
use super::this_thread::{ThisThread, while_holding_permit};
use crate::circuit::{CircuitBreaker, Ticket};
use crate::context::event_of_refusal;
use crate::error::{RejectReason, Rejected};
use crate::event::BulkheadEvent;
use crate::result::CallOutcome;

/// A refusal that is decided and counted, and not yet put into words.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    Full {
        waited: Option<Duration>,
    },
    /// The call does not wait for a slot, and none is free.
    NoSlot,
    CircuitOpen {
        retry_after: Duration,
    },
    ShutDown,
}

impl Refusal {
    fn outcome(self) -> CallOutcome {
        match self {
            Self::Full { .. } | Self::NoSlot => CallOutcome::Full,
            Self::CircuitOpen { retry_after } => CallOutcome::CircuitOpen { retry_after },
            Self::ShutDown => CallOutcome::ShutDown,
        }
    }
}

/// A call that has a place.
pub(crate) struct Admitted<'a> {
    pub(crate) permit: Permit<'a>,
    /// Since when the call had waited for the place, if it did.
    pub(crate) begun: Option<Instant>,
}

/// Takes a place, waiting for one if the caller wants to.
#[inline(always)]
pub(crate) fn admit<'a>(
    engine: &'a Engine,
    options: &CallOptions,
) -> Result<Admitted<'a>, Refusal> {
    if let Some(retry_after) = refused_by_circuit(engine) {
        return Err(refuse_unseen(engine, retry_after));
    }
    let (permit, begun) = match options.wait_for_capacity {
        None => (engine.permits.try_acquire(), None),
        Some(limit) => wait_for_permit(engine, options, limit),
    };
    match permit {
        Ok(permit) => Ok(Admitted { permit, begun }),
        Err(Denied::Closed) => Err(refuse_shut_down(engine)),
        Err(Denied::Full) => {
            let number = engine.ledger.shared.reject_full();
            engine.rejected_as_full(number);
            Err(Refusal::Full {
                waited: begun.map(|begun| engine.clock.now() - begun),
            })
        }
    }
}

/// As [`admit`], without waiting. `None`: the bulkhead is full, and nothing is decided or counted.
pub(crate) fn admit_if_room(engine: &Engine) -> Option<Result<Admitted<'_>, Refusal>> {
    if let Some(retry_after) = refused_by_circuit(engine) {
        return Some(Err(refuse_unseen(engine, retry_after)));
    }
    match engine.permits.try_acquire() {
        Ok(permit) => Some(Ok(Admitted {
            permit,
            begun: None,
        })),
        Err(Denied::Full) => None,
        Err(Denied::Closed) => Some(Err(refuse_shut_down(engine))),
    }
}

/// The look at the circuit that takes nothing.
#[inline(always)]
fn refused_by_circuit(engine: &Engine) -> Option<Duration> {
    engine.breaker.as_ref().and_then(CircuitBreaker::refusal)
}

/// Refuses a call that has taken nothing, because the circuit is open.
fn refuse_unseen(engine: &Engine, retry_after: Duration) -> Refusal {
    if engine.permits.is_closed() {
        refuse_shut_down(engine)
    } else {
        let number = engine.ledger.shared.reject_circuit_open();
        engine.rejected(RejectedAs::CircuitOpen, number);
        Refusal::CircuitOpen { retry_after }
    }
}

/// Refuses a call that has taken nothing, because the bulkhead is shut down.
fn refuse_shut_down(engine: &Engine) -> Refusal {
    let number = engine.ledger.shared.reject_shut_down();
    engine.rejected(RejectedAs::ShutDown, number);
    Refusal::ShutDown
}

/// Refuses a call that does not wait for a slot, since none is free. It has taken nothing.
pub(crate) fn refuse_without_slot(engine: &Engine) -> Refusal {
    if let Some(retry_after) = refused_by_circuit(engine) {
        refuse_unseen(engine, retry_after)
    } else if engine.permits.is_closed() {
        refuse_shut_down(engine)
    } else {
        // No saturation: there may be places left, for calls that wait.
        let number = engine.ledger.shared.reject_full();
        engine.rejected(RejectedAs::Full, number);
        Refusal::NoSlot
    }
}

fn wait_for_permit<'a>(
    engine: &'a Engine,
    options: &CallOptions,
    limit: Duration,
) -> (Result<Permit<'a>, Denied>, Option<Instant>) {
    let begun = engine.clock.now();
    let permit = if engine.this_thread() == ThisThread::Outsider {
        let until = options.capacity_deadline(&engine.default_timeouts, begun, limit);
        engine.permits.acquire(&engine.clock, until)
    } else {
        engine.permits.try_acquire()
    };
    (permit, Some(begun))
}

/// Asks the circuit, for a caller that holds a permit.
#[inline]
pub(crate) fn check_circuit(engine: &Engine) -> Result<Option<Ticket>, Refusal> {
    let Some(breaker) = &engine.breaker else {
        return Ok(None);
    };
    // Listeners of the circuit may run here, while this thread holds the permit.
    match while_holding_permit(engine.serial, || breaker.admit()) {
        Ok(ticket) => Ok(Some(ticket)),
        Err(retry_after) => {
            // Counted before the permit goes, as every end of an admitted call.
            engine.ledger.shared.reject_admitted();
            Err(Refusal::CircuitOpen { retry_after })
        }
    }
}

/// Tells the listeners of a call that has its place, which this thread holds.
#[inline(always)]
pub(crate) fn tell_admitted(engine: &Engine, data: &CallData) {
    engine.tell_without_waits(|| BulkheadEvent::Admitted {
        call: data.info(&engine.name),
    });
}

/// Tells the listeners and the trace of a refusal and puts it into words.
#[inline(always)]
pub(crate) fn reject<F>(
    engine: &Engine,
    refusal: Refusal,
    options: &CallOptions,
    task: F,
) -> Rejected<F> {
    if !engine.listeners.is_silent() {
        tell_rejected(engine, refusal, options);
    }
    if engine.trace.wants_events() {
        event_of_refusal(
            &engine.name,
            options.operation.as_deref(),
            refusal.outcome(),
        );
    }
    // Built where the caller wants it: moving it would be the dearest part of a refusal.
    let reason = reason(engine, refusal);
    Rejected { reason, task }
}

fn tell_rejected(engine: &Engine, refusal: Refusal, options: &CallOptions) {
    let reason = reason(engine, refusal);
    engine.tell(|| BulkheadEvent::Rejected {
        reason: &reason,
        operation: options.operation.as_deref(),
    });
}

#[inline(always)]
fn reason(engine: &Engine, refusal: Refusal) -> RejectReason {
    let bulkhead = Arc::clone(&engine.name);
    let limits = || engine.limits();
    match refusal {
        Refusal::Full { waited } => RejectReason::Full {
            bulkhead,
            max_concurrent_calls: limits().max_concurrent_calls,
            max_queue_size: limits().max_queue_size,
            waited,
        },
        // For this call there were no places to wait.
        Refusal::NoSlot => RejectReason::Full {
            bulkhead,
            max_concurrent_calls: limits().max_concurrent_calls,
            max_queue_size: 0,
            waited: None,
        },
        Refusal::CircuitOpen { retry_after } => RejectReason::CircuitOpen {
            bulkhead,
            retry_after,
        },
        Refusal::ShutDown => RejectReason::ShutDown { bulkhead },
    }
}
