//! Peers share trips, resets, the end of an isolation, and the outcome of probes.

use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadError, BulkheadState, CircuitState, ManualClock, MemoryStorage, WriteGuard,
};

use super::helpers::{NAME, SOON, World, flushed, record, soon, trip};
use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::{HOUR, SECOND, config, eventually, wait};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn two_bulkheads_share_what_one_finds_out() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::new();
    let build = || {
        Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
            .clock(clock.clone())
            .circuit_storage(storage.clone())
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    for _ in 0..2 {
        let failed = wait(one.execute(|| Err::<(), _>("down")));
        assert!(failed.error().is_some());
    }
    let breaker = two.circuit_breaker().unwrap();
    soon(breaker, Open);
    assert_eq!(two.state(), BulkheadState::Isolated);
    clock.advance(10 * SECOND);
    match wait(two.run(|| ())).into_result() {
        Err(BulkheadError::CircuitOpen { retry_after, .. }) => {
            assert_eq!(retry_after, 20 * SECOND);
        }
        other => panic!("{other:?}"),
    }

    // By hand, over the live OPEN of the other.
    breaker.reset();
    soon(one.circuit_breaker().unwrap(), Closed);
    assert!(wait(one.run(|| ())).is_success());
    assert!(wait(two.run(|| ())).is_success());
}

#[test]
fn a_trip_is_written_at_once_and_honoured_by_a_peer_until_the_same_moment() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(SOON);
    trip(&one);
    flushed(&one);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!((row.state, row.failure_count), (Open, 2));
    assert_eq!(row.outcomes, [false, false]);
    world.clock.advance(SECOND);
    soon(&two, Open);
    assert_eq!(retry_after(&one), ISOLATION - SECOND);
    assert_eq!(retry_after(&two), ISOLATION - SECOND);
    let guard = world.shelf.stores()[0].guard;
    assert!(matches!(guard, WriteGuard::UnlessOpen { .. }), "{guard:?}");
}

#[test]
fn opened_by_hand_for_everybody() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(SOON);
    one.trip();
    soon(&two, Open);
    assert_eq!(retry_after(&two), ISOLATION);
}

#[test]
fn the_synchronizer_ends_the_isolation_and_probes_close_the_circuit() {
    let world = World::new();
    let (one, _, changes) = world.watched(HOUR);
    let (two, _) = world.peer(SOON);
    trip(&one);
    soon(&two, Open);
    world.clock.advance(ISOLATION - Duration::from_nanos(1));
    assert_eq!(retry_after(&one), Duration::from_nanos(1));
    world.clock.advance(Duration::from_nanos(1));
    // No call asks, and yet:
    soon(&one, HalfOpen);
    soon(&two, HalfOpen);
    flushed(&one);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!((row.state, row.open_until), (HalfOpen, None));
    // The probes are each process' own.
    let probes = [one.try_acquire().unwrap(), one.try_acquire().unwrap()];
    assert_eq!(retry_after(&one), ISOLATION, "the limit of a probe");
    let others = [two.try_acquire().unwrap(), two.try_acquire().unwrap()];
    for probe in probes {
        probe.record_success();
    }
    assert!(one.is_closed());
    soon(&two, Closed);
    assert_eq!(world.shelf.state(), Some(Closed));
    // An outcome that comes late does not count any more.
    for probe in others {
        probe.record_failure();
    }
    assert!(two.is_closed());
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen, Closed]);
}

#[test]
fn a_failed_probe_opens_it_for_everybody() {
    let world = World::new();
    let (one, _) = world.peer(SOON);
    let (two, _) = world.peer(SOON);
    trip(&one);
    soon(&two, Open);
    world.clock.advance(ISOLATION);
    soon(&one, HalfOpen);
    soon(&two, HalfOpen);
    two.try_acquire().unwrap().record_success();
    two.try_acquire().unwrap().record_failure();
    soon(&one, Open);
    assert_eq!(retry_after(&one), ISOLATION);
    assert_eq!(
        world.shelf.row(NAME).unwrap().record.outcomes,
        [true, false]
    );
}

#[test]
fn calls_are_refused_while_the_synchronizer_asks_for_the_end_of_the_isolation() {
    let world = World::new();
    let (one, line) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    let (gate, _opener) = line.holds_stores();
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    assert_eq!(retry_after(&one), Duration::from_millis(50), "in a moment");
    assert!(one.is_open());
    gate.open();
    soon(&one, HalfOpen);
}

#[test]
fn a_peer_that_opened_again_holds_the_circuit_open() {
    let world = World::new();
    let (one, line, changes) = world.watched(HOUR);
    trip(&one);
    flushed(&one);
    // One looks for news before it writes: let the peer come between the two.
    let (gate, _opener) = line.holds_stores();
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    world.shelf.put(world.open_for(7 * SECOND));
    gate.open();
    eventually("the peer's end", || retry_after(&one) == 7 * SECOND);
    world.clock.advance(7 * SECOND);
    soon(&one, HalfOpen);
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen]);
}

#[test]
fn what_a_peer_has_stored_comes_before_the_end_of_the_isolation() {
    let world = World::new();
    let (one, _, changes) = world.watched(HOUR);
    trip(&one);
    flushed(&one);
    world.shelf.put(record(Closed, &[true]));
    world.clock.advance(ISOLATION);
    soon(&one, Closed);
    flushed(&one);
    assert_eq!(*changes.lock().unwrap(), [Open, Closed]);
    assert_eq!(
        world.shelf.row(NAME).unwrap().record,
        record(Closed, &[true])
    );
}

#[test]
fn first_opener_wins() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    let row = world.shelf.row(NAME);
    world.clock.advance(10 * SECOND);
    assert!(two.is_closed(), "an hour has not passed");
    trip(&two);
    flushed(&two);
    assert_eq!(retry_after(&two), 20 * SECOND);
    // Also over its own: opened again by hand, the first end stays.
    one.trip();
    flushed(&one);
    assert_eq!(retry_after(&one), 20 * SECOND);
    assert_eq!(world.shelf.row(NAME), row, "nobody has written since");
}

#[test]
fn a_reset_is_for_everybody_also_by_who_has_not_seen_the_open_circuit() {
    let world = World::new();
    let (one, _) = world.peer(SOON);
    let (two, _) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    assert!(two.is_closed(), "an hour has not passed");
    two.reset();
    flushed(&two);
    assert_eq!(world.shelf.state(), Some(Closed));
    soon(&one, Closed);
    assert_eq!(
        world.shelf.stores().last().unwrap().guard,
        WriteGuard::Always
    );
}
