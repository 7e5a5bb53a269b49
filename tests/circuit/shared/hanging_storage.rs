//! A storage that does not answer holds up no call.

use std::time::Duration;

use bulkman::{Bulkhead, CircuitState};

use super::helpers::{Answer, SOON, World, flushed, trip};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::{Gate, HOUR, OpenOnDrop, SECOND, config, eventually, wait};

use CircuitState::{Closed, Open};

#[test]
fn calls_go_on_while_the_storage_hangs() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let bulkhead = Bulkhead::builder(config(2, 8).circuit_breaker(rules()))
        .clock(world.clock.clone())
        .circuit_storage(line.clone())
        .build()
        .unwrap();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.all_answer(Answer::Late(gate.clone()));
    gate.wait_for_arrivals(1);
    let breaker = bulkhead.circuit_breaker().unwrap();
    for _ in 0..20 {
        assert!(wait(bulkhead.run(|| ())).is_success());
        trip(breaker);
        assert!(!wait(bulkhead.run(|| ())).is_success());
        breaker.reset();
        assert!(wait(bulkhead.execute(|| Ok::<_, ()>(()))).is_success());
    }
    trip(breaker);
    drop(bulkhead.shutdown_timeout(SOON));
    gate.open();
    eventually("stored", || {
        world
            .shelf
            .row("test")
            .is_some_and(|row| row.record.state == Open)
    });
}

#[test]
fn a_storage_that_hangs_does_not_hold_a_circuit_open_for_ever() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    trip(&breaker);
    flushed(&breaker);
    let (gate, _opener) = line.holds_stores();
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    world.clock.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(retry_after(&breaker), Duration::from_nanos(1));
    world.clock.advance(Duration::from_nanos(1));
    breaker.try_acquire().expect("a probe").record_success();
    breaker.try_acquire().expect("a probe").record_failure();
    assert!(breaker.is_open());
    // The end of the isolation that was asked for long ago does not undo that.
    gate.open();
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert_eq!(world.shelf.state(), Some(Open));
}

#[test]
fn dropped_while_the_storage_hangs() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let (gate, _opener) = line.holds_stores();
    trip(&breaker);
    gate.wait_for_arrivals(1);
    // The last change is unwritten, and another one comes.
    breaker.reset();
    drop(breaker);
    gate.open();
    eventually("the last change", || world.shelf.state() == Some(Closed));
}
