//! A shared circuit and wall clocks that are wrong: set ahead or back while it is open, or another one than a peer's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::eventually;
use crate::support::scripted_storage::{SOON, ScriptedStorage, record};
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage, CircuitSync, ManualClock,
    MemoryStorage, StoredCircuit, WriteGuard, WriteOutcome,
};

use CircuitState::{Closed, HalfOpen, Open};

const NAME: &str = "c";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const ISOLATION: Duration = Duration::from_secs(2);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(ISOLATION)
}

fn breaker(storage: impl CircuitStorage + 'static, clock: &ManualClock) -> CircuitBreaker {
    CircuitBreaker::builder(NAME, rules())
        .clock(clock.clone())
        .storage(storage)
        .build()
        .unwrap()
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

fn state(storage: &dyn CircuitStorage) -> Option<CircuitState> {
    storage.load(NAME).unwrap().map(|row| row.record.state)
}

// ---- the wall clock of this host jumps

#[test]
fn a_wall_clock_that_is_set_back_prolongs_no_own_isolation() {
    let storages: [Arc<dyn CircuitStorage>; 2] = [
        Arc::new(MemoryStorage::new()),
        Arc::new(ScriptedStorage::new()),
    ];
    for storage in storages {
        let clock = ManualClock::new();
        let breaker = breaker(Arc::clone(&storage), &clock);
        for back in [HOUR, 2 * DAY] {
            breaker.record_failure();
            flushed(&breaker);
            clock.set_wall_behind(back);
            clock.advance(ISOLATION);
            soon(&breaker, HalfOpen);
            eventually("stored", || state(&*storage) == Some(HalfOpen));
            breaker.record_success();
            assert!(breaker.is_closed());
            flushed(&breaker);
            assert_eq!(state(&*storage), Some(Closed));
        }
    }
}

#[test]
fn a_wall_clock_that_is_set_ahead_shortens_no_own_isolation() {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let breaker = breaker(shelf.clone(), &clock);
    breaker.record_failure();
    flushed(&breaker);
    clock.set_wall_ahead(HOUR);
    shelf.let_it_look();
    assert_eq!(retry_after(&breaker), ISOLATION);
    clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
}

#[test]
fn a_wall_clock_that_is_set_back_prolongs_no_isolation_that_is_known_from_a_peer() {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let breaker = breaker(shelf.clone(), &clock);
    shelf.put(NAME, record(Open, Some(clock.wall_now() + MINUTE)));
    soon(&breaker, Open);
    flushed(&breaker);
    clock.set_wall_behind(HOUR);
    shelf.let_it_look();
    assert_eq!(retry_after(&breaker), MINUTE);
    clock.advance(MINUTE);
    soon(&breaker, HalfOpen);
    eventually("stored", || shelf.state(NAME) == Some(HalfOpen));
}

#[test]
fn opened_again_by_hand_after_a_jump_the_first_end_stays() {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let breaker = breaker(shelf, &clock);
    breaker.record_failure();
    flushed(&breaker);
    clock.set_wall_behind(HOUR);
    clock.advance(SECOND);
    breaker.trip();
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
}

#[test]
fn a_peer_that_has_opened_it_meanwhile_is_not_overwritten_after_a_jump() {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let breaker = breaker(shelf.clone(), &clock);
    breaker.record_failure();
    flushed(&breaker);
    clock.set_wall_behind(HOUR);
    // The peer's clock is right; this host takes its end for an hour more, up to the cap.
    let peers = record(Open, Some(clock.wall_now() + MINUTE));
    shelf.put(NAME, peers.clone());
    eventually("the peer's end", || retry_after(&breaker) == MINUTE);
    clock.advance(ISOLATION);
    shelf.let_it_look();
    assert_eq!(shelf.row(NAME).unwrap().record, peers);
    assert!(breaker.is_open());
    clock.advance(MINUTE - ISOLATION);
    soon(&breaker, HalfOpen);
}

#[test]
fn the_guard_s_exception_is_for_one_version_only() {
    let storages: [Box<dyn CircuitStorage>; 2] = [
        Box::new(MemoryStorage::new()),
        Box::new(ScriptedStorage::new()),
    ];
    for storage in storages {
        let now = SystemTime::now();
        let open = record(Open, Some(now + HOUR));
        let WriteOutcome::Applied { version } = storage
            .store(NAME, &open, WriteGuard::unless_open(now))
            .unwrap()
        else {
            panic!("nothing is there yet");
        };
        let write = |except| {
            let guard = WriteGuard::UnlessOpen { now, except };
            storage.store(NAME, &record(HalfOpen, None), guard).unwrap()
        };
        for other in [None, Some(version + 1), Some(version - 1), Some(0)] {
            assert_eq!(write(other), WriteOutcome::Refused);
        }
        assert!(matches!(
            write(Some(version)),
            WriteOutcome::Applied { version: next } if next > version
        ));
    }
}

// ---- a peer's clock is wrong

/// The time that a breaker stays open after it has read an end that is so far ahead.
fn adopted(sync: CircuitSync, rules: CircuitBreakerConfig, ahead: Duration) -> Duration {
    let shelf = ScriptedStorage::with(sync);
    let clock = ManualClock::new();
    shelf.put(NAME, record(Open, Some(clock.wall_now() + ahead)));
    let breaker = CircuitBreaker::builder(NAME, rules)
        .clock(clock.clone())
        .storage(shelf.clone())
        .build()
        .unwrap();
    assert!(breaker.is_open());
    let left = retry_after(&breaker);
    shelf.let_it_look();
    assert_eq!(retry_after(&breaker), left, "its end is not news again");
    if left < DAY {
        clock.advance(left);
        soon(&breaker, HalfOpen);
        eventually("stored", || shelf.state(NAME) == Some(HalfOpen));
        breaker.record_success();
        flushed(&breaker);
        assert_eq!(shelf.state(NAME), Some(Closed), "for everybody");
    }
    left
}

#[test]
fn an_end_that_a_peer_has_stored_is_capped() {
    let years = |n: u32| n * 365 * DAY;
    let sync = || CircuitSync::with_refresh_interval(SOON);
    let long = rules().isolation_duration(10 * MINUTE);
    for (rules, ahead, left) in [
        (rules(), MINUTE, MINUTE),
        (rules(), 5 * MINUTE, 5 * MINUTE),
        (rules(), DAY, 5 * MINUTE),
        (long.clone(), 15 * MINUTE, 15 * MINUTE),
        (long, DAY, 20 * MINUTE),
        // Until a reset.
        (rules(), years(51), Duration::MAX),
        (rules(), years(49), 5 * MINUTE),
        (rules().isolation_duration(Duration::MAX), DAY, DAY),
    ] {
        assert_eq!(adopted(sync(), rules, ahead), left, "{ahead:?}");
    }
    let capped = |limit| sync().with_max_adopted_isolation(limit);
    assert_eq!(capped(HOUR).max_adopted_isolation(), Some(HOUR));
    assert_eq!(capped(HOUR).refresh_interval(), SOON);
    assert_eq!(sync().max_adopted_isolation(), None);
    assert_eq!(adopted(capped(20 * SECOND), rules(), DAY), 20 * SECOND);
    assert_eq!(adopted(capped(HOUR), rules(), DAY), HOUR);
    assert_eq!(adopted(capped(Duration::MAX), rules(), DAY), DAY);
    assert_eq!(adopted(capped(SECOND), rules(), years(51)), Duration::MAX);
}

#[test]
fn a_host_whose_clock_is_still_in_1970_and_whose_storage_has_a_clock() {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let right = clock.wall_now();
    shelf.set_clock(right);
    clock.set_wall_behind(right.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    shelf.put(NAME, record(Open, Some(right + MINUTE)));
    let breaker = breaker(shelf.clone(), &clock);
    assert_eq!(retry_after(&breaker), 5 * MINUTE);
    shelf.put(NAME, record(Open, Some(right + 100 * 365 * DAY)));
    eventually("until a reset", || retry_after(&breaker) > 50 * 365 * DAY);
}

#[test]
fn an_own_isolation_is_never_capped() {
    let shelf = ScriptedStorage::with(
        CircuitSync::with_refresh_interval(SOON).with_max_adopted_isolation(Duration::ZERO),
    );
    let clock = ManualClock::new();
    let breaker = breaker(shelf.clone(), &clock);
    breaker.record_failure();
    flushed(&breaker);
    shelf.let_it_look();
    assert_eq!(retry_after(&breaker), ISOLATION);
}

#[test]
fn how_far_the_clocks_are_apart_can_be_asked() {
    let shelf = ScriptedStorage::new();
    let breaker = breaker(shelf.clone(), &ManualClock::new());
    shelf.let_it_look();
    assert_eq!(shelf.sync().clock_skew(), None, "it has no clock");
    for (storage, host_is_ahead) in [
        (SystemTime::now() + DAY, false),
        (SystemTime::now() - DAY, true),
    ] {
        shelf.set_clock(storage);
        eventually("the skew", || {
            shelf.sync().clock_skew().is_some_and(|skew| {
                skew.storage == storage
                    && skew.host_is_ahead() == host_is_ahead
                    && skew.amount() > DAY - HOUR
            })
        });
    }
    drop(breaker);
    eventually("nothing is known any more", || {
        shelf.sync().clock_skew().is_none()
    });
}

// ---- versions that are times of the storage's clock

const fn micros(seconds: u64) -> u64 {
    seconds * 1_000_000
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A breaker that has seen a row that was written two thousand seconds after 1970.
fn seen_at_2_000() -> (ScriptedStorage, ManualClock, CircuitBreaker) {
    let shelf = ScriptedStorage::new();
    let clock = ManualClock::new();
    let row = StoredCircuit::new(record(Closed, None), micros(2_000));
    shelf.restore_at(NAME, row, at(2_001));
    let breaker = breaker(shelf.clone(), &clock);
    shelf.let_it_look();
    (shelf, clock, breaker)
}

#[test]
fn a_storage_whose_clock_was_set_back_hides_no_news() {
    let (shelf, clock, breaker) = seen_at_2_000();
    let open = record(Open, Some(clock.wall_now() + MINUTE));
    // A peer has written just after that, before this process has looked again.
    shelf.restore_at(NAME, StoredCircuit::new(open, micros(1_000)), at(1_001));
    soon(&breaker, Open);
}

#[test]
fn a_storage_whose_clock_was_set_back_long_ago_hides_no_news() {
    let (shelf, clock, breaker) = seen_at_2_000();
    shelf.set_clock(at(1_001));
    shelf.let_it_look();
    let open = record(Open, Some(clock.wall_now() + MINUTE));
    // A peer has written after that, and this process hears of it when the clock has caught up.
    shelf.restore_at(NAME, StoredCircuit::new(open, micros(1_500)), at(2_002));
    soon(&breaker, Open);
}

#[test]
fn while_the_clock_goes_on_an_older_row_is_none() {
    let (shelf, clock, breaker) = seen_at_2_000();
    let open = record(Open, Some(clock.wall_now() + MINUTE));
    shelf.restore_at(NAME, StoredCircuit::new(open, micros(1_500)), at(2_002));
    shelf.let_it_look();
    assert!(breaker.is_closed());
}
