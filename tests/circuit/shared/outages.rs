//! Outages: the storage fails, and the circuit goes on alone.

use std::time::{Duration, Instant};

use bulkman::{CircuitBreaker, CircuitState};

use super::helpers::{Answer, NAME, SOON, World, flushed, soon, trip};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::{HOUR, SECOND, eventually};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn an_open_circuit_recovers_by_itself_during_an_outage() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    trip(&breaker);
    flushed(&breaker);
    line.all_answer(Answer::Error);
    eventually("the outage", || line.is_down());
    world.clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record_success();
    }
    assert!(breaker.is_closed());
    assert_eq!(world.shelf.state(), Some(Open));
    line.all_answer(Answer::Right);
    eventually("the storage knows", || world.shelf.state() == Some(Closed));
    flushed(&breaker);
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen, Closed]);
}

#[test]
fn the_storage_fails_when_it_is_asked_for_the_end_of_the_isolation() {
    for answer in [Answer::Error, Answer::Panic, Answer::NastyError] {
        let world = World::new();
        let (breaker, line) = world.peer(HOUR);
        trip(&breaker);
        flushed(&breaker);
        line.stores_answer(answer);
        world.clock.advance(ISOLATION);
        soon(&breaker, HalfOpen);
        eventually("the outage", || line.is_down());
    }
}

#[test]
fn a_trip_during_an_outage_is_written_later() {
    for answer in [Answer::Error, Answer::Panic, Answer::NastyError] {
        let world = World::new();
        let (breaker, line) = world.peer(SOON);
        let (peer, _) = world.peer(SOON);
        line.all_answer(answer);
        eventually("the outage", || line.is_down());
        trip(&breaker);
        world.clock.advance(SECOND);
        assert!(!breaker.flush(Duration::MAX));
        assert!(peer.is_closed());
        line.all_answer(Answer::Right);
        soon(&peer, Open);
        assert_eq!(retry_after(&peer), ISOLATION - SECOND);
        assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
    }
}

#[test]
fn in_the_pause_of_an_outage_nothing_is_asked() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    let asked = || world.shelf.stores().len() + world.shelf.loads();
    let before = asked();
    let start = Instant::now();
    // The synchronizer is woken many times, and goes on alone.
    for _ in 0..20 {
        breaker.trip();
        world.clock.advance(ISOLATION);
        soon(&breaker, HalfOpen);
    }
    // However slow the machine: a pause lasts a second at least, and each attempt asks twice at most.
    let asked = asked() - before;
    let attempts = 1 + start.elapsed().as_secs() as usize;
    assert!(asked <= 2 * attempts);
}

#[test]
fn the_pauses_of_an_outage_grow() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.all_answer(Answer::Error);
    let start = Instant::now();
    let before = world.shelf.loads();
    eventually("nine attempts", || world.shelf.loads() >= before + 9);
    // However slow the machine: halves of 1, 2, 4, ... 128 milliseconds.
    assert!(start.elapsed() >= Duration::from_millis(127));
    assert!(breaker.is_closed());
}

#[test]
fn while_one_circuit_cannot_be_stored_the_pauses_do_not_grow() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    let before = world.shelf.loads();
    // With pauses that grow these would take minutes.
    eventually("news", || world.shelf.loads() >= before + 40);
    assert!(line.is_down());
}

#[test]
fn a_peer_opened_during_the_outage() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let (tripped, other_line) = world.peer(SOON);
    line.all_answer(Answer::Error);
    other_line.all_answer(Answer::Error);
    eventually("the outage", || line.is_down() && other_line.is_down());
    world.shelf.put(world.open_for(7 * SECOND));
    trip(&tripped);
    line.all_answer(Answer::Right);
    other_line.all_answer(Answer::Right);
    soon(&breaker, Open);
    eventually("the peer's end", || retry_after(&tripped) == 7 * SECOND);
    assert_eq!(retry_after(&breaker), 7 * SECOND);
    assert_eq!(world.shelf.row(NAME).unwrap().version, 1);
}

#[test]
fn a_write_whose_answer_is_lost() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    line.stores_answer(Answer::Lost);
    // At once, without outcomes before that might be stored.
    breaker.trip();
    eventually("stored", || world.shelf.state() == Some(Open));
    line.stores_answer(Answer::Right);
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert_eq!(world.shelf.row(NAME).unwrap().version, 1);
    assert_eq!(*changes.lock().unwrap(), [Open]);
}

#[test]
fn a_refresh_that_never_comes() {
    let world = World::new();
    let (breaker, line) = world.peer(Duration::MAX);
    trip(&breaker);
    flushed(&breaker);
    line.stores_answer(Answer::Error);
    breaker.reset();
    eventually("the outage", || line.is_down());
    let (peer, _) = world.peer(SOON);
    assert!(peer.is_open());
    world.clock.advance(ISOLATION);
    soon(&peer, HalfOpen);
    // Its thread still lives.
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    assert!(other.is_closed());
}
