//! The ticket that the circuit gave a call: what the circuit hears of the call, and whether the ticket still holds when the
//! call's turn comes.
//!
//! The circuit hears of each ticket once, whatever happens:
//!
//! | the call | the circuit hears | when | told by |
//! |---|---|---|---|
//! | never starts | nothing, its ticket comes back | it leaves the queue | the thread that takes it out |
//! | runs beyond its caller's limit, and the caller waits | a failure | at the limit | the caller |
//! | the same, and no caller waits | a failure | the task ends | the thread that ran it |
//! | was cancelled while it ran, and returns `Err` | nothing, its ticket comes back | the task ends | the thread that ran it |
//! | any other | a failure if it panicked, else what its classifier says | the task ends | the thread that ran it |
//!
//! The second and the third row can be turned off, and so can the fourth. A caller and the thread that runs the task may both
//! want to tell. The one that claims the verdict first does, see [`CallData::claim_verdict`]. Only a call with a limit has
//! two that could, so no other call pays for the claim.
//!
//! A ticket holds until the next transition of the circuit. A call whose ticket holds no more asks the circuit again when its
//! turn comes ([`Engine::renew_ticket`]), so it is treated as any call that comes in at that moment: a closed circuit lets it
//! pass, a half-open one makes it a probe if one may go out, and an open one refuses it. A queued probe has a ticket of the
//! half-open state, so it keeps its turn. Calls do not wait for their turn to hear that the circuit has opened: the
//! thread that opens it goes through the queue ([`Engine::refusal_in_queue`]). This can be turned off.

use std::time::Duration;

use super::call_data::CallData;
use super::engine::Engine;
use super::this_thread::while_holding_permit;
use crate::circuit::{CircuitBreaker, CircuitState, Run, Ticket, Verdict};

/// What a call is told that was refused for a circuit which has changed again meanwhile.
pub(crate) const RETRY_SOON: Duration = Duration::from_millis(1);

impl Engine {
    /// For how long the circuit refuses a call in the queue; `None`: the call may go on waiting. Takes nothing.
    #[inline]
    pub(crate) fn refusal_in_queue(&self, ticket: Option<Ticket>) -> Option<Duration> {
        let breaker = self.breaker_unless_current(ticket)?;
        if breaker.state() == CircuitState::Open {
            breaker.refusal()
        } else {
            None
        }
    }

    /// The ticket with which a call whose turn has come may start, or for how long the circuit refuses the call.
    #[inline]
    pub(crate) fn renew_ticket(&self, ticket: Option<Ticket>) -> Result<Option<Ticket>, Duration> {
        match self.breaker_unless_current(ticket) {
            None => Ok(ticket),
            // Listeners of the circuit may run here, while this thread holds the permit.
            Some(breaker) => while_holding_permit(self.serial, || breaker.admit()).map(Some),
        }
    }

    #[inline]
    fn breaker_unless_current(&self, ticket: Option<Ticket>) -> Option<&CircuitBreaker> {
        let ticket = ticket?;
        let breaker = self.breaker.as_ref()?;
        // In this order: a thread that sees the opening also sees the rules that held then.
        (!breaker.is_current(ticket) && breaker.live_rules().refuses_queued_when_open())
            .then_some(breaker)
    }

    /// The call never starts.
    pub(crate) fn give_ticket_back(&self, ticket: Option<Ticket>) {
        if let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) {
            breaker.settle(ticket, Verdict::Ignored);
        }
    }

    /// The caller leaves at its limit while the task runs.
    pub(crate) fn judge_timeout(&self, data: &CallData, ticket: Option<Ticket>) {
        if let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) {
            if breaker.live_rules().timeouts_are_failures() && data.claim_verdict() {
                breaker.settle(ticket, Verdict::Failure);
            }
        }
    }

    /// The task has ended. `verdict` is what it says for itself.
    #[inline]
    pub(crate) fn judge_end(
        &self,
        data: &CallData,
        ticket: Option<Ticket>,
        is_err: bool,
        verdict: Verdict,
        run: Run,
    ) {
        let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) else {
            return;
        };
        let rules = breaker.live_rules();
        let limit = data.deadline();
        // Also if timeouts are no failures: the caller may have left while they were.
        if limit.is_some() && !data.claim_verdict() {
            return;
        }
        let limit = limit.filter(|_| rules.timeouts_are_failures());
        let verdict = if limit.is_some_and(|limit| run.ended >= limit) {
            Verdict::Failure
        } else if is_err && rules.cancelled_calls_are_neutral() && data.is_cancelled() {
            Verdict::Ignored
        } else {
            verdict
        };
        breaker.settle_run(ticket, verdict, run);
    }
}
