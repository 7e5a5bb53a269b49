//! A new process begins with the circuit that it finds in the storage.

use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CircuitState};

use super::helpers::{Answer, SOON, World, flushed, let_it_look, record, soon, trip};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::{Gate, HOUR, OpenOnDrop, SECOND, config, eventually, wait};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn started_with_nothing_stored() {
    let world = World::new();
    let (breaker, _) = world.peer(HOUR);
    assert!(breaker.is_closed());
    flushed(&breaker);
    assert!(world.shelf.stores().is_empty());
    trip(&breaker);
}

#[test]
fn started_with_a_closed_row() {
    for (outcomes, events, opens) in [
        (&[false][..], "f", true),
        (&[false, true], "f", false),
        (&[false; 5], "", false),
        (&[false; 5], "f", true),
        (&[false; 5], "sf", false),
        (&[], "f", false),
    ] {
        let world = World::new();
        world.shelf.put(record(Closed, outcomes));
        let (breaker, _) = world.peer(HOUR);
        assert!(breaker.is_closed());
        for event in events.chars() {
            match event {
                'f' => breaker.record_failure(),
                _ => breaker.record_success(),
            }
        }
        assert_eq!(breaker.is_open(), opens, "{outcomes:?} {events}");
    }
}

#[test]
fn started_with_a_live_open_row() {
    let world = World::new();
    world.shelf.put(world.open_for(5 * SECOND));
    let (breaker, _) = world.peer(HOUR);
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), 5 * SECOND);
    world.clock.advance(5 * SECOND);
    soon(&breaker, HalfOpen);
    flushed(&breaker);
    assert_eq!(world.shelf.state(), Some(HalfOpen));
}

#[test]
fn started_with_an_open_row_that_is_over() {
    let world = World::new();
    let row = world.open_for(Duration::ZERO);
    world.clock.advance(SECOND);
    world.shelf.put(row);
    let (breaker, _) = world.peer(HOUR);
    soon(&breaker, HalfOpen);
    eventually("written", || world.shelf.state() == Some(HalfOpen));
}

#[test]
fn started_with_an_open_row_without_an_end() {
    let world = World::new();
    world.shelf.put(record(Open, &[]));
    let (breaker, line) = world.peer(SOON);
    assert_eq!(retry_after(&breaker), ISOLATION);
    world.clock.advance(20 * SECOND);
    let_it_look(&line);
    assert_eq!(
        retry_after(&breaker),
        10 * SECOND,
        "it began again with each refresh"
    );
    world.clock.advance(10 * SECOND);
    soon(&breaker, HalfOpen);
    assert_eq!(world.shelf.state(), Some(HalfOpen));
}

#[test]
fn started_with_a_half_open_row() {
    for (outcomes, needed) in [(&[][..], 2), (&[true], 1), (&[true, true, true], 1)] {
        let world = World::new();
        world.shelf.put(record(HalfOpen, outcomes));
        let (breaker, _) = world.peer(HOUR);
        for _ in 0..needed {
            assert!(breaker.is_half_open(), "{outcomes:?}");
            breaker.try_acquire().unwrap().record_success();
        }
        assert!(breaker.is_closed(), "{outcomes:?}");
    }
}

#[test]
fn started_when_the_storage_fails() {
    for answer in [
        Answer::Error,
        Answer::NastyError,
        Answer::Panic,
        Answer::WrongCount,
    ] {
        let world = World::new();
        world.shelf.put(world.open_for(5 * SECOND));
        let line = world.shelf.line(SOON);
        line.loads_answer(answer);
        let breaker = world.breaker(&line);
        assert!(breaker.is_closed());
        assert!(line.is_down());
        assert!(!breaker.flush(Duration::MAX), "it waited for an outage");
        line.all_answer(Answer::Right);
        soon(&breaker, Open);
        eventually("no trouble", || !line.is_down());
        assert_eq!(retry_after(&breaker), 5 * SECOND);
    }
}

#[test]
fn started_when_the_storage_hangs() {
    let world = World::new();
    world.shelf.put(world.open_for(5 * SECOND));
    let line = world.shelf.line(SOON);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    line.all_answer(Answer::Late(gate.clone()));
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(world.clock)
        .circuit_storage(line.clone())
        .build()
        .unwrap();
    gate.wait_for_arrivals(1);
    // The whole life of a bulkhead while nothing comes from the storage.
    assert!(wait(bulkhead.run(|| ())).is_success());
    for _ in 0..2 {
        assert!(!wait(bulkhead.execute(|| Err::<(), _>(()))).is_success());
    }
    assert!(matches!(
        wait(bulkhead.run(|| ())).into_result(),
        Err(BulkheadError::CircuitOpen { .. })
    ));
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert!(!breaker.flush(SOON));
    breaker.reset();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(bulkhead.shutdown().is_clean());
    drop(bulkhead);
    assert!(!line.is_down(), "it hangs, it does not fail");
    drop(opener);
}
