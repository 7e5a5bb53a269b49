//! Cancelling a running task asks it to stop. A call that is over cannot be cancelled.

use super::helpers::start_stoppable;
use crate::support::{Gate, OpenOnDrop, assert_balanced, bulkhead, eventually, occupy, wait};

#[test]
fn a_running_task_is_asked_to_stop() {
    let bulkhead = bulkhead(1, 0);
    let running = start_stoppable(&bulkhead);
    assert!(!running.cancel(), "it has started");
    // Its outcome is its own result all the same.
    let result = wait(running);
    assert_eq!(result.value(), Some(&true));
    let stats = bulkhead.stats();
    assert_eq!(stats.successful_executions, 1);
    assert_eq!(stats.cancelled_executions, 0);
    assert_balanced(&stats);
}

#[test]
fn a_running_task_keeps_its_place_until_it_ends() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    assert!(!busy.handles[0].cancel());
    assert_eq!(bulkhead.available_capacity(), 0);
    assert!(bulkhead.run(|| ()).is_finished(), "it is still full");
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 1);
}

#[test]
fn only_the_cancelled_task_is_asked_to_stop() {
    let bulkhead = bulkhead(2, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let neighbour = bulkhead.run({
        let gate = gate.clone();
        move || {
            gate.pass();
            bulkman::current().unwrap().is_cancelled()
        }
    });
    gate.wait_for_arrivals(1);
    let running = start_stoppable(&bulkhead);
    let queued = bulkhead.run(|| ());
    assert!(queued.cancel());
    assert!(!running.cancel());
    assert_eq!(wait(running).value(), Some(&true));
    gate.open();
    assert_eq!(wait(neighbour).value(), Some(&false));
    // Nor does the worker remember it.
    for _ in 0..4 {
        let next = bulkhead.run(|| bulkman::current().unwrap().is_cancelled());
        assert_eq!(wait(next).value(), Some(&false));
    }
}

#[test]
fn a_finished_task_cannot_be_cancelled() {
    let bulkhead = bulkhead(1, 0);
    let handle = bulkhead.run(|| 7);
    eventually("it has finished", || handle.is_finished());
    assert!(!handle.cancel());
    assert_eq!(wait(handle).value(), Some(&7), "its value is still there");
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn a_refused_call_cannot_be_cancelled() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let refused = bulkhead.run(|| ());
    assert!(!refused.cancel());
    let result = wait(refused);
    assert!(result.error().unwrap().is_rejected());
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
    busy.finish();
}
