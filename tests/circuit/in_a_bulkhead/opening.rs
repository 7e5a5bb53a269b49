//! Opening: failures of the dependency open the circuit, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::{Bulkhead, BulkheadError, CircuitState, RejectReason};

use super::helpers::{build, circuit_of, fail, open, rules, succeed};
use crate::helpers::ISOLATION;
use crate::support::{Gate, OpenOnDrop, SECOND, assert_balanced, config, occupy, wait};

#[test]
fn it_opens_after_the_threshold_of_failures_in_a_row() {
    let (bulkhead, _clock) = build(config(2, 4));
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    succeed(&bulkhead);
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed, "not in a row");
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn while_open_no_body_runs_and_the_refusal_says_for_how_long() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(10 * SECOND);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..5 {
        let ran = Arc::clone(&ran);
        let result = wait(bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed)));
        match result.error() {
            Some(BulkheadError::CircuitOpen {
                bulkhead,
                retry_after,
                ..
            }) => {
                assert_eq!(&**bulkhead, "test");
                assert_eq!(*retry_after, 20 * SECOND);
            }
            other => panic!("not refused by the circuit: {other:?}"),
        }
    }
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert_eq!(
        bulkhead.available_capacity(),
        6,
        "refused calls take no place"
    );
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.rejected_circuit_open, 5);
    assert_eq!(stats.total_executions, 3);
}

#[test]
fn try_execute_gives_the_closure_back() {
    let (bulkhead, _clock) = build(config(2, 4));
    open(&bulkhead);
    let text = String::from("still mine");
    let rejected = bulkhead.try_execute(move || Ok::<_, ()>(text)).unwrap_err();
    assert_eq!(
        rejected.reason,
        RejectReason::CircuitOpen {
            bulkhead: "test".into(),
            retry_after: ISOLATION,
        }
    );
    assert_eq!((rejected.task)().unwrap(), "still mine");
}

#[test]
fn a_panic_is_a_failure() {
    let (bulkhead, _clock) = build(config(2, 4));
    for _ in 0..3 {
        let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("down")));
        assert!(!result.is_success());
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn refusals_cancels_and_queue_timeouts_are_no_failures() {
    let (bulkhead, clock) = build(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    for _ in 0..10 {
        assert!(bulkhead.run(|| ()).cancel());
        let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
        clock.advance(SECOND);
        assert!(matches!(
            expired.wait().error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        let out_of_time = bulkhead.call().timeout(SECOND).run(|| ());
        clock.advance(SECOND);
        assert!(matches!(
            out_of_time.wait().error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
    }
    busy.finish();
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn they_do_not_end_a_run_of_failures_either() {
    let (bulkhead, clock) = build(config(1, 1));
    fail(&bulkhead);
    fail(&bulkhead);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let third = {
        let gate = gate.clone();
        bulkhead.execute(move || {
            gate.pass();
            Err::<(), _>("down")
        })
    };
    gate.wait_for_arrivals(1);
    assert!(bulkhead.run(|| ()).cancel());
    let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
    assert!(wait(bulkhead.run(|| ())).error().unwrap().is_rejected());
    clock.advance(SECOND);
    assert!(expired.wait().error().unwrap().is_timeout());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    drop(opener);
    assert!(third.wait().error().is_some());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn failure_if_says_which_errors_count() {
    let (bulkhead, _clock) = build(config(1, 1));
    let call = |error: u16| {
        let handle = bulkhead
            .call()
            .failure_if(|code: &u16| *code >= 500)
            .execute(move || Err::<(), _>(error));
        assert!(wait(handle).error().is_some());
    };
    for _ in 0..10 {
        call(404);
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    call(503);
    call(404); // neutral: it does not end the run
    call(503);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    call(503);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    assert_eq!(
        bulkhead.stats().failed_executions,
        14,
        "the ledger counts all"
    );
}

#[test]
fn an_error_whose_judge_panics_is_a_failure_and_reaches_the_caller() {
    let (bulkhead, _clock) = build(config(1, 1));
    for _ in 0..3 {
        let handle = bulkhead
            .call()
            .failure_if(|_: &&str| panic!("no opinion"))
            .execute(|| Err::<(), _>("own"));
        let result = wait(handle);
        assert!(matches!(result.error(), Some(BulkheadError::Failed("own"))));
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    assert_eq!(bulkhead.stats().panicked_executions, 0);
}

#[test]
fn by_share_of_failures() {
    let rules = rules().failure_rate(0.5, 4);
    let bulkhead = Bulkhead::new(config(1, 1).circuit_breaker(rules)).unwrap();
    fail(&bulkhead);
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::Closed,
        "too few to judge"
    );
    succeed(&bulkhead);
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::Open,
        "the success fills the window, and three of four have failed"
    );
}
