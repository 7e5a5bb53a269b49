//! What a call gives back.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::error::{BulkheadError, RejectReason};

/// The outcome of one call, with its id and its times.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("math"))?;
/// let result = bulkhead.execute(|| "42".parse::<i32>()).wait();
/// assert!(result.is_success());
/// assert_eq!(result.value(), Some(&42));
/// println!("{} ran for {:?}", result.execution_id, result.execution_time);
/// let number: i32 = result.into_result()?;
/// # assert_eq!(number, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a call may have failed, and the failure is in here"]
#[non_exhaustive]
pub struct ExecutionResult<T, E> {
    /// The value, or why there is none.
    pub result: Result<T, BulkheadError<E>>,
    /// Identifies this call in results, listeners and reports: a random (v4) UUID.
    pub execution_id: Uuid,
    /// The bulkhead's name.
    pub bulkhead_name: Arc<str>,
    /// From admission until a worker took the call, or it got a slot, or until it was given up. Zero for a refused call.
    pub queued_time: Duration,
    /// How long the task ran, or had run when its caller stopped waiting. Zero if it never started. On a worker that
    /// goes from one call without limits straight to the next, that one counts from the end of the last, so these times
    /// include the fraction of a microsecond in between.
    pub execution_time: Duration,
}

impl<T, E> ExecutionResult<T, E> {
    pub(crate) fn refused(reason: RejectReason, execution_id: Uuid) -> Self {
        Self {
            execution_id,
            bulkhead_name: Arc::clone(reason.bulkhead()),
            result: Err(reason.into()),
            queued_time: Duration::ZERO,
            execution_time: Duration::ZERO,
        }
    }

    /// Whether there is a value.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.result.is_ok()
    }

    /// Only the outcome, for `?`.
    ///
    /// # Errors
    ///
    /// Whatever kept the call from giving a value.
    pub fn into_result(self) -> Result<T, BulkheadError<E>> {
        self.result
    }

    /// The error, if there is one.
    #[must_use]
    pub fn error(&self) -> Option<&BulkheadError<E>> {
        self.result.as_ref().err()
    }

    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        self.result.as_ref().ok()
    }
}
