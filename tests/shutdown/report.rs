//! The report of a shutdown: the numbers of finished and cancelled calls, and the tasks that still run.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, ShutdownReport};

use super::helpers::is_closed;
use crate::support::{Gate, OpenOnDrop, bulkhead, config, eventually, occupy, wait, with_clock};

#[test]
fn a_report_names_every_task_that_still_runs() {
    let bulkhead = bulkhead(3, 0);
    let busy = occupy(&bulkhead, 3);
    let report = bulkhead.shutdown_now();
    let reported: HashSet<_> = report
        .still_running
        .iter()
        .map(|t| t.execution_id)
        .collect();
    let running: HashSet<_> = busy.handles.iter().map(|h| h.execution_id()).collect();
    assert_eq!(reported, running);
    assert_eq!(report.still_running.len(), 3);
    assert!(report.still_running.iter().all(|t| t.operation.is_none()));
    busy.finish();
}

#[test]
fn running_for_goes_by_the_bulkheads_clock() {
    let (bulkhead, clock) = with_clock(config(1, 0));
    // The task begins some time after its bulkhead.
    clock.advance(Duration::from_secs(20));
    let busy = occupy(&bulkhead, 1);
    clock.advance(Duration::from_secs(90));
    let report = bulkhead.shutdown_now();
    assert_eq!(report.still_running[0].running_for, Duration::from_secs(90));
    busy.finish();
}

#[test]
fn the_report_counts_what_finished_during_the_shutdown_only() {
    let bulkhead = bulkhead(1, 4);
    for _ in 0..5 {
        bulkhead.run(|| ()).wait().into_result().unwrap();
    }
    let busy = occupy(&bulkhead, 1);
    let fails = bulkhead.execute(|| Err::<(), _>("no"));
    let panics = bulkhead.run(|| panic!("no"));
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        busy.gate.open();
        ending.join().unwrap()
    });
    assert_eq!(report.finished, 3);
    let failed = wait(fails);
    assert!(matches!(failed.error(), Some(BulkheadError::Failed("no"))));
    let panicked: bulkman::ExecutionResult<(), _> = wait(panics);
    assert!(matches!(panicked.error(), Some(BulkheadError::Panicked(_))));
}

#[test]
fn a_report_is_clean_without_cancels_and_without_what_runs_on() {
    let mut report = ShutdownReport::default();
    assert!(report.is_clean());
    report.cancelled = 1;
    assert!(!report.is_clean());
}

#[test]
fn a_report_names_a_call_whose_listener_still_runs() {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let slow = gate.clone();
    let bulkhead = Bulkhead::builder(config(1, 0))
        .listener(move |event: &BulkheadEvent<'_>| {
            if matches!(event, BulkheadEvent::Finished { .. }) {
                slow.pass();
            }
        })
        .build()
        .unwrap();
    let handle = bulkhead.call().operation("slow to tell").run(|| ());
    gate.wait_for_arrivals(1);
    let report = bulkhead.shutdown_now();
    assert!(!handle.is_finished());
    assert_eq!(report.still_running.len(), 1);
    assert_eq!(
        report.still_running[0].operation.as_deref(),
        Some("slow to tell")
    );
    drop(opener);
    assert!(wait(handle).is_success());
}
