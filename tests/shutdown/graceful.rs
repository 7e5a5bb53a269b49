//! `shutdown` runs the queued calls, joins the workers, and refuses every later call.

use std::fmt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadState, RejectReason};

use super::helpers::{eventually_no_threads_of, is_closed, is_shut_down, named};
use crate::support::{PATIENCE, assert_balanced, bulkhead, eventually, occupy, wait};

#[test]
fn shutdown_runs_what_is_queued_and_joins_the_workers() {
    let bulkhead = Bulkhead::new(named("all", 2, 10)).unwrap();
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..10).map(|i| bulkhead.run(move || i)).collect();
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        assert!(!ending.is_finished(), "two tasks still run");
        busy.gate.open();
        ending.join().unwrap()
    });
    assert_eq!(report.finished, 12);
    assert_eq!(report.cancelled, 0);
    assert_eq!(report.still_running, []);
    assert!(report.is_clean());
    for (i, handle) in queued.into_iter().enumerate() {
        assert!(handle.is_finished(), "shutdown has waited for it");
        assert_eq!(wait(handle).value(), Some(&i));
    }
    eventually_no_threads_of("all");
}

#[test]
fn an_idle_bulkhead_shuts_down_with_an_empty_report() {
    let bulkhead = Bulkhead::new(named("idle", 3, 3)).unwrap();
    bulkhead.run(|| ()).wait().into_result().unwrap();
    let report = bulkhead.shutdown();
    assert_eq!((report.finished, report.cancelled), (0, 0));
    assert!(report.is_clean());
    eventually_no_threads_of("idle");
}

#[test]
fn after_a_shutdown_every_form_of_call_is_refused() {
    let bulkhead = bulkhead(1, 1);
    let wrapped = bulkhead.wrap(|n: u32| Ok::<_, ()>(n));
    let _ = bulkhead.shutdown();

    assert!(is_shut_down(bulkhead.execute(|| Ok::<_, ()>(1))));
    assert!(is_shut_down(bulkhead.run(|| 1)));
    assert!(is_shut_down(bulkhead.call().operation("late").run(|| 1)));
    // A place to wait for will never come.
    let waiting = bulkhead.call().wait_for_capacity(Duration::MAX);
    assert!(is_shut_down(waiting.execute(|| Ok::<_, ()>(1))));
    let rejected = bulkhead.try_execute(|| Ok::<_, ()>(7)).unwrap_err();
    assert!(matches!(rejected.reason, RejectReason::ShutDown { .. }));
    assert_eq!((rejected.task)(), Ok(7));
    let timed = bulkhead.execute_with_timeout(Duration::MAX, || Ok::<_, fmt::Error>(1));
    let error = timed.error().expect("refused");
    assert!(error.is_rejected() && error.never_started());
    assert_eq!(error.to_string(), "bulkhead `test` is shut down");
    assert!(matches!(
        wrapped(1).error(),
        Some(BulkheadError::ShutDown { .. })
    ));

    let stats = bulkhead.stats();
    assert_eq!(stats.rejected_shut_down, 7);
    assert_eq!(stats.submitted_executions, 7);
    assert_balanced(&stats);
}

#[test]
fn a_bulkhead_that_is_shut_down_says_so() {
    let bulkhead = bulkhead(2, 3);
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    assert_eq!(bulkhead.available_capacity(), 5);
    let busy = occupy(&bulkhead, 1);
    let _ = bulkhead.shutdown_now();
    assert_eq!(bulkhead.state(), BulkheadState::ShutDown);
    assert!(!bulkhead.is_healthy());
    assert_eq!(bulkhead.available_capacity(), 0);
    assert_eq!(bulkhead.stats().state, BulkheadState::ShutDown);
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 0);
}

#[test]
fn a_running_task_can_see_that_its_bulkhead_shuts_down() {
    let bulkhead = bulkhead(1, 1);
    let (seen, sees) = mpsc::channel();
    let handle = bulkhead.run(move || {
        let call = bulkman::current().expect("inside a task");
        seen.send(call.is_shutting_down()).unwrap();
        eventually("shutting down", || call.is_shutting_down());
        // Nobody has cancelled this call.
        call.is_cancelled()
    });
    assert!(!sees.recv_timeout(PATIENCE).unwrap());
    let report = bulkhead.shutdown();
    assert_eq!(report.finished, 1);
    assert_eq!(wait(handle).value(), Some(&false));
}
