//! State, health, numbers and listeners tell of the circuit.

use std::sync::{Arc, Mutex};

use bulkman::{Bulkhead, BulkheadEvent, BulkheadState, CircuitState, ManualClock};

use super::helpers::{build, circuit_of, is_refused, open, rules, succeed};
use crate::helpers::ISOLATION;
use crate::support::config;

#[test]
fn state_health_and_stats_follow_the_circuit() {
    let (bulkhead, clock) = build(config(1, 1));
    let look = || {
        let stats = bulkhead.stats();
        assert!(stats.circuit_breaker_enabled);
        assert_eq!(stats.state, bulkhead.state());
        (bulkhead.state(), bulkhead.is_healthy(), stats.circuit_state)
    };
    let closed = Some(CircuitState::Closed);
    assert_eq!(look(), (BulkheadState::Healthy, true, closed));
    open(&bulkhead);
    let open = Some(CircuitState::Open);
    assert_eq!(look(), (BulkheadState::Isolated, false, open));
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    let half_open = Some(CircuitState::HalfOpen);
    assert_eq!(look(), (BulkheadState::Degraded, true, half_open));
    succeed(&bulkhead);
    assert_eq!(look(), (BulkheadState::Healthy, true, closed));
}

#[test]
fn the_breaker_can_be_reset_and_opened_by_hand() {
    let (bulkhead, _clock) = build(config(1, 1));
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert_eq!(breaker.name(), "test");
    breaker.trip();
    assert!(is_refused(&bulkhead));
    breaker.reset();
    assert!(!is_refused(&bulkhead));
}

#[test]
fn listeners_are_told_of_each_change_before_the_outcome_can_be_seen() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .listener({
            let changes = Arc::clone(&changes);
            move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::CircuitChanged { change, .. } = event {
                    assert_eq!(&*change.name, "test");
                    let change = (change.from, change.to, change.sequence);
                    changes.lock().unwrap().push(change);
                }
            }
        })
        .build()
        .unwrap();
    let seen = || changes.lock().unwrap().clone();
    open(&bulkhead);
    assert_eq!(seen(), [(CircuitState::Closed, CircuitState::Open, 1)]);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(
        seen()[1..],
        [
            (CircuitState::Open, CircuitState::HalfOpen, 2),
            (CircuitState::HalfOpen, CircuitState::Closed, 3),
        ]
    );
}

#[test]
fn a_listener_that_panics_does_not_disturb_the_circuit() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .listener(|event: &BulkheadEvent<'_>| {
            if matches!(event, BulkheadEvent::CircuitChanged { .. }) {
                panic!("a listener that panics");
            }
        })
        .build()
        .unwrap();
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    assert_eq!(bulkhead.available_capacity(), 2);
}
