//! Circuits whose breakers come and go: what a storage keeps of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::eventually;
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage, CircuitSync,
    MemoryStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

fn breaker(name: &str, storage: impl CircuitStorage + 'static) -> CircuitBreaker {
    let rules = CircuitBreakerConfig::default()
        .failure_threshold(2)
        .isolation_duration(Duration::from_secs(3600));
    CircuitBreaker::builder(name, rules)
        .storage(storage)
        .build()
        .unwrap()
}

fn circuits(storage: &MemoryStorage) -> String {
    format!("{storage:?}")
}

#[test]
fn what_is_closed_and_has_no_breaker_left_is_forgotten() {
    let storage = MemoryStorage::new();
    let stays = breaker("stays", storage.clone());
    for number in 0..2_000 {
        let breaker = breaker(&format!("c{number}"), storage.clone());
        breaker.record_failure();
        breaker.reset();
        assert!(breaker.flush(crate::support::PATIENCE));
    }
    stays.reset();
    assert!(stays.flush(crate::support::PATIENCE));
    eventually("one is left", || {
        circuits(&storage) == "MemoryStorage { circuits: 1, .. }"
    });
    assert!(storage.load("stays").unwrap().is_some());
    drop(stays);
    eventually("none is left", || {
        circuits(&storage) == "MemoryStorage { circuits: 0, .. }"
    });
}

#[test]
fn a_circuit_stays_while_one_of_its_breakers_lives() {
    let storage = MemoryStorage::new();
    let (one, two) = (breaker("c", storage.clone()), breaker("c", storage.clone()));
    one.reset();
    assert!(one.flush(crate::support::PATIENCE));
    drop(one);
    // The synchronizer has let it go when it has dropped another one that went later.
    drop(breaker("other", storage.clone()));
    eventually("the other is forgotten", || {
        storage.load("other").unwrap().is_none()
    });
    assert!(storage.load("c").unwrap().is_some());
    drop(two);
    eventually("forgotten", || storage.load("c").unwrap().is_none());
}

#[test]
fn an_open_circuit_is_found_again() {
    let storage = MemoryStorage::new();
    for _ in 0..20 {
        let first = breaker("c", storage.clone());
        first.trip();
        drop(first);
        let second = breaker("c", storage.clone());
        assert!(second.is_open());
        second.reset();
        drop(second);
        let third = breaker("c", storage.clone());
        assert!(third.is_closed());
    }
}

#[test]
fn removed_by_hand() {
    let storage = Arc::new(MemoryStorage::new());
    assert!(!storage.remove("c").unwrap());
    let first = breaker("c", Arc::clone(&storage));
    first.trip();
    assert!(first.flush(crate::support::PATIENCE));
    drop(first);
    // A breaker that lives would store it again.
    eventually("nobody serves it", || Arc::strong_count(&storage) == 1);
    assert!(storage.remove("c").unwrap());
    assert!(!storage.remove("c").unwrap());
    assert!(breaker("c", storage).is_closed());
}

#[test]
fn versions_grow_over_a_row_that_was_removed() {
    let storage = MemoryStorage::new();
    let mut last = 0;
    for _ in 0..3 {
        let record = CircuitRecord::closed();
        let WriteOutcome::Applied { version } =
            storage.store("c", &record, WriteGuard::Always).unwrap()
        else {
            panic!("refused");
        };
        assert!(version > last);
        last = version;
        assert!(storage.remove("c").unwrap());
    }
}

/// Has only what a storage must have, and writes down what it is told.
#[derive(Clone, Default)]
struct Told {
    sync: CircuitSync,
    rows: MemoryStorage,
    released: Arc<Mutex<Vec<String>>>,
    panics: bool,
}

impl CircuitStorage for Told {
    fn sync(&self) -> &CircuitSync {
        &self.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.rows.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        self.rows.store(circuit, record, guard)
    }

    fn release(&self, circuit: &str) {
        self.released.lock().unwrap().push(circuit.to_owned());
        assert!(!self.panics, "the storage's own panic");
    }
}

#[test]
fn a_storage_is_told_of_the_last_breaker_after_its_last_change() {
    for panics in [false, true] {
        let storage = Told {
            panics,
            ..Told::default()
        };
        let (one, two) = (breaker("c", storage.clone()), breaker("c", storage.clone()));
        let other = breaker("other", storage.clone());
        drop(one);
        two.trip();
        drop(two);
        eventually("told", || !storage.released.lock().unwrap().is_empty());
        assert_eq!(*storage.released.lock().unwrap(), ["c"]);
        let row = storage.load("c").unwrap().expect("written before");
        assert_eq!(row.record.state, CircuitState::Open);
        drop(other);
        eventually("told", || storage.released.lock().unwrap().len() == 2);
        let error = storage.remove("c").unwrap_err();
        assert_eq!(error.to_string(), "this storage cannot remove circuits");
    }
}
