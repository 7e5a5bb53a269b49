//! Each storage has one thread, as long as it has circuits.
//!
//! The file is a binary of its own, since it counts the threads of the process.

#![cfg(target_os = "linux")]

mod support;

use std::thread;

use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitStorage, MemoryStorage,
};
use support::{eventually, threads_named};

/// The threads that keep circuits in step with their storage. The kernel keeps 15 bytes of `bulkman-circuits`.
fn synchronizers() -> usize {
    threads_named("bulkman-circuit")
}

fn breaker(name: &str, storage: &MemoryStorage) -> CircuitBreaker {
    CircuitBreaker::builder(name, CircuitBreakerConfig::default())
        .storage(storage.clone())
        .build()
        .unwrap()
}

#[test]
fn one_thread_for_each_storage_while_it_has_circuits() {
    let storage = MemoryStorage::new();
    assert_eq!(synchronizers(), 0);
    let mut breakers: Vec<_> = (0..20)
        .map(|number| breaker(&format!("c{}", number % 5), &storage))
        .collect();
    let config = BulkheadConfig::new("c1").circuit_breaker(CircuitBreakerConfig::default());
    let bulkhead = Bulkhead::builder(config.clone())
        .circuit_storage(storage.clone())
        .build()
        .unwrap();
    assert_eq!(synchronizers(), 1);
    let other = MemoryStorage::new();
    let elsewhere = breaker("c1", &other);
    assert_eq!(synchronizers(), 2);
    drop(elsewhere);
    eventually("one is gone", || synchronizers() == 1);
    let last = breakers.pop();
    drop(breakers);
    drop(bulkhead);
    assert_eq!(synchronizers(), 1);
    drop(last);
    eventually("all are gone", || synchronizers() == 0);

    // Comings and goings at the same moment: each breaker is served, and nothing is left.
    thread::scope(|scope| {
        for number in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for _ in 0..200 {
                    let breaker = breaker(&format!("c{number}"), storage);
                    breaker.trip();
                    assert!(breaker.flush(support::PATIENCE), "nobody serves it");
                    breaker.reset();
                }
            });
        }
    });
    eventually("all are gone again", || synchronizers() == 0);
    for number in 0..4 {
        // It was closed, so it is forgotten.
        assert_eq!(storage.load(&format!("c{number}")).unwrap(), None);
    }

    // A breaker whose bulkhead could not be built leaves, too.
    let unbuildable = config.max_concurrent_calls(0);
    assert!(
        Bulkhead::builder(unbuildable)
            .circuit_storage(storage)
            .build()
            .is_err()
    );
    eventually("none", || synchronizers() == 0);
}
