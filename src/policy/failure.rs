//! The kinds of errors, for policies that treat them differently.

use std::fmt;

use super::retry_outcome::RetryError;
use crate::context::PolicySpan;
use crate::error::{BulkheadError, RejectReason};

/// Why a call has no value, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The bulkhead had no place.
    Full,
    /// A circuit was open.
    CircuitOpen,
    /// A rate limit was used up.
    RateLimited,
    /// The bulkhead is shut down.
    ShutDown,
    /// The call was nested too deeply.
    TooDeep,
    /// There was no worker thread to be had.
    NoThread,
    /// The call waited too long for a worker or a slot.
    QueueTimeout,
    /// The call was cancelled in the queue.
    Cancelled,
    /// The caller's limit passed.
    Timeout,
    /// The task panicked.
    Panicked,
    /// The task returned its own error.
    Failed,
}

impl FailureKind {
    /// The kinds of calls that were turned away: full, circuit open, rate limited, shut down, nested too deeply, no thread. Their tasks
    /// never started.
    pub const REFUSED: [Self; 6] = [
        Self::Full,
        Self::CircuitOpen,
        Self::RateLimited,
        Self::ShutDown,
        Self::TooDeep,
        Self::NoThread,
    ];
    /// Each by its place in the enum.
    pub(crate) const ALL: [Self; 11] = [
        Self::Full,
        Self::CircuitOpen,
        Self::RateLimited,
        Self::ShutDown,
        Self::TooDeep,
        Self::NoThread,
        Self::QueueTimeout,
        Self::Cancelled,
        Self::Timeout,
        Self::Panicked,
        Self::Failed,
    ];

    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::CircuitOpen => "circuit_open",
            Self::RateLimited => "rate_limited",
            Self::ShutDown => "shut_down",
            Self::TooDeep => "too_deep",
            Self::NoThread => "no_thread",
            Self::QueueTimeout => "queue_timeout",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::Failed => "failed",
        }
    }

    /// The kinds of calls that took too long.
    pub const TOO_LATE: [Self; 2] = [Self::QueueTimeout, Self::Timeout];
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::CircuitOpen => "circuit open",
            Self::RateLimited => "rate limited",
            Self::ShutDown => "shut down",
            Self::TooDeep => "too deep",
            Self::NoThread => "no thread",
            Self::QueueTimeout => "queue timeout",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::Failed => "failed",
        })
    }
}

/// An error with a [`FailureKind`].
pub trait Failure {
    /// Which kind of failure it is.
    fn failure_kind(&self) -> FailureKind;
}

/// Records in a trace how a call has ended. As with bulkheads, a cancelled one is no error.
pub(super) fn record_outcome(span: &PolicySpan<'_>, failure: Option<FailureKind>) {
    match failure {
        None => span.record_outcome("succeeded", false),
        Some(failure) => span.record_outcome(failure, failure != FailureKind::Cancelled),
    }
}

impl<E> Failure for BulkheadError<E> {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Full { .. } => FailureKind::Full,
            Self::CircuitOpen { .. } => FailureKind::CircuitOpen,
            Self::ShutDown { .. } => FailureKind::ShutDown,
            Self::TooDeep { .. } => FailureKind::TooDeep,
            Self::NoThread { .. } => FailureKind::NoThread,
            Self::QueueTimeout { .. } => FailureKind::QueueTimeout,
            Self::Cancelled { .. } => FailureKind::Cancelled,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Panicked(_) => FailureKind::Panicked,
            Self::Failed(_) => FailureKind::Failed,
        }
    }
}

impl Failure for RejectReason {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Full { .. } => FailureKind::Full,
            Self::CircuitOpen { .. } => FailureKind::CircuitOpen,
            Self::ShutDown { .. } => FailureKind::ShutDown,
        }
    }
}

/// The kind of the last error.
impl<X: Failure> Failure for RetryError<X> {
    fn failure_kind(&self) -> FailureKind {
        self.last.failure_kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_at_its_place_and_has_its_words_as_a_name() {
        for (place, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind}");
            assert_eq!(kind.label().replace('_', " "), kind.to_string());
        }
    }
}
