//! The settings that suit each kind of dependency.

use std::thread;
use std::time::Duration;

use super::circuit_overrides::CircuitBreakerOverrides;
use super::kind::{BulkheadKind, DependencyKind};
use super::overrides::DependencyOverrides;

impl DependencyKind {
    /// The settings that hold for this kind where nothing else is said. The type's documentation has the table, and each
    /// kind its reasons.
    #[must_use]
    pub fn preset(self) -> DependencyOverrides {
        let on_threads = DependencyOverrides::new().bulkhead(BulkheadKind::ThreadPool);
        match self {
            Self::Database => on_threads
                .max_concurrent_calls(10)
                .max_queue_size(20)
                .timeout(Duration::from_secs(10))
                .queue_timeout(Duration::from_secs(2))
                .circuit_breaker(CircuitBreakerOverrides::on()),
            Self::ExternalApi => on_threads
                .max_concurrent_calls(15)
                .max_queue_size(30)
                .timeout(Duration::from_secs(15))
                .queue_timeout(Duration::from_secs(3))
                .circuit_breaker(CircuitBreakerOverrides::on().failure_threshold(3)),
            Self::Cache => DependencyOverrides::new()
                .bulkhead(BulkheadKind::Semaphore)
                .max_concurrent_calls(50)
                .max_queue_size(50)
                .timeout(Duration::from_secs(2))
                .queue_timeout(Duration::from_millis(200))
                .circuit_breaker(CircuitBreakerOverrides::off()),
            Self::MessageQueue => on_threads
                .max_concurrent_calls(20)
                .max_queue_size(100)
                .timeout(Duration::from_secs(10))
                .queue_timeout(Duration::from_secs(2))
                .circuit_breaker(CircuitBreakerOverrides::on()),
            Self::FileSystem => on_threads
                .max_concurrent_calls(8)
                .max_queue_size(32)
                .timeout(Duration::from_secs(30))
                .queue_timeout(Duration::from_secs(5))
                .circuit_breaker(CircuitBreakerOverrides::off()),
            Self::Cpu => {
                let cores = thread::available_parallelism().map_or(1, usize::from);
                on_threads
                    .max_concurrent_calls(cores)
                    .max_queue_size(4 * cores)
                    .circuit_breaker(CircuitBreakerOverrides::off())
            }
            Self::Payment => on_threads
                .max_concurrent_calls(5)
                .max_queue_size(5)
                .timeout(Duration::from_secs(10))
                .queue_timeout(Duration::from_secs(1))
                .circuit_breaker(
                    CircuitBreakerOverrides::on()
                        .failure_threshold(2)
                        .isolation_duration(Duration::from_secs(60)),
                ),
        }
    }
}
