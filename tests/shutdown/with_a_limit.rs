//! `shutdown_timeout` and `shutdown_now` cancel the queued calls and leave the running tasks alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, ShutdownReport};

use super::helpers::{is_cancelled_by_shutdown, is_closed};
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, eventually, occupy, wait,
};

/// Ends a bulkhead that runs one task and has three queued.
fn end_with_one_running(end: impl FnOnce(&Bulkhead) -> ShutdownReport) {
    let bulkhead = bulkhead(1, 3);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let running = {
        let gate = gate.clone();
        bulkhead.call().operation("export").run(move || {
            gate.pass();
            "delivered"
        })
    };
    gate.wait_for_arrivals(1);
    let ran = Arc::new(AtomicUsize::new(0));
    let queued: Vec<_> = (0..3)
        .map(|_| {
            let ran = Arc::clone(&ran);
            bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed))
        })
        .collect();

    let report = end(&bulkhead);

    assert_eq!(report.finished, 0);
    assert_eq!(report.cancelled, 3);
    assert!(!report.is_clean());
    let [still] = &report.still_running[..] else {
        panic!("one task is running: {report:?}");
    };
    assert_eq!(still.execution_id, running.execution_id());
    assert_eq!(still.operation.as_deref(), Some("export"));
    for handle in queued {
        assert!(handle.is_finished());
        assert!(is_cancelled_by_shutdown(handle));
    }
    assert!(!running.is_finished());
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.cancelled_executions, stats.active_tasks), (3, 1));

    drop(opener);
    assert_eq!(wait(running).value(), Some(&"delivered"));
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn at_its_deadline_a_shutdown_cancels_what_is_queued_and_leaves_what_runs() {
    end_with_one_running(|bulkhead| bulkhead.shutdown_timeout(Duration::from_millis(5)));
}

#[test]
fn a_limit_of_zero_is_a_deadline_that_has_passed() {
    end_with_one_running(|bulkhead| bulkhead.shutdown_timeout(Duration::ZERO));
}

#[test]
fn shutdown_now_cancels_what_is_queued_and_leaves_what_runs() {
    end_with_one_running(Bulkhead::shutdown_now);
}

#[test]
fn shutdown_timeout_that_is_long_enough_runs_everything() {
    for limit in [PATIENCE, Duration::MAX] {
        let bulkhead = bulkhead(2, 5);
        let busy = occupy(&bulkhead, 2);
        let queued: Vec<_> = (0..5).map(|i| bulkhead.run(move || i)).collect();
        let report = thread::scope(|scope| {
            let ending = scope.spawn(|| bulkhead.shutdown_timeout(limit));
            eventually("closed", || is_closed(&bulkhead));
            busy.gate.open();
            ending.join().unwrap()
        });
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.finished, 7);
        assert!(queued.into_iter().all(|handle| wait(handle).is_success()));
    }
}
