//! News: a process takes over the state that a peer has stored, unless a change of its own is not stored yet.

use std::thread;
use std::time::{Duration, Instant};

use bulkman::CircuitState;

use super::helpers::{Answer, SOON, World, flushed, let_it_look, record, soon, trip};
use crate::helpers::{ISOLATION, retry_after};
use crate::support::{HOUR, SECOND, eventually};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn a_peers_state_is_taken_over() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    let seven = world.open_for(7 * SECOND);
    let nine = world.open_for(9 * SECOND);
    world.shelf.put(seven);
    soon(&breaker, Open);
    assert_eq!(retry_after(&breaker), 7 * SECOND);
    world.shelf.put(nine);
    eventually("the new end", || retry_after(&breaker) == 9 * SECOND);
    world.shelf.put(record(HalfOpen, &[true]));
    soon(&breaker, HalfOpen);
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed(), "the peer's success counts");
    flushed(&breaker);
    world.shelf.put(record(Open, &[false]));
    soon(&breaker, Open);
    world.shelf.put(record(Closed, &[]));
    soon(&breaker, Closed);
    let_it_look(&line);
    assert_eq!(
        *changes.lock().unwrap(),
        [Open, HalfOpen, Closed, Open, Closed]
    );
}

#[test]
fn a_row_that_is_gone_or_makes_no_sense_changes_nothing() {
    let world = World::new();
    world.shelf.put(world.open_for(ISOLATION));
    let (breaker, line) = world.peer(SOON);
    assert!(breaker.is_open());
    world.shelf.rows.lock().unwrap().clear();
    let_it_look(&line);
    assert_eq!(retry_after(&breaker), ISOLATION);
    world.clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
    eventually("written", || world.shelf.state() == Some(HalfOpen));
}

#[test]
fn refused_by_a_row_that_makes_no_sense() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.stores_answer(Answer::Refuse);
    line.loads_answer(Answer::Nothing);
    trip(&breaker);
    let_it_look(&line);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert!(!breaker.flush(SOON));
    world.clock.advance(ISOLATION);
    // The storage tells nothing sensible, so the circuit goes on with its own state.
    soon(&breaker, HalfOpen);
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record_success();
    }
    assert!(breaker.is_closed());
    line.all_answer(Answer::Right);
    eventually("written", || world.shelf.state() == Some(Closed));
    flushed(&breaker);
}

#[test]
fn a_storage_that_goes_by_another_clock_is_not_asked_without_a_pause() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    trip(&breaker);
    flushed(&breaker);
    // For the storage it is not over yet.
    line.stores_answer(Answer::Refuse);
    let before = world.shelf.stores().len();
    let start = Instant::now();
    world.clock.advance(ISOLATION);
    eventually("ten attempts", || world.shelf.stores().len() >= before + 10);
    // However slow the machine: there are nine pauses between ten attempts.
    assert!(start.elapsed() >= 9 * Duration::from_millis(50));
    assert!(breaker.is_open());
    line.stores_answer(Answer::Right);
    soon(&breaker, HalfOpen);
}

#[test]
fn an_own_change_that_is_not_stored_yet_is_not_undone_by_news() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    world.shelf.put(record(Closed, &[true]));
    let_it_look(&line);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    world.shelf.put(record(Closed, &[true, true]));
    assert!(!breaker.flush(Duration::MAX));
    line.stores_answer(Answer::Right);
    eventually("the trip is stored", || world.shelf.state() == Some(Open));
    flushed(&breaker);
    assert_eq!(*changes.lock().unwrap(), [Open]);
}

#[test]
fn a_reset_against_a_trip_ends_in_one_state_for_both() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let breaker = world.breaker(&line);
    for _ in 0..300 {
        thread::scope(|scope| {
            scope.spawn(|| breaker.trip());
            scope.spawn(|| breaker.reset());
        });
        flushed(&breaker);
        assert_eq!(world.shelf.state(), Some(breaker.state()));
    }
}
