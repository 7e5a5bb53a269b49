//! Which errors are worth another attempt.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{BulkheadError, RejectReason};

/// An error that knows whether another attempt could help.
///
/// A [`Retry`](super::Retry) without a rule of its own asks it. By default each error of the type is worth another attempt:
///
/// ```
/// use bulkman::policy::{Retry, RetryableError};
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// enum ApiError {
///     NotFound,
///     Busy { retry_after: Option<Duration> },
/// }
///
/// impl RetryableError for ApiError {
///     fn is_retryable(&self) -> bool {
///         !matches!(self, Self::NotFound)
///     }
///     fn retry_after(&self) -> Option<Duration> {
///         match self {
///             Self::Busy { retry_after } => *retry_after,
///             Self::NotFound => None,
///         }
///     }
/// }
///
/// let mut calls = 0;
/// let gone = Retry::new(5).call(|| {
///     calls += 1;
///     Err::<(), _>(ApiError::NotFound)
/// });
/// assert!(gone.is_err());
/// assert_eq!(calls, 1);
/// ```
///
/// Inside of a [`BulkheadError`] the task's own error is not asked, since most have no such methods. Hand them over:
///
/// ```
/// # use bulkman::policy::{Retry, RetryableError};
/// # struct ApiError;
/// # impl RetryableError for ApiError {}
/// let retry = Retry::new(5).retry_if(ApiError::is_retryable).delay_of(ApiError::retry_after);
/// # let _ = retry;
/// ```
///
/// For an error type of another crate, use [`Retry::retry_if`](super::Retry::retry_if).
#[diagnostic::on_unimplemented(
    message = "nothing says whether `{Self}` is worth another attempt",
    label = "an attempt fails with this error",
    note = "give the `Retry` a rule, `.retry_if(|error: &{Self}| ..)`, or implement `RetryableError` for the type"
)]
pub trait RetryableError {
    /// Whether another attempt could succeed.
    fn is_retryable(&self) -> bool {
        true
    }

    /// How long the other side asks to wait first, as HTTP's `Retry-After` does. [`Duration::MAX`] means that waiting does
    /// not help.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Whether a limit has passed while the task ran, which may still be running. Whatever else it says,
    /// such an error is not retried by default, unless [`retry_timeouts`](super::Retry::retry_timeouts) was asked for.
    fn may_still_run(&self) -> bool {
        false
    }

    /// Whether it stands for a panic. Whatever else it says, such an error is not retried by default, unless
    /// [`retry_panics`](super::Retry::retry_panics) was asked for.
    fn is_panic(&self) -> bool {
        false
    }
}

/// A call that never started is worth another attempt, and so is one whose task failed by itself. Not one that was
/// cancelled, that the bulkhead refused because it is shut down, that panicked, or that may still be running.
impl<E> RetryableError for BulkheadError<E> {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::CircuitOpen { .. }
            | Self::QueueTimeout { .. }
            | Self::NoThread { .. }
            | Self::Failed(_) => true,
            Self::Timeout { started, .. } => !started,
            Self::ShutDown { .. }
            | Self::TooDeep { .. }
            | Self::Cancelled { .. }
            | Self::Panicked(_) => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    fn may_still_run(&self) -> bool {
        matches!(self, Self::Timeout { started: true, .. })
    }

    fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }
}

/// As the same reason in a [`BulkheadError`].
impl RetryableError for RejectReason {
    fn is_retryable(&self) -> bool {
        !self.is_shut_down()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

impl RetryableError for io::Error {}
impl RetryableError for String {}
impl RetryableError for &str {}
impl RetryableError for () {}
impl RetryableError for Box<dyn std::error::Error> {}
impl RetryableError for Box<dyn std::error::Error + Send + Sync> {}

impl RetryableError for std::convert::Infallible {}

/// Decides for a [`Retry`](super::Retry) which of the errors `X` are worth another attempt.
///
/// [`ByDefault`] and [`RetryIf`] are the usual ones. A panic in one is contained and logged, and means no.
pub trait RetryRule<X> {
    /// Whether another attempt could succeed.
    fn is_retryable(&self, error: &X) -> bool;

    /// How long the error asks to wait first.
    fn retry_after(&self, error: &X) -> Option<Duration> {
        let _ = error;
        None
    }
}

/// A rule that others have too, of whatever type it is.
impl<X, R: RetryRule<X> + ?Sized> RetryRule<X> for Arc<R> {
    fn is_retryable(&self, error: &X) -> bool {
        R::is_retryable(self, error)
    }

    fn retry_after(&self, error: &X) -> Option<Duration> {
        R::retry_after(self, error)
    }
}

/// The rule of a [`Retry`](super::Retry) that was given none: the error decides, see [`RetryableError`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByDefault {
    pub(super) panics: bool,
    pub(super) timeouts: bool,
}

impl<X: RetryableError> RetryRule<X> for ByDefault {
    fn is_retryable(&self, error: &X) -> bool {
        match (error.is_panic(), error.may_still_run()) {
            (false, false) => error.is_retryable(),
            // Whatever the error says else: each of both has to be asked for.
            (panicked, late) => (self.panics || !panicked) && (self.timeouts || !late),
        }
    }

    fn retry_after(&self, error: &X) -> Option<Duration> {
        error.retry_after()
    }
}

/// The rule of [`Retry::retry_if`](super::Retry::retry_if): a closure decides.
///
/// A closure over the task's own error `E` also serves for calls of a bulkhead, which fail with a [`BulkheadError<E>`]. It
/// then decides about [`Failed`](BulkheadError::Failed), and all other reasons are decided by default. A closure over
/// `BulkheadError<E>` itself decides about everything.
pub struct RetryIf<E> {
    pub(super) is_retryable: Arc<dyn Fn(&E) -> bool + Send + Sync>,
    pub(super) retry_after: Option<DelayOf<E>>,
    pub(super) otherwise: ByDefault,
}

pub(super) type DelayOf<E> = Arc<dyn Fn(&E) -> Option<Duration> + Send + Sync>;

impl<E> RetryIf<E> {
    fn delay(&self, error: &E) -> Option<Duration> {
        self.retry_after.as_ref()?(error)
    }
}

impl<E> RetryRule<E> for RetryIf<E> {
    fn is_retryable(&self, error: &E) -> bool {
        (self.is_retryable)(error)
    }

    fn retry_after(&self, error: &E) -> Option<Duration> {
        self.delay(error)
    }
}

impl<E> RetryRule<BulkheadError<E>> for RetryIf<E> {
    fn is_retryable(&self, error: &BulkheadError<E>) -> bool {
        match error.failed() {
            Some(own) => (self.is_retryable)(own),
            None => self.otherwise.is_retryable(error),
        }
    }

    fn retry_after(&self, error: &BulkheadError<E>) -> Option<Duration> {
        match error.failed() {
            Some(own) => self.delay(own),
            None => error.retry_after(),
        }
    }
}

impl<E> Clone for RetryIf<E> {
    fn clone(&self) -> Self {
        Self {
            is_retryable: Arc::clone(&self.is_retryable),
            retry_after: self.retry_after.clone(),
            otherwise: self.otherwise,
        }
    }
}

impl<E> fmt::Debug for RetryIf<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryIf").finish_non_exhaustive()
    }
}
