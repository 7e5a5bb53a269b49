//! Shutting down: every call is refused or gets its outcome, and the drop waits for calls inside.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{
    BulkheadError, BulkheadEvent, BulkheadState, CircuitBreakerConfig, CircuitState, ManualClock,
    SemaphoreBulkhead,
};

use super::helpers::{Inside, assert_idle, queued, semaphore};
use crate::support::{Gate, OpenOnDrop, config, eventually, in_time};

/// G8.
#[test]
fn shutdown_lets_everybody_finish_and_refuses_the_rest() {
    let bulkhead = semaphore(1, 2);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| bulkhead.run(|| ())))
            .collect();
        queued(&bulkhead, 2);
        let reports: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| bulkhead.shutdown()))
            .collect();
        eventually("it is closed", || {
            bulkhead.state() == BulkheadState::ShutDown
        });
        assert!(bulkhead.try_run(|| ()).unwrap_err().reason.is_shut_down());
        assert_eq!(bulkhead.available_capacity(), 0);
        inside.finish();
        assert!(
            waiting
                .into_iter()
                .all(|call| call.join().unwrap().is_success())
        );
        for report in reports {
            let report = report.join().unwrap();
            assert!(report.is_clean(), "{report:?}");
            assert!(report.finished <= 3);
        }
    });
    assert!(bulkhead.shutdown().is_clean());
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.successful_executions, stats.rejected_shut_down),
        (3, 1)
    );
    assert_idle(&bulkhead);
}

/// G8: the shutdown returns by its limit, callers in line are told, and the report names the running task.
#[test]
fn shutdown_with_a_limit_cancels_those_in_line() {
    for at_once in [true, false] {
        let bulkhead = semaphore(1, 2);
        let gate = Gate::new();
        thread::scope(|scope| {
            let _opener = OpenOnDrop(gate.clone());
            let running = scope.spawn(|| bulkhead.call().operation("slow").run(|| gate.pass()));
            gate.wait_for_arrivals(1);
            let waiting: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| bulkhead.run(|| ())))
                .collect();
            queued(&bulkhead, 2);
            let report = if at_once {
                bulkhead.shutdown_now()
            } else {
                bulkhead.shutdown_timeout(Duration::from_millis(5))
            };
            assert_eq!(report.finished, 0);
            // One that is counted as queued may only be on its way to the line; it then cancels itself.
            assert!(report.cancelled <= 2);
            let [left] = &report.still_running[..] else {
                panic!("{report:?}");
            };
            assert_eq!(left.operation.as_deref(), Some("slow"));
            for call in waiting {
                let result = call.join().unwrap();
                assert_eq!(
                    result.error().unwrap().to_string(),
                    "bulkhead `test`: the call was cancelled in the queue by a shutdown; the task never started"
                );
            }
            gate.open();
            let result = running.join().unwrap();
            assert!(result.is_success());
            assert_eq!(result.execution_id, left.execution_id);
        });
        assert_eq!(bulkhead.stats().cancelled_executions, 2);
        assert_idle(&bulkhead);
    }
}

/// G8: it had a place, and its turn was free, but it came to it after the shutdown, which could not name it.
#[test]
fn a_call_on_its_way_to_a_free_turn_never_starts_after_a_shutdown_that_cancels() {
    for at_once in [true, false] {
        let gate = Gate::new();
        let at_the_circuit = gate.clone();
        let clock = ManualClock::new();
        let breaker = CircuitBreakerConfig::default();
        let isolation = breaker.isolation_duration;
        let bulkhead = SemaphoreBulkhead::builder(config(1, 0).circuit_breaker(breaker))
            .clock(clock.clone())
            .listener(move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::CircuitChanged { change, .. } = event {
                    if change.to == CircuitState::HalfOpen {
                        at_the_circuit.pass();
                    }
                }
            })
            .build()
            .unwrap();
        bulkhead.circuit_breaker().unwrap().trip();
        clock.advance(isolation);
        thread::scope(|scope| {
            let _opener = OpenOnDrop(gate.clone());
            let late = scope.spawn(|| bulkhead.run(|| ()));
            gate.wait_for_arrivals(1);
            let report = if at_once {
                bulkhead.shutdown_now()
            } else {
                bulkhead.shutdown_timeout(Duration::ZERO)
            };
            assert!(report.is_clean(), "{report:?}");
            gate.open();
            assert!(matches!(
                late.join().unwrap().error(),
                Some(BulkheadError::Cancelled {
                    by_shutdown: true,
                    ..
                })
            ));
        });
        let stats = bulkhead.stats();
        assert_eq!((stats.cancelled_executions, stats.total_executions), (1, 0));
        assert_idle(&bulkhead);
    }
}

#[test]
fn a_task_that_shuts_its_bulkhead_down_does_not_wait_for_itself() {
    let bulkhead = semaphore(1, 1);
    let report = in_time(move || {
        let report = bulkhead.run(|| {
            assert!(!bulkman::current().unwrap().is_shutting_down());
            let report = bulkhead.shutdown();
            assert!(bulkman::current().unwrap().is_shutting_down());
            assert!(bulkhead.run(|| ()).error().unwrap().is_rejected());
            report
        });
        assert!(bulkhead.shutdown().is_clean());
        report.into_result().unwrap()
    });
    assert_eq!(report.still_running.len(), 1);
}

#[test]
fn the_last_reference_may_go_inside_a_task() {
    in_time(|| {
        let bulkhead = Arc::new(semaphore(1, 1));
        let wrapped = bulkhead.wrap(|inside: Option<Arc<SemaphoreBulkhead>>| {
            drop(inside);
            Ok::<_, ()>(())
        });
        assert!(wrapped(Some(bulkhead)).is_success());
        assert!(matches!(
            wrapped(None).error(),
            Some(BulkheadError::ShutDown { .. })
        ));
    });
}

/// Dropping waits for calls that came through a wrapped function.
#[test]
fn dropping_waits_for_wrapped_calls() {
    let bulkhead = semaphore(1, 0);
    let gate = Gate::new();
    let wrapped = bulkhead.wrap(|gate: Gate| {
        gate.pass();
        Ok::<_, ()>(())
    });
    let _opener = OpenOnDrop(gate.clone());
    let calling = {
        let (wrapped, gate) = (wrapped.clone(), gate.clone());
        thread::spawn(move || wrapped(gate).is_success())
    };
    gate.wait_for_arrivals(1);
    let dropping = thread::spawn(move || drop(bulkhead));
    eventually("it is closed", || {
        wrapped(gate.clone())
            .error()
            .is_some_and(|error| matches!(error, BulkheadError::ShutDown { .. }))
    });
    assert!(!dropping.is_finished());
    gate.open();
    dropping.join().unwrap();
    assert!(calling.join().unwrap());
}
