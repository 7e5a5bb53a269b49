//! The builder of a bulkhead: the collaborators that both kinds take. Each kind has a `build` of its own, beside its facade.

#![expect(private_bounds, reason = "there are two kinds, and no others")]

use std::fmt;
use std::sync::Arc;

use super::engine::EngineParts;
use super::kind::{Kind, ThreadPoolKind};
use crate::circuit::CircuitStorage;
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::event::{BulkheadEvent, BulkheadListener};
use crate::stats::HealthThresholds;

/// Builds a bulkhead with collaborators. From [`Bulkhead::builder`](crate::Bulkhead::builder) or
/// [`SemaphoreBulkhead::builder`](crate::SemaphoreBulkhead::builder); `K` is the kind that it builds.
#[must_use = "a builder does nothing until `build`"]
pub struct BulkheadBuilder<K: Kind = ThreadPoolKind> {
    pub(crate) parts: EngineParts,
    pub(crate) collaborators: K::Collaborators,
}

impl<K: Kind> BulkheadBuilder<K> {
    pub(crate) fn new(config: BulkheadConfig) -> Self {
        Self {
            parts: EngineParts::new(config),
            collaborators: K::Collaborators::default(),
        }
    }

    /// Adds a listener. They are told in the order in which they were added.
    pub fn listener(mut self, listener: impl BulkheadListener + 'static) -> Self {
        self.parts.listeners.push(Box::new(listener));
        self
    }

    /// Adds a plain closure as a [`listener`](Self::listener), without a type at its argument.
    ///
    /// ```
    /// use bulkman::{Bulkhead, BulkheadConfig, BulkheadEvent};
    ///
    /// let bulkhead = Bulkhead::builder(BulkheadConfig::new("search"))
    ///     .on_event(|event| {
    ///         if let BulkheadEvent::Rejected { reason, .. } = event {
    ///             eprintln!("{reason}");
    ///         }
    ///     })
    ///     .build()?;
    /// # drop(bulkhead);
    /// # Ok::<(), bulkman::BuildError>(())
    /// ```
    pub fn on_event(self, listener: impl Fn(&BulkheadEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listener(listener)
    }

    /// Keeps the circuit in a storage, where all bulkheads of this name share its state: see [`CircuitStorage`].
    /// Without a circuit breaker in the configuration it is an error.
    pub fn circuit_storage(mut self, storage: impl CircuitStorage + 'static) -> Self {
        self.parts.circuit_storage = Some(Arc::new(storage));
        self
    }

    /// Sets from where on the bulkhead counts as unhealthy, for [`health`](crate::Bulkhead::health). They change nothing else.
    /// `build` refuses those that make no sense, see [`HealthThresholds::validate`].
    pub fn health_thresholds(mut self, thresholds: HealthThresholds) -> Self {
        self.parts.health_thresholds = thresholds;
        self
    }

    /// Sets whether the trace of a caller goes along with its calls, and whether they are traced. Default: `true`.
    ///
    /// With the feature `tracing` that is the caller's span and subscriber, and the calls' own spans and events. With the
    /// feature `opentelemetry` it is the caller's `Context`, with its baggage. With `false` a worker has what it has itself,
    /// for example for jobs that belong to no request.
    #[cfg(any(feature = "tracing", feature = "opentelemetry"))]
    pub fn propagate_trace(mut self, propagate: bool) -> Self {
        self.parts.trace.carries = propagate;
        self
    }

    /// Sets whether each call has a span of its own, and whether refusals and callers that leave are events. Default:
    /// `true`. With `false` the caller's span goes along all the same, for tasks that are too short and too many to be worth
    /// a span each.
    #[cfg(feature = "tracing")]
    pub fn call_spans(mut self, spans: bool) -> Self {
        self.parts.trace.has_spans = spans;
        self
    }

    /// Sets the clock that queue timeouts, caller's limits and the circuit breaker go by. Default: the system's. Tests
    /// hand in a [`ManualClock`](crate::ManualClock). The limit of a shutdown always goes by the system's clock.
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.parts.clock = clock.into();
        self
    }
}

/// A builder without collaborators.
impl<K: Kind> From<BulkheadConfig> for BulkheadBuilder<K> {
    fn from(config: BulkheadConfig) -> Self {
        Self::new(config)
    }
}

impl<K: Kind> fmt::Debug for BulkheadBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::BUILDER)
            .field("config", &self.parts.config)
            .field("clock", &self.parts.clock)
            .field("listeners", &self.parts.listeners.len())
            .finish_non_exhaustive()
    }
}
