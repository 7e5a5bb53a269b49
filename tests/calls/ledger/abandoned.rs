//! Abandoned tasks: they run, and no caller waits for them.

use std::sync::mpsc;
use std::task::{Poll, Waker};

use bulkman::BulkheadError;

use super::helpers::with_breaker;
use crate::support;
use crate::support::{
    Gate, OpenOnDrop, SECOND, assert_balanced, bulkhead, eventually, occupy, poll_once,
};

#[test]
fn a_running_task_without_a_handle_is_abandoned_until_it_ends() {
    let bulkhead = bulkhead(2, 2);
    let busy = occupy(&bulkhead, 2);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
    let gate = busy.gate.clone();
    drop(busy.handles);
    // The gate's opener is still held.
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.abandoned_tasks, stats.active_tasks), (2, 2));
    gate.open();
    eventually("both end", || bulkhead.stats().abandoned_tasks == 0);
    eventually("both are counted", || {
        bulkhead.stats().successful_executions == 2
    });
    let wanted = occupy(&bulkhead, 2);
    assert_eq!(
        bulkhead.stats().abandoned_tasks,
        0,
        "those who run now are waited for"
    );
    wanted.finish();
}

#[test]
fn a_queued_task_without_a_handle_is_abandoned_once_it_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    drop(bulkhead.run(move || at_gate.pass()));
    assert_eq!(
        bulkhead.stats().abandoned_tasks,
        0,
        "nothing runs for nobody"
    );
    busy.finish();
    gate.wait_for_arrivals(1);
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    gate.open();
    eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
}

#[test]
fn a_task_whose_caller_ran_out_of_time_is_abandoned_until_it_ends() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_breaker(1, 1);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead.call().timeout(SECOND).run(move || at_gate.pass());
        gate.wait_for_arrivals(1);
        clock.advance(SECOND);
        let result = if awaited {
            let mut handle = handle;
            match poll_once(&mut handle, Waker::noop()) {
                Poll::Ready(result) => result,
                Poll::Pending => panic!("the limit has passed"),
            }
        } else {
            handle.wait()
        };
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ));
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.abandoned_tasks, stats.active_tasks), (1, 1));
        assert_eq!(stats.timed_out_executions, 0, "it has started");
        drop(opener);
        eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
        eventually("and counts", || bulkhead.stats().successful_executions == 1);
    }
}

#[test]
fn a_handle_that_is_dropped_after_the_end_abandons_nothing() {
    let bulkhead = bulkhead(1, 1);
    let (done, ends) = mpsc::channel();
    let handle = bulkhead.run(move || done.send(()).unwrap());
    ends.recv_timeout(support::PATIENCE).unwrap();
    eventually("finished", || handle.is_finished());
    drop(handle);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
}
