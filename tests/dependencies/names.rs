//! Names: each once, and those that are unknown.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{
    BulkheadConfig, BulkheadRegistry, Dependencies, DependencyConfig, DependencyError,
    DependencyKind, OperationOverrides, RegistryError,
};

use super::support::wait;

#[test]
fn a_name_twice_is_an_error_and_the_first_stays() {
    let dependencies = Dependencies::new();
    dependencies.register_cache("sessions").unwrap();
    let error = dependencies.register_database("sessions").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the registry has a bulkhead `sessions` already"
    );
    assert!(matches!(
        error,
        DependencyError::Registry(RegistryError::AlreadyExists { name }) if &*name == "sessions"
    ));
    assert_eq!(
        dependencies.config("sessions").unwrap().kind,
        DependencyKind::Cache
    );
}

#[test]
fn an_unknown_name_is_an_error_that_lists_those_there_are() {
    let dependencies = Dependencies::new();
    let empty = dependencies.call("user_db").unwrap_err();
    assert_eq!(
        empty.to_string(),
        "no dependency `user_db` is registered; there is none"
    );

    dependencies.register_cache("user_db").unwrap();
    dependencies.register_cache("sessions").unwrap();
    let error = dependencies.call("userdb").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no dependency `userdb` is registered; did you mean `user_db`? There are `sessions`, `user_db`"
    );
    let DependencyError::Unknown { name, known, near } = error else {
        panic!("{error}");
    };
    assert_eq!(name, "userdb");
    assert_eq!(known, [Arc::from("sessions"), Arc::from("user_db")]);
    assert_eq!(near.as_deref(), Some("user_db"));

    for error in [
        dependencies.explain("payments", "pay").unwrap_err(),
        dependencies.stats_of("payments").unwrap_err(),
        dependencies.bulkhead("payments").unwrap_err(),
        dependencies.config("payments").unwrap_err(),
    ] {
        let text = error.to_string();
        assert_eq!(
            text,
            "no dependency `payments` is registered; there are `sessions`, `user_db`"
        );
    }
}

#[test]
fn a_name_of_two_lines_stays_in_one() {
    let error = Dependencies::new().call("a\nb").unwrap_err();
    assert!(error.to_string().contains("`a\\nb`"), "{error}");
}

#[test]
fn a_setting_out_of_range_registers_nothing() {
    let dependencies = Dependencies::new();
    let config = DependencyConfig::new(DependencyKind::Cache).max_concurrent_calls(0);
    let error = dependencies.register_with("cache", config).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("dependency `cache`: invalid configuration"),
        "{text}"
    );
    assert!(
        text.ends_with("max_concurrent_calls is 0, it must be at least 1"),
        "{text}"
    );
    let operation = OperationOverrides::new().timeout(Duration::ZERO);
    let config = DependencyConfig::new(DependencyKind::Cache).operation("get", operation);
    let error = dependencies.register_with("cache", config).unwrap_err();
    let DependencyError::Invalid {
        operation, reason, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(operation.as_deref(), Some("get"));
    assert!(
        error
            .to_string()
            .starts_with("dependency `cache`, operation `get`: invalid configuration")
    );
    assert!(
        reason.to_string().contains("execution_timeout is 0ns"),
        "{reason}"
    );
    assert!(
        dependencies.register_cache("").is_err(),
        "a name is not empty"
    );
    assert!(dependencies.names().is_empty());
    assert!(dependencies.registry().is_empty());
}

#[test]
fn a_removed_name_is_free_at_once() {
    let dependencies = Dependencies::new();
    dependencies.register_cache("cache").unwrap();
    let old = dependencies.remove("cache").unwrap();
    assert!(dependencies.call("cache").is_err());
    assert!(dependencies.remove("cache").is_none());
    dependencies.register_database("cache").unwrap();
    assert_eq!(
        dependencies.config("cache").unwrap().kind,
        DependencyKind::Database
    );
    assert!(old.shutdown().is_clean());
    assert!(wait(dependencies.call("cache").unwrap().run(|| ())).is_success());
}

#[test]
fn bulkheads_of_others_may_be_in_the_same_registry() {
    let registry = Arc::new(BulkheadRegistry::new());
    registry
        .create_semaphore(BulkheadConfig::new("by-hand"))
        .unwrap();
    let dependencies = Dependencies::builder()
        .registry(Arc::clone(&registry))
        .build();
    assert!(dependencies.register_cache("by-hand").is_err());
    dependencies.register_cache("cache").unwrap();
    assert!(dependencies.call("by-hand").is_err(), "it is no dependency");
    assert_eq!(registry.len(), 2);
    assert_eq!(dependencies.stats().len(), 2);
}

#[test]
fn what_was_taken_from_the_registry_itself_can_be_registered_again() {
    let dependencies = Dependencies::new();
    dependencies.register_cache("cache").unwrap();
    let old = dependencies.registry().remove("cache").unwrap();
    dependencies.register_cache("cache").unwrap();
    old.shutdown();
    let result = wait(dependencies.call("cache").unwrap().run(|| 7));
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn removing_what_was_taken_from_the_registry_leaves_its_successor_there() {
    let dependencies = Dependencies::new();
    dependencies.register_cache("cache").unwrap();
    let registry = Arc::clone(dependencies.registry());
    drop(registry.remove("cache"));
    let successor = registry
        .create_semaphore(BulkheadConfig::new("cache"))
        .unwrap();
    let old = dependencies.remove("cache").unwrap();
    assert!(old.shutdown().is_clean());
    let there = registry.semaphore("cache").unwrap();
    assert!(Arc::ptr_eq(&there, &successor));
}

#[test]
fn there_is_one_for_the_process() {
    Dependencies::global()
        .register_cache("of the process")
        .unwrap();
    assert!(Dependencies::global().call("of the process").is_ok());
}
