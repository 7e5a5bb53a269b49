//! The configuration, and the debug output.

use std::time::{Duration, Instant};

use bulkman::{BuildError, MemoryStorage, SemaphoreBulkhead};

use super::helpers::semaphore;
use crate::support::config;

#[test]
fn bad_configuration_is_a_clear_error() {
    for (config, says) in [
        (
            config(0, 1),
            "max_concurrent_calls is 0, it must be at least 1",
        ),
        (
            config(1, 1).queue_timeout(Duration::ZERO),
            "queue_timeout is 0ns, it must be greater than zero; leave it out for no limit",
        ),
    ] {
        let error = SemaphoreBulkhead::new(config).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("invalid configuration of `test`: {says}")
        );
    }
    let error = SemaphoreBulkhead::builder(config(1, 1))
        .circuit_storage(MemoryStorage::new())
        .build()
        .unwrap_err();
    assert!(matches!(
        error,
        BuildError::InvalidValue {
            field: "circuit_breaker",
            ..
        }
    ));
    assert!(error.to_string().contains(" of `test`: "), "{error}");
}

#[test]
fn what_it_shows_and_where_it_may_go() {
    fn is_shared<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>(_: &T) {}
    let bulkhead = semaphore(2, 3);
    is_shared(&bulkhead);
    assert_eq!(bulkhead.name(), "test");
    assert_eq!(bulkhead.config().max_queue_size, 3);
    assert!(bulkhead.is_healthy() && bulkhead.circuit_breaker().is_none());
    let shown = format!("{bulkhead:?}");
    assert!(
        shown.starts_with("SemaphoreBulkhead { name: \"test\""),
        "{shown}"
    );
    let call = format!("{:?}", bulkhead.call().operation("x"));
    assert!(
        call.starts_with("SemaphoreCall { bulkhead: \"test\""),
        "{call}"
    );
    let builder = format!("{:?}", SemaphoreBulkhead::builder(config(1, 1)));
    assert!(builder.starts_with("SemaphoreBulkheadBuilder"), "{builder}");
    let begun = Instant::now();
    let result = bulkhead.run(|| ());
    assert!(result.execution_time <= begun.elapsed());
}
