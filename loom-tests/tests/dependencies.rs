//! Dependencies: names that come and go while others look them up.
//!
//! With bulkheads that have no threads of their own, so that nothing but the two maps is explored.

mod support;

use std::sync::Arc;

use bulkman::{BulkheadKind, Dependencies, DependencyConfig, DependencyKind};
use loom::thread;
use support::explore;

fn register(dependencies: &Dependencies) -> bool {
    let config = DependencyConfig::new(DependencyKind::Cache)
        .bulkhead(BulkheadKind::Semaphore)
        .max_concurrent_calls(1)
        .max_queue_size(0);
    dependencies.register_with("cache", config).is_ok()
}

/// Of two that register the same name, one succeeds, and whoever finds it can call it.
#[test]
fn register_against_itself() {
    explore("register against itself", 3, || {
        let dependencies = Arc::new(Dependencies::new());
        let other = {
            let dependencies = Arc::clone(&dependencies);
            thread::spawn(move || register(&dependencies))
        };
        let mine = register(&dependencies);
        if mine {
            assert!(
                dependencies
                    .call("cache")
                    .unwrap()
                    .run(|| ())
                    .wait()
                    .is_success()
            );
        }
        assert!(mine != other.join().unwrap());
        assert_eq!(dependencies.names(), dependencies.registry().names());
    });
}

/// A dependency is in both maps or in none, and one that was registered anew is not taken away.
#[test]
fn register_against_remove() {
    explore("register against remove", 3, || {
        let dependencies = Arc::new(Dependencies::new());
        assert!(register(&dependencies));
        let removing = {
            let dependencies = Arc::clone(&dependencies);
            thread::spawn(move || dependencies.remove("cache").is_some())
        };
        let registered = register(&dependencies);
        assert!(removing.join().unwrap());
        assert_eq!(dependencies.call("cache").is_ok(), registered);
        assert_eq!(dependencies.names(), dependencies.registry().names());
    });
}
