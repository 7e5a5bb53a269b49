//! Outcomes are stored with the refresh, and restored after a restart.

use bulkman::{CircuitBreaker, CircuitState};

use super::helpers::{
    Answer, NAME, SOON, World, flushed, let_it_look, record, soon, trip, trip_by_one_more,
};
use crate::helpers::rules;
use crate::support::{Gate, HOUR, OpenOnDrop, SECOND, eventually};

use CircuitState::{Closed, HalfOpen};

#[test]
fn outcomes_are_stored_with_the_refresh_and_restored_after_a_restart() {
    let world = World::new();
    let (breaker, _) = world.peer(SOON);
    breaker.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!(
        (row.state, row.failure_count, &row.outcomes[..]),
        (Closed, 1, &[false][..])
    );
    drop(breaker);
    let (again, _) = world.peer(SOON);
    trip_by_one_more(&again);
}

#[test]
fn a_share_of_failures_goes_on_after_a_restart() {
    let world = World::new();
    let build = || {
        CircuitBreaker::builder(NAME, rules().failure_rate(0.5, 4).minimum_calls(4))
            .storage(world.shelf.line(SOON))
            .build()
            .unwrap()
    };
    let first = build();
    first.record_failure();
    first.record_success();
    first.record_success();
    eventually("stored", || {
        world
            .shelf
            .row(NAME)
            .is_some_and(|row| row.record.outcomes == [false, true, true])
    });
    drop(first);
    let second = build();
    second.record_failure();
    assert!(second.is_open());
}

#[test]
fn outcomes_of_a_half_open_circuit_are_stored() {
    let world = World::new();
    world.shelf.put(record(HalfOpen, &[]));
    let (breaker, _) = world.peer(SOON);
    breaker.try_acquire().unwrap().record_success();
    eventually("stored", || {
        world
            .shelf
            .row(NAME)
            .is_some_and(|row| row.record.outcomes == [true])
    });
    assert!(breaker.is_half_open());
}

#[test]
fn outcomes_wait_for_the_refresh() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    breaker.record_failure();
    for _ in 0..100 {
        breaker.record_success();
        breaker.record_failure();
    }
    // Something else makes the synchronizer look.
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    trip(&other);
    flushed(&other);
    assert!(world.shelf.row(NAME).is_none(), "written before its time");
}

#[test]
fn outcomes_that_stay_the_same_are_written_once() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    breaker.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let_it_look(&line);
    let_it_look(&line);
    assert_eq!(world.shelf.stores().len(), 1);
    breaker.record_success();
    eventually("stored", || world.shelf.stores().len() == 2);
    let_it_look(&line);
    let stores = world.shelf.stores();
    assert_eq!(stores.len(), 2);
    assert!(stores[1].outcomes.is_empty());
    assert_eq!((&*stores[1].circuit, stores[1].state), (NAME, Closed));
}

#[test]
fn outcomes_that_were_found_are_not_written_again() {
    for row in [record(Closed, &[false]), record(HalfOpen, &[true])] {
        let world = World::new();
        world.shelf.put(row);
        let (breaker, line) = world.peer(SOON);
        let_it_look(&line);
        let_it_look(&line);
        assert!(world.shelf.stores().is_empty());
        drop(breaker);
    }
}

#[test]
fn a_peers_outcomes_are_not_taken_for_own_ones_later() {
    let world = World::new();
    let (breaker, _) = world.peer(SOON);
    trip(&breaker);
    flushed(&breaker);
    world.shelf.put(record(Closed, &[false]));
    soon(&breaker, Closed);
    flushed(&breaker);
    breaker.record_failure();
    assert!(breaker.is_closed(), "the peer's failure counts here");
}

#[test]
fn outcomes_are_not_written_over_another_state() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let_it_look(&line);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    line.loads_answer(Answer::Late(gate.clone()));
    gate.wait_for_arrivals(1);
    // The look that finds the peer's row is also the first that could write the failure.
    world.shelf.put(record(HalfOpen, &[true]));
    breaker.record_failure();
    assert!(breaker.is_closed());
    line.loads_answer(Answer::Right);
    drop(opener);
    soon(&breaker, HalfOpen);
    let_it_look(&line);
    let stores = world.shelf.stores();
    assert!(stores.is_empty(), "{stores:?}");
    assert!(breaker.is_half_open());
}

#[test]
fn who_is_idle_overwrites_nothing() {
    let world = World::new();
    let (idle, line) = world.peer(SOON);
    // It has a history.
    idle.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let before = world.shelf.stores().len();
    let states = [
        record(Closed, &[true, false]),
        world.open_for(7 * SECOND),
        record(Closed, &[true, true]),
        record(HalfOpen, &[true]),
        record(Closed, &[false]),
        world.open_for(8 * SECOND),
    ];
    for row in states {
        world.shelf.put(row.clone());
        soon(&idle, row.state);
        let_it_look(&line);
        assert_eq!(world.shelf.row(NAME).unwrap().record, row);
    }
    let stores = world.shelf.stores();
    assert_eq!(stores.len(), before, "{stores:?}");
}
