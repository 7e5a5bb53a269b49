//! `update` and `remove`, for administration.

use std::thread;

use bulkman::{CircuitRecord, CircuitState, CircuitStorage};

use super::helpers::{NAME, fresh, loaded};

#[test]
fn updates_exclude_each_other_and_override_an_open_circuit() {
    let (server, storage) = fresh();
    thread::scope(|scope| {
        for _ in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for _ in 0..10 {
                    let change = |stored: Option<&CircuitRecord>| {
                        let mut record = stored.cloned().unwrap_or_else(CircuitRecord::closed);
                        record.failure_count += 1;
                        Some(record)
                    };
                    storage.update(NAME, change).unwrap();
                }
            });
        }
    });
    assert_eq!(loaded(&storage).record.failure_count, 40);

    server.set_row(
        NAME,
        storage.namespace(),
        "OPEN",
        1,
        "now() + interval '1 hour'",
        "'[]'",
    );
    let seen = storage.update(NAME, |_| None).unwrap().expect("a row");
    assert_eq!(seen.state, CircuitState::Open);
    let written = storage
        .update(NAME, |_| Some(CircuitRecord::closed()))
        .unwrap();
    assert_eq!(written, Some(CircuitRecord::closed()));
    assert_eq!(loaded(&storage).record, CircuitRecord::closed());

    assert!(storage.remove(NAME).unwrap());
    assert!(!storage.remove(NAME).unwrap());
    assert_eq!(
        storage.update(NAME, |stored| stored.cloned()).unwrap(),
        None
    );
}

#[test]
fn an_update_that_panics_changes_nothing_and_keeps_nobody_out() {
    let (_, storage) = fresh();
    let panicked = std::panic::catch_unwind(|| storage.update(NAME, |_| panic!("no")));
    assert!(panicked.is_err());
    assert_eq!(storage.load(NAME).unwrap(), None);
    storage
        .update(NAME, |_| Some(CircuitRecord::closed()))
        .unwrap();
}

#[test]
fn an_update_may_use_the_storage() {
    let (_, storage) = fresh();
    let seen = storage.update(NAME, |_| {
        assert_eq!(storage.load(NAME).unwrap(), None);
        Some(CircuitRecord::closed())
    });
    assert!(seen.unwrap().is_some());
}
