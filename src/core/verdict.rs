//! What the circuit hears of an admitted call: once, whatever happens.
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

use std::time::Instant;

use super::call_data::CallData;
use super::engine::Engine;
use crate::circuit::{CircuitBreaker, CircuitBreakerConfig, Ticket, Verdict};

impl Engine {
    fn circuit(&self) -> Option<(&CircuitBreaker, &CircuitBreakerConfig)> {
        Some((
            self.breaker.as_ref()?,
            self.config.circuit_breaker.as_ref()?,
        ))
    }

    /// The call never starts.
    pub(crate) fn give_ticket_back(&self, ticket: Option<Ticket>) {
        if let (Some(breaker), Some(ticket)) = (&self.breaker, ticket) {
            breaker.settle(ticket, Verdict::None);
        }
    }

    /// The caller leaves at its limit while the task runs.
    pub(crate) fn judge_timeout(&self, data: &CallData, ticket: Option<Ticket>) {
        if let (Some((breaker, rules)), Some(ticket)) = (self.circuit(), ticket) {
            if rules.timeouts_are_failures && data.claim_verdict() {
                breaker.settle(ticket, Verdict::Failure);
            }
        }
    }

    /// The task ended at `at`. `verdict` is what it says for itself.
    #[inline]
    pub(crate) fn judge_end(
        &self,
        data: &CallData,
        ticket: Option<Ticket>,
        is_err: bool,
        verdict: Verdict,
        at: Instant,
    ) {
        let (Some((breaker, rules)), Some(ticket)) = (self.circuit(), ticket) else {
            return;
        };
        let limit = data.deadline().filter(|_| rules.timeouts_are_failures);
        if limit.is_some() && !data.claim_verdict() {
            return;
        }
        let verdict = if limit.is_some_and(|limit| at >= limit) {
            Verdict::Failure
        } else if is_err && rules.cancelled_calls_are_neutral && data.is_cancelled() {
            Verdict::None
        } else {
            verdict
        };
        breaker.settle(ticket, verdict);
    }
}
