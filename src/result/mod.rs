//! What a call gives back, and the summary of it without its value.

mod summary;

pub use summary::{CallOutcome, CallSummary};

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::error::{BulkheadError, RejectReason};
use crate::text::OneLine;

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
    /// What the caller named the operation, with [`Call::operation`](crate::Call::operation). `None` also for a call that was
    /// refused, of which nothing is kept.
    pub operation: Option<Cow<'static, str>>,
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
            operation: None,
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

    /// Only the outcome, with each error as one of the task's own type, for `?` where that has room for all of them.
    ///
    /// The task's own error comes out as it went in, with its context, its backtrace and what it can be downcast to. Every
    /// other reason is converted from a [`BulkheadError<Infallible>`](BulkheadError), whatever the task's type is. So that is
    /// what to downcast to.
    ///
    /// With anyhow:
    ///
    /// ```
    /// use anyhow::Context;
    /// use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};
    /// use std::convert::Infallible;
    ///
    /// fn port(bulkhead: &Bulkhead, text: &'static str) -> anyhow::Result<u16> {
    ///     let handle = bulkhead.execute(move || -> anyhow::Result<u16> {
    ///         text.parse().with_context(|| format!("no port: {text}"))
    ///     });
    ///     Ok(handle.wait().flatten()?)
    /// }
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("config"))?;
    /// assert_eq!(port(&bulkhead, "80")?, 80);
    ///
    /// let own = port(&bulkhead, "http").unwrap_err();
    /// assert_eq!(format!("{own:#}"), "no port: http: invalid digit found in string");
    /// assert!(own.is::<std::num::ParseIntError>());
    ///
    /// bulkhead.shutdown();
    /// let refused = port(&bulkhead, "80").unwrap_err();
    /// let reason = refused.downcast_ref::<BulkheadError<Infallible>>();
    /// assert!(reason.is_some_and(|reason| reason.is_shut_down()));
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    ///
    /// With an enum of your own:
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};
    /// use std::convert::Infallible;
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum AppError {
    ///     #[error("cannot read the settings")]
    ///     Settings(#[from] std::io::Error),
    ///     #[error(transparent)]
    ///     Bulkhead(#[from] BulkheadError<Infallible>),
    /// }
    ///
    /// fn settings(bulkhead: &Bulkhead) -> Result<String, AppError> {
    ///     let read = || Ok::<_, AppError>(std::fs::read_to_string("/no/such/file")?);
    ///     let text = bulkhead.execute(read).wait().flatten()?;
    ///     Ok(text)
    /// }
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("files"))?;
    /// assert!(matches!(settings(&bulkhead), Err(AppError::Settings(_))));
    /// bulkhead.shutdown();
    /// assert!(matches!(settings(&bulkhead), Err(AppError::Bulkhead(_))));
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever kept the call from giving a value.
    pub fn flatten(self) -> Result<T, E>
    where
        E: From<BulkheadError<Infallible>>,
    {
        self.result.map_err(BulkheadError::flatten)
    }

    /// What a log wants to know of the call, on one line: the bulkhead, the outcome, the operation, the times and the id.
    ///
    /// Of [`Failed`](BulkheadError::Failed) it has the task's own error, and of [`Panicked`](BulkheadError::Panicked) what the
    /// task panicked with, which their `Display` keeps out of sight. Line breaks and other control characters in them are
    /// escaped. `{:#}` asks the task's error for its longer form, which of an `anyhow::Error` is the whole chain.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("orders"))?;
    /// let handle = bulkhead.call().operation("find").execute(|| Err::<(), _>("no rows"));
    /// let line = handle.wait().describe().to_string();
    /// // bulkhead `orders`: the task failed: no rows (operation `find`, queued 10.1µs, ran 1.5µs, id 6f9b..)
    /// assert!(line.starts_with("bulkhead `orders`: the task failed: no rows (operation `find`, queued "));
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn describe(&self) -> impl fmt::Display + fmt::Debug + '_
    where
        E: fmt::Display,
    {
        Description(self)
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

struct Description<'a, T, E>(&'a ExecutionResult<T, E>);

impl<T, E: fmt::Display> fmt::Display for Description<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExecutionResult {
            result,
            execution_id,
            bulkhead_name,
            operation,
            queued_time,
            execution_time,
        } = self.0;
        let is_alternate = f.alternate();
        match result {
            Ok(_) => write!(f, "bulkhead `{bulkhead_name}`: the task succeeded")?,
            Err(BulkheadError::Failed(error)) => {
                write!(f, "bulkhead `{bulkhead_name}`: the task failed: ")?;
                if is_alternate {
                    write!(f, "{:#}", OneLine(error))?;
                } else {
                    write!(f, "{}", OneLine(error))?;
                }
            }
            Err(error @ BulkheadError::Panicked(panic)) => {
                write!(f, "{error}: {}", OneLine(panic.message()))?;
            }
            Err(error) => write!(f, "{error}")?,
        }
        f.write_str(" (")?;
        if let Some(operation) = operation {
            write!(f, "operation `{}`, ", OneLine(operation))?;
        }
        write!(
            f,
            "queued {queued_time:.1?}, ran {execution_time:.1?}, id {execution_id})"
        )
    }
}

impl<T, E: fmt::Display> fmt::Debug for Description<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
