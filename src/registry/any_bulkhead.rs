//! A bulkhead of either kind as one type.

use std::sync::Arc;
use std::time::Duration;

use crate::circuit::{CircuitBreaker, CircuitBreakerConfig};
use crate::config::BulkheadConfig;
use crate::core::{
    Engine, ShutdownReport, ShutdownTarget, begin_shutdown, set_circuit_breaker,
    set_health_thresholds,
};
use crate::error::BuildError;
use crate::semaphore::SemaphoreBulkhead;
use crate::stats::{BulkheadHealth, BulkheadState, BulkheadStats, HealthThresholds};
use crate::thread_pool::{Bulkhead, ExecutionHandle};

/// A bulkhead of either kind. Clones are the same bulkhead. [`CommonBulkhead`](crate::CommonBulkhead) is the trait for code
/// that works with either.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyBulkhead {
    /// One with worker threads of its own.
    ThreadPool(Arc<Bulkhead>),
    /// One whose calls run in their callers' threads.
    Semaphore(Arc<SemaphoreBulkhead>),
}

impl AnyBulkhead {
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.shutdown_target().engine(),
            Self::Semaphore(bulkhead) => bulkhead.shutdown_target().engine(),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ThreadPool(_) => "a thread pool",
            Self::Semaphore(_) => "a semaphore",
        }
    }

    /// Submits a task that may fail. A thread pool takes it as [`Bulkhead::execute`] does. A semaphore runs it here and
    /// now, as [`SemaphoreBulkhead::execute`] does, and the handle has the result already.
    pub fn execute<T, E, F>(&self, f: F) -> ExecutionHandle<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.execute(f),
            Self::Semaphore(bulkhead) => ExecutionHandle::finished(bulkhead.execute(f)),
        }
    }

    /// The name given in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.engine().name
    }

    /// The configuration that it was built from.
    #[must_use]
    pub fn config(&self) -> &BulkheadConfig {
        &self.engine().config
    }

    /// As [`Bulkhead::max_concurrent_calls`].
    #[must_use]
    pub fn max_concurrent_calls(&self) -> usize {
        self.engine().limits().max_concurrent_calls
    }

    /// As [`Bulkhead::max_queue_size`].
    #[must_use]
    pub fn max_queue_size(&self) -> usize {
        self.engine().limits().max_queue_size
    }

    /// As [`Bulkhead::resize`] or [`SemaphoreBulkhead::resize`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resize(
        &self,
        max_concurrent_calls: usize,
        max_queue_size: usize,
    ) -> Result<(), BuildError> {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.resize(max_concurrent_calls, max_queue_size),
            Self::Semaphore(bulkhead) => bulkhead.resize(max_concurrent_calls, max_queue_size),
        }
    }

    /// As [`Bulkhead::set_queue_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_queue_timeout(&self, limit: impl Into<Option<Duration>>) -> Result<(), BuildError> {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.set_queue_timeout(limit),
            Self::Semaphore(bulkhead) => bulkhead.set_queue_timeout(limit),
        }
    }

    /// As [`Bulkhead::set_execution_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_execution_timeout(
        &self,
        limit: impl Into<Option<Duration>>,
    ) -> Result<(), BuildError> {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.set_execution_timeout(limit),
            Self::Semaphore(bulkhead) => bulkhead.set_execution_timeout(limit),
        }
    }

    /// As [`Bulkhead::set_circuit_breaker`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_circuit_breaker(&self, config: CircuitBreakerConfig) -> Result<(), BuildError> {
        set_circuit_breaker(self.engine(), config)
    }

    /// As [`Bulkhead::set_health_thresholds`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_health_thresholds(&self, thresholds: HealthThresholds) -> Result<(), BuildError> {
        set_health_thresholds(self.engine(), thresholds)
    }

    /// As [`Bulkhead::state`].
    #[must_use]
    pub fn state(&self) -> BulkheadState {
        self.engine().state()
    }

    /// As [`Bulkhead::is_healthy`].
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.engine().is_healthy()
    }

    /// As [`Bulkhead::health`].
    #[must_use]
    pub fn health(&self) -> BulkheadHealth {
        self.engine().health()
    }

    /// As [`Bulkhead::available_capacity`].
    #[must_use]
    pub fn available_capacity(&self) -> usize {
        self.engine().available_capacity()
    }

    /// As [`Bulkhead::circuit_breaker`].
    #[must_use]
    pub fn circuit_breaker(&self) -> Option<&CircuitBreaker> {
        self.engine().breaker.as_ref()
    }

    /// As [`Bulkhead::stats`].
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        self.engine().stats()
    }

    /// As [`Bulkhead::reset_stats`].
    pub fn reset_stats(&self) {
        self.engine().reset_stats();
    }

    /// As [`Bulkhead::shutdown`].
    pub fn shutdown(&self) -> ShutdownReport {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.shutdown(),
            Self::Semaphore(bulkhead) => bulkhead.shutdown(),
        }
    }

    /// As [`Bulkhead::shutdown_timeout`].
    pub fn shutdown_timeout(&self, limit: Duration) -> ShutdownReport {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.shutdown_timeout(limit),
            Self::Semaphore(bulkhead) => bulkhead.shutdown_timeout(limit),
        }
    }

    /// As [`Bulkhead::shutdown_now`].
    pub fn shutdown_now(&self) -> ShutdownReport {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.shutdown_now(),
            Self::Semaphore(bulkhead) => bulkhead.shutdown_now(),
        }
    }

    /// As [`Bulkhead::close`].
    pub fn close(&self) {
        begin_shutdown(self.engine());
    }

    /// As [`Bulkhead::wait_closed`].
    #[must_use = "it says whether the bulkhead has ended"]
    pub fn wait_closed(&self, limit: Duration) -> bool {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.wait_closed(limit),
            Self::Semaphore(bulkhead) => bulkhead.wait_closed(limit),
        }
    }

    /// As [`Bulkhead::wait_idle`].
    #[must_use = "it says whether there was such a moment"]
    pub fn wait_idle(&self, limit: Duration) -> bool {
        match self {
            Self::ThreadPool(bulkhead) => bulkhead.wait_idle(limit),
            Self::Semaphore(bulkhead) => bulkhead.wait_idle(limit),
        }
    }
}

impl From<Arc<Bulkhead>> for AnyBulkhead {
    fn from(bulkhead: Arc<Bulkhead>) -> Self {
        Self::ThreadPool(bulkhead)
    }
}

impl From<Arc<SemaphoreBulkhead>> for AnyBulkhead {
    fn from(bulkhead: Arc<SemaphoreBulkhead>) -> Self {
        Self::Semaphore(bulkhead)
    }
}
