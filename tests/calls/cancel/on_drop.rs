//! Handles that cancel their call when they are dropped.

use std::sync::mpsc::{self};
use std::thread;
use std::time::{Duration, Instant};

use super::helpers::{assert_cancelled, stoppable};
use crate::support::{Gate, PATIENCE, Trace, bulkhead, eventually, occupy, wait};

#[test]
fn cancel_on_drop_cancels_a_queued_task() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    assert_eq!(bulkhead.available_capacity(), 0);
    drop(guard);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    busy.finish();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(!trace.ran());
}

#[test]
fn cancel_on_drop_asks_a_running_task_to_stop() {
    let bulkhead = bulkhead(1, 0);
    let (sender, receiver) = mpsc::channel();
    let started = Gate::new();
    let guard = bulkhead
        .run({
            let started = started.clone();
            move || sender.send(stoppable(started)).unwrap()
        })
        .cancel_on_drop();
    started.pass();
    drop(guard);
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn cancel_on_drop_works_while_a_panic_passes() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let panicked = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let _guard = bulkhead.run(trace.task()).cancel_on_drop();
            std::panic::resume_unwind(Box::new("the caller failed"));
        });
        caller.join().is_err()
    });
    assert!(panicked);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn waiting_disarms_cancel_on_drop() {
    let bulkhead = bulkhead(1, 1);
    let was_cancelled = || bulkman::current().unwrap().is_cancelled();
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    assert_eq!(guard.wait().value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    let result = guard.wait_timeout(PATIENCE).expect("an outcome");
    assert_eq!(result.value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    let result = guard.wait_deadline(Instant::now() + PATIENCE);
    assert_eq!(result.expect("an outcome").value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    assert_eq!(pollster::block_on(guard).value(), Some(&false));
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn into_handle_disarms_cancel_on_drop() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    let id = guard.execution_id();
    let handle = guard.into_handle();
    assert_eq!(handle.execution_id(), id);
    drop(handle);
    busy.finish();
    eventually("it runs", || trace.ran());
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn a_guard_that_gives_itself_back_is_still_armed() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    let guard = guard.wait_timeout(Duration::ZERO).expect_err("not yet");
    let guard = guard.wait_deadline(Instant::now()).expect_err("not yet");
    assert!(!guard.is_finished());
    assert!(!trace.is_dropped());
    drop(guard);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn a_guard_can_cancel_by_itself() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    assert!(guard.cancel());
    assert!(guard.is_finished());
    assert_cancelled(&guard.wait());
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    busy.finish();
}
