//! All dependencies together: numbers, health, and the end.

use std::time::Duration;

use bulkman::{BulkheadError, Dependencies, DependencyError, RegistryError};

use super::support::{Gate, OpenOnDrop, assert_balanced, wait};

#[test]
fn numbers_are_there_for_one_and_for_all() {
    let dependencies = Dependencies::new();
    dependencies.register_database("db").unwrap();
    dependencies.register_cache("cache").unwrap();
    for _ in 0..3 {
        assert!(wait(dependencies.call("db").unwrap().run(|| ())).is_success());
    }
    let stats = dependencies.stats_of("db").unwrap();
    assert_balanced(&stats);
    assert_eq!(stats.successful_executions, 3);
    let all = dependencies.stats();
    let names: Vec<_> = all.iter().map(|stats| &*stats.name).collect();
    assert_eq!(names, ["cache", "db"]);
}

#[test]
fn health_names_the_dependency_that_is_not_well() {
    let dependencies = Dependencies::new();
    dependencies.register_payment("bank").unwrap();
    dependencies.register_cache("cache").unwrap();
    for _ in 0..2 {
        let _failure = wait(
            dependencies
                .call("bank")
                .unwrap()
                .execute(|| Err::<(), u8>(1)),
        );
    }
    let health = dependencies.health();
    let unhealthy: Vec<_> = health.unhealthy().map(|(name, _)| name).collect();
    assert_eq!(unhealthy, ["bank"]);
}

#[test]
fn the_end_comes_for_all_within_one_limit_and_nothing_new_begins() {
    let dependencies = Dependencies::new();
    dependencies.register_database("db").unwrap();
    dependencies.register_cache("cache").unwrap();
    let gate = Gate::new();
    let open = OpenOnDrop(gate.clone());
    let hanging = {
        let gate = gate.clone();
        dependencies
            .call("db")
            .unwrap()
            .operation("hang")
            .run(move || gate.pass())
    };
    gate.wait_for_arrivals(1);
    let reports = dependencies.shutdown_all(Duration::ZERO);
    assert!(reports["cache"].is_clean());
    assert_eq!(
        reports["db"].still_running[0].operation.as_deref(),
        Some("hang")
    );
    let refused = wait(dependencies.call("cache").unwrap().run(|| ()));
    assert!(matches!(
        refused.error(),
        Some(BulkheadError::ShutDown { .. })
    ));
    assert!(matches!(
        dependencies.register_cache("late"),
        Err(DependencyError::Registry(RegistryError::ShutDown { .. }))
    ));
    drop(open);
    assert!(wait(hanging).is_success());
}

#[test]
fn dropping_them_runs_what_is_queued() {
    let dependencies = Dependencies::new();
    dependencies.register_cpu("hashes").unwrap();
    let handles: Vec<_> = (0..4)
        .map(|i| dependencies.call("hashes").unwrap().run(move || i))
        .collect();
    drop(dependencies);
    for (i, handle) in handles.into_iter().enumerate() {
        assert!(handle.is_finished());
        assert_eq!(wait(handle).value(), Some(&i));
    }
}
