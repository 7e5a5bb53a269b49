//! Extremes: endless and empty isolations, large windows, a thousand circuits.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitState, Clock};

use super::helpers::{
    Line, NAME, SOON, ScriptedStorage, World, flushed, let_it_look, record, soon, trip,
};
use crate::helpers::{retry_after, rules};
use crate::support::{HOUR, eventually};

use CircuitState::{Closed, HalfOpen, Open};

#[test]
fn an_isolation_without_an_end() {
    let world = World::new();
    let build = |line: Line| {
        CircuitBreaker::builder(NAME, rules().isolation_duration(Duration::MAX))
            .clock(world.clock.clone())
            .storage(line)
            .build()
            .unwrap()
    };
    let line = world.shelf.line(SOON);
    let one = build(line.clone());
    let two = build(world.shelf.line(SOON));
    trip(&one);
    flushed(&one);
    soon(&two, Open);
    let_it_look(&line);
    // Its own row is no news.
    assert_eq!(retry_after(&one), Duration::MAX);
    let years = |n: u64| Duration::from_secs(n * 365 * 86_400);
    assert!(retry_after(&two) > years(99));
    world.clock.advance(years(50));
    assert!(two.is_open() && one.is_open());
    assert!(world.shelf.row(NAME).unwrap().record.open_until.is_some());
    two.reset();
    flushed(&two);
    assert_eq!(world.shelf.state(), Some(Closed));
}

#[test]
fn no_isolation() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let breaker = CircuitBreaker::builder(NAME, rules().isolation_duration(Duration::ZERO))
        .storage(line)
        .build()
        .unwrap();
    for _ in 0..20 {
        breaker.trip();
        soon(&breaker, HalfOpen);
        for _ in 0..2 {
            breaker.try_acquire().unwrap().record_success();
        }
        assert!(breaker.is_closed());
        flushed(&breaker);
        assert_eq!(world.shelf.state(), Some(Closed));
    }
}

#[test]
fn a_huge_window() {
    let world = World::new();
    let rules = rules().failure_rate(1.0, 1 << 20).minimum_calls(5_000);
    let breaker = CircuitBreaker::builder(NAME, rules)
        .storage(world.shelf.line(SOON))
        .build()
        .unwrap();
    for _ in 0..4_999 {
        breaker.record_failure();
    }
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    flushed(&breaker);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!(row.outcomes.len(), 1_000);
    assert_eq!(row.failure_count, 1_000);
}

#[test]
fn a_thousand_circuits_are_loaded_in_one_go() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let build = |index: usize| {
        CircuitBreaker::builder(format!("c{index}"), rules())
            .storage(line.clone())
            .build()
            .unwrap()
    };
    let breakers: Vec<_> = (0..1_000).map(build).collect();
    eventually("one load for all", || {
        world.shelf.loads.lock().unwrap().last() == Some(&1_000)
    });
    let_it_look(&line);
    {
        let loads = world.shelf.loads.lock().unwrap();
        assert_eq!(loads[loads.len() - 2..], [1_000, 1_000]);
    }
    for breaker in &breakers {
        breaker.trip();
    }
    for breaker in &breakers {
        flushed(breaker);
    }
    assert_eq!(world.shelf.stores().len(), 1_000);
    drop(breakers);
}

#[test]
fn the_default_clock_takes_an_end_from_the_wall_clock() {
    let shelf = Arc::<ScriptedStorage>::default();
    let mut row = record(Open, &[]);
    let end = Duration::from_secs(240);
    row.open_until = Some(std::time::SystemTime::now() + end);
    shelf.put(row);
    let breaker = CircuitBreaker::builder(NAME, rules())
        .clock(Clock::system())
        .storage(shelf.line(HOUR))
        .build()
        .unwrap();
    let left = retry_after(&breaker);
    assert!(left <= end && left > end / 2, "{left:?}");
}
