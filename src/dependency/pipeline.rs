//! Pipelines of a dependency: its bulkhead, and around it the retries, the rate limit, the hedge and the chaos that its settings name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::call_options::Options;
use super::entry::Entry;
use super::limits::TimeLimits;
use crate::core::SemaphoreKind;
use crate::policy::{
    AnyValue, CallLimits, CallSettings, Chaos, Fallback, Gives, LayerKind, MakeError, Only,
    Pipeline, PipelineBuildError, PipelineBuilder, PipelineError, PipelineEvent, PipelineResult,
    PipelineStats, Retry, RetryRule, Values,
};
use crate::registry::AnyBulkhead;
use crate::sync::shorter;

type AnyRule<E> = Arc<dyn RetryRule<PipelineError<E>> + Send + Sync>;

/// Builds a [`DependencyPipeline`], from [`Dependencies::pipeline`](crate::Dependencies::pipeline) or
/// [`DependencyCall::pipeline`](crate::DependencyCall::pipeline).
///
/// Numbers and switches come from the settings. Functions are added here: which errors to retry, a fallback,
/// the error that chaos gives.
#[must_use = "a builder does nothing until `build`"]
pub struct DependencyPipelineBuilder<E, V: Values<E> = AnyValue> {
    entry: Arc<Entry>,
    options: Options,
    pipeline: PipelineBuilder<E, V>,
    chaos: Option<Chaos<E>>,
    chaos_error: Option<MakeError<E>>,
    retry: Option<Retry<AnyRule<E>>>,
    attempt_timeout: Option<Duration>,
}

impl<E> DependencyPipelineBuilder<E> {
    pub(super) fn new(entry: Arc<Entry>, options: Options) -> Self {
        let part = entry.policies.retry(options.operation.as_deref());
        let (retry, attempt_timeout) = match part {
            Some(part) => (Some(part.retry), part.attempt_timeout),
            None => (None, None),
        };
        let mut pipeline = Pipeline::builder(entry.bulkhead.name()).ledger(entry.ledger());
        for listener in &*entry.policies.listeners {
            let listener = Arc::clone(listener);
            pipeline = pipeline.listener(move |event| listener(event));
        }
        Self {
            pipeline,
            entry,
            options,
            chaos: None,
            chaos_error: None,
            retry: retry.map(with_any_rule),
            attempt_timeout,
        }
    }

    /// Adds a fallback, which answers for whatever goes wrong. All calls then give a `T`. As
    /// [`PipelineBuilder::fallback`].
    pub fn fallback<T>(
        self,
        fallback: Fallback<T, PipelineError<E>>,
    ) -> DependencyPipelineBuilder<E, Only<T>> {
        DependencyPipelineBuilder {
            entry: self.entry,
            options: self.options,
            pipeline: self.pipeline.fallback(fallback),
            chaos: self.chaos,
            chaos_error: self.chaos_error,
            retry: self.retry,
            attempt_timeout: self.attempt_timeout,
        }
    }
}

/// The limits of the bulkhead's calls at this moment.
fn limits_of(bulkhead: &AnyBulkhead) -> TimeLimits {
    match bulkhead {
        AnyBulkhead::ThreadPool(bulkhead) => TimeLimits::of_call(&bulkhead.call()),
        AnyBulkhead::Semaphore(bulkhead) => TimeLimits::of_call(&bulkhead.call()),
    }
}

fn with_any_rule<E, R>(retry: Retry<R>) -> Retry<AnyRule<E>>
where
    R: RetryRule<PipelineError<E>> + Clone + Send + Sync + 'static,
{
    let rule: AnyRule<E> = Arc::new(retry.current_rule().clone());
    retry.rule(rule)
}

impl<E, V: Values<E>> DependencyPipelineBuilder<E, V> {
    /// Changes the retry, if the settings have one: `change` gets it as it is configured, and adds which errors are worth
    /// another attempt, or a listener.
    ///
    /// It begins with the rule by default, also if it was called before: the last one counts.
    pub fn retry_with<R>(mut self, change: impl FnOnce(Retry) -> Retry<R>) -> Self
    where
        R: RetryRule<PipelineError<E>> + Clone + Send + Sync + 'static,
    {
        let operation = self.options.operation.as_deref();
        if let Some(part) = self.entry.policies.retry(operation) {
            self.retry = Some(with_any_rule(change(part.retry)));
        }
        self
    }

    /// Lets only those of the tasks' own errors count against the circuit for which `is_failure` says so. As
    /// [`PipelineBuilder::failure_if`].
    pub fn failure_if(mut self, is_failure: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.pipeline = self.pipeline.failure_if(is_failure);
        self
    }

    /// Adds a listener, which is told after each call. As [`PipelineBuilder::listener`].
    pub fn listener(
        mut self,
        listener: impl Fn(&PipelineEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.pipeline = self.pipeline.listener(listener);
        self
    }

    /// Sets whether each call has a span of its own around those of its attempts. As [`PipelineBuilder::call_spans`].
    #[cfg(feature = "tracing")]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.pipeline = self.pipeline.call_spans(spans);
        self
    }

    /// Sets which error the chaos of the settings gives, where that has an
    /// [`error_rate`](crate::ChaosOverrides#structfield.error_rate). Without chaos in the settings it does nothing, so a program
    /// that is to be drilled can always say it.
    pub fn chaos_error(mut self, error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        self.chaos_error = Some(Arc::new(error));
        self
    }

    /// Adds chaos in the place of the dependency, which begins when it is switched on. It stands in the place of that of the
    /// settings. As [`PipelineBuilder::chaos`].
    pub fn chaos(mut self, chaos: Chaos<E>) -> Self {
        self.chaos = Some(chaos);
        self
    }

    /// Builds the pipeline. From the outside in: the fallback, the timeout over everything, the retry, the rate limit, the
    /// timeout of an attempt, the hedge, the bulkhead with its circuit, and the chaos.
    ///
    /// The timeout over everything follows [`Dependencies::apply_config`](crate::Dependencies::apply_config), unless there was
    /// none, or it is the call's own or its operation's: those stay as they are at this moment. An
    /// [adaptive timeout](crate::AdaptiveTimeout) is the limit of each attempt, as it is when the attempt begins; with a retry
    /// its ceiling is the timeout over everything.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](PipelineBuildError::InvalidValue) if the call's own [`timeout`](crate::DependencyCall::timeout) is
    /// zero, or nothing was left of its deadline; and if the settings want chaos with errors, and
    /// [`chaos_error`](Self::chaos_error) makes none. All else of the settings was checked when the dependency was registered.
    pub fn build(self) -> Result<DependencyPipeline<E, V>, PipelineBuildError>
    where
        E: 'static,
    {
        let Self {
            entry,
            options,
            mut pipeline,
            chaos,
            chaos_error,
            retry,
            attempt_timeout,
        } = self;
        let chaos = match chaos {
            Some(own) => Some(own),
            None => {
                let operation = options.operation.as_deref();
                let configured = entry.chaos.for_pipeline(operation, chaos_error);
                configured.map_err(|source| PipelineBuildError::InvalidValue {
                    pipeline: entry.bulkhead.name().into(),
                    source,
                })?
            }
        };
        let limits = options.limits(&entry, limits_of(&entry.bulkhead));
        let adaptive = options.adaptive(&entry).cloned();
        // Without limits of its own each attempt goes by the bulkhead's, which may change.
        let own_limits = options.has_limits(&entry).then_some(CallLimits {
            timeout: limits.timeout,
            queue_timeout: limits.queue_timeout,
        });
        let hedge = entry.policies.hedge(options.operation.as_deref());
        pipeline = pipeline.call_settings(CallSettings {
            operation: options.operation,
            limits: own_limits,
            wait_for_capacity: options.wait_for_capacity,
            detached: options.detached,
        });
        let has_retry = retry.is_some();
        pipeline = match (limits.timeout, &adaptive) {
            // The limit of its only attempt.
            (whole, Some(adaptive)) if !has_retry => {
                let adaptive = adaptive.clone();
                pipeline.live_timeout(move || shorter(whole, Some(adaptive.limit())))
            }
            (Some(limit), _) if own_limits.is_some() => pipeline.timeout(limit),
            (Some(_), _) => {
                let bulkhead = entry.bulkhead.clone();
                pipeline.live_timeout(move || limits_of(&bulkhead).timeout)
            }
            (None, _) => pipeline,
        };
        if let Some(retry) = retry {
            pipeline = pipeline.retry(retry);
        }
        if let Some(limit) = &entry.policies.rate_limit {
            pipeline = pipeline.rate_limit(limit.clone());
        }
        let is_shorter = |attempt: &Duration| limits.timeout.is_none_or(|whole| *attempt < whole);
        pipeline = match (attempt_timeout.filter(is_shorter), adaptive) {
            _ if !has_retry => pipeline,
            (own, Some(adaptive)) => {
                pipeline.live_timeout(move || shorter(own, Some(adaptive.limit())))
            }
            (Some(limit), None) => pipeline.timeout(limit),
            (None, None) => pipeline,
        };
        if let Some(hedge) = hedge {
            pipeline = pipeline.hedge(hedge);
        }
        Ok(DependencyPipeline(match &entry.bulkhead {
            AnyBulkhead::ThreadPool(bulkhead) => {
                let pipeline = pipeline.bulkhead(bulkhead);
                AnyPipeline::ThreadPool(match chaos {
                    Some(chaos) => pipeline.chaos(chaos).build()?,
                    None => pipeline.build()?,
                })
            }
            AnyBulkhead::Semaphore(bulkhead) => {
                let pipeline = pipeline.bulkhead(bulkhead);
                AnyPipeline::Semaphore(match chaos {
                    Some(chaos) => pipeline.chaos(chaos).build()?,
                    None => pipeline.build()?,
                })
            }
        }))
    }
}

/// The policies of a dependency around its bulkhead, of either kind: a [`Pipeline`] that the settings have put together.
/// From [`Dependencies::pipeline`](crate::Dependencies::pipeline).
///
/// It can be cloned cheaply, sent to other threads and shared. The pipelines of a dependency share its rate limit and its
/// retry budget, whoever builds them.
///
/// # What dropping it does
///
/// It keeps the bulkhead, as any pipeline does: that shuts down by itself when the last of its owners is gone.
pub struct DependencyPipeline<E, V: Values<E> = AnyValue>(AnyPipeline<E, V>);

enum AnyPipeline<E, V: Values<E>> {
    ThreadPool(Pipeline<E, V>),
    Semaphore(Pipeline<E, V, SemaphoreKind>),
}

impl<E, V: Values<E>> DependencyPipeline<E, V> {
    /// Makes a call, and waits for it. `f` is called once for each attempt: on a worker, or in this thread, as the bulkhead
    /// is.
    pub fn execute<T, F>(&self, f: F) -> PipelineResult<T, E>
    where
        V: Gives<T, E>,
        F: Fn() -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match &self.0 {
            AnyPipeline::ThreadPool(pipeline) => pipeline.execute(f),
            AnyPipeline::Semaphore(pipeline) => pipeline.execute(f),
        }
    }

    /// The name of the dependency.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            AnyPipeline::ThreadPool(pipeline) => pipeline.name(),
            AnyPipeline::Semaphore(pipeline) => pipeline.name(),
        }
    }

    /// The numbers of all pipelines of the dependency together, as
    /// [`Dependencies::pipeline_stats`](crate::Dependencies::pipeline_stats) has them.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        match &self.0 {
            AnyPipeline::ThreadPool(pipeline) => pipeline.stats(),
            AnyPipeline::Semaphore(pipeline) => pipeline.stats(),
        }
    }

    /// Its layers, the outermost first.
    #[must_use]
    pub fn layers(&self) -> &[LayerKind] {
        match &self.0 {
            AnyPipeline::ThreadPool(pipeline) => pipeline.layers(),
            AnyPipeline::Semaphore(pipeline) => pipeline.layers(),
        }
    }
}

impl<E, V: Values<E>> Clone for DependencyPipeline<E, V> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            AnyPipeline::ThreadPool(pipeline) => AnyPipeline::ThreadPool(pipeline.clone()),
            AnyPipeline::Semaphore(pipeline) => AnyPipeline::Semaphore(pipeline.clone()),
        })
    }
}

impl<E, V: Values<E>> fmt::Debug for DependencyPipeline<E, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DependencyPipeline")
            .field("name", &self.name())
            .field("layers", &self.layers())
            .finish_non_exhaustive()
    }
}

impl<E, V: Values<E>> fmt::Debug for DependencyPipelineBuilder<E, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DependencyPipelineBuilder")
            .field("dependency", &self.entry.bulkhead.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
