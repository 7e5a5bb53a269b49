//! A storage that loses what it had: rows that are gone, and rows that are older than what a breaker has seen, as after a
//! failover to a standby that lags or after a backup was restored.

use std::time::Duration;

use crate::support::eventually;
use crate::support::scripted_storage::{ScriptedStorage, record};
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage, CircuitSync, ManualClock,
    StoredCircuit,
};

use CircuitState::{Closed, HalfOpen, Open};

const NAME: &str = "c";
const ISOLATION: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct World {
    shelf: ScriptedStorage,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        Self {
            shelf: ScriptedStorage::new(),
            clock: ManualClock::new(),
        }
    }

    /// A breaker of a process of its own.
    fn process(&self) -> (CircuitBreaker, ScriptedStorage) {
        let shelf = self.shelf.peer();
        (self.breaker(&shelf), shelf)
    }

    fn breaker(&self, shelf: &ScriptedStorage) -> CircuitBreaker {
        let rules = CircuitBreakerConfig::default()
            .failure_threshold(1)
            .success_threshold(1)
            .isolation_duration(ISOLATION);
        CircuitBreaker::builder(NAME, rules)
            .clock(self.clock.clone())
            .storage(shelf.clone())
            .build()
            .unwrap()
    }

    fn row(&self) -> StoredCircuit {
        self.shelf.row(NAME).expect("a row")
    }
}

fn soon(breaker: &CircuitBreaker, state: CircuitState) {
    eventually(&format!("{state}"), || breaker.state() == state);
}

fn flushed(breaker: &CircuitBreaker) {
    assert!(breaker.flush(crate::support::PATIENCE));
}

fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}

// ---- a row that is gone

#[test]
fn the_opener_stores_a_row_that_is_gone_again() {
    let world = World::new();
    let (opener, shelf) = world.process();
    opener.record_failure();
    flushed(&opener);
    let end = world.row().record.open_until;
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(1));
        assert!(shelf.remove(NAME).unwrap());
        eventually("stored again", || shelf.state(NAME) == Some(Open));
        assert_eq!(world.row().record.open_until, end);
        let (newcomer, _) = world.process();
        assert!(newcomer.is_open());
        assert_eq!(retry_after(&newcomer), retry_after(&opener));
    }
}

#[test]
fn a_row_that_is_gone_is_not_stored_by_a_breaker_that_has_not_opened_it() {
    let world = World::new();
    let (opener, openers) = world.process();
    let (peer, shelf) = world.process();
    opener.record_failure();
    soon(&peer, Open);
    drop(opener);
    openers.wait_until_unused();
    world.shelf.remove(NAME).unwrap();
    shelf.let_it_look();
    assert_eq!(world.shelf.row(NAME), None);
    assert!(peer.is_open(), "it keeps its state");
    // Nor in another state, nor after the end.
    peer.reset();
    flushed(&peer);
    world.shelf.remove(NAME).unwrap();
    shelf.let_it_look();
    assert_eq!(world.shelf.row(NAME), None);
}

#[test]
fn a_row_that_is_gone_when_its_isolation_is_over_is_stored_half_open() {
    let world = World::new();
    let (opener, _) = world.process();
    opener.record_failure();
    flushed(&opener);
    world.shelf.remove(NAME).unwrap();
    world.clock.advance(ISOLATION);
    soon(&opener, HalfOpen);
    flushed(&opener);
    eventually("stored", || world.shelf.state(NAME) == Some(HalfOpen));
}

#[test]
fn flush_waits_until_a_lost_row_is_stored_again() {
    let world = World::new();
    let shelf = world
        .shelf
        .peer_with(CircuitSync::with_refresh_interval(HOUR));
    let opener = world.breaker(&shelf);
    opener.record_failure();
    flushed(&opener);
    world.shelf.remove(NAME).unwrap();
    // Another circuit of the storage makes it look.
    let other = CircuitBreaker::builder("other", CircuitBreakerConfig::default())
        .storage(shelf)
        .build()
        .unwrap();
    flushed(&other);
    flushed(&opener);
    assert_eq!(world.shelf.state(NAME), Some(Open));
}

// ---- a row that is older

#[test]
fn an_older_row_does_not_close_the_circuit_of_its_opener() {
    for older in [
        record(Closed, None),
        record(HalfOpen, None),
        record(Open, Some(ManualClock::new().wall_now() - HOUR)),
        record(Open, Some(ManualClock::new().wall_now() + HOUR)),
    ] {
        let world = World::new();
        world.shelf.put(NAME, record(Closed, None));
        let version = world.row().version;
        let (opener, shelf) = world.process();
        world.shelf.put(NAME, record(HalfOpen, None));
        soon(&opener, HalfOpen);
        opener.record_failure();
        flushed(&opener);
        let own = world.row().record;
        world
            .shelf
            .restore(NAME, StoredCircuit::new(older.clone(), version));
        eventually("stored again", || world.row().record == own);
        flushed(&opener);
        shelf.let_it_look();
        assert!(opener.is_open());
        assert_eq!(retry_after(&opener), ISOLATION);
        assert!(shelf.sync().trouble().is_none());
        let (newcomer, _) = world.process();
        assert!(newcomer.is_open());
        // Its end comes as ever.
        world.clock.advance(ISOLATION);
        soon(&opener, HalfOpen);
    }
}

#[test]
fn an_older_row_does_not_undo_what_was_seen_from_a_peer() {
    let world = World::new();
    world.shelf.put(NAME, record(Closed, None));
    let older = world.row();
    let (peer, shelf) = world.process();
    let end = world.clock.wall_now() + ISOLATION;
    world.shelf.put(NAME, record(Open, Some(end)));
    soon(&peer, Open);
    world.shelf.restore(NAME, older.clone());
    shelf.let_it_look();
    assert!(peer.is_open());
    assert_eq!(world.row(), older, "only the opener stores it again");
    assert!(shelf.stores().is_empty());
    world.clock.advance(ISOLATION);
    soon(&peer, HalfOpen);
    eventually("stored", || world.row().record.state == HalfOpen);
}

#[test]
fn an_older_open_row_does_not_open_a_circuit_that_has_closed() {
    let world = World::new();
    let (breaker, shelf) = world.process();
    breaker.record_failure();
    flushed(&breaker);
    let older = world.row();
    breaker.reset();
    flushed(&breaker);
    world.shelf.restore(NAME, older.clone());
    shelf.let_it_look();
    assert!(breaker.is_closed());
    assert_eq!(world.row(), older);
    // The next change replaces it, although it is open.
    world.clock.advance(Duration::from_secs(1));
    breaker.record_failure();
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert!(world.row().version > older.version);
    assert_eq!(
        world.row().record.open_until,
        Some(world.clock.wall_now() + ISOLATION)
    );
}

#[test]
fn a_server_that_comes_back_older_after_an_outage() {
    let world = World::new();
    world.shelf.put(NAME, record(Closed, None));
    let older = world.row();
    let (opener, shelf) = world.process();
    opener.record_failure();
    flushed(&opener);
    shelf.set_down(true);
    eventually("the outage", || shelf.sync().trouble().is_some());
    world.shelf.restore(NAME, older);
    shelf.set_down(false);
    eventually("stored again", || world.row().record.state == Open);
    eventually("in step", || opener.flush(crate::support::PATIENCE));
    assert!(opener.is_open());
}

#[test]
fn a_reset_by_a_peer_is_newer_and_holds() {
    let world = World::new();
    let (opener, shelf) = world.process();
    let (peer, _) = world.process();
    opener.record_failure();
    flushed(&opener);
    soon(&peer, Open);
    peer.reset();
    soon(&opener, Closed);
    shelf.let_it_look();
    assert_eq!(world.row().record.state, Closed);
    assert!(opener.is_closed() && peer.is_closed());
}
