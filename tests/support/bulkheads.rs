//! Bulkheads and settings that most tests begin with. The model tests use them too.

use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};

/// The settings of a bulkhead `name` with N workers and Q places in the queue.
pub fn named(name: &str, n: usize, q: usize) -> BulkheadConfig {
    BulkheadConfig::new(name)
        .max_concurrent_calls(n)
        .max_queue_size(q)
}

/// The same for a bulkhead whose name is `test`.
pub fn config(n: usize, q: usize) -> BulkheadConfig {
    named("test", n, q)
}

/// A bulkhead with N workers and Q places in the queue.
pub fn bulkhead(n: usize, q: usize) -> Bulkhead {
    Bulkhead::new(config(n, q)).expect("a valid configuration")
}

/// The settings of a circuit: the failures in a row that open it, the successful probes that close it, and how long it
/// stays open.
pub fn rules(failures: usize, successes: usize, isolation: Duration) -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(failures)
        .success_threshold(successes)
        .isolation_duration(isolation)
}
