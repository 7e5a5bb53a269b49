//! From where on a dependency counts as unhealthy.

use std::time::Duration;

use bulkman::{
    BulkheadKind, ConfigLevel, Dependencies, DependencyConfig, DependencyDefaults, DependencyError,
    DependencyKind, DependencyOverrides, HealthOverrides, HealthReason, HealthThresholds,
};

use crate::support::{Gate, OpenOnDrop, SECOND, seconds, wait};

fn database() -> DependencyConfig {
    DependencyConfig::new(DependencyKind::Database).max_concurrent_calls(1)
}

/// Reached as soon as the only worker has a task.
fn busy() -> HealthOverrides {
    HealthOverrides::new().all_busy_for(Duration::ZERO)
}

/// Whether a dependency whose workers are all busy is well.
fn is_well(dependencies: &Dependencies) -> bool {
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let inside = gate.clone();
    let hanging = dependencies.call("db").unwrap().run(move || inside.pass());
    gate.wait_for_arrivals(1);
    let health = dependencies.bulkhead("db").unwrap().health();
    let reasons = dependencies.health().reasons;
    assert_eq!(health.is_healthy(), reasons.values().all(Vec::is_empty));
    if let [reason] = &health.reasons[..] {
        assert!(matches!(reason, HealthReason::AllBusy { .. }));
    }
    gate.open();
    assert!(wait(hanging).is_success());
    health.is_healthy()
}

#[test]
fn thresholds_of_any_level_hold_also_those_for_all() {
    let with = |all: HealthOverrides, kind: HealthOverrides, own: HealthOverrides| {
        let defaults = DependencyDefaults::new()
            .for_all(DependencyOverrides::new().health(all))
            .for_kind(
                DependencyKind::Database,
                DependencyOverrides::new().health(kind),
            );
        let dependencies = Dependencies::builder().defaults(defaults).build();
        let config = database().health(own);
        dependencies.register_with("db", config).unwrap();
        dependencies
    };
    let nothing = HealthOverrides::new;
    assert!(is_well(&with(nothing(), nothing(), nothing())));
    assert!(!is_well(&with(busy(), nothing(), nothing())));
    assert!(!is_well(&with(nothing(), busy(), nothing())));
    assert!(!is_well(&with(nothing(), nothing(), busy())));
    let off = HealthOverrides::off;
    assert!(is_well(&with(busy(), off(), nothing())));
    assert!(is_well(&with(busy(), busy(), off())));
    assert!(!is_well(&with(off(), busy(), nothing())));
    // Another rule of a nearer level leaves those of the others.
    let rare = nothing().abandoned_tasks(1000);
    assert!(!is_well(&with(busy(), nothing(), rare)));
    let late = nothing().all_busy_for(Duration::MAX);
    assert!(is_well(&with(busy(), nothing(), late)));
}

#[test]
fn a_semaphore_has_the_same_thresholds() {
    let dependencies = Dependencies::new();
    let config = database().bulkhead(BulkheadKind::Semaphore).health(busy());
    dependencies.register_with("db", config).unwrap();
    let bulkhead = dependencies.bulkhead("db").unwrap();
    let inside = bulkhead.clone();
    let seen = dependencies
        .call("db")
        .unwrap()
        .run(move || inside.health());
    assert!(!wait(seen).value().unwrap().is_healthy());
    assert!(bulkhead.health().is_healthy());
}

#[test]
fn thresholds_follow_settings_that_are_applied() {
    let dependencies = Dependencies::new();
    dependencies.register_with("db", database()).unwrap();
    let apply = |config: DependencyConfig| {
        let config = [("db".to_owned(), config)];
        let changes = dependencies.apply_config(DependencyDefaults::new(), config);
        let changes = changes.unwrap();
        let texts = changes.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>()
    };
    assert!(is_well(&dependencies));
    let changes = apply(database().health(busy()));
    assert!(
        changes.contains(&"dependency `db`: health goes from off to on".to_owned()),
        "{changes:?}"
    );
    assert!(
        changes.contains(&"dependency `db`: health.all_busy_for goes from none to 0ns".to_owned()),
        "{changes:?}"
    );
    assert!(!is_well(&dependencies));
    let changes = apply(database().health(HealthOverrides::new().all_busy_for(Duration::MAX)));
    assert_eq!(changes.len(), 1);
    assert!(is_well(&dependencies));
    let _changes = apply(database().health(busy()));
    let _changes = apply(database());
    assert!(is_well(&dependencies));
}

#[test]
fn each_threshold_is_decided_by_itself_and_explained() {
    let all = HealthOverrides::new()
        .rejection_rate(0.05)
        .queued_for(SECOND);
    let defaults = DependencyDefaults::new().for_all(DependencyOverrides::new().health(all));
    let dependencies = Dependencies::builder().defaults(defaults).build();
    let own = HealthThresholds::default()
        .queue_utilization(0.8, seconds(7))
        .closed_circuit(true);
    let config = database().health(own);
    dependencies.register_with("db", config).unwrap();
    dependencies.register_cache("cache").unwrap();
    let explained = dependencies.explain("db", "get").unwrap();
    assert_eq!(
        (explained.health.value, explained.health.level),
        (true, ConfigLevel::Dependency)
    );
    for (rule, value, level) in [
        ("queue_utilization", "0.8", ConfigLevel::Dependency),
        ("queue_utilization_for", "7s", ConfigLevel::Dependency),
        ("saturated_for", "none", ConfigLevel::BuiltIn),
        ("queued_for", "1s", ConfigLevel::Global),
        ("all_busy_for", "none", ConfigLevel::BuiltIn),
        ("abandoned_tasks", "none", ConfigLevel::BuiltIn),
        ("rejection_rate", "0.05", ConfigLevel::Global),
        ("rejection_window", "60s", ConfigLevel::BuiltIn),
        ("closed_circuit", "yes", ConfigLevel::Dependency),
    ] {
        let decided = &explained.health_rules[rule];
        assert_eq!((&*decided.value, decided.level), (value, level), "{rule}");
    }
    let text = explained.to_string();
    assert!(text.contains("\n  health thresholds "), "{text}");
    let cache = dependencies.explain("cache", "get").unwrap();
    assert_eq!(cache.health.level, ConfigLevel::Global);
}

#[test]
fn thresholds_out_of_range_are_told_when_the_dependency_is_registered() {
    let dependencies = Dependencies::new();
    let nothing = HealthOverrides::new;
    for (health, text) in [
        (
            nothing().queue_utilization(0.0),
            "queue_utilization is 0, it must be above 0 and at most 1",
        ),
        (
            nothing().rejection_rate(f64::NAN),
            "rejection_rate is NaN, it must be above 0 and at most 1",
        ),
        (
            nothing().rejection_window(Duration::ZERO),
            "rejection_window is 0ns, it must be greater than zero",
        ),
        (
            nothing().abandoned_tasks(0),
            "abandoned_tasks is 0, it must be at least 1",
        ),
    ] {
        let error = dependencies.register_with("db", database().health(health));
        let error = error.unwrap_err();
        assert!(matches!(error, DependencyError::Invalid { .. }));
        assert!(error.to_string().ends_with(text), "{error}");
    }
    let off = HealthOverrides::off().abandoned_tasks(0);
    dependencies
        .register_with("db", database().health(off))
        .unwrap();
}
