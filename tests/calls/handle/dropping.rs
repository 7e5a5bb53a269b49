//! A handle that is dropped: the task still runs, and its result is dropped on the worker.

use std::sync::{Arc, mpsc};
use std::thread;

use super::helpers::{Tells, at_a_gate};
use crate::support::{
    Bomb, Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, eventually, occupy, wait,
};

#[test]
fn a_task_whose_handle_is_dropped_still_runs() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let busy = occupy(&bulkhead, 1);
    drop(bulkhead.run(move || sender.send("ran").unwrap()));
    busy.finish();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok("ran"));
    eventually("it is counted", || {
        bulkhead.stats().successful_executions == 2
    });
}

#[test]
fn a_result_that_nobody_waits_for_is_dropped_on_the_worker() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let (opener, handle) = at_a_gate(&bulkhead, Tells(sender));
    drop(handle);
    drop(opener);
    let dropped_on = receiver.recv_timeout(PATIENCE).expect("it is dropped");
    assert_eq!(dropped_on.as_deref(), Some("bulkman-test-0"));
}

#[test]
fn a_result_that_is_there_already_goes_with_the_handle() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let (opener, handle) = at_a_gate(&bulkhead, Tells(sender));
    drop(opener);
    eventually("it has finished", || handle.is_finished());
    drop(handle);
    let here = thread::current().name().map(String::from);
    assert_eq!(receiver.try_recv(), Ok(here));
}

#[test]
fn a_result_that_nobody_waits_for_may_panic_when_it_is_dropped() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    // With a dead worker the drop of the bulkhead would hang; so it would hide why the test fails.
    std::mem::forget(Arc::clone(&bulkhead));
    for round in 0..5 {
        let (opener, handle) = at_a_gate(&bulkhead, Bomb);
        drop(handle);
        drop(opener);
        let next = bulkhead.run(move || round);
        eventually("the worker has survived it", || next.is_finished());
        assert_eq!(wait(next).value(), Some(&round));
        assert_eq!(bulkhead.available_capacity(), 2);
    }
    assert_balanced(&bulkhead.stats());
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn a_running_task_whose_handle_is_dropped_counts_as_abandoned_until_it_ends() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..20 {
        let gate = Gate::new();
        let _opener = OpenOnDrop(gate.clone());
        let handle = bulkhead.run({
            let gate = gate.clone();
            move || gate.pass()
        });
        gate.wait_for_arrivals(1);
        assert_eq!(bulkhead.stats().abandoned_tasks, 0);
        drop(handle);
        assert_eq!(bulkhead.stats().abandoned_tasks, 1);
        gate.open();
        eventually("it ends", || bulkhead.stats().in_flight == 0);
        eventually("nothing is abandoned", || {
            bulkhead.stats().abandoned_tasks == 0
        });
    }
}

#[test]
fn a_queued_task_whose_handle_is_dropped_counts_as_abandoned_once_it_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    drop(handle);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0, "it does not run yet");
    busy.finish();
    eventually("it runs", || bulkhead.stats().abandoned_tasks == 1);
    drop(opener);
    eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
}

#[test]
fn a_forgotten_handle_keeps_no_place() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let token = Arc::new(());
        let inside = Arc::clone(&token);
        std::mem::forget(bulkhead.run(move || drop(inside)));
        eventually("its place is free", || bulkhead.available_capacity() == 2);
        assert_eq!(Arc::strong_count(&token), 1, "its closure is gone");
    }
    assert_eq!(bulkhead.stats().successful_executions, 100);
    assert!(bulkhead.shutdown().is_clean());
}
