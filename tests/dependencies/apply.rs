//! Other settings for dependencies that work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};

use bulkman::{
    BulkheadEvent, BulkheadKind, CircuitBreakerOverrides, CircuitState, Dependencies,
    DependencyChange, DependencyConfig, DependencyDefaults, DependencyError, DependencyKind,
    DependencyOverrides, OperationOverrides, RetryOverrides,
};

use crate::support::{Gate, OpenOnDrop, SECOND, eventually, seconds, wait};

fn database() -> DependencyConfig {
    DependencyConfig::new(DependencyKind::Database)
}

fn with(config: DependencyConfig) -> Dependencies {
    let dependencies = Dependencies::new();
    dependencies.register_with("db", config).unwrap();
    dependencies
}

fn apply(
    dependencies: &Dependencies,
    config: DependencyConfig,
) -> Result<Vec<String>, DependencyError> {
    let changes =
        dependencies.apply_config(DependencyDefaults::new(), [("db".to_owned(), config)])?;
    Ok(changes.iter().map(DependencyChange::to_string).collect())
}

#[test]
fn what_is_the_same_changes_nothing() {
    let dependencies = with(database().timeout(SECOND));
    let before = dependencies.bulkhead("db").unwrap();
    let changes = apply(&dependencies, database().timeout(SECOND)).unwrap();
    assert_eq!(changes, [""; 0]);
    let after = dependencies.bulkhead("db").unwrap();
    assert_eq!(after.max_concurrent_calls(), before.max_concurrent_calls());
}

#[test]
fn each_change_is_made_and_told() {
    let dependencies = with(database().operation("get", OperationOverrides::new().timeout(SECOND)));
    let changed = database()
        .max_concurrent_calls(3)
        .max_queue_size(7)
        .timeout(seconds(4))
        .queue_timeout(seconds(2))
        .retry(RetryOverrides::new().attempts(2))
        .circuit_breaker(CircuitBreakerOverrides::new().failure_threshold(9))
        .operation("get", OperationOverrides::new().timeout(2 * SECOND));
    let told = apply(&dependencies, changed.clone()).unwrap();
    for expected in [
        "dependency `db`: max_concurrent_calls goes from 10 to 3",
        "dependency `db`: max_queue_size goes from 20 to 7",
        "dependency `db`: timeout goes from 10s to 4s",
        "dependency `db`: circuit_breaker.failure_threshold goes from 5 to 9",
        "dependency `db`: retry goes from off to on",
        "dependency `db`: retry.attempts goes from none to 2",
        "dependency `db`, operation `get`: timeout goes from 1s to 2s",
    ] {
        assert!(
            told.iter().any(|told| told == expected),
            "{expected}: {told:#?}"
        );
    }
    let bulkhead = dependencies.bulkhead("db").unwrap();
    assert_eq!(bulkhead.max_concurrent_calls(), 3);
    assert_eq!(bulkhead.max_queue_size(), 7);
    let breaker = bulkhead.circuit_breaker().unwrap();
    for _ in 0..8 {
        let failed = dependencies
            .call("db")
            .unwrap()
            .execute(|| Err::<(), _>(()));
        drop(wait(failed));
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    let failed = dependencies
        .call("db")
        .unwrap()
        .execute(|| Err::<(), _>(()));
    drop(wait(failed));
    assert_eq!(breaker.state(), CircuitState::Open);
    let explained = dependencies.explain("db", "get").unwrap();
    assert_eq!(explained.timeout.value.limit(), Some(2 * SECOND));
    assert_eq!(dependencies.config("db").unwrap(), changed);
    assert_eq!(
        apply(&dependencies, changed).unwrap(),
        [""; 0],
        "and now it holds"
    );
}

#[test]
fn calls_that_run_and_wait_go_on() {
    let dependencies = with(database().max_concurrent_calls(1).max_queue_size(4));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let calls: Vec<_> = (0..5)
        .map(|number| {
            let gate = gate.clone();
            let call = dependencies.call("db").unwrap();
            call.run(move || {
                gate.pass();
                number
            })
        })
        .collect();
    gate.wait_for_arrivals(1);
    let config = database().max_concurrent_calls(2).max_queue_size(0);
    assert_eq!(apply(&dependencies, config).unwrap().len(), 2);
    gate.wait_for_arrivals(2);
    drop(opener);
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(wait(call).value(), Some(&number));
    }
}

#[test]
fn new_defaults_hold_for_all_and_what_is_not_named_stays() {
    let dependencies = with(database());
    dependencies.register_cache("sessions").unwrap();
    let overrides = DependencyOverrides::new().max_concurrent_calls(6);
    let defaults = DependencyDefaults::new().for_kind(DependencyKind::Database, overrides);
    let new = (
        "files".to_owned(),
        DependencyConfig::new(DependencyKind::FileSystem),
    );
    let changes = dependencies.apply_config(defaults, [new]).unwrap();
    let told: Vec<_> = changes.iter().map(DependencyChange::to_string).collect();
    assert_eq!(
        told,
        [
            "dependency `files` is new",
            "dependency `db`: max_concurrent_calls goes from 10 to 6",
        ]
    );
    let names = dependencies.names();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["db", "files", "sessions"]
    );
    assert!(wait(dependencies.call("files").unwrap().run(|| ())).is_success());
    // What is registered later has the new defaults too.
    dependencies.register_database("other").unwrap();
    let other = dependencies.bulkhead("other").unwrap();
    assert_eq!(other.max_concurrent_calls(), 6);
}

#[test]
fn one_wrong_setting_changes_nothing_at_all() {
    let dependencies = with(database());
    dependencies.register_cache("sessions").unwrap();
    let wrong = [
        ("db".to_owned(), database().max_concurrent_calls(3)),
        ("new".to_owned(), database()),
        (
            "sessions".to_owned(),
            DependencyConfig::new(DependencyKind::Cache).max_concurrent_calls(0),
        ),
    ];
    let error = dependencies
        .apply_config(DependencyDefaults::new(), wrong)
        .unwrap_err();
    assert!(
        matches!(&error, DependencyError::Invalid { dependency, .. } if dependency == "sessions")
    );
    assert_eq!(dependencies.names().len(), 2);
    assert_eq!(
        dependencies.bulkhead("db").unwrap().max_concurrent_calls(),
        10
    );
    assert_eq!(dependencies.config("db").unwrap(), database());
}

#[test]
fn what_a_bulkhead_is_built_with_cannot_change() {
    let others = [
        ("bulkhead", database().bulkhead(BulkheadKind::Semaphore)),
        ("idle_timeout", database().idle_timeout(SECOND)),
        ("stack_size", database().stack_size(1 << 20)),
        ("max_nested_calls", database().max_nested_calls(3)),
        (
            "circuit_breaker",
            database().circuit_breaker(CircuitBreakerOverrides::off()),
        ),
        ("adaptive_timeout", database().adaptive_timeout(true)),
    ];
    for (name, config) in others {
        let dependencies = with(database());
        let error = apply(&dependencies, config.max_queue_size(1)).unwrap_err();
        assert!(
            matches!(&error, DependencyError::NotLive { setting, .. } if *setting == name),
            "{name}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("dependency `db`: {name} cannot change")),
            "{text}"
        );
        assert_eq!(dependencies.bulkhead("db").unwrap().max_queue_size(), 20);
    }
}

#[test]
fn a_dependency_that_is_shut_down_undoes_the_change_of_the_others() {
    let dependencies = with(database());
    dependencies.register_database("second").unwrap();
    dependencies.bulkhead("second").unwrap().shutdown();
    // No settings say so.
    dependencies.bulkhead("db").unwrap().resize(12, 34).unwrap();
    let both = ["db", "second"].map(|name| (name.to_owned(), database().max_concurrent_calls(3)));
    let both: BTreeMap<_, _> = both
        .into_iter()
        .chain([("new".to_owned(), database())])
        .collect();
    assert!(
        dependencies
            .apply_config(DependencyDefaults::new(), both)
            .is_err()
    );
    let db = dependencies.bulkhead("db").unwrap();
    assert_eq!((db.max_concurrent_calls(), db.max_queue_size()), (12, 34));
    assert_eq!(dependencies.names().len(), 2, "the new one is gone");
    let works = wait(dependencies.call("db").unwrap().run(|| 7));
    assert_eq!(works.value(), Some(&7));
}

#[test]
fn a_listener_that_applies_settings_gets_an_error_and_no_deadlock() {
    let itself = Arc::new(OnceLock::<Weak<Dependencies>>::new());
    let refused = Arc::new(AtomicUsize::new(0));
    let (me, count) = (Arc::clone(&itself), Arc::clone(&refused));
    let dependencies = Dependencies::builder()
        .on_event(move |event| {
            if let BulkheadEvent::Resized { .. } = event {
                let dependencies = me.get().and_then(Weak::upgrade).expect("it is there");
                let applied = dependencies.apply_config(DependencyDefaults::new(), []);
                if let Err(DependencyError::ChangeInProgress) = applied {
                    count.fetch_add(1, SeqCst);
                }
            }
        })
        .build();
    dependencies.register_database("db").unwrap();
    let dependencies = Arc::new(dependencies);
    itself.set(Arc::downgrade(&dependencies)).unwrap();
    apply(&dependencies, database().max_concurrent_calls(2)).unwrap();
    assert_eq!(refused.load(SeqCst), 1);
    apply(&dependencies, database()).unwrap();
    eventually("ten workers", || {
        dependencies.stats_of("db").unwrap().worker_threads == 10
    });
}

#[test]
fn new_defaults_hold_for_a_dependency_that_is_registered_meanwhile() {
    let itself = Arc::new(OnceLock::<Weak<Dependencies>>::new());
    let me = Arc::clone(&itself);
    let dependencies = Dependencies::builder()
        .on_event(move |event| {
            if let BulkheadEvent::Resized { bulkhead: "db", .. } = event {
                let dependencies = me.get().and_then(Weak::upgrade).expect("it is there");
                dependencies.register_database("late").unwrap();
            }
        })
        .build();
    dependencies.register_database("db").unwrap();
    let dependencies = Arc::new(dependencies);
    itself.set(Arc::downgrade(&dependencies)).unwrap();
    let overrides = DependencyOverrides::new().max_concurrent_calls(6);
    let defaults = DependencyDefaults::new().for_kind(DependencyKind::Database, overrides);
    let changes = dependencies.apply_config(defaults, []).unwrap();
    let told: Vec<_> = changes.iter().map(DependencyChange::to_string).collect();
    assert_eq!(
        told,
        [
            "dependency `db`: max_concurrent_calls goes from 10 to 6",
            "dependency `late`: max_concurrent_calls goes from 10 to 6",
        ]
    );
    let late = dependencies.bulkhead("late").unwrap();
    assert_eq!(late.max_concurrent_calls(), 6);
}
