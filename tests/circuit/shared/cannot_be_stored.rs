//! A circuit that its storage cannot hold: it goes on alone, its error names it, and the others stay in step.

use std::time::Duration;

use crate::support::eventually;
use crate::support::scripted_storage::{ScriptedStorage, record};
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage, ManualClock, StorageError,
};

use CircuitState::{HalfOpen, Open};

const ISOLATION: Duration = Duration::from_secs(60);

fn breaker(name: &str, shelf: &ScriptedStorage, clock: &ManualClock) -> CircuitBreaker {
    let rules = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(ISOLATION);
    CircuitBreaker::builder(name, rules)
        .clock(clock.clone())
        .storage(shelf.clone())
        .build()
        .unwrap()
}

#[test]
fn the_others_get_their_news_and_are_stored() {
    let (shelf, clock) = (ScriptedStorage::new(), ManualClock::new());
    shelf.set_unfit("bad", true);
    shelf.set_unfit("worse", true);
    let one = breaker("one", &shelf, &clock);
    let bad = breaker("bad", &shelf, &clock);
    let worse = breaker("worse", &shelf, &clock);
    let two = breaker("two", &shelf, &clock);
    for name in ["bad", "worse"] {
        let trouble = shelf.sync().trouble_of(name).expect("it is known at once");
        assert!(trouble.contains(name), "{trouble}");
    }
    assert_eq!(shelf.sync().trouble_of("one"), None);
    assert_eq!(shelf.sync().trouble(), None, "the storage answers");

    bad.record_failure();
    worse.record_failure();
    assert!(!bad.flush(crate::support::PATIENCE), "it says so at once");
    one.record_failure();
    assert!(one.flush(crate::support::PATIENCE));
    shelf.put("two", record(Open, Some(clock.wall_now() + ISOLATION)));
    eventually("news", || two.is_open());
    shelf.let_it_look();
    assert_eq!(shelf.state("bad"), None);

    // It lives alone, through all states.
    clock.advance(ISOLATION);
    eventually("alone", || bad.is_half_open());
    bad.record_success();
    assert!(bad.is_closed());
    eventually("the others too", || {
        shelf.state("one") == Some(HalfOpen) && two.is_half_open()
    });
}

#[test]
fn it_is_stored_when_that_can_be_done_again() {
    let (shelf, clock) = (ScriptedStorage::new(), ManualClock::new());
    let bad = breaker("bad", &shelf, &clock);
    let good = breaker("good", &shelf, &clock);
    for _ in 0..3 {
        shelf.set_unfit("bad", true);
        eventually("the trouble", || shelf.sync().trouble_of("bad").is_some());
        bad.record_failure();
        good.record_failure();
        assert!(good.flush(crate::support::PATIENCE));
        assert!(!bad.flush(crate::support::PATIENCE));
        shelf.set_unfit("bad", false);
        eventually("stored", || shelf.state("bad") == Some(Open));
        eventually("no trouble", || shelf.sync().trouble_of("bad").is_none());
        assert!(bad.flush(crate::support::PATIENCE));
        bad.reset();
        good.reset();
        assert!(bad.flush(crate::support::PATIENCE) && good.flush(crate::support::PATIENCE));
    }
}

#[test]
fn a_circuit_that_can_be_read_but_not_written() {
    let (shelf, clock) = (ScriptedStorage::new(), ManualClock::new());
    shelf.set_unwritable("bad", true);
    let bad = breaker("bad", &shelf, &clock);
    let good = breaker("good", &shelf, &clock);
    assert_eq!(shelf.sync().trouble_of("bad"), None);
    bad.record_failure();
    assert!(!bad.flush(crate::support::PATIENCE), "it says so at once");
    let trouble = shelf.sync().trouble_of("bad").expect("it is known");
    assert!(trouble.contains("`bad` is glued"), "{trouble}");
    good.record_failure();
    assert!(good.flush(crate::support::PATIENCE));
    assert_eq!(shelf.sync().trouble(), None);
    shelf.set_unwritable("bad", false);
    eventually("stored", || shelf.state("bad") == Some(Open));
    eventually("no trouble", || shelf.sync().trouble_of("bad").is_none());
    assert!(bad.flush(crate::support::PATIENCE));
}

#[test]
fn the_only_circuit() {
    let (shelf, clock) = (ScriptedStorage::new(), ManualClock::new());
    shelf.set_unfit("bad", true);
    let bad = breaker("bad", &shelf, &clock);
    bad.record_failure();
    clock.advance(ISOLATION);
    eventually("alone", || bad.is_half_open());
    assert_eq!(shelf.sync().trouble(), None);
    // The storage as a whole goes and comes back.
    shelf.set_down(true);
    eventually("the outage", || shelf.sync().trouble().is_some());
    shelf.set_down(false);
    shelf.set_unfit("bad", false);
    eventually("stored", || shelf.state("bad") == Some(HalfOpen));
}

#[test]
fn an_error_says_what_it_is_about() {
    assert!(!StorageError::new("down").is_of_circuit());
    let error = StorageError::of_circuit(StorageError::new("too small"));
    assert!(error.is_of_circuit());
    assert_eq!(error.to_string(), "too small");
}
