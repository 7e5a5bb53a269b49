//! Whether a bulkhead is well: thresholds, and what reaches them.
//!
//! Nothing runs in the background. An ask looks at facts of the moment, most of which say by themselves for how long they have
//! been so: since when a task runs, since when a call waits, since when the bulkhead is full. Only two thresholds need earlier
//! asks, which [`HealthMemory`] keeps: how full the queue was, and how many calls had been refused.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::Calls;
use super::snapshot::BulkheadState;
use crate::error::BuildError;

/// A rejection rate says nothing before so many calls have come.
const LEAST_CALLS: u64 = 10;

/// From where on a bulkhead counts as unhealthy, for [`BulkheadBuilder::health_thresholds`](crate::BulkheadBuilder::health_thresholds), and
/// for dependencies, also in settings: [`HealthOverrides`](crate::HealthOverrides).
///
/// Each is off by default: then a bulkhead is unhealthy while its circuit is open, and after a shutdown. A threshold is
/// reached with its very number, so `abandoned_tasks(1)` minds the first one.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, HealthThresholds};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::builder(BulkheadConfig::new("database"))
///     .health_thresholds(
///         HealthThresholds::default()
///             .queue_utilization(0.8, Duration::from_secs(10))
///             .all_busy_for(Duration::from_secs(30))
///             .rejection_rate(0.05, Duration::from_secs(60))
///             .abandoned_tasks(3),
///     )
///     .build()?;
/// let health = bulkhead.health();
/// assert!(health.is_healthy(), "{health}");
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// # For how long
///
/// No thread watches the bulkhead: [`health`](crate::Bulkhead::health) finds out when it is asked.
///
/// | threshold | how it knows |
/// |---|---|
/// | `saturated_for`, `queued_for`, `all_busy_for`, `abandoned_tasks` | exactly, however rarely it is asked |
/// | `queue_utilization` | from the asks: the queue was that full at one, and not down to half of that at any since. Exactly, if the bulkhead has been saturated since, and Q - N is at least that share of Q |
/// | `rejection_rate` | exactly, over a time that is at least the window, and at most twice as long or up to the ask before |
///
/// So ask about as often as the shortest time counts. [`saturated_for`](Self::saturated_for) ends when half of the places are
/// free, and `queue_utilization` at half of its share: neither flaps with each call.
///
/// # Coming from Python
///
/// `health_check_interval` is how often a probe asks. There is no task in the background that it would set the pace of.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use]
pub struct HealthThresholds {
    /// See [`queue_utilization`](Self::queue_utilization).
    pub queue_utilization: Option<(f64, Duration)>,
    /// See [`saturated_for`](Self::saturated_for).
    pub saturated_for: Option<Duration>,
    /// See [`queued_for`](Self::queued_for).
    pub queued_for: Option<Duration>,
    /// See [`all_busy_for`](Self::all_busy_for).
    pub all_busy_for: Option<Duration>,
    /// See [`abandoned_tasks`](Self::abandoned_tasks).
    pub abandoned_tasks: Option<u64>,
    /// See [`rejection_rate`](Self::rejection_rate).
    pub rejection_rate: Option<(f64, Duration)>,
    /// See [`closed_circuit`](Self::closed_circuit).
    pub closed_circuit: bool,
}

impl HealthThresholds {
    /// This share of the queue, above 0 and up to 1, is taken, and has been for so long. With a time of zero the moment
    /// counts. A bulkhead without a queue never reaches it.
    pub fn queue_utilization(mut self, share: f64, lasting: Duration) -> Self {
        self.queue_utilization = Some((share, lasting));
        self
    }

    /// The bulkhead has been saturated for so long: it has refused a call as full, and more than half of its places have been
    /// taken ever since.
    pub fn saturated_for(mut self, limit: Duration) -> Self {
        self.saturated_for = Some(limit);
        self
    }

    /// A call has been waiting for a worker, or for a slot, for so long.
    pub fn queued_for(mut self, limit: Duration) -> Self {
        self.queued_for = Some(limit);
        self
    }

    /// Each of the workers, or slots, has been busy with the same task for so long: a sign that the dependency hangs. Workers
    /// that are busy with one short task after another do not reach it.
    pub fn all_busy_for(mut self, limit: Duration) -> Self {
        self.all_busy_for = Some(limit);
        self
    }

    /// So many tasks, at least 1, run although their callers have left.
    pub fn abandoned_tasks(mut self, count: u64) -> Self {
        self.abandoned_tasks = Some(count);
        self
    }

    /// This share of the calls, above 0 and up to 1, was refused as full or by the circuit, over a window that is longer than
    /// zero. Fewer than ten calls say nothing.
    pub fn rejection_rate(mut self, share: f64, window: Duration) -> Self {
        self.rejection_rate = Some((share, window));
        self
    }

    /// Whether a circuit that is half-open counts as unhealthy too. Default: false.
    pub fn closed_circuit(mut self, is_required: bool) -> Self {
        self.closed_circuit = is_required;
        self
    }

    /// Whether a bulkhead can be built with these.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] for a share that is not above 0 and up to 1, a count of zero, or a window of zero: a
    /// bulkhead would always, or never, reach it.
    pub fn validate(&self) -> Result<(), BuildError> {
        let shares = [
            ("queue_utilization", self.queue_utilization),
            ("rejection_rate", self.rejection_rate),
        ];
        for (field, threshold) in shares {
            if let Some((share, _)) = threshold {
                let is_share = share > 0.0 && share <= 1.0;
                BuildError::check(is_share, field, share, "must be above 0 and at most 1")?;
            }
        }
        if let Some((_, window)) = self.rejection_rate {
            let value = format!("a window of {window:?}");
            BuildError::check(!window.is_zero(), "rejection_rate", value, "must be longer")?;
        }
        let count = self.abandoned_tasks.unwrap_or(1);
        BuildError::check(count > 0, "abandoned_tasks", count, "must be at least 1")
    }

    /// Whether the numbers of the ledger are needed.
    pub(crate) fn need_numbers(&self) -> bool {
        *self
            != Self {
                closed_circuit: self.closed_circuit,
                ..Self::default()
            }
    }
}

/// Whether a bulkhead is well, and if not, why. From [`Bulkhead::health`](crate::Bulkhead::health).
///
/// The [`Display`](fmt::Display) has the reasons in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadHealth {
    /// The bulkhead's name.
    pub name: Arc<str>,
    /// What [`Bulkhead::state`](crate::Bulkhead::state) says.
    pub state: BulkheadState,
    /// Everything that is wrong with it.
    pub reasons: Vec<HealthReason>,
}

impl BulkheadHealth {
    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl fmt::Display for BulkheadHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reasons, .. } = self;
        if reasons.is_empty() {
            return write!(f, "bulkhead `{name}` is healthy");
        }
        write!(f, "bulkhead `{name}` is unhealthy: {}", InWords(reasons))
    }
}

/// Reasons, with semicolons between them.
pub(crate) struct InWords<'a>(pub(crate) &'a [HealthReason]);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.0.iter().enumerate() {
            let before = if i == 0 { "" } else { "; " };
            write!(f, "{before}{reason}")?;
        }
        Ok(())
    }
}

/// What is wrong with a bulkhead. The [`Display`](fmt::Display) says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthReason {
    /// It is shut down.
    ShutDown,
    /// Its circuit is open.
    CircuitOpen,
    /// Its circuit is half-open, and has to be [closed](HealthThresholds::closed_circuit).
    CircuitHalfOpen,
    /// [`saturated_for`](HealthThresholds::saturated_for) is reached.
    #[non_exhaustive]
    Saturated {
        /// For how long it has been saturated.
        lasting: Duration,
    },
    /// [`queue_utilization`](HealthThresholds::queue_utilization) is reached.
    #[non_exhaustive]
    QueueUtilization {
        /// How many calls are queued now.
        queued_tasks: u64,
        /// Q.
        max_queue_size: u64,
        /// For how long the queue is known to have been so full.
        lasting: Duration,
    },
    /// [`queued_for`](HealthThresholds::queued_for) is reached.
    #[non_exhaustive]
    QueuedFor {
        /// How long the call has waited that has waited longest.
        longest_queued: Duration,
    },
    /// [`all_busy_for`](HealthThresholds::all_busy_for) is reached.
    #[non_exhaustive]
    AllBusy {
        /// N.
        max_concurrent_calls: u64,
        /// How long the youngest of their tasks has been running.
        lasting: Duration,
    },
    /// [`abandoned_tasks`](HealthThresholds::abandoned_tasks) is reached.
    #[non_exhaustive]
    AbandonedTasks {
        /// How many there are.
        abandoned_tasks: u64,
        /// How long the oldest of them has been running.
        longest_abandoned: Duration,
    },
    /// [`rejection_rate`](HealthThresholds::rejection_rate) is reached.
    #[non_exhaustive]
    RejectionRate {
        /// How many calls were refused as full or by the circuit.
        rejected: u64,
        /// How many were admitted or refused.
        submitted: u64,
        /// In how long.
        within: Duration,
    },
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("it is shut down"),
            Self::CircuitOpen => f.write_str("its circuit is open"),
            Self::CircuitHalfOpen => f.write_str("its circuit is half-open"),
            Self::Saturated { lasting } => write!(f, "it has been full for {lasting:.1?}"),
            Self::QueueUtilization {
                queued_tasks,
                max_queue_size,
                lasting,
            } => write!(
                f,
                "{queued_tasks} calls are in its queue of {max_queue_size}, which has been long for {lasting:.1?}"
            ),
            Self::QueuedFor { longest_queued } => {
                write!(f, "a call has been queued for {longest_queued:.1?}")
            }
            Self::AllBusy {
                max_concurrent_calls,
                lasting,
            } => write!(
                f,
                "all {max_concurrent_calls} tasks that it can run have been running for {lasting:.1?} or longer"
            ),
            Self::AbandonedTasks {
                abandoned_tasks,
                longest_abandoned,
            } => write!(
                f,
                "{abandoned_tasks} tasks run although their callers have left, the oldest for {longest_abandoned:.1?}"
            ),
            Self::RejectionRate {
                rejected,
                submitted,
                within,
            } => write!(
                f,
                "{rejected} of {submitted} calls were refused in {within:.1?}"
            ),
        }
    }
}

/// What is known of a bulkhead at the moment of an ask.
pub(crate) struct HealthFacts {
    pub(crate) now: Instant,
    pub(crate) max_concurrent_calls: u64,
    pub(crate) max_queue_size: u64,
    pub(crate) queued_tasks: u64,
    pub(crate) longest_queued: Option<Duration>,
    pub(crate) saturated_since: Option<Instant>,
    /// How long the youngest task has been running, if all workers or slots run one.
    pub(crate) all_busy_for: Option<Duration>,
    pub(crate) abandoned_tasks: u64,
    pub(crate) longest_abandoned: Option<Duration>,
    pub(crate) calls: Calls,
}

/// What the asks before have found.
pub(crate) struct HealthMemory {
    thresholds: HealthThresholds,
    /// Since when the queue has been known to be long.
    queue_long_since: Option<Instant>,
    /// The calls at two asks before, at least a window apart; the later one second.
    calls: [(Instant, Calls); 2],
}

impl HealthMemory {
    /// Nothing was submitted before `epoch`.
    pub(crate) fn new(thresholds: HealthThresholds, epoch: Instant) -> Self {
        let none = Calls {
            submitted: 0,
            rejected: 0,
        };
        Self {
            thresholds,
            queue_long_since: None,
            calls: [(epoch, none); 2],
        }
    }

    pub(crate) fn thresholds(&self) -> &HealthThresholds {
        &self.thresholds
    }

    /// Goes by other thresholds from here on. Of those that change nothing is remembered.
    pub(crate) fn set_thresholds(
        &mut self,
        thresholds: HealthThresholds,
        now: Instant,
        calls: Calls,
    ) {
        let before = std::mem::replace(&mut self.thresholds, thresholds);
        if before.queue_utilization != self.thresholds.queue_utilization {
            self.queue_long_since = None;
        }
        if before.rejection_rate != self.thresholds.rejection_rate {
            self.calls = [(now, calls); 2];
        }
    }

    /// Adds what reaches a threshold.
    pub(crate) fn judge(&mut self, facts: &HealthFacts, reasons: &mut Vec<HealthReason>) {
        let thresholds = self.thresholds.clone();
        let lasting = |since| facts.now.saturating_duration_since(since);
        let saturated_for = facts.saturated_since.map(lasting);
        if let Some(lasting) = reached(saturated_for, thresholds.saturated_for) {
            reasons.push(HealthReason::Saturated { lasting });
        }
        if let Some((share, least)) = thresholds.queue_utilization {
            let long_for = self.queue_long_since(share, facts).map(lasting);
            if let Some(lasting) = reached(long_for, Some(least)) {
                reasons.push(HealthReason::QueueUtilization {
                    queued_tasks: facts.queued_tasks,
                    max_queue_size: facts.max_queue_size,
                    lasting,
                });
            }
        }
        if let Some(longest_queued) = reached(facts.longest_queued, thresholds.queued_for) {
            reasons.push(HealthReason::QueuedFor { longest_queued });
        }
        if let Some(lasting) = reached(facts.all_busy_for, thresholds.all_busy_for) {
            reasons.push(HealthReason::AllBusy {
                max_concurrent_calls: facts.max_concurrent_calls,
                lasting,
            });
        }
        let abandoned_tasks = facts.abandoned_tasks;
        if thresholds
            .abandoned_tasks
            .is_some_and(|count| abandoned_tasks >= count)
        {
            reasons.push(HealthReason::AbandonedTasks {
                abandoned_tasks,
                longest_abandoned: facts.longest_abandoned.unwrap_or_default(),
            });
        }
        if let Some((share, window)) = thresholds.rejection_rate {
            let (calls, within) = self.calls_within(window, facts);
            let rate = calls.rejected as f64 / calls.submitted.max(1) as f64;
            if calls.submitted >= LEAST_CALLS && rate >= share {
                reasons.push(HealthReason::RejectionRate {
                    rejected: calls.rejected,
                    submitted: calls.submitted,
                    within,
                });
            }
        }
    }

    /// Since when the queue has been long: it was at `share`, and not at half of that since.
    fn queue_long_since(&mut self, share: f64, facts: &HealthFacts) -> Option<Instant> {
        if facts.max_queue_size == 0 {
            return None;
        }
        let size = facts.max_queue_size as f64;
        let taken = facts.queued_tasks as f64 / size;
        if taken <= share / 2.0 {
            self.queue_long_since = None;
        } else if taken >= share {
            self.queue_long_since.get_or_insert(facts.now);
            // A saturation begins with a full queue. While it lasts, more than half of the N + Q places are taken, so more
            // than (Q - N) / 2 calls are queued. If that is half of the share or more, the queue has been long ever since.
            let least = (size - facts.max_concurrent_calls as f64) / 2.0 / size;
            if least >= share / 2.0 {
                let saturated_since = facts.saturated_since.into_iter();
                self.queue_long_since = saturated_since.chain(self.queue_long_since).min();
            }
        }
        self.queue_long_since
    }

    /// The calls of a time that is at least the window, and how long that is.
    fn calls_within(&mut self, window: Duration, facts: &HealthFacts) -> (Calls, Duration) {
        let since = |at| facts.now.saturating_duration_since(at);
        let [earlier, later] = self.calls;
        let is_over = since(later.0) >= window;
        let (at, before) = if is_over { later } else { earlier };
        if is_over {
            self.calls = [later, (facts.now, facts.calls)];
        }
        let calls = Calls {
            submitted: facts.calls.submitted.saturating_sub(before.submitted),
            rejected: facts.calls.rejected.saturating_sub(before.rejected),
        };
        (calls, since(at))
    }
}

/// `lasting`, if it reaches the threshold.
fn reached(lasting: Option<Duration>, threshold: Option<Duration>) -> Option<Duration> {
    let threshold = threshold?;
    lasting.filter(|lasting| *lasting >= threshold)
}
