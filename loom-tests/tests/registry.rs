//! The registry: bulkheads that are built by several threads at once, and while everything ends.
//!
//! With bulkheads that have no threads of their own, so that nothing but the registry is explored.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bulkman::{BulkheadRegistry, BulkheadState, RegistryError};
use loom::thread;
use support::{config, explore};

/// A bulkhead is built once, and all callers get the same.
#[test]
fn get_or_create_against_itself() {
    explore("get_or_create against itself", 3, || {
        let registry = Arc::new(BulkheadRegistry::new());
        let other = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.get_or_create_semaphore(config(1, 0)).unwrap())
        };
        let mine = registry.get_or_create_semaphore(config(1, 0)).unwrap();
        let others = other.join().unwrap();
        assert!(Arc::ptr_eq(&mine, &others));
        assert_eq!(registry.len(), 1);
    });
}

/// Of two that create the same name, one succeeds.
#[test]
fn create_against_itself() {
    explore("create against itself", 3, || {
        let registry = Arc::new(BulkheadRegistry::new());
        let other = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.create_semaphore(config(1, 0)).is_ok())
        };
        let mine = registry.create_semaphore(config(1, 0)).is_ok();
        assert!(mine != other.join().unwrap());
    });
}

/// No bulkhead outlives the end of its registry as one that takes calls.
#[test]
fn create_against_shutdown_all() {
    explore("create against shutdown_all", 3, || {
        let registry = Arc::new(BulkheadRegistry::new());
        let creating = {
            let registry = Arc::clone(&registry);
            thread::spawn(move || registry.create_semaphore(config(1, 0)))
        };
        registry.shutdown_all(Duration::ZERO);
        match creating.join().unwrap() {
            Ok(bulkhead) => assert_eq!(bulkhead.state(), BulkheadState::ShutDown),
            Err(error) => assert!(matches!(error, RegistryError::ShutDown { .. })),
        }
    });
}
