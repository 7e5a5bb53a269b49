//! What an attempt gives, what a listener is told of it, and what is said of a call that failed after all its attempts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::error::BulkheadError;
use crate::result::ExecutionResult;

/// What an attempt gives: a `Result`, or an [`ExecutionResult`].
pub trait AttemptResult {
    /// The value of an attempt that succeeds.
    type Value;
    /// The error of one that fails.
    type Error;

    /// Only the outcome.
    ///
    /// # Errors
    ///
    /// That of the attempt.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, X> AttemptResult for Result<T, X> {
    type Value = T;
    type Error = X;

    fn into_result(self) -> Self {
        self
    }
}

impl<T, E> AttemptResult for ExecutionResult<T, E> {
    type Value = T;
    type Error = BulkheadError<E>;

    fn into_result(self) -> Result<T, BulkheadError<E>> {
        self.result
    }
}

/// What a listener of a [`Retry`](super::Retry) is told after each attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RetryEvent<'a> {
    /// The name of the retry.
    pub name: &'a str,
    /// Which attempt has ended, from 1.
    pub attempt: u32,
    /// How it ended, and what comes next.
    pub end: AttemptEnd,
    /// The time since the first attempt began, waits included.
    pub elapsed: Duration,
}

/// How an attempt ended, and what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// It succeeded.
    Succeeded,
    /// It failed, and the next attempt follows after a wait.
    #[non_exhaustive]
    Retrying {
        /// How long the wait is to be.
        delay: Duration,
    },
    /// It failed, and there is no other attempt; or the wait for the next one ended early.
    GaveUp(RetryStop),
}

/// Why there was no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryStop {
    /// The error is not worth another attempt, or the rule that was to say so has panicked.
    NotRetryable,
    /// All attempts were made.
    AttemptsUsedUp,
    /// The dependency's [`RetryBudget`](super::RetryBudget) has nothing left.
    BudgetUsedUp,
    /// The next attempt would have begun at the deadline or later: the retry's own [limit](super::Retry::total_limit), or what was
    /// [left](super::remaining()) to the code around it.
    DeadlineTooNear,
    /// The error asks for a longer wait than [`max_named_delay`](super::Retry::max_named_delay).
    DelayTooLong,
    /// The [stop condition](super::Retry::stop_if) said so, or the call that the retry runs in is cancelled.
    Stopped,
}

impl RetryStop {
    /// Each by its place in the enum.
    pub(crate) const ALL: [Self; 6] = [
        Self::NotRetryable,
        Self::AttemptsUsedUp,
        Self::BudgetUsedUp,
        Self::DeadlineTooNear,
        Self::DelayTooLong,
        Self::Stopped,
    ];

    /// The name in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::AttemptsUsedUp => "attempts_used_up",
            Self::BudgetUsedUp => "budget_used_up",
            Self::DeadlineTooNear => "deadline_too_near",
            Self::DelayTooLong => "delay_too_long",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for RetryStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "the error is not worth another attempt",
            Self::AttemptsUsedUp => "all attempts are used up",
            Self::BudgetUsedUp => "the retry budget is used up",
            Self::DeadlineTooNear => "the deadline comes before the next attempt",
            Self::DelayTooLong => "the error asks for too long a wait",
            Self::Stopped => "it was told to stop",
        })
    }
}

/// A call that failed in the end, after all its attempts.
///
/// Its [`source`](Error::source) is the last error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryError<X> {
    /// The error of the last attempt.
    pub last: X,
    /// How many attempts were made.
    pub attempts: u32,
    /// Why there was no other.
    pub stop: RetryStop,
    /// The time from the first attempt to the end, waits included.
    pub elapsed: Duration,
}

impl<X> RetryError<X> {
    /// The error of the last attempt.
    #[must_use]
    pub fn into_last(self) -> X {
        self.last
    }
}

impl<X> fmt::Display for RetryError<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "gave up after {} attempt{} in {:.1?}: {}",
            self.attempts,
            if self.attempts == 1 { "" } else { "s" },
            self.elapsed,
            self.stop
        )
    }
}

impl<X: Error + 'static> Error for RetryError<X> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_at_its_place() {
        for (place, stop) in RetryStop::ALL.into_iter().enumerate() {
            assert_eq!(stop as usize, place, "{stop:?}");
        }
    }
}
