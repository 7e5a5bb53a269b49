//! The metrics, once for all exporters: their names, kinds, units and labels, and where the numbers come from.

use std::sync::Arc;
use std::time::Duration;

use crate::circuit::CircuitState;
use crate::policy::{FailureKind, PipelineStats, RetryStop};
use crate::stats::{BulkheadState, BulkheadStats, Distribution};

/// What numbers are exported of: a bulkhead or a pipeline.
pub(super) trait Exported: Sized + 'static {
    /// The label that has its name.
    const LABEL: &'static str;
    const FAMILIES: &'static [Family<Self>];
    const HISTOGRAMS: &'static [Histogram<Self>];

    fn name(&self) -> &Arc<str>;

    /// What its counters count: another pair of numbers, and they have begun anew.
    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    fn counting(&self) -> (u64, u64);
}

impl Exported for BulkheadStats {
    const LABEL: &'static str = "bulkhead";
    const FAMILIES: &'static [Family<Self>] = FAMILIES;
    const HISTOGRAMS: &'static [Histogram<Self>] = HISTOGRAMS;

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    fn counting(&self) -> (u64, u64) {
        self.counting
    }
}

impl Exported for PipelineStats {
    const LABEL: &'static str = "pipeline";
    const FAMILIES: &'static [Family<Self>] = PIPELINE_FAMILIES;
    const HISTOGRAMS: &'static [Histogram<Self>] = PIPELINE_HISTOGRAMS;

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(any(feature = "metrics", feature = "opentelemetry"))]
    fn counting(&self) -> (u64, u64) {
        (self.serial, 0)
    }
}

/// One metric.
pub(super) struct Family<S: 'static> {
    /// Without prefix, unit and `total`, see [`prometheus_name`].
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) help: &'static str,
    pub(super) series: &'static [Series<S>],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the numbers are reset.
    Counter,
    /// How many there are now; those of several bulkheads can be added up.
    Level,
    /// A value of this moment.
    Gauge,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Calls,
    Seconds,
    None,
}

/// The samples of one metric with the same label, besides that with the name.
pub(super) struct Series<S> {
    pub(super) label: Option<(&'static str, &'static str)>,
    /// `None`: the bulkhead does not have it, and never will.
    pub(super) read: fn(&S) -> Option<Value>,
}

#[derive(Clone, Copy)]
pub(super) enum Value {
    Count(u64),
    Time(Duration),
}

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
impl Value {
    /// Times in whole seconds.
    pub(super) fn as_u64(self) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Time(time) => time.as_secs(),
        }
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Time(time) => time.as_secs_f64(),
        }
    }
}

/// A metric of which not a single number is told, but how often which duration came.
pub(super) struct Histogram<S> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: fn(&S) -> &Distribution,
}

/// The upper bounds of buckets, where the user sets none.
pub(super) const BUCKETS: [Duration; 14] = {
    const MILLIS: [u64; 14] = [
        1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
    ];
    let mut bounds = [Duration::ZERO; 14];
    let mut i = 0;
    while i < MILLIS.len() {
        bounds[i] = Duration::from_millis(MILLIS[i]);
        i += 1;
    }
    bounds
};

/// As Prometheus' conventions want it.
pub(super) fn prometheus_name(name: &str, kind: Option<Kind>, unit: Unit) -> String {
    let unit = if unit == Unit::Seconds {
        "_seconds"
    } else {
        ""
    };
    let total = if kind == Some(Kind::Counter) {
        "_total"
    } else {
        ""
    };
    format!("bulkman_{name}{unit}{total}")
}

macro_rules! series {
    ($(($label:literal, $value:literal): $read:expr),+ $(,)?) => {
        &[$(Series { label: Some(($label, $value)), read: $read }),+]
    };
    ($read:expr) => {
        &[Series { label: None, read: $read }]
    };
}

const fn count(value: u64) -> Option<Value> {
    Some(Value::Count(value))
}

fn is_in(stats: &BulkheadStats, state: BulkheadState) -> Option<Value> {
    count(u64::from(stats.state == state))
}

fn circuit_is_in(stats: &BulkheadStats, state: CircuitState) -> Option<Value> {
    count(u64::from(stats.circuit_state? == state))
}

const FAMILIES: &[Family<BulkheadStats>] = &[
    Family {
        name: "submitted_calls",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Calls that were admitted or refused.",
        series: series!(|stats| count(stats.submitted_executions)),
    },
    Family {
        name: "rejected_calls",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Calls refused on their way in.",
        series: series!(
            ("reason", "full"): |stats| count(stats.rejected_full),
            ("reason", "circuit_open"): |stats| count(stats.rejected_circuit_open),
            ("reason", "shut_down"): |stats| count(stats.rejected_shut_down),
        ),
    },
    Family {
        name: "unstarted_calls",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Calls that were admitted and never started.",
        series: series!(
            ("reason", "cancelled"): |stats| count(stats.cancelled_executions),
            ("reason", "timed_out"): |stats| count(stats.timed_out_executions),
            ("reason", "circuit_open"): |stats| count(stats.refused_in_queue_executions),
        ),
    },
    Family {
        name: "finished_calls",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Tasks that ran to their end.",
        series: series!(
            ("outcome", "succeeded"): |stats| count(stats.successful_executions),
            ("outcome", "failed"): |stats| count(stats.failed_executions),
            ("outcome", "panicked"): |stats| count(stats.panicked_executions),
        ),
    },
    Family {
        name: "caller_timeouts",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Callers that left at their own limits, by whether the task had started.",
        series: series!(
            ("started", "true"): |stats| count(stats.caller_timeouts_started),
            ("started", "false"): |stats| count(stats.caller_timeouts_queued),
        ),
    },
    Family {
        name: "busy",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        help: "Time that all workers, or slots, together were busy.",
        series: series!(|stats| Some(Value::Time(stats.busy_time))),
    },
    Family {
        name: "active_calls",
        kind: Kind::Level,
        unit: Unit::Calls,
        help: "Tasks that run now.",
        series: series!(|stats| count(stats.active_tasks)),
    },
    Family {
        name: "queued_calls",
        kind: Kind::Level,
        unit: Unit::Calls,
        help: "Calls that wait for a worker or a slot.",
        series: series!(|stats| count(stats.queued_tasks)),
    },
    Family {
        name: "abandoned_calls",
        kind: Kind::Level,
        unit: Unit::Calls,
        help: "Tasks that run although their callers have left.",
        series: series!(|stats| count(stats.abandoned_tasks)),
    },
    Family {
        name: "max_concurrent_calls",
        kind: Kind::Level,
        unit: Unit::Calls,
        help: "The number of workers, or slots.",
        series: series!(|stats| count(stats.max_concurrent_calls)),
    },
    Family {
        name: "max_queue_size",
        kind: Kind::Level,
        unit: Unit::Calls,
        help: "The number of calls that may wait.",
        series: series!(|stats| count(stats.max_queue_size)),
    },
    Family {
        name: "worker_threads",
        kind: Kind::Level,
        unit: Unit::None,
        help: "Worker threads at this moment, 0 for a bulkhead without threads.",
        series: series!(|stats| count(stats.worker_threads)),
    },
    Family {
        name: "longest_running",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long the oldest of the running tasks has run, 0 if none runs.",
        series: series!(|stats| Some(Value::Time(stats.longest_running.unwrap_or_default()))),
    },
    Family {
        name: "longest_queued",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long the oldest of the waiting calls has waited, 0 if none waits.",
        series: series!(|stats| Some(Value::Time(stats.longest_queued.unwrap_or_default()))),
    },
    Family {
        name: "state",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 for the state that the bulkhead is in, 0 for the others.",
        series: series!(
            ("state", "healthy"): |stats| is_in(stats, BulkheadState::Healthy),
            ("state", "degraded"): |stats| is_in(stats, BulkheadState::Degraded),
            ("state", "isolated"): |stats| is_in(stats, BulkheadState::Isolated),
            ("state", "shut_down"): |stats| is_in(stats, BulkheadState::ShutDown),
        ),
    },
    Family {
        name: "circuit_state",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 for the state that the bulkhead's circuit is in, 0 for the others.",
        series: series!(
            ("state", "closed"): |stats| circuit_is_in(stats, CircuitState::Closed),
            ("state", "half_open"): |stats| circuit_is_in(stats, CircuitState::HalfOpen),
            ("state", "open"): |stats| circuit_is_in(stats, CircuitState::Open),
        ),
    },
];

const HISTOGRAMS: &[Histogram<BulkheadStats>] = &[QUEUE_WAIT, EXECUTION];

pub(super) const QUEUE_WAIT: Histogram<BulkheadStats> = Histogram {
    name: "queue_wait",
    help: "How long started calls had waited.",
    read: |stats| &stats.queue_wait,
};

pub(super) const EXECUTION: Histogram<BulkheadStats> = Histogram {
    name: "execution",
    help: "How long tasks ran.",
    read: |stats| &stats.run_time,
};

/// How many calls of a pipeline failed as this.
macro_rules! failed_as {
    ($kind:ident) => {
        Series {
            label: Some(("outcome", FailureKind::$kind.label())),
            read: |stats| count(stats.failed_as(FailureKind::$kind)),
        }
    };
}

macro_rules! stopped_by {
    ($stop:ident) => {
        Series {
            label: Some(("reason", RetryStop::$stop.label())),
            read: |stats| count(stats.stopped_by(RetryStop::$stop)),
        }
    };
}

const PIPELINE_FAMILIES: &[Family<PipelineStats>] = &[
    Family {
        name: "pipeline_calls",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Calls through a pipeline by what became of them in the end.",
        series: &[
            Series {
                label: Some(("outcome", "succeeded")),
                read: |stats| count(stats.successful_calls),
            },
            Series {
                label: Some(("outcome", "fallback")),
                read: |stats| count(stats.fallback_calls),
            },
            failed_as!(Failed),
            failed_as!(Panicked),
            failed_as!(Timeout),
            failed_as!(QueueTimeout),
            failed_as!(Full),
            failed_as!(CircuitOpen),
            failed_as!(RateLimited),
            failed_as!(ShutDown),
            failed_as!(Cancelled),
            failed_as!(TooDeep),
            failed_as!(NoThread),
        ],
    },
    Family {
        name: "pipeline_retries",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Attempts beyond the first of a call.",
        series: series!(|stats| count(stats.retries)),
    },
    Family {
        name: "pipeline_retry_stops",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Calls whose last attempt failed, by why there was no other.",
        series: &[
            stopped_by!(NotRetryable),
            stopped_by!(AttemptsUsedUp),
            stopped_by!(BudgetUsedUp),
            stopped_by!(DeadlineTooNear),
            stopped_by!(DelayTooLong),
            stopped_by!(Stopped),
        ],
    },
    Family {
        name: "pipeline_refused_attempts",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Attempts that the pipeline's own rate limit or circuit breaker refused.",
        series: series!(
            ("reason", "rate_limited"): |stats| count(stats.rate_limited_attempts),
            ("reason", "circuit_open"): |stats| count(stats.circuit_open_attempts),
        ),
    },
    Family {
        name: "pipeline_hedges",
        kind: Kind::Counter,
        unit: Unit::Calls,
        help: "Second attempts that a hedge has started, by whether they gave the result.",
        series: series!(
            ("won", "true"): |stats| count(stats.hedges_won),
            // A snapshot may see a hedge that won before it sees that it was started.
            ("won", "false"): |stats| count(stats.hedged_attempts.saturating_sub(stats.hedges_won)),
        ),
    },
];

const PIPELINE_HISTOGRAMS: &[Histogram<PipelineStats>] = &[PIPELINE_DURATION];

pub(super) const PIPELINE_DURATION: Histogram<PipelineStats> = Histogram {
    name: "pipeline_duration",
    help: "How long calls through a pipeline took, with all attempts and pauses.",
    read: |stats| &stats.duration,
};
