//! Waiting for a call: its outcome, limits of the wait, and the handle before the call has ended.

use std::convert::Infallible;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::ExecutionHandle;

use super::helpers::at_a_gate;
use crate::support::{PATIENCE, bulkhead, eventually, occupy, wait};

#[test]
fn wait_gives_the_value() {
    let bulkhead = bulkhead(2, 2);
    let result = bulkhead.run(|| String::from("a value")).wait();
    assert!(result.is_success());
    assert!(result.error().is_none());
    assert_eq!(&*result.bulkhead_name, "test");
    assert_eq!(result.into_result().unwrap(), "a value");
}

#[test]
fn wait_gives_the_tasks_own_error() {
    let bulkhead = bulkhead(1, 1);
    let result = bulkhead.execute(|| Err::<(), _>(String::from("no"))).wait();
    assert!(!result.is_success());
    assert!(result.value().is_none());
    let error = result.into_result().unwrap_err();
    assert_eq!(error.failed().map(String::as_str), Some("no"));
    assert!(!error.never_started());
}

#[test]
fn wait_blocks_until_the_task_ends() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let (opener, handle) = at_a_gate(&bulkhead, 7);
        let waiter = thread::spawn(move || wait(handle));
        drop(opener);
        assert_eq!(waiter.join().unwrap().value(), Some(&7));
    }
}

#[test]
fn wait_timeout_gives_the_handle_back_and_it_works_again() {
    let bulkhead = bulkhead(1, 1);
    let (opener, mut handle) = at_a_gate(&bulkhead, 7);
    let id = handle.execution_id();
    for limit in [0, 0, 1, 500] {
        handle = handle
            .wait_timeout(Duration::from_micros(limit))
            .expect_err("the task is at its gate");
        assert_eq!(handle.execution_id(), id);
        assert!(!handle.is_finished());
    }
    drop(opener);
    let result = handle.wait_timeout(PATIENCE).expect("an outcome");
    assert_eq!(result.value(), Some(&7));
    assert_eq!(result.execution_id, id);
}

#[test]
fn wait_timeout_of_zero_takes_a_finished_outcome() {
    let bulkhead = bulkhead(1, 1);
    let handle = bulkhead.run(|| 7);
    eventually("it has finished", || handle.is_finished());
    let result = handle.wait_timeout(Duration::ZERO).expect("it is there");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn a_deadline_in_the_past_is_one_look() {
    let past = Instant::now();
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    let handle = handle.wait_deadline(past).expect_err("not yet");
    drop(opener);
    eventually("it has finished", || handle.is_finished());
    let result = handle.wait_deadline(past).expect("it is there");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn a_deadline_in_the_future_is_waited_for() {
    let bulkhead = bulkhead(1, 1);
    let (_opener, handle) = at_a_gate(&bulkhead, 7);
    let deadline = Instant::now() + Duration::from_millis(3);
    let handle = handle.wait_deadline(deadline).expect_err("not yet");
    assert!(Instant::now() >= deadline, "it gave up too early");
    drop(handle);
}

#[test]
fn an_endless_wait_timeout_waits_for_the_outcome() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    let waiter = thread::spawn(move || handle.wait_timeout(Duration::MAX));
    drop(opener);
    let result = waiter.join().unwrap().expect("no overflow, no early end");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn is_finished_turns_true_and_stays_true() {
    let bulkhead = bulkhead(1, 1);
    let (opener, running) = at_a_gate(&bulkhead, ());
    let queued = bulkhead.run(|| ());
    assert!(!running.is_finished());
    assert!(!queued.is_finished());
    drop(opener);
    eventually("both have finished", || {
        running.is_finished() && queued.is_finished()
    });
    assert!(running.is_finished());
    assert!(wait(running).is_success());
}

#[test]
fn the_id_is_the_same_everywhere_and_different_for_every_call() {
    let bulkhead = bulkhead(2, 50);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..50 {
        let handle = bulkhead.run(|| bulkman::current().unwrap().execution_id());
        let id = handle.execution_id();
        let result = wait(handle);
        assert_eq!(result.execution_id, id);
        assert_eq!(result.value(), Some(&id));
        assert!(ids.insert(id), "{id} appeared twice");
    }
}

#[test]
fn the_handle_of_a_refused_call_is_resolved_already() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let refuse = || bulkhead.execute(|| Ok::<_, &str>(1));
    assert!(refuse().is_finished());
    let id = refuse().execution_id();
    assert_ne!(id, refuse().execution_id(), "it has an id of its own");

    let handle = refuse();
    let id = handle.execution_id();
    let result = handle.wait();
    assert_eq!(result.execution_id, id);
    assert_eq!(result.queued_time, Duration::ZERO);
    assert_eq!(result.execution_time, Duration::ZERO);
    assert!(result.error().unwrap().is_rejected());
    for result in [
        refuse().wait_timeout(Duration::ZERO),
        refuse().wait_timeout(Duration::MAX),
        refuse().wait_deadline(Instant::now()),
        Ok(pollster::block_on(refuse())),
        refuse()
            .cancel_on_drop()
            .wait_timeout(Duration::ZERO)
            .map_err(|guard| guard.into_handle()),
    ] {
        let result = result.expect("it is resolved");
        assert!(result.error().unwrap().is_rejected(), "{result:?}");
    }
    busy.finish();
}

#[test]
fn the_closure_of_a_refused_call_is_dropped_at_once() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let token = Arc::new(());
    let inside = Arc::clone(&token);
    let handle = bulkhead.run(move || drop(inside));
    assert_eq!(Arc::strong_count(&token), 1);
    drop(handle);
    busy.finish();
}

#[test]
fn a_handle_can_be_sent_to_another_thread() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel::<ExecutionHandle<i32, Infallible>>();
    let waiter = thread::spawn(move || receiver.into_iter().map(wait).collect::<Vec<_>>());
    for i in 0..10 {
        let handle = bulkhead
            .call()
            .wait_for_capacity(Duration::MAX)
            .run(move || i);
        sender.send(handle).unwrap();
    }
    drop(sender);
    let results = waiter.join().unwrap();
    let values = results.into_iter().map(|result| result.into_result());
    assert!(values.map(Result::unwrap).eq(0..10));
}

#[test]
fn a_handle_outlives_its_bulkhead() {
    let bulkhead = bulkhead(1, 3);
    let handles: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
    drop(bulkhead);
    for (i, handle) in handles.into_iter().enumerate() {
        assert!(handle.is_finished(), "the drop runs what is queued");
        assert!(!handle.cancel());
        assert_eq!(wait(handle).value(), Some(&i));
    }
}

#[test]
fn debug_output_names_the_call() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let id = handle.execution_id().to_string();
    let text = format!("{handle:?}");
    assert!(text.contains("ExecutionHandle"), "{text}");
    assert!(text.contains(&id), "{text}");
    assert!(text.contains("is_finished: false"), "{text}");
    let guard = handle.cancel_on_drop();
    let text = format!("{guard:?}");
    assert!(
        text.contains("CancelOnDrop") && text.contains(&id),
        "{text}"
    );
    drop(opener);
    let mut handle = guard.into_handle();
    eventually("it has finished", || handle.is_finished());
    assert!(format!("{handle:?}").contains("is_finished: true"));
    let result = pollster::block_on(&mut handle);
    assert!(result.is_success());
    // The handle can still be looked at.
    assert!(format!("{handle:?}").contains("is_finished: true"));
}
