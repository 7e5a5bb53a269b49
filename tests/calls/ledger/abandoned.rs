//! Abandoned tasks: they run, and no caller waits for them.

use std::sync::mpsc;
use std::task::{Poll, Waker};

use bulkman::BulkheadError;

use super::helpers::with_breaker;
use crate::support;
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, assert_balanced, at_a_gate, bulkhead, config, eventually,
    occupy, poll_once, with_clock,
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

#[test]
fn the_oldest_abandoned_task_is_the_one_that_has_been_running_longest_without_a_caller() {
    let (bulkhead, clock) = with_clock(config(3, 0));
    let (wanted, waits) = at_a_gate(&bulkhead, ());
    eventually("the one that is waited for runs", || waits.is_started());
    clock.advance(SECOND);
    let (first, left_first) = at_a_gate(&bulkhead, ());
    eventually("the first runs", || left_first.is_started());
    clock.advance(SECOND);
    let gate = Gate::new();
    let second = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    // A call with a name is shown in another place than the others.
    let left_second = bulkhead
        .call()
        .operation("named")
        .run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    eventually("all run", || bulkhead.stats().active_tasks == 3);
    assert_eq!(bulkhead.stats().longest_abandoned, None);
    clock.advance(SECOND);
    drop(left_second);
    assert_eq!(bulkhead.stats().longest_abandoned, Some(SECOND));
    drop(left_first);
    let stats = bulkhead.stats();
    assert_eq!(stats.longest_abandoned, Some(2 * SECOND), "since it runs");
    assert_eq!(stats.longest_running, Some(3 * SECOND));
    assert_eq!(stats.abandoned_tasks, 2);
    drop(first);
    eventually("the first ends", || bulkhead.stats().abandoned_tasks == 1);
    assert_eq!(bulkhead.stats().longest_abandoned, Some(SECOND));
    drop(second);
    eventually("the second ends", || bulkhead.stats().abandoned_tasks == 0);
    assert_eq!(bulkhead.stats().longest_abandoned, None);
    drop(wanted);
}

#[test]
fn the_slot_of_an_abandoned_task_says_nothing_of_the_next_one() {
    let (bulkhead, clock) = with_clock(config(2, 0));
    let busy = occupy(&bulkhead, 2);
    let gate = busy.gate.clone();
    drop(busy.handles);
    gate.open();
    assert!(bulkhead.wait_idle(PATIENCE));
    let (_opener, wanted) = at_a_gate(&bulkhead, ());
    eventually("it runs", || wanted.is_started());
    clock.advance(SECOND);
    let (_opener, left) = at_a_gate(&bulkhead, ());
    eventually("it runs", || left.is_started());
    clock.advance(SECOND);
    drop(left);
    assert_eq!(bulkhead.stats().longest_abandoned, Some(SECOND));
}

#[test]
fn a_task_that_was_nobodys_from_the_start_has_its_age_too() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let (opener, queued) = at_a_gate(&bulkhead, ());
    drop(queued);
    busy.finish();
    opener.0.wait_for_arrivals(1);
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    clock.advance(SECOND);
    assert_eq!(bulkhead.stats().longest_abandoned, Some(SECOND));
}
