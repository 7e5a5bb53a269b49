//! The numbers of one bulkhead at one moment, as users see them.

use std::fmt;
use std::sync::Arc;

use super::distribution::Distribution;
use super::ledger::{Times, Totals};
use crate::circuit::CircuitState;

/// How a bulkhead is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BulkheadState {
    /// Calls go through: there is no circuit breaker, or its circuit is closed.
    Healthy,
    /// The circuit is half-open: a few calls probe whether the dependency is back.
    Degraded,
    /// The circuit is open: calls are refused until the isolation is over.
    Isolated,
    /// Shut down: every new call is refused.
    ShutDown,
}

impl BulkheadState {
    /// Whether calls get through to the dependency: [`Healthy`](Self::Healthy) or [`Degraded`](Self::Degraded).
    #[must_use]
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

impl fmt::Display for BulkheadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Isolated => "isolated",
            Self::ShutDown => "shut down",
        })
    }
}

/// The numbers of one bulkhead at one moment.
///
/// They balance in every snapshot, also under full load:
///
/// `submitted = rejected + cancelled + timed_out + successful + failed + panicked + queued + active`
///
/// A call counts by its own end. If its caller left at a time limit while it ran, it is active and abandoned until it ends,
/// and then successful, failed or panicked. The [`Display`](std::fmt::Display) is that sum in one line.
///
/// Counters run from the start, or from the last
/// [`reset_stats`](crate::Bulkhead::reset_stats); after that the calls then in flight count as submitted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// The bulkhead's name.
    pub name: Arc<str>,
    /// What [`Bulkhead::state`](crate::Bulkhead::state) says.
    pub state: BulkheadState,

    /// Calls decided: admitted or refused.
    pub submitted_executions: u64,
    /// Calls whose task started.
    pub total_executions: u64,
    /// Tasks that returned `Ok`.
    pub successful_executions: u64,
    /// Tasks that returned `Err`.
    pub failed_executions: u64,
    /// Tasks that panicked.
    pub panicked_executions: u64,
    /// Calls refused, for any of the next three reasons.
    pub rejected_executions: u64,
    /// Calls refused because all places were taken.
    pub rejected_full: u64,
    /// Calls refused by the circuit breaker.
    pub rejected_circuit_open: u64,
    /// Calls refused because the bulkhead was shut down.
    pub rejected_shut_down: u64,
    /// Calls that expired in the queue: the queue timeout or the caller's own limit passed first.
    pub timed_out_executions: u64,
    /// Calls cancelled in the queue, by their handle or by a shutdown.
    pub cancelled_executions: u64,

    /// Calls admitted that do not run: they wait for a worker or a free slot, or for a call of the same bulkhead that they
    /// have made themselves and that runs in their slot. At most N + Q.
    pub queued_tasks: u64,
    /// Tasks being run, but for those that wait for a call of the same bulkhead in their stead. At most N.
    pub active_tasks: u64,
    /// Running tasks whose caller is gone: the handle was dropped, or its time limit passed.
    pub abandoned_tasks: u64,
    /// Places taken: `queued_tasks + active_tasks`, at most N + Q.
    pub in_flight: u64,

    /// N.
    pub max_concurrent_calls: u64,
    /// Q.
    pub max_queue_size: u64,

    /// Whether there is a circuit breaker.
    pub circuit_breaker_enabled: bool,
    /// The circuit's state, if there is a breaker.
    pub circuit_state: Option<CircuitState>,

    /// How long started calls had waited for a worker, or for a free slot.
    pub queue_wait: Distribution,
    /// How long tasks ran.
    pub run_time: Distribution,
}

impl fmt::Display for BulkheadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bulkhead `{}` is {}: {} submitted = {} rejected + {} cancelled + {} timed out + {} successful \
             + {} failed + {} panicked + {} queued + {} active",
            self.name,
            self.state,
            self.submitted_executions,
            self.rejected_executions,
            self.cancelled_executions,
            self.timed_out_executions,
            self.successful_executions,
            self.failed_executions,
            self.panicked_executions,
            self.queued_tasks,
            self.active_tasks,
        )
    }
}

impl BulkheadStats {
    pub(crate) fn new(
        name: Arc<str>,
        state: BulkheadState,
        circuit_state: Option<CircuitState>,
        limits: (usize, usize),
        (totals, times): (Totals, Times),
    ) -> Self {
        let [succeeded, failed, panicked] = totals.ended;
        let rejected =
            totals.rejected_full + totals.rejected_circuit_open + totals.rejected_shut_down;
        Self {
            name,
            state,
            submitted_executions: rejected
                + totals.cancelled
                + totals.timed_out
                + succeeded
                + failed
                + panicked
                + totals.in_flight,
            total_executions: totals.started,
            successful_executions: succeeded,
            failed_executions: failed,
            panicked_executions: panicked,
            rejected_executions: rejected,
            rejected_full: totals.rejected_full,
            rejected_circuit_open: totals.rejected_circuit_open,
            rejected_shut_down: totals.rejected_shut_down,
            timed_out_executions: totals.timed_out,
            cancelled_executions: totals.cancelled,
            queued_tasks: totals.in_flight - totals.active,
            active_tasks: totals.active,
            abandoned_tasks: totals.abandoned,
            in_flight: totals.in_flight,
            max_concurrent_calls: limits.0 as u64,
            max_queue_size: limits.1 as u64,
            circuit_breaker_enabled: circuit_state.is_some(),
            circuit_state,
            queue_wait: times.queue_wait,
            run_time: times.run_time,
        }
    }
}
