//! The numbers of a pipeline, as users see them.

use std::fmt;
use std::sync::Arc;

use crate::policy::failure::FailureKind;
use crate::policy::retry_outcome::RetryStop;
use crate::stats::Distribution;

/// The numbers of a [`Pipeline`](super::Pipeline) at one moment: its calls by what became of them, and what its layers did for
/// that. From [`Pipeline::stats`](super::Pipeline::stats), or for all pipelines of a dependency from
/// [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats).
///
/// ```
/// use bulkman::policy::{FailureKind, Pipeline, Retry, RetryStop};
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let users = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
/// let retry = Retry::new(3).first_delay(Duration::ZERO);
/// let pipeline = Pipeline::builder("users").retry(retry).bulkhead(&users).build()?;
/// assert!(pipeline.execute(|| "42".parse::<u32>()).is_success());
/// assert!(!pipeline.execute(|| "no".parse::<u32>()).is_success());
///
/// let stats = pipeline.stats();
/// assert_eq!((stats.calls, stats.successful_calls, stats.retries), (2, 1, 2));
/// assert_eq!(stats.failed_as(FailureKind::Failed), 1);
/// assert_eq!(stats.stopped_by(RetryStop::AttemptsUsedUp), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A call counts when it has ended, before its result can be seen; `calls` is always the sum of the three outcomes. All clones
/// of a pipeline count together. With the feature `config` it is `Serialize`, with `failures` and `retry_stops` by their names
/// in the [metrics](crate::export#the-metrics-of-pipelines).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipelineStats {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// Calls that have ended.
    pub calls: u64,
    /// Calls that got the task's own value.
    pub successful_calls: u64,
    /// Calls that the fallback has answered.
    pub fallback_calls: u64,
    /// Calls that got an error. [`failed_as`](Self::failed_as) tells them apart.
    pub failed_calls: u64,
    /// Attempts beyond the first of a call.
    pub retries: u64,
    /// Attempts that the pipeline's rate limit refused.
    pub rate_limited_attempts: u64,
    /// Attempts that the pipeline's own circuit breaker refused. A bulkhead counts those of its circuit itself.
    pub circuit_open_attempts: u64,
    /// Attempts beside which the hedge has started a second one.
    pub hedged_attempts: u64,
    /// How many of those second ones gave the result.
    pub hedges_won: u64,
    /// How long calls took, as [`PipelineResult::elapsed`](super::PipelineResult::elapsed).
    pub duration: Distribution,
    pub(super) failures: [u64; FailureKind::ALL.len()],
    pub(super) retry_stops: [u64; RetryStop::ALL.len()],
    /// Says whose numbers they are, for what publishes differences.
    #[cfg_attr(
        not(any(feature = "metrics", feature = "opentelemetry")),
        expect(dead_code, reason = "nobody publishes differences")
    )]
    pub(crate) serial: u64,
}

impl PipelineStats {
    /// All attempts, those among them that were refused.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.calls.saturating_add(self.retries)
    }

    /// Calls that failed with an error of this kind.
    #[must_use]
    pub fn failed_as(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize]
    }

    /// Calls whose last attempt failed, and whose retry made no other for this reason. A fallback may have answered them.
    #[must_use]
    pub fn stopped_by(&self, stop: RetryStop) -> u64 {
        self.retry_stops[stop as usize]
    }
}

/// A line for a log.
impl fmt::Display for PipelineStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pipeline `{}`: {} calls = {} succeeded + {} answered by the fallback + {} failed; {} retries, {} hedges",
            self.name,
            self.calls,
            self.successful_calls,
            self.fallback_calls,
            self.failed_calls,
            self.retries,
            self.hedged_attempts,
        )
    }
}

#[cfg(feature = "config")]
impl serde::Serialize for PipelineStats {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::collections::BTreeMap;

        use serde::ser::SerializeStruct;

        let failures = FailureKind::ALL.map(|kind| (kind.label(), self.failed_as(kind)));
        let stops = RetryStop::ALL.map(|stop| (stop.label(), self.stopped_by(stop)));
        let mut fields = serializer.serialize_struct("PipelineStats", 13)?;
        fields.serialize_field("name", &*self.name)?;
        fields.serialize_field("calls", &self.calls)?;
        fields.serialize_field("successful_calls", &self.successful_calls)?;
        fields.serialize_field("fallback_calls", &self.fallback_calls)?;
        fields.serialize_field("failed_calls", &self.failed_calls)?;
        fields.serialize_field("failures", &BTreeMap::from(failures))?;
        fields.serialize_field("retries", &self.retries)?;
        fields.serialize_field("retry_stops", &BTreeMap::from(stops))?;
        fields.serialize_field("rate_limited_attempts", &self.rate_limited_attempts)?;
        fields.serialize_field("circuit_open_attempts", &self.circuit_open_attempts)?;
        fields.serialize_field("hedged_attempts", &self.hedged_attempts)?;
        fields.serialize_field("hedges_won", &self.hedges_won)?;
        fields.serialize_field("duration", &self.duration)?;
        fields.end()
    }
}
