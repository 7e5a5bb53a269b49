//! Why a pipeline gives no value, and why one cannot be built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;

use super::order::LayerKind;
use crate::circuit::CircuitOpen;
use crate::error::{BuildError, BulkheadError};
use crate::policy::failure::{Failure, FailureKind};
use crate::policy::rate_limit::RateLimited;
use crate::policy::retry_rule::{RetryIf, RetryRule, RetryableError};

/// Why a call through a [`Pipeline`](super::Pipeline) has no value. Each reason keeps its own type.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum PipelineError<E> {
    /// The task's own error, a panic, or what the bulkhead said. In a pipeline without a bulkhead its name stands in the
    /// place of the bulkhead's.
    #[error(transparent)]
    Call(BulkheadError<E>),
    /// The pipeline's rate limit was used up. The task did not start.
    #[error(transparent)]
    RateLimited(RateLimited),
    /// The pipeline's own circuit breaker was open. The task did not start.
    #[error(transparent)]
    CircuitOpen(CircuitOpen),
    /// The time was over before the task could start.
    #[error("pipeline `{pipeline}` had no time left to start the task{}", Within(*.limit))]
    TimedOut {
        /// The pipeline's name.
        pipeline: Arc<str>,
        /// The innermost timeout of the pipeline; `None` if it has none, and the deadline was that of the code around it.
        limit: Option<Duration>,
    },
}

struct Within(Option<Duration>);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "; the limit is {limit:.1?}"),
            None => Ok(()),
        }
    }
}

impl<E> PipelineError<E> {
    /// The task's own error, if that is what it is.
    #[must_use]
    pub fn failed(&self) -> Option<&E> {
        match self {
            Self::Call(error) => error.failed(),
            _ => None,
        }
    }

    /// Whether the task certainly never started and never will, so that the same work can safely be sent elsewhere. It is
    /// about the last attempt.
    #[must_use]
    pub fn never_started(&self) -> bool {
        match self {
            Self::Call(error) => error.never_started(),
            Self::RateLimited(_) | Self::CircuitOpen(_) | Self::TimedOut { .. } => true,
        }
    }
}

/// A call is decided as its [`BulkheadError`]. A refusal is worth another attempt when it says; not where the time is over.
impl<E> RetryableError for PipelineError<E> {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable(),
            Self::RateLimited(_) | Self::CircuitOpen(_) => true,
            Self::TimedOut { .. } => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(error) => error.retry_after(),
            Self::RateLimited(limited) => Some(limited.retry_after),
            Self::CircuitOpen(open) => Some(open.retry_after),
            Self::TimedOut { .. } => None,
        }
    }

    fn may_still_run(&self) -> bool {
        matches!(self, Self::Call(error) if error.may_still_run())
    }

    fn is_panic(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_panic())
    }
}

/// The rule decides about calls, and the default about the pipeline's own refusals.
impl<E> RetryRule<PipelineError<E>> for RetryIf<E> {
    fn is_retryable(&self, error: &PipelineError<E>) -> bool {
        match error {
            PipelineError::Call(call) => self.is_retryable(call),
            other => other.is_retryable(),
        }
    }

    fn retry_after(&self, error: &PipelineError<E>) -> Option<Duration> {
        match error {
            PipelineError::Call(call) => RetryRule::<BulkheadError<E>>::retry_after(self, call),
            other => RetryableError::retry_after(other),
        }
    }
}

impl<E> Failure for PipelineError<E> {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Call(error) => error.failure_kind(),
            Self::RateLimited(_) => FailureKind::RateLimited,
            Self::CircuitOpen(_) => FailureKind::CircuitOpen,
            Self::TimedOut { .. } => FailureKind::Timeout,
        }
    }
}

/// Why a pipeline cannot be built.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum PipelineBuildError {
    /// The order of two layers makes no sense.
    #[error("pipeline `{pipeline}` has a {inner} inside of a {outer}: {instead}")]
    Order {
        /// The pipeline's name.
        pipeline: Arc<str>,
        /// The layer that comes first.
        outer: LayerKind,
        /// The layer that comes after it.
        inner: LayerKind,
        /// What to do instead.
        instead: &'static str,
    },
    /// A value is out of range.
    #[error("pipeline `{pipeline}` cannot be built")]
    InvalidValue {
        /// The pipeline's name.
        pipeline: Arc<str>,
        /// Which value, and what it has to be.
        #[source]
        source: BuildError,
    },
}
