//! The guard of a write: a storage refuses it while the stored circuit is open.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{
    CircuitState, CircuitStorage, MemoryStorage, StoredCircuit, WriteGuard, WriteOutcome,
};

use super::helpers::{SOON, World, flushed, record, trip_by_one_more};
use crate::support::{HOUR, SECOND, eventually};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn only_the_reset_itself_goes_past_the_guard() {
    let world = World::new();
    let (one, line) = world.peer(SOON);
    one.reset();
    flushed(&one);
    one.record_failure();
    eventually("the outcome", || world.shelf.stores().len() == 2);
    assert!(matches!(
        world.shelf.stores()[1].guard,
        WriteGuard::UnlessOpen { .. }
    ));
    trip_by_one_more(&one);
    flushed(&one);
    assert!(matches!(
        world.shelf.stores()[2].guard,
        WriteGuard::UnlessOpen { .. }
    ));
    drop(line);
}

#[test]
fn the_guard() {
    let storages: [Box<dyn CircuitStorage>; 2] = [
        Box::new(MemoryStorage::new()),
        Box::new(Arc::new(MemoryStorage::new())),
    ];
    let now = std::time::SystemTime::now();
    let open_until = |until| {
        let mut open = record(Open, &[false]);
        open.open_until = until;
        open
    };
    let mut late_closed = record(Closed, &[]);
    late_closed.open_until = Some(now + HOUR);
    let mut late_half_open = record(HalfOpen, &[]);
    late_half_open.open_until = Some(now + HOUR);
    let tick = Duration::from_micros(1);
    let stored = [
        (open_until(Some(now + HOUR)), true),
        (open_until(Some(now + tick)), true),
        (open_until(Some(now)), false),
        (open_until(Some(now - tick)), false),
        (open_until(None), false),
        (record(Closed, &[true]), false),
        (record(HalfOpen, &[true]), false),
        (late_closed, false),
        (late_half_open, false),
    ];
    let written = [
        record(Closed, &[]),
        record(HalfOpen, &[]),
        open_until(Some(now + SECOND)),
        open_until(Some(now + 2 * HOUR)),
    ];
    for storage in storages {
        assert!(storage.load("absent").unwrap().is_none());
        for (number, (stored, is_live)) in stored.iter().enumerate() {
            for (index, record) in written.iter().enumerate() {
                let name = format!("{number} {index}");
                let guard = WriteGuard::unless_open(now);
                let WriteOutcome::Applied { version: first } =
                    storage.store(&name, stored, guard).unwrap()
                else {
                    panic!("a first write was refused");
                };
                let second = storage.store(&name, record, guard).unwrap();
                let row = storage.load(&name).unwrap().unwrap();
                match second {
                    WriteOutcome::Refused => {
                        assert!(is_live, "{stored:?} <- {record:?}");
                        assert_eq!(row, StoredCircuit::new(stored.clone(), first));
                    }
                    WriteOutcome::Applied { version } => {
                        assert!(!is_live, "{stored:?} <- {record:?}");
                        assert_ne!(version, first);
                        assert_eq!(row, StoredCircuit::new(record.clone(), version));
                    }
                    other => panic!("{other:?}"),
                }
                let third = storage.store(&name, record, WriteGuard::Always).unwrap();
                assert!(matches!(third, WriteOutcome::Applied { .. }));
                assert_eq!(storage.load(&name).unwrap().unwrap().record, *record);
            }
        }
        let rows = storage.load_many(&["0 1", "absent", "0 0"]).unwrap();
        let states: Vec<_> = rows
            .iter()
            .map(|row| Some(row.as_ref()?.record.state))
            .collect();
        assert_eq!(states, [Some(HalfOpen), None, Some(Closed)]);
    }
}
