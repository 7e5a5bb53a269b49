//! Which level decided each value.

use bulkman::{
    CircuitBreakerOverrides, ConfigLevel, Dependencies, DependencyConfig, DependencyDefaults,
    DependencyKind, DependencyOverrides, OperationOverrides, TimeoutSetting,
};

use super::support::seconds;

fn dependencies() -> Dependencies {
    let defaults = DependencyDefaults::new()
        .for_all(
            DependencyOverrides::new()
                .timeout(seconds(20))
                .circuit_breaker(CircuitBreakerOverrides::new().success_threshold(1)),
        )
        .for_kind(
            DependencyKind::Database,
            DependencyOverrides::new().max_queue_size(7),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let config = DependencyConfig::new(DependencyKind::Database)
        .max_concurrent_calls(4)
        .circuit_breaker(CircuitBreakerOverrides::new().failure_threshold(2))
        .operation("export", OperationOverrides::new().timeout(seconds(120)));
    dependencies.register_with("user_db", config).unwrap();
    dependencies.register_cpu("hashes").unwrap();
    dependencies
}

#[test]
fn the_level_that_decided_each_value_is_shown() {
    let dependencies = dependencies();
    let explained = dependencies.explain("user_db", "export").unwrap();
    assert_eq!(explained.dependency, "user_db");
    assert_eq!(explained.kind, DependencyKind::Database);
    assert_eq!(explained.operation, "export");
    assert_eq!(explained.timeout.value.limit(), Some(seconds(120)));
    assert_eq!(explained.timeout.level, ConfigLevel::Operation);
    assert_eq!(explained.queue_timeout.level, ConfigLevel::Preset);
    assert_eq!(explained.max_concurrent_calls.value, 4);
    assert_eq!(
        explained.max_concurrent_calls.level,
        ConfigLevel::Dependency
    );
    assert_eq!(explained.max_queue_size.value, 7);
    assert_eq!(explained.max_queue_size.level, ConfigLevel::Kind);
    assert_eq!(explained.bulkhead.level, ConfigLevel::Preset);
    assert_eq!(explained.circuit_breaker.level, ConfigLevel::Dependency);
    let rules = &explained.circuit_breaker_rules;
    assert_eq!(rules["failure_threshold"].level, ConfigLevel::Dependency);
    assert_eq!(rules["success_threshold"].level, ConfigLevel::Global);
    assert_eq!(rules["isolation_duration"].level, ConfigLevel::BuiltIn);
    let config = explained.circuit_breaker_config.unwrap();
    assert_eq!((config.failure_threshold, config.success_threshold), (2, 1));

    let other = dependencies.explain("user_db", "get_user").unwrap();
    assert_eq!(other.timeout.value.limit(), Some(seconds(10)));
    assert_eq!(other.timeout.level, ConfigLevel::Preset);
    assert_eq!(other.timeout.origin, None, "no settings were read");
}

#[test]
fn what_is_explained_is_what_the_bulkhead_has() {
    let dependencies = dependencies();
    for name in ["user_db", "hashes"] {
        let explained = dependencies.explain(name, "").unwrap();
        let bulkhead = dependencies.bulkhead(name).unwrap();
        let config = bulkhead.config();
        assert_eq!(explained.timeout.value.limit(), config.execution_timeout);
        assert_eq!(explained.queue_timeout.value.limit(), config.queue_timeout);
        assert_eq!(
            explained.max_concurrent_calls.value,
            config.max_concurrent_calls
        );
        assert_eq!(explained.max_queue_size.value, config.max_queue_size);
        assert_eq!(explained.circuit_breaker_config, config.circuit_breaker);
        assert_eq!(
            explained.circuit_breaker.value,
            config.circuit_breaker.is_some()
        );
    }
}

#[test]
fn the_text_is_a_table() {
    let dependencies = dependencies();
    let text = dependencies
        .explain("user_db", "export")
        .unwrap()
        .to_string();
    assert_eq!(
        text,
        "dependency `user_db`, kind `database`, operation `export`
  timeout               120s         operation
  queue timeout         2s           preset
  concurrent calls      4            dependency
  places in the queue   7            kind
  bulkhead              thread_pool  preset
  circuit breaker       on           dependency
    failure_threshold   2            dependency
    isolation_duration  30s          built-in default
    success_threshold   1            global default"
    );
    let text = dependencies.explain("hashes", "sum").unwrap().to_string();
    assert!(
        text.contains("timeout              20s          global default"),
        "{text}"
    );
    assert!(
        text.ends_with("circuit breaker      off          preset"),
        "{text}"
    );
}

#[test]
fn a_limit_that_is_switched_off_is_shown_as_none() {
    let dependencies = Dependencies::new();
    let config = DependencyConfig::new(DependencyKind::Cache).timeout(TimeoutSetting::Never);
    dependencies.register_with("cache", config).unwrap();
    let text = dependencies.explain("cache", "get").unwrap().to_string();
    assert!(
        text.contains("timeout              none       dependency"),
        "{text}"
    );
}

#[test]
fn stacks_and_nested_calls_are_decided_as_all_else() {
    let defaults = DependencyDefaults::new()
        .for_all(DependencyOverrides::new().max_nested_calls(7))
        .for_kind(
            DependencyKind::Database,
            DependencyOverrides::new().stack_size(1 << 20),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let config = DependencyConfig::new(DependencyKind::Database).max_nested_calls(3);
    dependencies.register_with("user_db", config).unwrap();
    dependencies.register_cache("sessions").unwrap();
    for (name, stack_size, max_nested_calls) in [
        (
            "user_db",
            (Some(1 << 20), ConfigLevel::Kind),
            (3, ConfigLevel::Dependency),
        ),
        (
            "sessions",
            (None, ConfigLevel::BuiltIn),
            (7, ConfigLevel::Global),
        ),
    ] {
        let explained = dependencies.explain(name, "").unwrap();
        let decided = &explained.stack_size;
        assert_eq!((decided.value, decided.level), stack_size, "{name}");
        let decided = &explained.max_nested_calls;
        assert_eq!((decided.value, decided.level), max_nested_calls, "{name}");
        let bulkhead = dependencies.bulkhead(name).unwrap();
        assert_eq!(bulkhead.config().stack_size, stack_size.0);
        assert_eq!(bulkhead.config().max_nested_calls, max_nested_calls.0);
    }
    let text = dependencies.explain("user_db", "").unwrap().to_string();
    assert!(
        text.contains("  stack size            1048576      kind\n"),
        "{text}"
    );
    assert!(
        text.contains("  nested calls          3            dependency\n"),
        "{text}"
    );
    let error = dependencies
        .register_with(
            "odd",
            DependencyConfig::new(DependencyKind::Cpu).stack_size(1),
        )
        .unwrap_err();
    assert!(error.to_string().contains("odd"), "{error}");
}
