//! Breakers that come and go, and the end of their storage.

use std::sync::{Arc, Weak};
use std::thread;

use bulkman::{
    CircuitBreaker, CircuitRecord, CircuitState, CircuitStorage, CircuitSync, StorageError,
    StoredCircuit, WriteGuard, WriteOutcome,
};

use super::helpers::{Line, NAME, World, flushed, trip};
use crate::helpers::rules;
use crate::support;
use crate::support::{HOUR, eventually};

use CircuitState::{Closed, Open};

#[test]
fn the_last_change_is_written_after_the_drop() {
    let world = World::new();
    for _ in 0..100 {
        let (breaker, _) = world.peer(HOUR);
        breaker.reset();
        trip(&breaker);
        drop(breaker);
        eventually("stored", || world.shelf.state() == Some(Open));
        let (breaker, _) = world.peer(HOUR);
        breaker.reset();
        drop(breaker);
        eventually("stored", || world.shelf.state() == Some(Closed));
    }
}

#[test]
fn the_storage_is_dropped_with_its_last_circuit_and_can_come_again() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let storage = Arc::new(line.clone());
    let weak: Weak<Line> = Arc::downgrade(&storage);
    let build = |name: &str, storage: Arc<Line>| {
        CircuitBreaker::builder(name, rules())
            .storage(storage)
            .build()
            .unwrap()
    };
    let one = build("one", Arc::clone(&storage));
    let two = build("two", storage);
    drop(one);
    trip(&two);
    flushed(&two);
    assert!(weak.upgrade().is_some());
    drop(two);
    eventually("the storage is dropped", || weak.upgrade().is_none());
    for _ in 0..50 {
        let again = build("two", Arc::new(line.clone()));
        assert!(again.is_open(), "it was told at the first answer");
    }
}

#[test]
fn a_storage_that_panics_when_it_is_dropped() {
    struct Fragile(Line);
    impl Drop for Fragile {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("the storage's panic when it is dropped");
            }
        }
    }
    impl CircuitStorage for Fragile {
        fn sync(&self) -> &CircuitSync {
            self.0.sync()
        }
        fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
            self.0.load(circuit)
        }
        fn store(
            &self,
            circuit: &str,
            record: &CircuitRecord,
            guard: WriteGuard,
        ) -> Result<WriteOutcome, StorageError> {
            self.0.store(circuit, record, guard)
        }
    }
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let build = || {
        CircuitBreaker::builder(NAME, rules())
            .storage(Fragile(line.clone()))
            .build()
            .unwrap()
    };
    drop(build());
    // The thread of the circuits keeps the storage of the first breaker, and drops the second one.
    let first = build();
    drop(build());
    trip(&first);
    flushed(&first);
}

#[test]
fn callbacks_of_circuits_that_are_dropped_by_the_synchronizer() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let bomb = support::Bomb;
    let breaker = world
        .builder(&line)
        .on_change(move |_| {
            let _keep = &bomb;
        })
        .build()
        .unwrap();
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    drop(breaker);
    trip(&other);
    flushed(&other);
}

#[test]
fn who_goes_asks_for_nothing() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let told = Arc::new(());
    let keep = Arc::clone(&told);
    let going = world
        .builder(&line)
        .on_change(move |_| {
            let _keep = &keep;
        })
        .build()
        .unwrap();
    let staying = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    let before = world.shelf.loads();
    drop(going);
    eventually("the synchronizer has let it go", || {
        Arc::strong_count(&told) == 1
    });
    assert_eq!(world.shelf.loads(), before);
    assert!(staying.is_closed());
}
