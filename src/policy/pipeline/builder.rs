//! Building a pipeline.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{PipelineBuildError, PipelineError};
use super::layer::{AnyRule, FailureIf, Layer};
use super::ledger::PipelineLedger;
use super::order::{Conflict, Inside, LayerKind, check};
use super::result::{Listener, PipelineEvent};
use super::run::{CallSettings, Inner, Pipeline, Place};
use super::values::{AnyValue, Only, Values};
use crate::adaptive::AdaptiveTimeout;
use crate::circuit::CircuitBreaker;
use crate::clock::Clock;
use crate::context::TraceOptions;
use crate::core::{SemaphoreKind, ThreadPoolKind};
use crate::error::BuildError;
use crate::policy::budget::RetryBudget;
use crate::policy::chaos::Chaos;
use crate::policy::fallback::Fallback;
use crate::policy::hedge::Hedge;
use crate::policy::rate_limit::RateLimit;
use crate::policy::retry::Retry;
use crate::policy::retry_rule::RetryRule;
use crate::semaphore::SemaphoreBulkhead;
use crate::stats::BulkheadState;
use crate::thread_pool::Bulkhead;

/// Builds a [`Pipeline`]. From [`Pipeline::builder`].
///
/// The layers are given in the order in which they are to stand around the call, the outermost first. Whether the order
/// makes sense is looked at by [`build`](Self::build).
#[must_use = "a builder does nothing until `build`"]
pub struct PipelineBuilder<E, V: Values<E> = AnyValue, K: Place = SemaphoreKind> {
    name: Arc<str>,
    clock: Option<Clock>,
    layers: Vec<Layer<E, V>>,
    /// With the bulkhead, which is no layer.
    order: Vec<LayerKind>,
    bulkhead: K::Bulkhead,
    hedge: Option<Hedge>,
    chaos: Option<Chaos<E>>,
    failure_if: Option<FailureIf<E>>,
    listeners: Vec<Listener>,
    call: Option<Box<CallSettings>>,
    trace: TraceOptions,
    ledger: Option<Arc<PipelineLedger>>,
}

/// A bulkhead for a pipeline: an `Arc<Bulkhead>` or an `Arc<SemaphoreBulkhead>`. There are no others.
pub trait PipelineBulkhead: sealed::Sealed {
    /// Where tasks run with it.
    type Kind: Place;
    #[doc(hidden)]
    fn place(&self) -> <Self::Kind as Place>::Bulkhead;
    #[doc(hidden)]
    fn clock(&self) -> Clock;
    #[doc(hidden)]
    fn is_shut_down(&self) -> Box<dyn Fn() -> bool + Send + Sync>;
}

mod sealed {
    use std::sync::Arc;

    pub trait Sealed {}
    impl Sealed for Arc<crate::thread_pool::Bulkhead> {}
    impl Sealed for Arc<crate::semaphore::SemaphoreBulkhead> {}
}

impl PipelineBulkhead for Arc<Bulkhead> {
    type Kind = ThreadPoolKind;

    fn place(&self) -> Self {
        Self::clone(self)
    }

    fn clock(&self) -> Clock {
        Bulkhead::clock(self).clone()
    }

    fn is_shut_down(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let bulkhead = Self::clone(self);
        Box::new(move || bulkhead.state() == BulkheadState::ShutDown)
    }
}

impl PipelineBulkhead for Arc<SemaphoreBulkhead> {
    type Kind = SemaphoreKind;

    fn place(&self) -> Option<Self> {
        Some(Self::clone(self))
    }

    fn clock(&self) -> Clock {
        SemaphoreBulkhead::clock(self).clone()
    }

    fn is_shut_down(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let bulkhead = Self::clone(self);
        Box::new(move || bulkhead.state() == BulkheadState::ShutDown)
    }
}

impl<E> Pipeline<E, AnyValue, SemaphoreKind> {
    /// Begins a pipeline. Without a [`bulkhead`](PipelineBuilder::bulkhead) its tasks run in their callers' threads, and as
    /// many as there are callers.
    ///
    /// The bulkhead decides where tasks run, so where the error's type has to be named here, the other two are left open:
    /// `Pipeline::<io::Error, _, _>::builder("users")`.
    pub fn builder(name: impl Into<Arc<str>>) -> PipelineBuilder<E> {
        PipelineBuilder {
            name: name.into(),
            clock: None,
            layers: Vec::new(),
            order: Vec::new(),
            bulkhead: None,
            hedge: None,
            chaos: None,
            failure_if: None,
            listeners: Vec::new(),
            call: None,
            trace: TraceOptions::default(),
            ledger: None,
        }
    }

    /// The recommended one for a bulkhead: a limit over all attempts; three attempts with full jitter, of which at most a
    /// tenth of the calls' number are retries; and the bulkhead with its own circuit.
    ///
    /// ```
    /// use bulkman::policy::Pipeline;
    /// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};
    /// use std::io;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let users = Arc::new(Bulkhead::new(
    ///     BulkheadConfig::new("users").circuit_breaker(CircuitBreakerConfig::default()),
    /// )?);
    /// let pipeline: Pipeline<io::Error> = Pipeline::standard("users", Duration::from_secs(2), &users)?;
    /// assert_eq!(pipeline.execute(|| Ok("Ada")).value(), Some(&"Ada"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](PipelineBuildError::InvalidValue) for a limit of zero.
    pub fn standard<B: PipelineBulkhead>(
        name: impl Into<Arc<str>>,
        limit: Duration,
        bulkhead: &B,
    ) -> Result<Pipeline<E, AnyValue, B::Kind>, PipelineBuildError> {
        Self::builder(name)
            .timeout(limit)
            .retry(Retry::new(3).budget(RetryBudget::new(0.1)))
            .bulkhead(bulkhead)
            .build()
    }
}

impl<E, K: Place> PipelineBuilder<E, AnyValue, K> {
    /// Adds a fallback, which sees the error of all that is inside of it. From here on all calls give a `T`.
    pub fn fallback<T>(
        self,
        fallback: Fallback<T, PipelineError<E>>,
    ) -> PipelineBuilder<E, Only<T>, K> {
        let layers = self.layers.into_iter().map(Layer::with_value).collect();
        let builder = PipelineBuilder {
            name: self.name,
            clock: self.clock,
            layers,
            order: self.order,
            bulkhead: self.bulkhead,
            hedge: self.hedge,
            chaos: self.chaos,
            failure_if: self.failure_if,
            listeners: self.listeners,
            call: self.call,
            trace: self.trace,
            ledger: self.ledger,
        };
        builder.layer(LayerKind::Fallback, Layer::Fallback(fallback))
    }
}

impl<E> Layer<E, AnyValue> {
    /// The same in a pipeline with a fallback.
    fn with_value<T>(self) -> Layer<E, Only<T>> {
        match self {
            Self::Fallback(never) => match never {},
            Self::Timeout(limit) => Layer::Timeout(limit),
            Self::AdaptiveTimeout(timeout) => Layer::AdaptiveTimeout(timeout),
            Self::LiveTimeout(limit) => Layer::LiveTimeout(limit),
            Self::Retry(retry) => Layer::Retry(retry),
            Self::RateLimit(limit) => Layer::RateLimit(limit),
            Self::Circuit(breaker) => Layer::Circuit(breaker),
        }
    }
}

impl<E, V: Values<E>> PipelineBuilder<E, V> {
    /// Sets the bulkhead in which tasks run. It is the innermost layer. Its configuration decides about places, queue
    /// timeouts and its own circuit.
    pub fn bulkhead<B: PipelineBulkhead>(self, bulkhead: &B) -> PipelineBuilder<E, V, B::Kind> {
        let is_shut_down: Arc<dyn Fn() -> bool + Send + Sync> = bulkhead.is_shut_down().into();
        let mut layers = self.layers;
        for layer in &mut layers {
            if let Layer::Retry(retry) = layer {
                retry.also_stop_if(Arc::clone(&is_shut_down));
            }
        }
        let mut order = self.order;
        order.push(LayerKind::Bulkhead);
        PipelineBuilder {
            name: self.name,
            clock: self.clock.or_else(|| Some(bulkhead.clock())),
            layers,
            order,
            bulkhead: bulkhead.place(),
            hedge: self.hedge,
            chaos: self.chaos,
            failure_if: self.failure_if,
            listeners: self.listeners,
            call: self.call,
            trace: self.trace,
            ledger: self.ledger,
        }
    }
}

impl<E, V: Values<E>, K: Place> PipelineBuilder<E, V, K> {
    /// Adds a limit over all that is inside of it, retries and pauses included. Zero is an error.
    ///
    /// A second one inside of a retry limits each attempt.
    pub fn timeout(self, limit: Duration) -> Self {
        self.layer(LayerKind::Timeout, Layer::Timeout(limit))
    }

    /// Adds a limit that follows how long all that is inside of it takes, retries and pauses included: inside of a retry, how
    /// long an attempt takes. A call that is refused counts as nothing. Other pipelines may share it; it keeps its own clock.
    /// Experimental.
    ///
    /// ```
    /// use bulkman::policy::{Pipeline, Retry};
    /// use bulkman::{AdaptiveTimeout, AdaptiveTimeoutConfig, Bulkhead, BulkheadConfig};
    /// use std::io;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let users = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
    /// let timeout = AdaptiveTimeout::new(AdaptiveTimeoutConfig::new().ceiling(Duration::from_secs(1)))?;
    /// let pipeline: Pipeline<io::Error> = Pipeline::builder("users")
    ///     .timeout(Duration::from_secs(5))
    ///     .retry(Retry::new(3).retry_timeouts())
    ///     .adaptive_timeout(&timeout)
    ///     .bulkhead(&users)
    ///     .build()?;
    /// assert_eq!(pipeline.execute(|| Ok("Ada")).value(), Some(&"Ada"));
    /// assert_eq!(timeout.stats().samples, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adaptive_timeout(self, timeout: &AdaptiveTimeout) -> Self {
        let layer = Layer::AdaptiveTimeout(timeout.clone());
        self.layer(LayerKind::Timeout, layer)
    }

    /// Adds a limit that is looked up at each call. `limit` gives none that is zero.
    pub(crate) fn live_timeout(
        self,
        limit: impl Fn() -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.layer(LayerKind::Timeout, Layer::LiveTimeout(Arc::new(limit)))
    }

    /// Adds a retry.
    ///
    /// Its predicate may be over the task's own error `E`, and then decides about nothing else, or over the whole
    /// [`PipelineError<E>`].
    pub fn retry<R>(self, retry: Retry<R>) -> Self
    where
        R: RetryRule<PipelineError<E>> + Clone + Send + Sync + 'static,
    {
        let rule: AnyRule<E> = Arc::new(retry.rule.clone());
        self.layer(LayerKind::Retry, Layer::Retry(retry.rule(rule)))
    }

    /// Adds a rate limit. Inside of a retry it counts attempts, outside of it calls.
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        self.layer(LayerKind::RateLimit, Layer::RateLimit(limit))
    }

    /// Adds a circuit breaker, for a pipeline whose bulkhead has none of its own, or that has no bulkhead.
    ///
    /// It counts as a bulkhead's own does: the task's own errors, panics, and limits that pass while the task runs, also in the
    /// caller's thread; no cancelled calls. Its settings say so
    /// ([`timeouts_are_failures`](crate::CircuitBreakerConfig::timeouts_are_failures),
    /// [`cancelled_calls_are_neutral`](crate::CircuitBreakerConfig::cancelled_calls_are_neutral)), with one difference: where
    /// timeouts are no failures, a task that is left on its worker counts as nothing, since nobody learns what it returns.
    pub fn circuit_breaker(self, breaker: Arc<CircuitBreaker>) -> Self {
        self.layer(LayerKind::Circuit, Layer::Circuit(breaker))
    }

    /// Adds a hedge, directly before the bulkhead, which has to be one with threads.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.hedge = Some(hedge);
        self.order.push(LayerKind::Hedge);
        self
    }

    /// Adds chaos, as the innermost layer: inside of the bulkhead, in the place of the dependency. It does nothing until it
    /// is switched on.
    pub fn chaos(mut self, chaos: Chaos<E>) -> Self {
        self.chaos = Some(chaos);
        self.order.push(LayerKind::Chaos);
        self
    }

    /// Lets only those of the tasks' own errors count against the circuit for which `is_failure` says so, be it the
    /// bulkhead's or the pipeline's. The others are ignored. If it panics, the error counts.
    pub fn failure_if(mut self, is_failure: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.failure_if = Some(Arc::new(is_failure));
        self
    }

    /// Adds a listener, which is told after each call, in the caller's thread. A panic in it is contained and logged.
    pub fn listener(
        mut self,
        listener: impl Fn(&PipelineEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Names what the calls do, for the bulkhead's listeners, its shutdown reports, and the task itself. As
    /// [`Call::operation`](crate::Call::operation).
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.call.get_or_insert_default().operation = Some(name.into());
        self
    }

    /// Sets whether each call has a span of its own, `pipeline_call`, around those of its attempts, and whether failed
    /// attempts are events. Default: `true`. With `false` the attempts' spans stand under the caller's.
    ///
    /// The bulkhead decides about the spans of the attempts, see
    /// [`BulkheadBuilder::call_spans`](crate::BulkheadBuilder::call_spans).
    #[cfg(feature = "tracing")]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.trace.has_spans = spans;
        self
    }

    /// Sets everything that the calls of the bulkhead ask for.
    pub(crate) fn call_settings(mut self, settings: CallSettings) -> Self {
        self.call = Some(Box::new(settings));
        self
    }

    /// Counts in this ledger, with other pipelines.
    pub(crate) fn ledger(mut self, ledger: Arc<PipelineLedger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Sets the clock that timeouts and pauses go by. Default: that of the bulkhead, or the system's.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Checks the order and the values, and builds the pipeline.
    ///
    /// ```
    /// use bulkman::policy::{Fallback, Pipeline, Retry};
    ///
    /// let error = Pipeline::<std::io::Error, _, _>::builder("users")
    ///     .retry(Retry::new(3))
    ///     .fallback(Fallback::value(0))
    ///     .build()
    ///     .unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "pipeline `users` has a fallback inside of a retry: put the fallback before the retry, \
    ///      else the retry sees no failure to retry"
    /// );
    /// ```
    ///
    /// # Errors
    ///
    /// [`Order`](PipelineBuildError::Order) for an order that makes no sense, with what to do instead;
    /// [`InvalidValue`](PipelineBuildError::InvalidValue) for an empty name or a timeout of zero, or if the timeout of an
    /// attempt is not shorter than that over all.
    pub fn build(self) -> Result<Pipeline<E, V, K>, PipelineBuildError> {
        let inside = Inside {
            has_threads: K::HAS_THREADS,
            has_circuit: K::has_circuit(&self.bulkhead),
        };
        check(&self.order, inside).map_err(|conflict| self.conflict(conflict))?;
        self.check_values()
            .map_err(|source| PipelineBuildError::InvalidValue {
                pipeline: Arc::clone(&self.name),
                source,
            })?;
        let clock = self.clock.unwrap_or_default();
        let mut layers = self.layers;
        for layer in &mut layers {
            match layer {
                Layer::Retry(retry) => retry.adopt(&self.name, &clock, self.trace),
                Layer::Fallback(fallback) => V::set_clock(fallback, &clock),
                Layer::Timeout(_)
                | Layer::AdaptiveTimeout(_)
                | Layer::LiveTimeout(_)
                | Layer::RateLimit(_)
                | Layer::Circuit(_) => {}
            }
        }
        let mut chaos = self.chaos;
        if let Some(chaos) = &mut chaos {
            chaos.set_clock(&clock);
        }
        let is_nothing = self.order.is_empty() && self.listeners.is_empty();
        let ledger = if is_nothing {
            None
        } else {
            let own = || Arc::new(PipelineLedger::new(Arc::clone(&self.name)));
            Some(self.ledger.unwrap_or_else(own))
        };
        // A bulkhead measures its calls by itself.
        let is_timed = !self.listeners.is_empty()
            || self.order.iter().any(|layer| *layer != LayerKind::Bulkhead);
        Ok(Pipeline {
            inner: Arc::new(Inner {
                name: self.name,
                clock,
                layers: layers.into(),
                order: self.order.into(),
                bulkhead: self.bulkhead,
                hedge: self.hedge,
                chaos,
                failure_if: self.failure_if,
                listeners: self.listeners.into(),
                call: self.call,
                trace: self.trace,
                ledger,
                is_nothing,
                is_timed,
            }),
        })
    }

    fn layer(mut self, kind: LayerKind, layer: Layer<E, V>) -> Self {
        self.order.push(kind);
        self.layers.push(layer);
        self
    }

    fn conflict(&self, conflict: Conflict) -> PipelineBuildError {
        let Conflict {
            outer,
            inner,
            instead,
        } = conflict;
        PipelineBuildError::Order {
            pipeline: Arc::clone(&self.name),
            outer,
            inner,
            instead,
        }
    }

    fn check_values(&self) -> Result<(), BuildError> {
        BuildError::check_name("name", &self.name)?;
        let mut around = Duration::MAX;
        for layer in &self.layers {
            if let Layer::Timeout(limit) = layer {
                let shown = format!("{limit:?}");
                BuildError::check(
                    !limit.is_zero(),
                    "timeout",
                    &shown,
                    "must be greater than zero",
                )?;
                BuildError::check(
                    *limit < around || around == Duration::MAX,
                    "timeout",
                    &shown,
                    "must be shorter than the one around it",
                )?;
                around = *limit;
            }
        }
        Ok(())
    }
}

impl<E, V: Values<E>, K: Place> fmt::Debug for PipelineBuilder<E, V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("name", &self.name)
            .field("layers", &self.order)
            .finish_non_exhaustive()
    }
}
