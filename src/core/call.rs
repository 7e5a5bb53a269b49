//! One call with settings of its own: the options, which both kinds of bulkhead share. `thread_pool/submit.rs` and
//! `semaphore/submit.rs` make the call.

#![expect(private_bounds, reason = "there are two kinds, and no others")]

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::call_options::CallOptions;
use super::failure::{ClassifyWith, EveryError, FailureIf};
use super::kind::{Kind, ThreadPoolKind};
use crate::circuit::Verdict;
use crate::sync::Limit;

/// One call with settings of its own, over the configured ones. From [`Bulkhead::call`](crate::Bulkhead::call) or
/// [`SemaphoreBulkhead::call`](crate::SemaphoreBulkhead::call).
///
/// `K` is the kind of the bulkhead. The options are the same for both; how the call is made differs:
///
/// | | `Call` of a [`Bulkhead`](crate::Bulkhead) | `Call` of a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead) |
/// |---|---|---|
/// | `execute`, `run` | return a handle at once | return the result |
/// | closures | `Send + 'static` | may borrow |
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::io;
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("users"))?;
/// let name = bulkhead
///     .call()
///     .operation("get_user")
///     .wait_for_capacity(Duration::from_millis(50)) // rather than fail fast
///     .timeout(Duration::from_secs(1))              // queue and run together
///     .failure_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound)
///     .execute(|| Ok("Ada"))
///     .wait()
///     .into_result()?;
/// assert_eq!(name, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a call does nothing until `execute`, `run`, `try_execute` or `wrap`"]
pub struct Call<'a, K: Kind = ThreadPoolKind, C = EveryError> {
    pub(crate) inner: &'a Arc<K::Inner>,
    pub(crate) options: CallOptions,
    pub(crate) classifier: C,
}

impl<'a, K: Kind> Call<'a, K> {
    #[inline]
    pub(crate) fn new(inner: &'a Arc<K::Inner>) -> Self {
        Self {
            inner,
            options: CallOptions::new(),
            classifier: EveryError,
        }
    }

    /// Lets only those errors count against the circuit for which `is_failure` says so. The others are
    /// [`Ignored`](Verdict::Ignored): they neither end a run of failures nor close a half-open circuit.
    /// [`classify`](Self::classify) also lets an error count as a success. A panic is always a failure.
    ///
    /// The ledger is not concerned: each `Err` is a failed execution there. If `is_failure` panics, the error counts as a
    /// failure. For a call that goes to a worker the closure must be `Send + 'static`.
    pub fn failure_if<E, P>(self, is_failure: P) -> Call<'a, K, FailureIf<P>>
    where
        P: Fn(&E) -> bool,
    {
        Call {
            inner: self.inner,
            options: self.options,
            classifier: FailureIf::new(is_failure),
        }
    }

    /// Says of each error what it counts as for the circuit. Otherwise as [`failure_if`](Self::failure_if).
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, Verdict};
    /// use std::io::{self, ErrorKind};
    ///
    /// let bulkhead = Bulkhead::new(BulkheadConfig::new("users"))?;
    /// let handle = bulkhead
    ///     .call()
    ///     .classify(|error: &io::Error| match error.kind() {
    ///         ErrorKind::NotFound => Verdict::Success,    // the dependency did answer
    ///         ErrorKind::InvalidInput => Verdict::Ignored, // it was never asked
    ///         _ => Verdict::Failure,
    ///     })
    ///     .execute(|| Ok("Ada"));
    /// assert_eq!(handle.wait().into_result()?, "Ada");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn classify<E, P>(self, classify: P) -> Call<'a, K, ClassifyWith<P>>
    where
        P: Fn(&E) -> Verdict,
    {
        Call {
            inner: self.inner,
            options: self.options,
            classifier: ClassifyWith::new(classify),
        }
    }
}

impl<K: Kind, C> Call<'_, K, C> {
    /// The caller's limit, its own or the configured one.
    pub(crate) fn caller_limit(&self) -> Option<Duration> {
        let defaults = &K::engine(self.inner).default_timeouts;
        self.options.timeout(defaults).get()
    }

    /// The call's queue timeout, its own or the configured one.
    pub(crate) fn queue_limit(&self) -> Option<Duration> {
        let defaults = &K::engine(self.inner).default_timeouts;
        self.options.queue_timeout(defaults).get()
    }

    /// Names what the call does, for listeners, shutdown reports and the task itself.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.operation = Some(name.into());
        self
    }

    /// Sets how long this call may wait for a worker, or for a free slot. With zero it never starts, unless it need not
    /// wait at all.
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(Limit::new(Some(limit)));
        self
    }

    /// If the bulkhead is full, waits up to `limit` for a place instead of failing fast, in no particular order with
    /// other callers. Without a place the call is refused as [`Full`](crate::BulkheadError::Full), also if its
    /// [`timeout`](Self::timeout) passed first, towards which this time counts. It does not count as time in the queue.
    ///
    /// A call that an open circuit refuses does not wait either.
    ///
    /// In a task of the same bulkhead it does not wait, since the place that it waited for might be that task's; nor does
    /// it in one of its context propagators, which holds a place too.
    pub fn wait_for_capacity(mut self, limit: Duration) -> Self {
        self.options.wait_for_capacity = Some(limit);
        self
    }

    /// Sets the caller's limit over everything: the wait for a place, the time in the queue, and the run. If it passes
    /// while the call waits for a place, the call ends with [`Full`](crate::BulkheadError::Full), after that with
    /// [`Timeout`](crate::BulkheadError::Timeout). A task that has not started by then never will.
    ///
    /// A task that runs is asked to stop ([`is_cancelled`](crate::CurrentExecution::is_cancelled)), and the circuit counts a
    /// failure ([`timeouts_are_failures`](crate::CircuitBreakerConfig::timeouts_are_failures)). On a worker it keeps the
    /// worker until it ends, while the caller leaves. In its caller's thread it cannot be left alone: the result is the one
    /// that it returns, however late.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(Limit::new(Some(limit)));
        self
    }

    /// Makes the call inherit nothing from the task that makes it: neither its deadline nor its cancel, see
    /// [`CurrentExecution`](crate::CurrentExecution#calls-that-a-task-makes); nor the policies'
    /// [`Deadline`](crate::policy::Deadline) around it, such as a pipeline's timeout. The values of a
    /// [`ContextVar`](crate::ContextVar), such as a request id, are there as in any call. With the feature `tracing` its span begins a trace of its own, which
    /// follows from the task's. For work that is to outlive that
    /// task, such as a job that submits itself again, and for work that is to be done although the task was cancelled, such
    /// as cleaning up. Outside of tasks it changes nothing.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let audit = Arc::new(Bulkhead::new(BulkheadConfig::new("audit"))?);
    /// let orders = Bulkhead::new(BulkheadConfig::new("orders"))?;
    /// let of_task = Arc::clone(&audit);
    /// let order = orders.call().timeout(Duration::from_secs(1)).run(move || {
    ///     let remaining = || bulkman::current().and_then(|call| call.remaining());
    ///     let inherits = of_task.run(remaining).wait();
    ///     let detached = of_task.call().detached().run(remaining).wait();
    ///     (inherits.value().is_some_and(Option::is_some), detached.into_result())
    /// });
    /// let (inherits, detached) = order.wait().into_result()?;
    /// assert!(inherits);
    /// assert_eq!(detached?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detached(mut self) -> Self {
        self.options.detached = true;
        self
    }
}

/// The same settings for one more call: a call is used up when it is made.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("prices"))?;
/// let patient = bulkhead.call().wait_for_capacity(Duration::from_secs(1));
/// let handles = [1, 2, 3].map(|item| patient.clone().run(move || 10 * item));
/// assert_eq!(handles.map(|handle| handle.result().unwrap()), [10, 20, 30]);
/// # Ok::<(), bulkman::BuildError>(())
/// ```
impl<K: Kind, C: Clone> Clone for Call<'_, K, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner,
            options: self.options.clone(),
            classifier: self.classifier.clone(),
        }
    }
}

impl<K: Kind, C> fmt::Debug for Call<'_, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = K::engine(self.inner);
        self.options
            .fmt_as(&engine.default_timeouts, K::CALL, &engine.name, f)
    }
}
