//! What a call through a pipeline gives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::PipelineError;
use super::order::LayerKind;
use super::times::Times;
use crate::policy::failure::FailureKind;
use crate::policy::retry_outcome::RetryStop;
use crate::text::OneLine;

/// The outcome of a call through a [`Pipeline`](super::Pipeline): what became of it, in how many attempts, which layer
/// decided, and where the time went.
///
/// ```
/// use bulkman::policy::{LayerKind, Pipeline, Retry};
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let users = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
/// let pipeline = Pipeline::builder("users").retry(Retry::new(3)).bulkhead(&users).build()?;
///
/// let result = pipeline.execute(|| "42".parse::<u32>());
/// assert_eq!(result.attempts, 1);
/// assert_eq!(result.decided_by, LayerKind::Task);
/// println!("in line {:?}, at work {:?}", result.time_in(LayerKind::Bulkhead), result.time_in(LayerKind::Task));
/// assert_eq!(result.into_result()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a call may have failed, and the failure is in here"]
#[non_exhaustive]
pub struct PipelineResult<T, E> {
    /// The value, or why there is none.
    pub result: Result<T, PipelineError<E>>,
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// How many attempts were made. One that a layer or the bulkhead refused counts too, so it is at least one, and exactly one
    /// without a retry.
    pub attempts: u32,
    /// The layer that the result comes from: [`Task`](LayerKind::Task) for the task's own value, error or panic, else the
    /// layer that refused, gave up or answered.
    pub decided_by: LayerKind,
    /// Why there was no other attempt, if the retry gave up.
    pub retry_stop: Option<RetryStop>,
    /// The error in whose place the fallback has answered.
    pub fell_back_from: Option<PipelineError<E>>,
    /// How many attempts had a second one started beside them by the hedge.
    pub hedged: u32,
    /// For how many of them the second one gave the result.
    pub hedges_won: u32,
    /// The time of the whole call.
    ///
    /// Around a bulkhead without any other layer it is what the bulkhead has measured: the time in the queue and the time at
    /// work. A pipeline of nothing reads no clock, and tells zero.
    pub elapsed: Duration,
    pub(super) times: Times,
}

impl<T, E> PipelineResult<T, E> {
    /// Whether there is a value, be it the fallback's.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.result.is_ok()
    }

    /// Only the outcome, for `?`.
    ///
    /// # Errors
    ///
    /// Whatever kept the call from giving a value.
    pub fn into_result(self) -> Result<T, PipelineError<E>> {
        self.result
    }

    /// The error, if there is one.
    #[must_use]
    pub fn error(&self) -> Option<&PipelineError<E>> {
        self.result.as_ref().err()
    }

    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.result.as_ref().ok()
    }

    /// How much of the time passed in a layer itself, over all attempts:
    ///
    /// | layer | time |
    /// |---|---|
    /// | `Fallback` | until it had an answer |
    /// | `Retry` | the pauses between attempts |
    /// | `RateLimit` | waiting for a turn |
    /// | `Bulkhead` | in its queue |
    /// | `Task` | at work; zero in a pipeline of nothing, as [`elapsed`](Self::elapsed) |
    ///
    /// The others take none.
    #[must_use]
    pub fn time_in(&self, layer: LayerKind) -> Duration {
        self.times.of(layer)
    }
}

/// What a listener of a pipeline is told after each call: one event for the call, however many attempts it took.
///
/// Its text is a line for a log. The crate itself logs no single call.
///
/// ```
/// use bulkman::policy::{LayerKind, Pipeline, Retry};
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::sync::Arc;
///
/// let users = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
/// let pipeline = Pipeline::builder("users")
///     .retry(Retry::new(3))
///     .bulkhead(&users)
///     .operation("get_user")
///     .listener(|event| {
///         log::debug!("{event}"); // pipeline `users`, operation `get_user`: succeeded after 1 attempt in 12.0µs
///         let _for_a_histogram = event.time_in(LayerKind::Task);
///     })
///     .build()?;
/// assert_eq!(pipeline.execute(|| "42".parse::<u32>()).value(), Some(&42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Of each attempt a retry's own [listener](crate::policy::Retry::listener) is told, and of its call the bulkhead's.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PipelineEvent<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// What the pipeline's calls [do](super::PipelineBuilder::operation), if it was named.
    pub operation: Option<&'a str>,
    /// The kind of the error, if the call failed.
    pub failure: Option<FailureKind>,
    /// The kind of the error in whose place the fallback has answered.
    pub fell_back_from: Option<FailureKind>,
    /// How many attempts were made, as in [`PipelineResult::attempts`].
    pub attempts: u32,
    /// The layer that the result comes from.
    pub decided_by: LayerKind,
    /// Why there was no other attempt, if the retry gave up.
    pub retry_stop: Option<RetryStop>,
    /// How many attempts had a second one started beside them by the hedge.
    pub hedged: u32,
    /// For how many of them the second one gave the result.
    pub hedges_won: u32,
    /// The time of the whole call, as [`PipelineResult::elapsed`].
    pub elapsed: Duration,
    pub(super) times: Times,
}

impl PipelineEvent<'_> {
    /// How much of the time passed in a layer itself, as [`PipelineResult::time_in`].
    #[must_use]
    pub fn time_in(&self, layer: LayerKind) -> Duration {
        self.times.of(layer)
    }
}

pub(crate) type Listener = Arc<dyn Fn(&PipelineEvent<'_>) + Send + Sync>;

impl fmt::Display for PipelineEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipeline `{}`", self.pipeline)?;
        if let Some(operation) = self.operation {
            write!(f, ", operation `{}`", OneLine(operation))?;
        }
        f.write_str(": ")?;
        match (self.failure, self.fell_back_from) {
            (Some(failure), _) => write!(f, "{failure}")?,
            (None, Some(failure)) => write!(f, "answered by the fallback ({failure})")?,
            (None, None) => f.write_str("succeeded")?,
        }
        write!(
            f,
            " after {} attempt{} in {:.1?}",
            self.attempts,
            if self.attempts == 1 { "" } else { "s" },
            self.elapsed
        )
    }
}
