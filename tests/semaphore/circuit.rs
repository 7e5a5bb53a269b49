//! The circuit breaker of a semaphore bulkhead.

use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadState, CircuitBreakerConfig, MemoryStorage, RejectReason, SemaphoreBulkhead,
};

use super::helpers::{Inside, assert_idle, queued, with_clock};
use crate::support::{config, eventually};

#[test]
fn the_circuit_keeps_calls_away_and_probes() {
    let breaker = CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(30));
    let (bulkhead, clock) = with_clock(config(1, 1).circuit_breaker(breaker));
    let not_found = || {
        let call = bulkhead
            .call()
            .failure_if(|error: &&str| *error != "not found");
        call.execute(|| Err::<(), _>("not found"))
    };
    for _ in 0..5 {
        assert!(not_found().error().is_some());
    }
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    for _ in 0..2 {
        assert!(bulkhead.execute(|| Err::<(), _>("down")).error().is_some());
    }
    assert_eq!(bulkhead.state(), BulkheadState::Isolated);
    assert!(!bulkhead.is_healthy());
    let refused = bulkhead.try_run(|| 1).unwrap_err();
    let RejectReason::CircuitOpen { retry_after, .. } = refused.reason else {
        panic!("{refused:?}");
    };
    assert_eq!(retry_after, Duration::from_secs(30));
    assert_eq!(bulkhead.available_capacity(), 2, "the place is given back");
    clock.advance(retry_after);
    assert!(bulkhead.run(|| ()).is_success());
    assert!(bulkhead.circuit_breaker().unwrap().is_closed());
    assert_eq!(bulkhead.stats().rejected_circuit_open, 1);
    assert_idle(&bulkhead);
}

/// A probe that never gets its turn gives its right back.
#[test]
fn a_probe_that_leaves_the_line_lets_another_probe() {
    let breaker = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1);
    let (bulkhead, clock) = with_clock(config(1, 2).circuit_breaker(breaker));
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let breaker = bulkhead.circuit_breaker().unwrap();
        breaker.trip();
        clock.advance(
            bulkhead
                .config()
                .circuit_breaker
                .as_ref()
                .unwrap()
                .isolation_duration,
        );
        let probe = scope.spawn(|| {
            bulkhead
                .call()
                .queue_timeout(Duration::from_secs(1))
                .run(|| ())
        });
        queued(&bulkhead, 1);
        assert!(breaker.is_half_open(), "the probe is out");
        assert!(
            bulkhead
                .try_run(|| ())
                .unwrap_err()
                .reason
                .is_circuit_open()
        );
        clock.advance(Duration::from_secs(1));
        let probe = probe.join().unwrap();
        assert!(probe.error().unwrap().is_timeout());
        let again = scope.spawn(|| bulkhead.run(|| ()));
        queued(&bulkhead, 1);
        inside.finish();
        assert!(again.join().unwrap().is_success());
        assert!(breaker.is_closed());
    });
    assert_idle(&bulkhead);
}

#[test]
fn both_kinds_share_a_circuit() {
    let storage = MemoryStorage::new();
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    let here = SemaphoreBulkhead::builder(config(1, 0).circuit_breaker(breaker.clone()))
        .circuit_storage(storage.clone())
        .build()
        .unwrap();
    let there = Bulkhead::builder(config(1, 0).circuit_breaker(breaker))
        .circuit_storage(storage)
        .build()
        .unwrap();
    assert!(there.execute(|| Err::<(), _>(())).wait().error().is_some());
    eventually("the other one knows", || {
        here.state() == BulkheadState::Isolated
    });
}
