//! `flush` waits until changes are stored.

use std::time::Duration;

use bulkman::{Bulkhead, CircuitBreaker, CircuitState};

use super::helpers::{Answer, NAME, SOON, World, trip};
use crate::helpers::rules;
use crate::support;
use crate::support::{HOUR, config};

use CircuitState::Open;

#[test]
fn flush_without_a_storage_has_nothing_to_wait_for() {
    let breaker = CircuitBreaker::new(NAME, rules()).unwrap();
    trip(&breaker);
    assert!(breaker.flush(Duration::ZERO));
}

#[test]
fn flush_has_a_limit() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    assert!(breaker.flush(Duration::ZERO));
    let (gate, _opener) = line.holds_stores();
    trip(&breaker);
    assert!(!breaker.flush(Duration::ZERO));
    assert!(!breaker.flush(SOON));
    gate.open();
    assert!(breaker.flush(Duration::MAX));
    // Settled, whatever the storage does then.
    line.all_answer(Answer::Error);
    assert!(breaker.flush(Duration::ZERO));
}

#[test]
fn a_shutdown_stores_the_last_change() {
    let world = World::new();
    for end in ["shutdown", "timeout", "drop"] {
        let line = world.shelf.line(HOUR);
        let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
            .circuit_storage(line)
            .build()
            .unwrap();
        bulkhead.circuit_breaker().unwrap().reset();
        for _ in 0..2 {
            let _ = bulkhead.execute(|| Err::<(), _>(())).wait();
        }
        match end {
            "shutdown" => drop(bulkhead.shutdown()),
            "timeout" => drop(bulkhead.shutdown_timeout(support::PATIENCE)),
            _ => drop(bulkhead),
        }
        assert_eq!(world.shelf.row("test").unwrap().record.state, Open, "{end}");
    }
}
