//! Listeners and a circuit storage for all dependencies.

use std::sync::{Arc, Mutex};

use bulkman::{
    BulkheadError, BulkheadEvent, CircuitBreakerOverrides, Dependencies, DependencyConfig,
    DependencyKind, MemoryStorage,
};

use super::support::wait;

#[test]
fn listeners_hear_of_every_dependency() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let dependencies = {
        let heard = Arc::clone(&heard);
        Dependencies::builder()
            .listener(move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::Finished { call, .. } = event {
                    heard.lock().unwrap().push(call.bulkhead.to_owned());
                }
            })
            .build()
    };
    dependencies.register_database("db").unwrap();
    dependencies.register_cache("cache").unwrap();
    for name in ["db", "cache"] {
        assert!(wait(dependencies.call(name).unwrap().run(|| ())).is_success());
    }
    assert_eq!(*heard.lock().unwrap(), ["db", "cache"]);
}

#[test]
fn circuits_are_shared_through_a_storage_and_dependencies_without_one_do_not_mind() {
    let storage = MemoryStorage::new();
    let [here, there] = [(); 2].map(|()| {
        let dependencies = Dependencies::builder()
            .circuit_storage(storage.clone())
            .build();
        let rules = CircuitBreakerOverrides::new().failure_threshold(1);
        let config = DependencyConfig::new(DependencyKind::ExternalApi).circuit_breaker(rules);
        dependencies.register_with("tax", config).unwrap();
        dependencies.register_cache("cache").unwrap();
        dependencies
    });
    let _failure = wait(here.call("tax").unwrap().execute(|| Err::<(), u8>(1)));
    super::support::eventually("the other has heard of it", || {
        let refused = wait(there.call("tax").unwrap().run(|| ()));
        matches!(refused.error(), Some(BulkheadError::CircuitOpen { .. }))
    });
    assert!(wait(there.call("cache").unwrap().run(|| ())).is_success());
}
