//! A shutdown that reports no running task is right: no task starts after it, although a thread was about to start one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Gate, OpenOnDrop, assert_balanced, config, eventually, occupy, wait};
use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, CircuitBreaker, CircuitBreakerConfig,
    CircuitState, SemaphoreBulkhead,
};

/// Calls that were queued when the circuit opened become probes when their turn comes.
fn with_circuit() -> BulkheadConfig {
    config(1, 1).circuit_breaker(
        CircuitBreakerConfig::default()
            .success_threshold(1)
            .isolation_duration(Duration::ZERO),
    )
}

/// Stops a thread at the gate just when its queued call becomes a probe: it has looked whether the call may start.
fn stops_at(gate: &Gate) -> impl Fn(&BulkheadEvent<'_>) + Send + Sync + 'static {
    let gate = gate.clone();
    move |event| {
        if let BulkheadEvent::CircuitChanged { change, .. } = event {
            if change.to == CircuitState::HalfOpen {
                gate.pass();
            }
        }
    }
}

fn assert_cancelled<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: &bulkman::ExecutionResult<T, E>,
) {
    let by_shutdown = matches!(
        result.error(),
        Some(BulkheadError::Cancelled {
            by_shutdown: true,
            ..
        })
    );
    assert!(by_shutdown, "{result:?}");
}

fn assert_no_turn_is_lost(breaker: &CircuitBreaker) {
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn a_worker_that_is_held_up_does_not_start_its_call_afterwards() {
    let gate = Gate::new();
    let built = Bulkhead::builder(with_circuit()).listener(stops_at(&gate));
    let bulkhead = built.build().unwrap();
    let opener = OpenOnDrop(gate.clone());
    let busy = occupy(&bulkhead, 1);
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ran);
    let queued = bulkhead.run(move || counter.fetch_add(1, Ordering::SeqCst));
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    busy.finish();
    gate.wait_for_arrivals(1);
    let report = bulkhead.shutdown_now();
    assert!(report.still_running.is_empty(), "{report:?}");
    drop(opener);
    assert_cancelled(&wait(queued));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_no_turn_is_lost(breaker);
    assert_balanced(&bulkhead.stats());
}

#[test]
fn a_caller_that_is_held_up_does_not_run_its_call_afterwards() {
    let gate = Gate::new();
    let built = SemaphoreBulkhead::builder(with_circuit()).listener(stops_at(&gate));
    let bulkhead = built.build().unwrap();
    let opener = OpenOnDrop(gate.clone());
    let ends = Gate::new();
    let ender = OpenOnDrop(ends.clone());
    let ran = AtomicUsize::new(0);
    let breaker = bulkhead.circuit_breaker().unwrap();
    thread::scope(|scope| {
        let busy = scope.spawn(|| bulkhead.run(|| ends.pass()));
        ends.wait_for_arrivals(1);
        let in_line = scope.spawn(|| bulkhead.run(|| ran.fetch_add(1, Ordering::SeqCst)));
        // A call that is counted as queued may be about to take the slot without a wait.
        eventually("it waits in line", || {
            bulkhead.stats().longest_queued.is_some()
        });
        breaker.trip();
        drop(ender);
        gate.wait_for_arrivals(1);
        assert!(busy.join().unwrap().is_success());
        let report = bulkhead.shutdown_now();
        assert!(report.still_running.is_empty(), "{report:?}");
        drop(opener);
        assert_cancelled(&in_line.join().unwrap());
    });
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_no_turn_is_lost(breaker);
    assert_balanced(&bulkhead.stats());
}
