//! The numbers of one bulkhead at one moment, as users see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::distribution::Distribution;
use super::ledger::Numbers;
use crate::circuit::CircuitState;

/// How a bulkhead is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
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
/// `submitted = rejected + refused_in_queue + cancelled + timed_out + successful + failed + panicked + queued + active`
///
/// A call counts by its own end. If its caller left at a time limit while it ran, it is active and abandoned until it ends,
/// and then successful, failed or panicked. The [`Display`](std::fmt::Display) is that sum in one line.
///
/// Counters run from the start, or from the last
/// [`reset_stats`](crate::Bulkhead::reset_stats); after that the calls then in flight count as submitted.
///
/// With the feature `config` it is `Serialize`, by the names of its fields: durations in seconds, states as `shut_down` and
/// `half_open`, a [`Distribution`] as its count, sum, mean, maximum and buckets.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BulkheadStats {
    /// The bulkhead's name.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::name")
    )]
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
    /// Calls refused on their way in, for any of the next three reasons.
    pub rejected_executions: u64,
    /// Calls refused because all places were taken.
    pub rejected_full: u64,
    /// Calls refused by the circuit breaker.
    pub rejected_circuit_open: u64,
    /// Calls refused because the bulkhead was shut down.
    pub rejected_shut_down: u64,
    /// Calls refused in the queue: the circuit opened after they had been admitted, or they were
    /// [nested too deep](crate::BulkheadError::TooDeep).
    pub refused_in_queue_executions: u64,
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
    /// Callers that left at their own limit while their task ran, with
    /// [`Timeout { started: true }`](crate::BulkheadError::Timeout). Their calls count by their own ends, so these are no
    /// part of the sum.
    pub caller_timeouts_started: u64,
    /// Callers that left at their own limit before their task started, with `Timeout { started: false }`. Their calls are
    /// among `timed_out_executions`.
    pub caller_timeouts_queued: u64,
    /// Places taken: `queued_tasks + active_tasks`, at most N + Q.
    pub in_flight: u64,

    /// N.
    pub max_concurrent_calls: u64,
    /// Q.
    pub max_queue_size: u64,

    /// Worker threads at this moment: those that work or wait for work, and those that are starting or ending. N, unless they
    /// start [on demand](crate::BulkheadConfig::idle_timeout) or N has just changed. 0 for a semaphore bulkhead.
    pub worker_threads: u64,

    /// Whether there is a circuit breaker.
    pub circuit_breaker_enabled: bool,
    /// The circuit's state, if there is a breaker.
    pub circuit_state: Option<CircuitState>,

    /// How long started calls had waited for a worker, or for a free slot.
    pub queue_wait: Distribution,
    /// How long tasks ran.
    pub run_time: Distribution,

    /// Which bulkhead, and which of its resets: other numbers than before begin anew.
    #[cfg_attr(feature = "config", serde(skip))]
    #[cfg_attr(
        not(any(feature = "metrics", feature = "opentelemetry")),
        expect(dead_code, reason = "a recorder of metrics has to know")
    )]
    pub(crate) counting: (u64, u64),
    /// How long these counters have been running: since the start, or since the last reset.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds")
    )]
    pub measured_for: Duration,
    /// How long all workers together, or all slots, were busy meanwhile. A task that runs counts up to now.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds")
    )]
    pub busy_time: Duration,
    /// How long the task that has been running longest has been running.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds_if_any")
    )]
    pub longest_running: Option<Duration>,
    /// How long the abandoned task that has been running longest has been running. `None` if there is none.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds_if_any")
    )]
    pub longest_abandoned: Option<Duration>,
    /// How long the call that has been waiting longest has been waiting for a worker, or for a free slot.
    #[cfg_attr(
        feature = "config",
        serde(serialize_with = "crate::text::serialized::seconds_if_any")
    )]
    pub longest_queued: Option<Duration>,
}

/// What a snapshot says besides the numbers of the ledger.
pub(crate) struct Moment {
    /// The bulkhead's serial number.
    pub(crate) serial: u64,
    pub(crate) name: Arc<str>,
    pub(crate) state: BulkheadState,
    pub(crate) circuit_state: Option<CircuitState>,
    pub(crate) max_concurrent_calls: usize,
    pub(crate) max_queue_size: usize,
    pub(crate) worker_threads: usize,
    pub(crate) measured_for: Duration,
    pub(crate) longest_queued: Option<Duration>,
}

impl fmt::Display for BulkheadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bulkhead `{}` is {}: {} submitted = {} rejected + {} refused in queue + {} cancelled + {} timed out \
             + {} successful + {} failed + {} panicked + {} queued + {} active",
            self.name,
            self.state,
            self.submitted_executions,
            self.rejected_executions,
            self.refused_in_queue_executions,
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
    /// The share of the workers, or of the slots, that are busy at this moment: `active_tasks / max_concurrent_calls`.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        share(self.active_tasks, self.max_concurrent_calls)
    }

    /// The share of the queue that is taken at this moment: `queued_tasks / max_queue_size`. Calls on their way to a free
    /// worker are queued for a moment, so it may be above 1. Without a queue it is 0.
    #[must_use]
    pub fn queue_utilization(&self) -> f64 {
        share(self.queued_tasks, self.max_queue_size)
    }

    /// The share of their time that the workers, or the slots, were busy: the mean of
    /// [`utilization`](Self::utilization) since the start or the last reset.
    ///
    /// Near 1 the bulkhead has too few of them for its load, or a dependency that has become slow. Near 0 it has more
    /// than it needs.
    #[must_use]
    pub fn mean_utilization(&self) -> f64 {
        let all = self.measured_for.as_secs_f64() * self.max_concurrent_calls as f64;
        if all > 0.0 {
            (self.busy_time.as_secs_f64() / all).min(1.0)
        } else {
            0.0
        }
    }

    /// A counter of these as a rate, in events a second since the start or the last reset.
    ///
    /// ```
    /// # let bulkhead = bulkman::Bulkhead::new(bulkman::BulkheadConfig::new("rates")).unwrap();
    /// let stats = bulkhead.stats();
    /// let rejections = stats.per_second(stats.rejected_executions);
    /// # assert_eq!(rejections, 0.0);
    /// ```
    #[must_use]
    pub fn per_second(&self, count: u64) -> f64 {
        let seconds = self.measured_for.as_secs_f64();
        if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        }
    }

    pub(crate) fn new(moment: Moment, numbers: Numbers) -> Self {
        let Moment {
            serial,
            name,
            state,
            circuit_state,
            max_concurrent_calls,
            max_queue_size,
            worker_threads,
            measured_for,
            longest_queued,
        } = moment;
        let Numbers {
            totals,
            times,
            busy_time,
            longest_running,
            longest_abandoned,
            resets,
            ..
        } = numbers;
        let [succeeded, failed, panicked] = totals.ended;
        let [caller_timeouts_queued, caller_timeouts_started] = totals.caller_timeouts;
        let rejected =
            totals.rejected_full + totals.rejected_circuit_open + totals.rejected_shut_down;
        Self {
            name,
            state,
            submitted_executions: rejected
                + totals.refused_in_queue
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
            refused_in_queue_executions: totals.refused_in_queue,
            timed_out_executions: totals.timed_out,
            cancelled_executions: totals.cancelled,
            queued_tasks: totals.in_flight - totals.active,
            active_tasks: totals.active,
            abandoned_tasks: totals.abandoned,
            caller_timeouts_started,
            caller_timeouts_queued,
            in_flight: totals.in_flight,
            max_concurrent_calls: max_concurrent_calls as u64,
            max_queue_size: max_queue_size as u64,
            worker_threads: worker_threads as u64,
            circuit_breaker_enabled: circuit_state.is_some(),
            circuit_state,
            queue_wait: times.queue_wait,
            run_time: times.run_time,
            counting: (serial, resets),
            measured_for,
            busy_time,
            longest_running,
            longest_abandoned,
            longest_queued,
        }
    }
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        part as f64 / of as f64
    }
}
