//! Every outcome is counted exactly, before its caller can see it.

use std::sync::Arc;

use bulkman::{BulkheadState, CircuitState};

use super::helpers::{every_outcome, with_breaker};
use crate::support::{assert_balanced, bulkhead, occupy, wait};

#[test]
fn a_new_bulkhead_starts_at_zero() {
    let stats = bulkhead(3, 4).stats();
    assert_balanced(&stats);
    assert_eq!(&*stats.name, "test");
    assert_eq!((stats.max_concurrent_calls, stats.max_queue_size), (3, 4));
    assert_eq!((stats.submitted_executions, stats.in_flight), (0, 0));
    assert!(!stats.circuit_breaker_enabled);
    assert_eq!(stats.circuit_state, None);
    assert_eq!((stats.queue_wait.count(), stats.run_time.count()), (0, 0));
}

#[test]
fn every_outcome_has_its_own_number() {
    let (bulkhead, clock) = with_breaker(2, 2);
    every_outcome(&bulkhead, &clock);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.successful_executions, 6);
    assert_eq!(stats.failed_executions, 2);
    assert_eq!(stats.panicked_executions, 1);
    assert_eq!(stats.total_executions, 9);
    assert_eq!(stats.cancelled_executions, 1);
    assert_eq!(stats.timed_out_executions, 2);
    assert_eq!(stats.caller_timeouts_queued, 1);
    assert_eq!(stats.caller_timeouts_started, 0);
    assert_eq!(stats.rejected_full, 2);
    assert_eq!(stats.rejected_circuit_open, 1);
    assert_eq!(stats.rejected_shut_down, 0);
    assert_eq!(stats.rejected_executions, 3);
    assert_eq!(stats.submitted_executions, 15);
    assert_eq!((stats.queued_tasks, stats.active_tasks), (0, 0));
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0));
    assert!(stats.circuit_breaker_enabled);
    assert_eq!(stats.circuit_state, Some(CircuitState::Closed));
    assert_eq!(stats.queue_wait.count(), 9, "of calls that started");
    assert_eq!(stats.run_time.count(), 9);

    let _ = bulkhead.shutdown();
    assert!(!wait(bulkhead.run(|| ())).is_success());
    let after = bulkhead.stats();
    assert_balanced(&after);
    assert_eq!(after.rejected_shut_down, 1);
    assert_eq!(after.submitted_executions, 16);
    assert_eq!(
        after.successful_executions, 6,
        "numbers outlive the workers"
    );
}

#[test]
fn calls_in_flight_are_queued_or_active() {
    let bulkhead = bulkhead(2, 3);
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..3).map(|_| bulkhead.run(|| ())).collect();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 3));
    assert_eq!((stats.in_flight, stats.total_executions), (5, 2));
    assert_eq!(stats.submitted_executions, 5);
    assert!(queued[0].cancel());
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 2));
    busy.finish();
}

#[test]
fn a_call_that_its_waiter_runs_itself_has_started_and_is_not_active() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let inner = Arc::clone(&bulkhead);
    let outer = bulkhead.run(move || {
        let within = Arc::clone(&inner);
        inner.run(move || within.stats()).wait()
    });
    let stats = wait(outer).into_result().unwrap().into_result().unwrap();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 1));
    assert_eq!(stats.total_executions, 2);
    let after = bulkhead.stats();
    assert_eq!((after.in_flight, after.total_executions), (0, 2));
    // A call that only waits has not started.
    let busy = occupy(&bulkhead, 1);
    let waiting = bulkhead.run(|| ());
    assert_eq!(bulkhead.stats().total_executions, 3);
    busy.finish();
    assert!(wait(waiting).is_success());
}

#[test]
fn the_sum_in_one_line() {
    let (bulkhead, clock) = with_breaker(2, 2);
    every_outcome(&bulkhead, &clock);
    let text = "bulkhead `test` is healthy: 15 submitted = 3 rejected + 0 refused in queue + 1 cancelled + 2 timed out + 6 successful \
                + 2 failed + 1 panicked + 0 queued + 0 active";
    assert_eq!(bulkhead.stats().to_string(), text);
    for (state, text) in [
        (BulkheadState::Degraded, "degraded"),
        (BulkheadState::Isolated, "isolated"),
        (BulkheadState::ShutDown, "shut down"),
    ] {
        assert_eq!(state.to_string(), text);
    }
}

#[test]
fn who_has_seen_an_outcome_finds_it_counted() {
    let bulkhead = bulkhead(2, 8);
    for i in 1..=2_000 {
        assert!(bulkhead.run(|| ()).wait().is_success());
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, i);
        assert_eq!(stats.submitted_executions, i);
        assert_eq!(stats.in_flight, 0);
    }
}
