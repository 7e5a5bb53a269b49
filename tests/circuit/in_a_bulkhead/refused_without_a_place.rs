//! A call that an open circuit refuses takes no place, not even for a moment.

use std::thread;
use std::time::Duration;

use crate::support::{assert_balanced, config, occupy};
use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreakerConfig, ManualClock, RejectReason, SemaphoreBulkhead,
};

fn with_circuit(n: usize, q: usize) -> BulkheadConfig {
    config(n, q).circuit_breaker(CircuitBreakerConfig::default())
}

fn refusal(bulkhead: &Bulkhead) -> RejectReason {
    match bulkhead.try_run(|| ()) {
        Ok(_) => panic!("the circuit is open"),
        Err(rejected) => rejected.reason,
    }
}

#[test]
fn an_open_circuit_refuses_before_a_full_bulkhead_does() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(with_circuit(1, 0))
        .clock(clock.clone())
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(Duration::from_secs(10));
    let RejectReason::CircuitOpen { retry_after, .. } = refusal(&bulkhead) else {
        panic!("the circuit goes first");
    };
    assert_eq!(retry_after, Duration::from_secs(20));
    let waiting = bulkhead.call().wait_for_capacity(Duration::MAX);
    let rejected = waiting.try_run(|| ()).expect_err("the circuit is open");
    assert!(
        rejected.reason.is_circuit_open(),
        "and nobody waits for a place"
    );
    busy.finish();
}

#[test]
fn a_shutdown_goes_before_an_open_circuit() {
    let bulkhead = Bulkhead::new(with_circuit(1, 0)).unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    bulkhead.shutdown();
    assert!(refusal(&bulkhead).is_shut_down());
    let semaphore = SemaphoreBulkhead::new(with_circuit(1, 0)).unwrap();
    semaphore.circuit_breaker().unwrap().trip();
    semaphore.shutdown();
    let rejected = semaphore.try_run(|| ()).expect_err("it is shut down");
    assert!(rejected.reason.is_shut_down());
}

#[test]
fn of_many_callers_none_hears_full() {
    // Its clock stands still, so that the isolation lasts however long the calls take.
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(with_circuit(1, 0)).clock(clock.clone());
    let bulkhead = bulkhead.build().unwrap();
    let semaphore = SemaphoreBulkhead::builder(with_circuit(1, 0)).clock(clock);
    let semaphore = semaphore.build().unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    semaphore.circuit_breaker().unwrap().trip();
    const CALLS: u64 = 10_000;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let reason = refusal(&bulkhead);
                    assert!(reason.is_circuit_open(), "{reason}");
                    let rejected = semaphore.try_run(|| ()).expect_err("it is open");
                    assert!(rejected.reason.is_circuit_open(), "{rejected}");
                }
            });
        }
        for _ in 0..1_000 {
            assert_eq!(bulkhead.available_capacity(), 1);
            assert_eq!(semaphore.available_capacity(), 1);
            assert_balanced(&bulkhead.stats());
            assert_balanced(&semaphore.stats());
        }
    });
    for stats in [bulkhead.stats(), semaphore.stats()] {
        assert_balanced(&stats);
        assert_eq!(stats.rejected_circuit_open, 4 * CALLS);
        assert_eq!(stats.submitted_executions, 4 * CALLS);
    }
    // A refused call is not taken off those that hold a place.
    bulkhead.circuit_breaker().unwrap().reset();
    let busy = occupy(&bulkhead, 1);
    let stats = bulkhead.stats();
    assert_eq!((stats.active_tasks, stats.in_flight), (1, 1));
    assert_eq!(stats.submitted_executions, 4 * CALLS + 1);
    busy.finish();
}
