//! What both kinds of bulkhead offer, as one trait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::any_bulkhead::AnyBulkhead;
use crate::circuit::{CircuitBreaker, CircuitBreakerConfig};
use crate::config::BulkheadConfig;
use crate::core::ShutdownReport;
use crate::error::BuildError;
use crate::result::ExecutionResult;
use crate::semaphore::SemaphoreBulkhead;
use crate::stats::{BulkheadHealth, BulkheadState, BulkheadStats};
use crate::thread_pool::Bulkhead;

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// What a [`Bulkhead`], a [`SemaphoreBulkhead`] and an [`AnyBulkhead`] have in common: for code that works with either kind.
///
/// Each method is the one of the same name that the type has itself; only
/// [`execute_blocking`](Self::execute_blocking) is new. A reference and an `Arc` of a bulkhead have the trait too.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, CommonBulkhead, SemaphoreBulkhead};
///
/// /// A client whose owner decides whether its calls need threads.
/// struct Users<B> {
///     bulkhead: B,
/// }
///
/// impl<B: CommonBulkhead> Users<B> {
///     fn name(&self, id: u32) -> Option<String> {
///         let asked = self.bulkhead.execute_blocking(move || look_up(id));
///         asked.into_result().ok()
///     }
/// }
///
/// let here = Users { bulkhead: SemaphoreBulkhead::new(BulkheadConfig::new("users"))? };
/// let there = Users { bulkhead: Bulkhead::new(BulkheadConfig::new("users"))? };
/// assert_eq!(here.name(1), there.name(1));
/// # fn look_up(id: u32) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// Without `execute_blocking` it is a trait object:
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, CommonBulkhead, SemaphoreBulkhead};
/// use std::sync::Arc;
///
/// let all: Vec<Arc<dyn CommonBulkhead>> = vec![
///     Arc::new(Bulkhead::new(BulkheadConfig::new("database"))?),
///     Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("cache"))?),
/// ];
/// assert!(all.iter().all(|bulkhead| bulkhead.is_healthy()));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// It cannot be implemented elsewhere: what the crate guarantees of a bulkhead it can only guarantee of its own, and methods
/// may be added. A test that needs a bulkhead builds a real one, with a [`ManualClock`](crate::ManualClock).
pub trait CommonBulkhead: Sealed + fmt::Debug + Send + Sync {
    /// The name given in the configuration.
    fn name(&self) -> &str;

    /// The configuration that it was built from.
    fn config(&self) -> &BulkheadConfig;

    /// As [`Bulkhead::max_concurrent_calls`].
    fn max_concurrent_calls(&self) -> usize;

    /// As [`Bulkhead::max_queue_size`].
    fn max_queue_size(&self) -> usize;

    /// As [`Bulkhead::resize`] or [`SemaphoreBulkhead::resize`].
    ///
    /// # Errors
    ///
    /// As there.
    fn resize(&self, max_concurrent_calls: usize, max_queue_size: usize) -> Result<(), BuildError>;

    /// As [`Bulkhead::set_circuit_breaker`].
    ///
    /// # Errors
    ///
    /// As there.
    fn set_circuit_breaker(&self, config: CircuitBreakerConfig) -> Result<(), BuildError>;

    /// As [`Bulkhead::state`].
    fn state(&self) -> BulkheadState;

    /// As [`Bulkhead::is_healthy`].
    fn is_healthy(&self) -> bool;
    /// As [`Bulkhead::health`].
    #[must_use]
    fn health(&self) -> BulkheadHealth;

    /// As [`Bulkhead::available_capacity`].
    fn available_capacity(&self) -> usize;

    /// As [`Bulkhead::circuit_breaker`].
    fn circuit_breaker(&self) -> Option<&CircuitBreaker>;

    /// As [`Bulkhead::stats`].
    fn stats(&self) -> BulkheadStats;

    /// As [`Bulkhead::reset_stats`].
    fn reset_stats(&self);

    /// Runs a task that may fail, and waits for its outcome: on a worker thread as [`Bulkhead::execute`] and
    /// [`wait`](crate::ExecutionHandle::wait) do, or in this thread as [`SemaphoreBulkhead::execute`] does.
    fn execute_blocking<T, E, F>(&self, f: F) -> ExecutionResult<T, E>
    where
        Self: Sized,
        F: FnOnce() -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static;

    /// As [`Bulkhead::shutdown`] or [`SemaphoreBulkhead::shutdown`].
    fn shutdown(&self) -> ShutdownReport;

    /// As [`Bulkhead::shutdown_timeout`] or [`SemaphoreBulkhead::shutdown_timeout`].
    fn shutdown_timeout(&self, limit: Duration) -> ShutdownReport;

    /// As [`Bulkhead::shutdown_now`] or [`SemaphoreBulkhead::shutdown_now`].
    fn shutdown_now(&self) -> ShutdownReport;

    /// As [`Bulkhead::close`] or [`SemaphoreBulkhead::close`].
    fn close(&self);

    /// As [`Bulkhead::wait_closed`] or [`SemaphoreBulkhead::wait_closed`].
    #[must_use = "it says whether the bulkhead has ended"]
    fn wait_closed(&self, limit: Duration) -> bool;

    /// As [`Bulkhead::wait_idle`] or [`SemaphoreBulkhead::wait_idle`].
    #[must_use = "it says whether there was such a moment"]
    fn wait_idle(&self, limit: Duration) -> bool;
}

/// Implements the trait by the methods of `$inner`, which `self` is or refers to.
macro_rules! common_bulkhead {
    ([$($generics:tt)*] $kind:ty, $inner:ty, |$bulkhead:ident, $f:ident| $execute:expr) => {
        impl<$($generics)*> Sealed for $kind {}

        impl<$($generics)*> CommonBulkhead for $kind {
            fn name(&self) -> &str {
                <$inner>::name(self)
            }

            fn config(&self) -> &BulkheadConfig {
                <$inner>::config(self)
            }

            fn max_concurrent_calls(&self) -> usize {
                <$inner>::max_concurrent_calls(self)
            }

            fn max_queue_size(&self) -> usize {
                <$inner>::max_queue_size(self)
            }

            fn resize(
                &self,
                max_concurrent_calls: usize,
                max_queue_size: usize,
            ) -> Result<(), BuildError> {
                <$inner>::resize(self, max_concurrent_calls, max_queue_size)
            }

            fn set_circuit_breaker(&self, config: CircuitBreakerConfig) -> Result<(), BuildError> {
                <$inner>::set_circuit_breaker(self, config)
            }

            fn state(&self) -> BulkheadState {
                <$inner>::state(self)
            }

            fn is_healthy(&self) -> bool {
                <$inner>::is_healthy(self)
            }

            fn health(&self) -> BulkheadHealth {
                <$inner>::health(self)
            }

            fn available_capacity(&self) -> usize {
                <$inner>::available_capacity(self)
            }

            fn circuit_breaker(&self) -> Option<&CircuitBreaker> {
                <$inner>::circuit_breaker(self)
            }

            fn stats(&self) -> BulkheadStats {
                <$inner>::stats(self)
            }

            fn reset_stats(&self) {
                <$inner>::reset_stats(self);
            }

            fn execute_blocking<T, E, F>(&self, $f: F) -> ExecutionResult<T, E>
            where
                F: FnOnce() -> Result<T, E> + Send + 'static,
                T: Send + 'static,
                E: Send + 'static,
            {
                let $bulkhead = self;
                $execute
            }

            fn shutdown(&self) -> ShutdownReport {
                <$inner>::shutdown(self)
            }

            fn shutdown_timeout(&self, limit: Duration) -> ShutdownReport {
                <$inner>::shutdown_timeout(self, limit)
            }

            fn shutdown_now(&self) -> ShutdownReport {
                <$inner>::shutdown_now(self)
            }

            fn close(&self) {
                <$inner>::close(self);
            }

            fn wait_closed(&self, limit: Duration) -> bool {
                <$inner>::wait_closed(self, limit)
            }

            fn wait_idle(&self, limit: Duration) -> bool {
                <$inner>::wait_idle(self, limit)
            }
        }
    };
}

common_bulkhead!([] Bulkhead, Bulkhead, |bulkhead, f| bulkhead.execute(f).wait());
common_bulkhead!([] SemaphoreBulkhead, SemaphoreBulkhead, |bulkhead, f| bulkhead.execute(f));
common_bulkhead!([] AnyBulkhead, AnyBulkhead, |bulkhead, f| match bulkhead {
    AnyBulkhead::ThreadPool(bulkhead) => bulkhead.execute_blocking(f),
    AnyBulkhead::Semaphore(bulkhead) => bulkhead.execute_blocking(f),
});
common_bulkhead!([B: CommonBulkhead] &B, B, |bulkhead, f| B::execute_blocking(bulkhead, f));
common_bulkhead!([B: CommonBulkhead] Arc<B>, B, |bulkhead, f| B::execute_blocking(bulkhead, f));
