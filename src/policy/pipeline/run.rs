//! The pipeline, and the call inside all its layers.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use super::error::PipelineError;
use super::layer::{self, CallProgress, FailureIf, Layer};
use super::ledger::PipelineLedger;
use super::order::LayerKind;
use super::result::{Listener, PipelineEvent, PipelineResult};
use super::stats::PipelineStats;
use super::times::Times;
use super::values::{AnyValue, Gives, Values};
use crate::clock::Clock;
use crate::context::{Policy, PolicyCall, PolicySpan, TraceOptions, in_span};
use crate::core::{CallOptions, SemaphoreKind, ThreadPoolKind};
use crate::error::BulkheadError;
use crate::panic::{Panic, catch, contain_in};
use crate::policy::chaos::Chaos;
use crate::policy::deadline::remaining;
use crate::policy::failure::{Failure, record_outcome};
use crate::policy::hedge::{Hedge, HedgeAttempt, Second};
use crate::result::ExecutionResult;
use crate::semaphore::SemaphoreBulkhead;
use crate::sync::{Limit, shorter};
use crate::thread_pool::{Bulkhead, ExecutionHandle};

/// Several policies around a call, as one: built once, in the order in which it reads, and used for every call of a
/// dependency.
///
/// ```
/// use bulkman::policy::{Fallback, FailureKind, Pipeline, RateLimit, Retry, RetryBudget};
/// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};
/// use std::io;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let users = Arc::new(Bulkhead::new(
///     BulkheadConfig::new("user_db").circuit_breaker(CircuitBreakerConfig::default()),
/// )?);
///
/// let user_name: Pipeline<io::Error, _> = Pipeline::builder("user_db")
///     .fallback(Fallback::value(String::from("somebody")).only_for(FailureKind::REFUSED)) // outermost
///     .timeout(Duration::from_secs(2))                     // over all attempts
///     .retry(Retry::new(3).budget(RetryBudget::new(0.1)))
///     .rate_limit(RateLimit::new(100, Duration::from_secs(1))?)
///     .bulkhead(&users)                                    // innermost
///     .build()?;
///
/// let result = user_name.execute(|| Ok(String::from("Ada")));
/// assert_eq!(result.into_result()?, "Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It can be cloned cheaply, sent to other threads and shared. Which order to choose, and why, stands in the
/// [module's documentation](crate::policy#which-order).
///
/// # The type
///
/// `E` is the tasks' own error. `V` is [`AnyValue`], or [`Only<T>`](super::Only) in a pipeline with a fallback, whose calls all
/// give a `T`. `K` says where tasks run: on the workers of a [`Bulkhead`] by default, and with
/// [`SemaphoreKind`] in their callers' threads. So a field for it is a `Pipeline<io::Error>`, a
/// `Pipeline<io::Error, Only<User>>`, or a `Pipeline<io::Error, AnyValue, SemaphoreKind>`.
///
/// # What it does by itself
///
/// * Each layer goes by the deadline of the timeouts around it, and of the [`Deadline`](crate::policy::Deadline) and the
///   call that the caller is in; so does everything that the task calls, see [`remaining`].
/// * A timeout ends the waiting for a worker's task. A task in the caller's own thread cannot be left alone: it is given the
///   limit, and its result is what it returns.
/// * The retry stops when the bulkhead is shut down, also in a pause.
/// * All layers go by one clock, that of the bulkhead. Only a rate limit, which others may share, keeps its own.
/// * A pause holds neither a worker nor a place.
/// * It keeps its bulkhead: that shuts down by itself when the last of both owners is gone.
///
/// # Panics
///
/// None goes through: a task that panics gives [`Panicked`](BulkheadError::Panicked), also without a bulkhead. Panics in
/// predicates, fallbacks and listeners are contained and logged.
pub struct Pipeline<E, V: Values<E> = AnyValue, K: Place = ThreadPoolKind> {
    pub(super) inner: Arc<Inner<E, V, K>>,
}

pub(super) struct Inner<E, V: Values<E>, K: Place> {
    pub(super) name: Arc<str>,
    pub(super) clock: Clock,
    pub(super) layers: Box<[Layer<E, V>]>,
    pub(super) order: Box<[LayerKind]>,
    pub(super) bulkhead: K::Bulkhead,
    pub(super) hedge: Option<Hedge>,
    pub(super) chaos: Option<Chaos<E>>,
    pub(super) failure_if: Option<FailureIf<E>>,
    pub(super) listeners: Box<[Listener]>,
    /// What the calls of the bulkhead ask for over what it is configured with.
    pub(super) call: Option<Box<CallSettings>>,
    pub(super) trace: TraceOptions,
    /// `None` where there is nothing around the task.
    pub(super) ledger: Option<Arc<PipelineLedger>>,
    /// Whether there is nothing around the task.
    pub(super) is_nothing: bool,
    /// Whether it reads the clock for times that no bulkhead measures: for a layer or a listener.
    pub(super) is_timed: bool,
}

/// What each call of the bulkhead asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallSettings {
    pub(crate) operation: Option<Cow<'static, str>>,
    /// `None`: what the bulkhead is configured with.
    pub(crate) limits: Option<CallLimits>,
    pub(crate) wait_for_capacity: Option<Duration>,
    pub(crate) detached: bool,
}

/// The limits of a call in place of the bulkhead's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
}

impl CallSettings {
    fn apply(&self, options: &mut CallOptions) {
        options.operation.clone_from(&self.operation);
        if let Some(limits) = self.limits {
            options.timeout = Some(Limit::new(limits.timeout));
            options.queue_timeout = Some(Limit::new(limits.queue_timeout));
        }
        options.wait_for_capacity = self.wait_for_capacity;
        options.detached = self.detached;
    }
}

/// Where the tasks of a pipeline run: [`ThreadPoolKind`] or [`SemaphoreKind`]. There are no others.
pub trait Place: sealed::Sealed {
    #[doc(hidden)]
    type Bulkhead: Clone;
    #[doc(hidden)]
    const HAS_THREADS: bool;
    #[doc(hidden)]
    fn has_circuit(bulkhead: &Self::Bulkhead) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ThreadPoolKind {}
    impl Sealed for super::SemaphoreKind {}
}

impl Place for ThreadPoolKind {
    type Bulkhead = Arc<Bulkhead>;
    const HAS_THREADS: bool = true;

    fn has_circuit(bulkhead: &Arc<Bulkhead>) -> bool {
        bulkhead.circuit_breaker().is_some()
    }
}

/// Without a bulkhead tasks run in their callers' threads too, without a bound.
impl Place for SemaphoreKind {
    type Bulkhead = Option<Arc<SemaphoreBulkhead>>;
    const HAS_THREADS: bool = false;

    fn has_circuit(bulkhead: &Self::Bulkhead) -> bool {
        let bulkhead = bulkhead.as_ref();
        bulkhead.is_some_and(|bulkhead| bulkhead.circuit_breaker().is_some())
    }
}

impl<E, V: Values<E>, K: Place> Pipeline<E, V, K> {
    /// The name that it was built with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its layers, the outermost first.
    #[must_use]
    pub fn layers(&self) -> &[LayerKind] {
        &self.inner.order
    }

    /// The numbers of its calls, all clones together. Calls pay a few additions for it, and no lock; a pipeline of nothing
    /// counts nothing, and its numbers stay zero. The module [`export`](crate::export#the-metrics-of-pipelines) has them for
    /// monitoring systems.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        match &self.inner.ledger {
            Some(ledger) => ledger.stats(),
            None => PipelineLedger::empty(&self.inner.name),
        }
    }
}

/// Tasks run on the workers of a bulkhead.
impl<E, V: Values<E>> Pipeline<E, V, ThreadPoolKind> {
    /// Makes a call, and waits for it. `f` is called once for each attempt.
    pub fn execute<T, F>(&self, f: F) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let inner = &*self.inner;
        let f = Arc::new(f);
        let result = inner.run(|progress| {
            let limit = progress.limit_of(inner.own_limit())?;
            inner.check_chaos(progress, || {
                let bulkhead = &inner.bulkhead;
                full(
                    bulkhead.name(),
                    bulkhead.max_concurrent_calls(),
                    bulkhead.max_queue_size(),
                )
            })?;
            let submit = |bulkhead: &Bulkhead, attempt| inner.submit(bulkhead, attempt, &f);
            let result = match &inner.hedge {
                None => submit(&inner.bulkhead, HedgeAttempt::First).wait(),
                Some(hedge) => {
                    let (result, second) = hedge.run(&inner.bulkhead, submit);
                    progress.hedged += u32::from(second != Second::NotStarted);
                    progress.hedges_won += u32::from(second == Second::Won);
                    result
                }
            };
            progress.ended(result, &limit)
        });
        // A worker that runs on may have the last reference, and drops it then.
        inner.discard(f);
        result
    }
}

impl<E, V: Values<E>> Inner<E, V, ThreadPoolKind> {
    /// The limit of a call of the bulkhead, without the pipeline's. The bulkhead's own may change while it works.
    fn own_limit(&self) -> Option<Duration> {
        match self.call.as_ref().and_then(|call| call.limits) {
            Some(limits) => limits.timeout,
            None => self.bulkhead.call().caller_limit(),
        }
    }

    /// Starts an attempt, or the hedge's second one.
    fn submit<T, F>(
        &self,
        bulkhead: &Bulkhead,
        attempt: HedgeAttempt,
        f: &Arc<F>,
    ) -> ExecutionHandle<T, E>
    where
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut call = bulkhead.call();
        if let Some(settings) = &self.call {
            settings.apply(&mut call.options);
        }
        if attempt == HedgeAttempt::Second {
            call.options.wait_for_capacity = None;
        }
        let call = match shorter(call.caller_limit(), remaining()) {
            Some(limit) => call.timeout(limit),
            None => call,
        };
        let (f, chaos) = (Arc::clone(f), self.chaos.clone());
        let task = move || match &chaos {
            Some(chaos) => chaos.call(|| f()),
            None => f(),
        };
        match &self.failure_if {
            Some(is_failure) => {
                let is_failure = Arc::clone(is_failure);
                call.failure_if(move |error: &E| is_failure(error))
                    .execute(task)
            }
            None => call.execute(task),
        }
    }
}

/// Tasks run in their callers' threads, and may borrow.
impl<E, V: Values<E>> Pipeline<E, V, SemaphoreKind> {
    /// Makes a call in this thread. `f` is called once for each attempt.
    #[inline]
    pub fn execute<T, F>(&self, f: F) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
        F: FnMut() -> Result<T, E>,
    {
        let inner = &*self.inner;
        if inner.is_nothing && remaining().is_none() && !inner.trace.is_wanted_in_caller() {
            inner.run_nothing(f)
        } else {
            self.run_layers(f)
        }
    }

    fn run_layers<T, F>(&self, mut f: F) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
        F: FnMut() -> Result<T, E>,
    {
        let inner = &*self.inner;
        let mut task = || match &inner.chaos {
            Some(chaos) => chaos.call(&mut f),
            None => f(),
        };
        let result = inner.run(|progress| {
            let Some(bulkhead) = &inner.bulkhead else {
                let limit = progress.limit_of(None)?;
                return progress.run_here(&mut task, &limit);
            };
            let mut call = bulkhead.call();
            if let Some(settings) = &inner.call {
                settings.apply(&mut call.options);
            }
            let limit = progress.limit_of(call.caller_limit())?;
            inner.check_chaos(progress, || {
                full(
                    bulkhead.name(),
                    bulkhead.max_concurrent_calls(),
                    bulkhead.max_queue_size(),
                )
            })?;
            let call = match limit.at_most {
                Some(limit) => call.timeout(limit),
                None => call,
            };
            let result = match progress.failure_if {
                Some(is_failure) => call
                    .failure_if(|error: &E| is_failure(error))
                    .execute(&mut task),
                None => call.execute(&mut task),
            };
            progress.ended(result, &limit)
        });
        inner.discard(f);
        result
    }
}

/// The limit of one attempt.
struct AttemptLimit {
    at_most: Option<Duration>,
    /// Whether a timeout of the pipeline, or a deadline around it, is what sets it.
    from_outside: bool,
}

impl AttemptLimit {
    fn is_over_after(&self, took: Duration) -> bool {
        self.at_most.is_some_and(|limit| took >= limit)
    }
}

impl<E> CallProgress<'_, E> {
    /// The limit of an attempt for which the bulkhead's own is `own`.
    fn limit_of(&mut self, own: Option<Duration>) -> Result<AttemptLimit, PipelineError<E>> {
        let outside = remaining();
        if outside == Some(Duration::ZERO) {
            self.decided_by = LayerKind::Timeout;
            return Err(PipelineError::TimedOut {
                pipeline: Arc::clone(self.name),
                limit: self.limit,
            });
        }
        Ok(AttemptLimit {
            at_most: shorter(own, outside),
            from_outside: outside.is_some_and(|outside| own.is_none_or(|own| outside <= own)),
        })
    }

    /// An attempt on a bulkhead has ended.
    fn ended<T>(
        &mut self,
        result: ExecutionResult<T, E>,
        limit: &AttemptLimit,
    ) -> Result<T, PipelineError<E>> {
        self.went_on();
        self.spend(LayerKind::Bulkhead, result.queued_time);
        self.spend(LayerKind::Task, result.execution_time);
        let took = result.queued_time.saturating_add(result.execution_time);
        self.was_late = limit.is_over_after(took);
        self.decided_by = match &result.result {
            Ok(_) | Err(BulkheadError::Failed(_) | BulkheadError::Panicked(_)) => LayerKind::Task,
            Err(BulkheadError::Timeout { .. }) if limit.from_outside => LayerKind::Timeout,
            Err(_) => LayerKind::Bulkhead,
        };
        result.result.map_err(PipelineError::Call)
    }

    /// An attempt without a bulkhead.
    fn run_here<T>(
        &mut self,
        f: &mut impl FnMut() -> Result<T, E>,
        limit: &AttemptLimit,
    ) -> Result<T, PipelineError<E>> {
        let began = self.is_timed.then(|| self.now());
        let outcome = catch(f);
        if let Some(began) = began {
            self.went_on();
            let took = self.now().saturating_duration_since(began);
            self.spend(LayerKind::Task, took);
            self.was_late = limit.is_over_after(took);
        }
        self.decided_by = LayerKind::Task;
        outcome_in(self.name, outcome)
    }
}

/// The refusal of a bulkhead with these limits.
fn full<E>(bulkhead: &str, max_concurrent_calls: usize, max_queue_size: usize) -> BulkheadError<E> {
    BulkheadError::Full {
        bulkhead: bulkhead.into(),
        max_concurrent_calls,
        max_queue_size,
        waited: None,
    }
}

/// What became of a task in its caller's thread.
#[inline]
fn outcome_in<T, E>(
    pipeline: &Arc<str>,
    outcome: Result<Result<T, E>, Box<dyn Any + Send>>,
) -> Result<T, PipelineError<E>> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(PipelineError::Call(BulkheadError::Failed(error))),
        Err(payload) => {
            let panic = Panic::new(Arc::clone(pipeline), payload);
            Err(PipelineError::Call(BulkheadError::Panicked(panic)))
        }
    }
}

impl<E, V: Values<E>, K: Place> Inner<E, V, K> {
    /// Refuses the call in the bulkhead's place, if chaos wants so.
    fn check_chaos(
        &self,
        progress: &mut CallProgress<'_, E>,
        full: impl FnOnce() -> BulkheadError<E>,
    ) -> Result<(), PipelineError<E>> {
        match &self.chaos {
            Some(chaos) if chaos.refuses() => {
                progress.decide(LayerKind::Chaos, PipelineError::Call(full()))
            }
            _ => Ok(()),
        }
    }

    /// Only catches a panic.
    #[inline]
    fn run_nothing<T>(&self, mut f: impl FnMut() -> Result<T, E>) -> PipelineResult<T, E> {
        let result = outcome_in(&self.name, catch(&mut f));
        self.discard(f);
        PipelineResult {
            result,
            pipeline: Arc::clone(&self.name),
            attempts: 1,
            decided_by: LayerKind::Task,
            retry_stop: None,
            fell_back_from: None,
            hedged: 0,
            hedges_won: 0,
            elapsed: Duration::ZERO,
            times: Times::default(),
        }
    }

    /// Makes a call, within its span if one is wanted.
    fn run<'p, T>(
        &'p self,
        attempt: impl FnMut(&mut CallProgress<'p, E>) -> Result<T, PipelineError<E>>,
    ) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
    {
        let call = PolicyCall {
            policy: Policy::Pipeline,
            name: &self.name,
            operation: self.operation(),
        };
        in_span(self.trace, call, || self.run_call(attempt), record)
    }

    fn run_call<'p, T>(
        &'p self,
        mut attempt: impl FnMut(&mut CallProgress<'p, E>) -> Result<T, PipelineError<E>>,
    ) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
    {
        let began = self.is_timed.then(|| self.clock.now());
        let mut progress = CallProgress {
            name: &self.name,
            clock: &self.clock,
            is_timed: self.is_timed,
            just_now: began,
            failure_if: self.failure_if.as_ref(),
            attempts: 1,
            hedged: 0,
            hedges_won: 0,
            retry_stop: None,
            decided_by: LayerKind::Task,
            fell_back_from: None,
            times: Times::default(),
            limit: None,
            was_late: false,
            ledger: self.ledger.as_deref(),
        };
        let result = if self.layers.is_empty() {
            attempt(&mut progress)
        } else {
            layer::run(&self.layers, &mut progress, &mut attempt)
        };
        let elapsed = match began {
            Some(began) => progress.now().saturating_duration_since(began),
            None => progress.times.on_bulkhead(),
        };
        let result = PipelineResult {
            result,
            pipeline: Arc::clone(&self.name),
            attempts: progress.attempts,
            decided_by: progress.decided_by,
            retry_stop: progress.retry_stop,
            fell_back_from: progress.fell_back_from,
            hedged: progress.hedged,
            hedges_won: progress.hedges_won,
            elapsed,
            times: progress.times,
        };
        if let Some(ledger) = &self.ledger {
            ledger.end(&result);
        }
        self.tell(&result);
        result
    }

    fn operation(&self) -> Option<&str> {
        self.call.as_ref()?.operation.as_deref()
    }

    /// Drops a task, which is user code.
    fn discard<F>(&self, task: F) {
        if std::mem::needs_drop::<F>() {
            contain_in("pipeline", &self.name, "the drop of a task", || drop(task));
        }
    }

    fn tell<T>(&self, result: &PipelineResult<T, E>) {
        if self.listeners.is_empty() {
            return;
        }
        let event = PipelineEvent {
            pipeline: &self.name,
            operation: self.operation(),
            failure: result.error().map(Failure::failure_kind),
            fell_back_from: result.fell_back_from.as_ref().map(Failure::failure_kind),
            attempts: result.attempts,
            decided_by: result.decided_by,
            retry_stop: result.retry_stop,
            hedged: result.hedged,
            hedges_won: result.hedges_won,
            elapsed: result.elapsed,
            times: result.times,
        };
        for listener in &self.listeners {
            contain_in("pipeline", &self.name, "a listener", || listener(&event));
        }
    }
}

/// Records in the span of a call what became of it.
fn record<T, E>(result: &PipelineResult<T, E>, span: &PolicySpan<'_>) {
    record_outcome(span, result.error().map(Failure::failure_kind));
    span.number("attempts", result.attempts);
    span.text("decided_by", result.decided_by);
    if let Some(error) = &result.fell_back_from {
        span.text("fell_back_from", error.failure_kind());
    }
    if let Some(stop) = result.retry_stop {
        span.text("retry_stop", stop);
    }
    if result.hedged > 0 {
        span.number("hedged", result.hedged);
        span.number("hedges_won", result.hedges_won);
    }
    // An attempt that nobody waits for keeps the span open.
    if !result.elapsed.is_zero() {
        span.seconds("elapsed_seconds", result.elapsed);
    }
}

// A panic that passes through leaves nothing half-done: there is no user code under a lock.
impl<E, V: Values<E>, K: Place> UnwindSafe for Pipeline<E, V, K> {}
impl<E, V: Values<E>, K: Place> RefUnwindSafe for Pipeline<E, V, K> {}

impl<E, V: Values<E>, K: Place> Clone for Pipeline<E, V, K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<E, V: Values<E>, K: Place> fmt::Debug for Pipeline<E, V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.inner.name)
            .field("layers", &self.inner.order)
            .finish_non_exhaustive()
    }
}
