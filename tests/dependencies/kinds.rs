//! The presets, and what overrides them.

use std::thread;
use std::time::Duration;

use bulkman::{
    AnyBulkhead, BulkheadKind, CircuitBreakerConfig, CircuitBreakerOverrides, Dependencies,
    DependencyConfig, DependencyDefaults, DependencyError, DependencyKind, DependencyOverrides,
    TimeoutSetting, UnknownKind,
};

use super::support::seconds;

/// N, Q, timeout, queue timeout, failures that open the circuit, and which bulkhead.
type Row = (usize, usize, u64, Duration, Option<usize>, BulkheadKind);

#[test]
fn each_kind_has_the_settings_of_its_preset() {
    use BulkheadKind::{Semaphore, ThreadPool};
    let cores = thread::available_parallelism().unwrap().get();
    let rows: [(DependencyKind, Row); 6] = [
        (
            DependencyKind::Database,
            (10, 20, 10, seconds(2), Some(5), ThreadPool),
        ),
        (
            DependencyKind::ExternalApi,
            (15, 30, 15, seconds(3), Some(3), ThreadPool),
        ),
        (
            DependencyKind::Cache,
            (50, 50, 2, Duration::from_millis(200), None, Semaphore),
        ),
        (
            DependencyKind::MessageQueue,
            (20, 100, 10, seconds(2), Some(5), ThreadPool),
        ),
        (
            DependencyKind::FileSystem,
            (8, 32, 30, seconds(5), None, ThreadPool),
        ),
        (
            DependencyKind::Payment,
            (5, 5, 10, seconds(1), Some(2), ThreadPool),
        ),
    ];
    let dependencies = Dependencies::new();
    for (kind, (n, q, timeout, queue_timeout, failures, bulkhead)) in rows {
        dependencies.register(kind.name(), kind).unwrap();
        let built = dependencies.bulkhead(kind.name()).unwrap();
        let config = built.config();
        assert_eq!(config.name, kind.name());
        assert_eq!(
            (config.max_concurrent_calls, config.max_queue_size),
            (n, q),
            "{kind}"
        );
        assert_eq!(config.execution_timeout, Some(seconds(timeout)), "{kind}");
        assert_eq!(config.queue_timeout, Some(queue_timeout), "{kind}");
        let breaker = config.circuit_breaker.as_ref();
        assert_eq!(
            breaker.map(|rules| rules.failure_threshold),
            failures,
            "{kind}"
        );
        let is_semaphore = matches!(built, AnyBulkhead::Semaphore(_));
        assert_eq!(is_semaphore, bulkhead == Semaphore, "{kind}");
    }
    dependencies.register_cpu("hashes").unwrap();
    let cpu = dependencies.bulkhead("hashes").unwrap();
    assert!(matches!(cpu, AnyBulkhead::ThreadPool(_)));
    assert_eq!(cpu.config().max_concurrent_calls, cores);
    assert_eq!(cpu.config().max_queue_size, 4 * cores);
    assert_eq!(
        cpu.config().execution_timeout,
        Some(seconds(30)),
        "the built-in default"
    );
    assert_eq!(cpu.config().queue_timeout, None);
    assert_eq!(cpu.config().circuit_breaker, None);
}

#[test]
fn a_payment_is_stricter_than_any_other_and_isolated_for_longer() {
    let payment = DependencyKind::Payment.preset();
    for kind in DependencyKind::ALL.into_iter().filter(|kind| {
        // As many as there are cores, which may be one.
        !matches!(kind, DependencyKind::Payment | DependencyKind::Cpu)
    }) {
        let other = kind.preset();
        assert!(
            payment.max_concurrent_calls < other.max_concurrent_calls,
            "{kind}"
        );
        assert!(payment.max_queue_size < other.max_queue_size, "{kind}");
    }
    let isolation = payment.circuit_breaker.isolation_duration;
    assert_eq!(isolation, Some(seconds(60)));
}

#[test]
fn there_is_a_way_to_register_each_kind() {
    let dependencies = Dependencies::new();
    dependencies.register_database("a").unwrap();
    dependencies.register_external_api("b").unwrap();
    dependencies.register_cache("c").unwrap();
    dependencies.register_message_queue("d").unwrap();
    dependencies.register_file_system("e").unwrap();
    dependencies.register_cpu("f").unwrap();
    dependencies.register_payment("g").unwrap();
    let kinds: Vec<_> = dependencies
        .names()
        .iter()
        .map(|name| dependencies.config(name).unwrap().kind)
        .collect();
    assert_eq!(kinds, DependencyKind::ALL);
}

#[test]
fn an_unknown_kind_is_an_error_that_lists_those_there_are() {
    let error = "databse".parse::<DependencyKind>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no kind of dependency `databse`; did you mean `database`? There are `database`, `external_api`, \
         `cache`, `message_queue`, `file_system`, `cpu`, `payment`"
    );
    let other = "blockchain".parse::<DependencyKind>().unwrap_err();
    assert_eq!(other.near, None);
    let as_dependency_error = DependencyError::from(UnknownKind::clone(&error));
    assert_eq!(as_dependency_error.to_string(), error.to_string());
}

#[test]
fn every_setting_of_a_preset_can_be_overridden() {
    let dependencies = Dependencies::new();
    let breaker = CircuitBreakerConfig::default().failure_threshold(9);
    dependencies
        .register_with(
            "db",
            DependencyConfig::new(DependencyKind::Database)
                .max_concurrent_calls(1)
                .max_queue_size(2)
                .timeout(seconds(3))
                .queue_timeout(TimeoutSetting::Never)
                .bulkhead(BulkheadKind::Semaphore)
                .circuit_breaker(breaker.clone()),
        )
        .unwrap();
    let db = dependencies.bulkhead("db").unwrap();
    assert!(matches!(db, AnyBulkhead::Semaphore(_)));
    let config = db.config();
    assert_eq!((config.max_concurrent_calls, config.max_queue_size), (1, 2));
    assert_eq!(config.execution_timeout, Some(seconds(3)));
    assert_eq!(config.queue_timeout, None);
    assert_eq!(config.circuit_breaker, Some(breaker));
}

#[test]
fn one_rule_more_keeps_the_other_rules_of_the_preset() {
    let dependencies = Dependencies::new();
    let rules = CircuitBreakerOverrides::new().success_threshold(1);
    let config = DependencyConfig::new(DependencyKind::Payment).circuit_breaker(rules);
    dependencies.register_with("bank", config).unwrap();
    let breaker = dependencies.bulkhead("bank").unwrap();
    let breaker = breaker.config().circuit_breaker.clone().unwrap();
    assert_eq!(
        breaker,
        CircuitBreakerConfig::default()
            .failure_threshold(2)
            .isolation_duration(seconds(60))
            .success_threshold(1)
    );
}

#[test]
fn defaults_for_a_kind_come_before_its_preset_and_those_for_all_after_it() {
    let defaults = DependencyDefaults::new()
        .for_all(
            DependencyOverrides::new()
                .timeout(seconds(1))
                .max_queue_size(1),
        )
        .for_kind(
            DependencyKind::Cache,
            DependencyOverrides::new()
                .max_concurrent_calls(2)
                .timeout(seconds(2)),
        );
    let dependencies = Dependencies::builder().defaults(defaults).build();
    dependencies.register_cache("cache").unwrap();
    dependencies.register_cpu("hashes").unwrap();
    let cache = dependencies.bulkhead("cache").unwrap();
    assert_eq!(cache.config().max_concurrent_calls, 2);
    assert_eq!(cache.config().max_queue_size, 50, "the preset's");
    assert_eq!(cache.config().execution_timeout, Some(seconds(2)));
    let hashes = dependencies.bulkhead("hashes").unwrap();
    assert_eq!(
        hashes.config().execution_timeout,
        Some(seconds(1)),
        "its preset has none"
    );
}
