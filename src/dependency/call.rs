//! One call of a dependency.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::call_options::Options;
use super::entry::Entry;
use super::pipeline::DependencyPipelineBuilder;
use crate::circuit::Verdict;
use crate::core::{ClassifyWith, EveryError, FailureClassifier, FailureIf, new_execution_id};
use crate::error::{RejectReason, Rejected};
use crate::policy::Deadline;
use crate::registry::AnyBulkhead;
use crate::result::ExecutionResult;
use crate::sync::shorter;
use crate::thread_pool::ExecutionHandle;

/// One call of a dependency, from [`Dependencies::call`](crate::Dependencies::call).
///
/// It has the options of a [`Call`](crate::Call). An option that it does not set comes from its
/// [operation](Self::operation), and else from the dependency. A call on a semaphore runs here and now, and its handle has the result already.
///
/// ```
/// use bulkman::Dependencies;
/// use std::io;
/// use std::time::Duration;
///
/// let dependencies = Dependencies::new();
/// dependencies.register_database("user_db")?;
/// let result = dependencies
///     .call("user_db")?
///     .operation("get_user")
///     .timeout(Duration::from_secs(2))
///     .failure_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound)
///     .execute(|| Ok("Ada"))
///     .wait();
/// println!("{:?} in the queue, {:?} in the task", result.queued_time, result.execution_time);
/// assert_eq!(result.into_result()?, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a call does nothing until `execute`, `run`, `try_execute` or `wrap`"]
pub struct DependencyCall<C = EveryError> {
    entry: Arc<Entry>,
    options: Options,
    classifier: C,
}

impl DependencyCall {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        Self {
            entry,
            options: Options::default(),
            classifier: EveryError,
        }
    }

    /// Begins a pipeline for calls with the options set so far, with the retries and the rate limit that the settings have for
    /// its operation and its dependency. It is built once, and serves any number of calls.
    ///
    /// ```
    /// use bulkman::{Dependencies, DependencyConfig, DependencyKind, OperationOverrides, RetryOverrides};
    /// use std::io;
    ///
    /// let dependencies = Dependencies::new();
    /// let get_user = OperationOverrides::new().retry(RetryOverrides::new().attempts(3));
    /// let config = DependencyConfig::new(DependencyKind::Database).operation("get_user", get_user);
    /// dependencies.register_with("user_db", config)?;
    ///
    /// let get_user = dependencies
    ///     .call("user_db")?
    ///     .operation("get_user")
    ///     .pipeline()
    ///     .retry_with(|retry| retry.retry_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound))
    ///     .build()?;
    /// assert_eq!(get_user.execute(|| Ok("Ada")).value(), Some(&"Ada"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A limit of the call's own, [`timeout`](Self::timeout) or [`within`](Self::within), holds for all attempts together,
    /// for each call of the pipeline anew.
    pub fn pipeline<E>(self) -> DependencyPipelineBuilder<E> {
        let (options, entry) = (self.options, self.entry);
        DependencyPipelineBuilder::new(entry, options)
    }

    /// As [`Call::failure_if`](crate::Call::failure_if).
    pub fn failure_if<E, P>(self, is_failure: P) -> DependencyCall<FailureIf<P>>
    where
        P: Fn(&E) -> bool,
    {
        DependencyCall {
            entry: self.entry,
            options: self.options,
            classifier: FailureIf::new(is_failure),
        }
    }

    /// As [`Call::classify`](crate::Call::classify).
    pub fn classify<E, P>(self, classify: P) -> DependencyCall<ClassifyWith<P>>
    where
        P: Fn(&E) -> Verdict,
    {
        DependencyCall {
            entry: self.entry,
            options: self.options,
            classifier: ClassifyWith::new(classify),
        }
    }
}

impl<C> DependencyCall<C> {
    /// Names what the call does, for its limits, and for listeners, shutdown reports and the task itself.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.operation = Some(name.into());
        self
    }

    /// Sets the caller's limit over queue and run, before all other levels. As [`Call::timeout`](crate::Call::timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Cuts the caller's limit, whichever level it comes from.
    fn at_most(mut self, limit: Option<Duration>) -> Self {
        self.options.at_most = shorter(self.options.at_most, limit);
        self
    }

    /// Sets how long this call may wait for a worker, or for a slot, before all other levels. As
    /// [`Call::queue_timeout`](crate::Call::queue_timeout).
    pub fn queue_timeout(mut self, limit: Duration) -> Self {
        self.options.queue_timeout = Some(limit);
        self
    }

    /// As [`Call::wait_for_capacity`](crate::Call::wait_for_capacity).
    pub fn wait_for_capacity(mut self, limit: Duration) -> Self {
        self.options.wait_for_capacity = Some(limit);
        self
    }

    /// Lets the call's limit be at most what is left until `deadline`, whichever level the limit comes from. It counts from
    /// this moment on, as [`timeout`](Self::timeout) does from the call.
    ///
    /// ```
    /// use bulkman::Dependencies;
    /// use bulkman::policy::Deadline;
    /// use std::time::Duration;
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_database("user_db")?;
    /// let deadline = Deadline::after(Duration::from_secs(5));
    /// let result = dependencies.call("user_db")?.within(&deadline).run(|| "Ada").wait();
    /// assert_eq!(result.value(), Some(&"Ada"));
    /// # Ok::<(), bulkman::DependencyError>(())
    /// ```
    pub fn within(self, deadline: &Deadline) -> Self {
        self.at_most(deadline.remaining())
    }

    /// As [`Call::detached`](crate::Call::detached).
    pub fn detached(mut self) -> Self {
        self.options.detached = true;
        self
    }

    /// Makes the call. As [`AnyBulkhead::execute`].
    pub fn execute<T, E, F>(self, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + 'static,
    {
        let Self {
            entry,
            options,
            classifier,
        } = self;
        match &entry.bulkhead {
            AnyBulkhead::ThreadPool(bulkhead) => options
                .apply(&entry, bulkhead.call(), classifier)
                .execute(f),
            AnyBulkhead::Semaphore(bulkhead) => {
                let call = options.apply(&entry, bulkhead.call(), classifier);
                ExecutionHandle::finished(call.execute(f))
            }
        }
    }

    /// Makes a call that cannot fail by itself.
    pub fn run<T, F>(self, f: F) -> ExecutionHandle<T, Infallible>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Self { entry, options, .. } = self;
        match &entry.bulkhead {
            AnyBulkhead::ThreadPool(bulkhead) => {
                options.apply(&entry, bulkhead.call(), EveryError).run(f)
            }
            AnyBulkhead::Semaphore(bulkhead) => {
                let call = options.apply(&entry, bulkhead.call(), EveryError);
                ExecutionHandle::finished(call.run(f))
            }
        }
    }

    /// Makes the call, or gives the closure back if it is refused.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    pub fn try_execute<T, E, F>(self, f: F) -> Result<ExecutionHandle<T, E>, Rejected<F>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Send + 'static,
    {
        let Self {
            entry,
            options,
            classifier,
        } = self;
        match &entry.bulkhead {
            AnyBulkhead::ThreadPool(bulkhead) => options
                .apply(&entry, bulkhead.call(), classifier)
                .try_execute(f),
            AnyBulkhead::Semaphore(bulkhead) => options
                .apply(&entry, bulkhead.call(), classifier)
                .try_execute(f)
                .map(ExecutionHandle::finished),
        }
    }

    /// The decorator: a reusable closure that sends each call of `f` to the dependency, with the options set so far, and
    /// waits for it. Several arguments go in as a tuple.
    ///
    /// It may outlive the dependency, and then gives [`ShutDown`](crate::BulkheadError::ShutDown).
    ///
    /// ```
    /// use bulkman::Dependencies;
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_database("user_db")?;
    /// let user = dependencies
    ///     .call("user_db")?
    ///     .operation("get_user")
    ///     .wrap(|id: u64| if id == 1 { Ok("Ada") } else { Err("no such user") });
    /// assert_eq!(user(1).value(), Some(&"Ada"));
    /// assert!(user(2).error().is_some());
    /// # Ok::<(), bulkman::DependencyError>(())
    /// ```
    pub fn wrap<A, T, E, F>(
        self,
        f: F,
    ) -> impl Fn(A) -> ExecutionResult<T, E> + Clone + Send + Sync + use<A, T, E, F, C>
    where
        F: Fn(A) -> Result<T, E> + Send + Sync + 'static,
        A: Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        C: FailureClassifier<E> + Clone + Send + Sync + 'static,
    {
        let name: Arc<str> = self.entry.bulkhead.name().into();
        let entry = Arc::downgrade(&self.entry);
        let (options, classifier) = (self.options, self.classifier);
        let f = Arc::new(f);
        move |args| {
            let Some(entry) = Weak::upgrade(&entry) else {
                let bulkhead = Arc::clone(&name);
                let reason = RejectReason::ShutDown { bulkhead };
                return ExecutionResult::refused(reason, new_execution_id());
            };
            let f = Arc::clone(&f);
            let call = Self {
                entry,
                options: options.clone(),
                classifier: classifier.clone(),
            };
            call.execute(move || f(args)).wait()
        }
    }

    /// Makes a call that cannot fail by itself, or gives the closure back if it is refused.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with the reason and the closure.
    pub fn try_run<T, F>(self, f: F) -> Result<ExecutionHandle<T, Infallible>, Rejected<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Self { entry, options, .. } = self;
        match &entry.bulkhead {
            AnyBulkhead::ThreadPool(bulkhead) => options
                .apply(&entry, bulkhead.call(), EveryError)
                .try_run(f),
            AnyBulkhead::Semaphore(bulkhead) => options
                .apply(&entry, bulkhead.call(), EveryError)
                .try_run(f)
                .map(ExecutionHandle::finished),
        }
    }
}

impl<C> fmt::Debug for DependencyCall<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DependencyCall")
            .field("dependency", &self.entry.bulkhead.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
