//! Several shutdowns of one bulkhead, one after the other and at the same time.

use std::cell::RefCell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use bulkman::ExecutionHandle;

use super::helpers::{is_cancelled_by_shutdown, is_closed};
use crate::support::{Gate, OpenOnDrop, SlowDrop, bulkhead, eventually, occupy, wait};

#[test]
fn shutting_down_twice_reports_nothing_new() {
    let bulkhead = bulkhead(2, 2);
    let busy = occupy(&bulkhead, 2);
    let queued = bulkhead.run(|| ());
    assert_eq!(bulkhead.shutdown_now().cancelled, 1);
    let again = bulkhead.shutdown_now();
    assert_eq!((again.finished, again.cancelled), (0, 0));
    assert_eq!(again.still_running.len(), 2);
    assert!(is_cancelled_by_shutdown(queued));
    busy.finish();
    assert!(bulkhead.shutdown().is_clean());
    assert!(bulkhead.shutdown_timeout(Duration::ZERO).is_clean());
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn several_threads_may_shut_down_at_once() {
    for round in 0..50 {
        let bulkhead = bulkhead(2, 4);
        let handles: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    let report = bulkhead.shutdown();
                    assert!(report.is_clean(), "round {round}: {report:?}");
                });
            }
        });
        assert!(handles.iter().all(ExecutionHandle::is_finished));
        assert_eq!(bulkhead.stats().successful_executions, 4);
    }
}

#[test]
fn shutdown_now_cuts_short_a_shutdown_that_is_under_way() {
    let bulkhead = bulkhead(1, 3);
    let busy = occupy(&bulkhead, 1);
    let queued: Vec<_> = (0..3).map(|i| bulkhead.run(move || i)).collect();
    thread::scope(|scope| {
        let patient = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        let now = bulkhead.shutdown_now();
        assert_eq!(now.cancelled, 3);
        assert_eq!(now.still_running.len(), 1);
        assert!(
            !patient.is_finished(),
            "it still waits for the one that runs"
        );
        busy.gate.open();
        let report = patient.join().unwrap();
        assert_eq!(report.finished, 1);
        assert_eq!(
            report.cancelled, 3,
            "the end of the same bulkhead, told to both"
        );
    });
    assert!(queued.into_iter().all(is_cancelled_by_shutdown));
}

thread_local!(static SLOW_END: RefCell<Option<SlowDrop>> = const { RefCell::new(None) });

#[test]
fn every_one_of_several_shutdowns_waits_until_the_threads_are_gone() {
    let bulkhead = bulkhead(1, 0);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let at_the_end = gate.clone();
    wait(bulkhead.run(move || SLOW_END.set(Some(SlowDrop(at_the_end)))))
        .into_result()
        .unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| bulkhead.shutdown());
        gate.wait_for_arrivals(1);
        let second = scope.spawn(|| bulkhead.shutdown());
        // The thread cannot go before the gate opens, so there is nothing else to wait for.
        for _ in 0..2_000 {
            thread::park_timeout(Duration::from_micros(50));
            assert!(!first.is_finished());
            assert!(!second.is_finished(), "a worker thread is still there");
        }
        gate.open();
    });
}
