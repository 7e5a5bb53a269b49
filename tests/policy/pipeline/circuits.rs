//! Circuits in a pipeline: the bulkhead's own, and a layer.

use std::sync::Arc;

use bulkman::policy::{LayerKind, PipelineError};
use bulkman::{
    BulkheadConfig, BulkheadError, CircuitBreaker, CircuitBreakerConfig, ManualClock, current,
};

use super::helpers::{flaky, pipeline, retry, semaphore, threads};
use crate::support::{Gate, OpenOnDrop, SECOND, eventually, in_time, seconds, wait};

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(seconds(30))
}

fn breaker(clock: &ManualClock) -> Arc<CircuitBreaker> {
    layer(rules(), clock)
}

fn layer(rules: CircuitBreakerConfig, clock: &ManualClock) -> Arc<CircuitBreaker> {
    let builder = CircuitBreaker::builder("users", rules).clock(clock.clone());
    Arc::new(builder.build().unwrap())
}

#[test]
fn each_attempt_counts_and_an_open_circuit_is_waited_for() {
    let clock = ManualClock::new();
    let config = BulkheadConfig::new("users").circuit_breaker(rules());
    let bulkhead = threads(config, &clock);
    let pipeline = pipeline(&clock)
        .retry(retry(4, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let (task, calls) = flaky(3);
    let began = clock.now();
    let result = pipeline.execute(task);
    // Two failures open it; the third attempt is refused, and the fourth a probe.
    assert_eq!((result.attempts, result.value()), (4, Some(&3)));
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 3);
    assert!(clock.now() - began >= seconds(30));
    assert!(bulkhead.circuit_breaker().unwrap().is_closed());
}

#[test]
fn a_circuit_as_a_layer_counts_as_a_bulkheads_own() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let bulkhead = threads(
        BulkheadConfig::new("users")
            .max_concurrent_calls(1)
            .max_queue_size(0),
        &clock,
    );
    let pipeline = pipeline(&clock)
        .circuit_breaker(Arc::clone(&breaker))
        .timeout(SECOND)
        .bulkhead(&bulkhead)
        .failure_if(|error| *error != "not found")
        .build()
        .unwrap();
    let failures = || breaker.stats().failures;

    assert!(!pipeline.execute(|| Err::<(), _>("not found")).is_success());
    assert_eq!(failures(), 0, "an error that the predicate ignores");

    let gate = Gate::new();
    let open = OpenOnDrop(gate.clone());
    let running = bulkhead.run(move || gate.pass());
    assert!(!pipeline.execute(|| Ok(())).is_success());
    assert_eq!(failures(), 0, "a call that never started");
    drop(open);
    running.wait().into_result().unwrap();

    let panicked = pipeline.execute(|| -> Result<(), _> { panic!("a task") });
    assert!(!panicked.is_success());
    assert_eq!(failures(), 1, "a panic");

    let gate = Gate::new();
    let open = OpenOnDrop(gate.clone());
    let (hand, inside) = (clock.clone(), pipeline.clone());
    let late = in_time(move || {
        inside.execute(move || {
            hand.advance(SECOND);
            gate.pass();
            Ok(())
        })
    });
    assert_eq!(late.decided_by, LayerKind::Timeout);
    drop(open);
    assert!(breaker.is_open(), "a limit that passed while the task ran");

    let refused = pipeline.execute(|| Ok(()));
    assert_eq!(refused.decided_by, LayerKind::Circuit);
    match refused.into_result() {
        Err(PipelineError::CircuitOpen(open)) => assert_eq!(open.retry_after, seconds(30)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_predicate_serves_the_bulkheads_circuit_too() {
    let clock = ManualClock::new();
    let config = BulkheadConfig::new("users").circuit_breaker(rules());
    let bulkhead = threads(config, &clock);
    let pipeline = pipeline(&clock)
        .bulkhead(&bulkhead)
        .failure_if(|error| *error != "not found")
        .build()
        .unwrap();
    for _ in 0..5 {
        assert!(!pipeline.execute(|| Err::<(), _>("not found")).is_success());
    }
    assert!(bulkhead.circuit_breaker().unwrap().is_closed());
    for _ in 0..2 {
        assert!(!pipeline.execute(|| Err::<(), _>("down")).is_success());
    }
    let refused = pipeline.execute(|| Ok(()));
    assert!(matches!(
        refused.error(),
        Some(PipelineError::Call(BulkheadError::CircuitOpen { .. }))
    ));
    assert_eq!(refused.decided_by, LayerKind::Bulkhead);
}

/// A call whose limit passes while its task runs in the caller's thread, and how many failures a layer counts.
fn after_a_late_call(rules: CircuitBreakerConfig, with_bulkhead: bool) -> usize {
    let clock = ManualClock::new();
    let breaker = layer(rules, &clock);
    let builder = pipeline(&clock)
        .timeout(SECOND)
        .circuit_breaker(Arc::clone(&breaker));
    let task = || {
        clock.advance(SECOND);
        Ok("late")
    };
    let result = if with_bulkhead {
        let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
        builder.bulkhead(&bulkhead).build().unwrap().execute(task)
    } else {
        builder.build().unwrap().execute(task)
    };
    assert_eq!(result.value(), Some(&"late"));
    breaker.stats().failures
}

#[test]
fn a_limit_that_passes_in_the_callers_thread_is_a_failure() {
    for with_bulkhead in [true, false] {
        assert_eq!(after_a_late_call(rules(), with_bulkhead), 1);
        let rules = rules().timeouts_are_failures(false);
        assert_eq!(after_a_late_call(rules, with_bulkhead), 0);
    }
}

#[test]
fn a_task_left_on_its_worker_counts_for_nothing_where_timeouts_are_no_failures() {
    for (are_failures, expected) in [(true, 1), (false, 0)] {
        let clock = ManualClock::new();
        let breaker = layer(rules().timeouts_are_failures(are_failures), &clock);
        let bulkhead = threads(BulkheadConfig::new("users"), &clock);
        let pipeline = pipeline(&clock)
            .timeout(SECOND)
            .circuit_breaker(Arc::clone(&breaker))
            .bulkhead(&bulkhead)
            .build()
            .unwrap();
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let late = in_time(move || {
            pipeline.execute(move || {
                clock.advance(SECOND);
                gate.pass();
                Ok(())
            })
        });
        assert_eq!(late.decided_by, LayerKind::Timeout);
        assert_eq!(breaker.stats().failures, expected);
    }
}

#[test]
fn a_cancelled_attempt_is_neutral_if_the_circuit_says_so() {
    for (are_neutral, expected) in [(true, 0), (false, 1)] {
        let clock = ManualClock::new();
        let breaker = layer(rules().cancelled_calls_are_neutral(are_neutral), &clock);
        let bulkhead = threads(BulkheadConfig::new("users"), &clock);
        let pipeline = pipeline(&clock)
            .circuit_breaker(Arc::clone(&breaker))
            .bulkhead(&bulkhead)
            .build()
            .unwrap();
        let outer = threads(BulkheadConfig::new("outer"), &clock);
        let handle = outer.run(move || {
            let result = pipeline.execute(|| {
                while !current().unwrap().is_cancelled() {
                    std::thread::yield_now();
                }
                Err::<(), _>("cancelled")
            });
            result.is_success()
        });
        eventually("it runs", || bulkhead.stats().active_tasks == 1);
        handle.cancel();
        assert_eq!(wait(handle).value(), Some(&false));
        assert_eq!(breaker.stats().failures, expected);
    }
}
