//! Callbacks in the thread that keeps the circuit in step with its storage.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, CircuitBreaker, CircuitState, MemoryStorage, StoredCircuit};

use super::helpers::{SOON, World, flushed, record, trip};
use crate::helpers::rules;
use crate::support::{Gate, SECOND, config, eventually};

use CircuitState::{Closed, Open};

#[test]
fn a_callback_that_drops_the_bulkhead() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let cell: Arc<Mutex<Option<Bulkhead>>> = Arc::default();
    let dropped = Gate::new();
    let (cell_of_callback, gate) = (Arc::clone(&cell), dropped.clone());
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(world.clock.clone())
        .circuit_storage(line)
        .listener(move |event: &bulkman::BulkheadEvent<'_>| {
            if matches!(event, bulkman::BulkheadEvent::CircuitChanged { .. }) {
                let bulkhead = cell_of_callback.lock().unwrap().take();
                drop(bulkhead);
                gate.open();
            }
        })
        .build()
        .unwrap();
    *cell.lock().unwrap() = Some(bulkhead);
    let mut rows = world.shelf.rows.lock().unwrap();
    let mut open = record(Open, &[]);
    open.open_until = None;
    rows.insert("test".to_owned(), StoredCircuit::new(open, 1));
    drop(rows);
    dropped.pass();
    // The synchronizer has ended, and another one serves who comes next.
    let (breaker, _) = world.peer(SOON);
    trip(&breaker);
    flushed(&breaker);
}

#[test]
fn a_callback_that_builds_a_breaker_and_calls_all_methods() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let made: Arc<Mutex<Vec<CircuitBreaker>>> = Arc::default();
    let myself: Arc<OnceLock<CircuitBreaker>> = Arc::default();
    let (keep, me, other_line) = (Arc::clone(&made), Arc::downgrade(&myself), line.clone());
    let breaker = world
        .builder(&line)
        .on_change(move |change| {
            if thread::current().name() != Some("bulkman-circuits") {
                return;
            }
            let build = |name: &str| {
                CircuitBreaker::builder(name, rules())
                    .storage(other_line.clone())
                    .build()
                    .unwrap()
            };
            // One that goes at once, one that stays, and one in a storage of its own.
            drop(build("short"));
            let long = build("long");
            trip(&long);
            assert!(!long.flush(Duration::MAX), "it waited for itself");
            keep.lock().unwrap().push(long);
            let own = CircuitBreaker::builder("own", rules())
                .storage(MemoryStorage::new())
                .build()
                .unwrap();
            trip(&own);
            let _ = own.flush(Duration::MAX);
            if let (Open, Some(me)) = (change.to, me.upgrade()) {
                let _ = me.get().map(CircuitBreaker::reset);
            }
            panic!("the callback's own panic");
        })
        .build()
        .unwrap();
    assert!(myself.set(breaker).is_ok());
    let breaker = myself.get().unwrap();
    world.shelf.put(world.open_for(7 * SECOND));
    eventually("it was reset by its callback", || {
        world.shelf.state() == Some(Closed)
    });
    eventually("the new one is stored", || {
        world
            .shelf
            .row("long")
            .is_some_and(|row| row.record.state == Open)
    });
    flushed(breaker);
    assert!(breaker.is_closed());
    let kept = std::mem::take(&mut *made.lock().unwrap());
    drop(kept);
}
