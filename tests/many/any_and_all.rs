//! Waiting for any or all of several calls, whose results may be of different types.

use std::time::Duration;

use bulkman::{
    BulkheadError, ExecutionHandle, Waitable, wait_all, wait_all_timeout, wait_any,
    wait_any_timeout,
};

use crate::helpers::{at_a_gate, on_a_worker};
use crate::support::{
    HOUR, PATIENCE, SECOND, bulkhead, config, eventually, in_time, occupy, with_clock,
};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn any_of_different_types_and_bulkheads() {
    in_time(|| {
        let (one, other) = (bulkhead(1, 0), bulkhead(1, 0));
        let (opener, mut text) = at_a_gate(&one, "text");
        let mut number = other.execute(|| "7".parse::<u8>());
        let both: [&mut dyn Waitable; 2] = [&mut text, &mut number];
        assert_eq!(wait_any(both), Some(1));
        assert_eq!(number.wait().into_result().unwrap(), 7);
        drop(opener);
        assert_eq!(wait_any([&mut text]), Some(0));
        assert_eq!(text.wait().into_result().unwrap(), "text");
    });
}

#[test]
fn any_of_none() {
    assert_eq!(wait_any(&mut Vec::<ExecutionHandle<(), ()>>::new()), None);
}

#[test]
fn any_names_the_first_of_several() {
    let bulkhead = bulkhead(2, 0);
    let mut handles = [bulkhead.run(|| 0), bulkhead.run(|| 1)];
    eventually("both have ended", || {
        handles.iter().all(ExecutionHandle::is_finished)
    });
    assert_eq!(wait_any(&mut handles), Some(0));
}

#[test]
fn any_with_a_limit() {
    let bulkhead = bulkhead(1, 0);
    let (opener, mut handle) = at_a_gate(&bulkhead, ());
    assert_eq!(wait_any_timeout([&mut handle], SHORT), None);
    drop(opener);
    assert_eq!(wait_any_timeout([&mut handle], PATIENCE), Some(0));
    assert!(handle.is_finished());
}

#[test]
fn any_again_and_again_loses_no_result() {
    in_time(|| {
        let bulkhead = bulkhead(2, 100);
        let mut handles: Vec<_> = (0..100).map(|n| bulkhead.run(move || n)).collect();
        let mut sum = 0;
        while let Some(index) = wait_any(&mut handles) {
            sum += handles.swap_remove(index).wait().into_result().unwrap();
        }
        assert_eq!(sum, 4_950);
    });
}

#[test]
fn any_ends_at_a_callers_limit() {
    in_time(|| {
        let bulkhead = bulkhead(2, 0);
        let (_opener, mut endless) = at_a_gate(&bulkhead, ());
        let gate = crate::support::Gate::new();
        let _other = crate::support::OpenOnDrop(gate.clone());
        let mut limited = bulkhead.call().timeout(SHORT).run(move || gate.pass());
        let handles: [&mut dyn Waitable; 2] = [&mut endless, &mut limited];
        assert_eq!(wait_any(handles), Some(1));
        assert!(limited.is_finished());
        assert!(matches!(
            limited.wait().result,
            Err(BulkheadError::Timeout { started: true, .. })
        ));
    });
}

#[test]
fn a_handle_that_cancels_on_drop_is_waitable() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        let busy = occupy(&bulkhead, 1);
        let mut guarded = bulkhead.run(|| ()).cancel_on_drop();
        assert_eq!(wait_any_timeout([&mut guarded], SHORT), None);
        let waitable: &mut dyn Waitable = &mut guarded;
        assert!(waitable.cancel());
        assert_eq!(wait_any([waitable]), Some(0));
        assert!(guarded.wait().error().is_some());
        busy.finish();
    });
}

// ---- all

#[test]
fn all_of_them() {
    in_time(|| {
        let bulkhead = bulkhead(2, 100);
        let mut handles: Vec<_> = (0..50).map(|n| bulkhead.run(move || n)).collect();
        wait_all(&mut handles);
        assert!(handles.iter().all(ExecutionHandle::is_finished));
        let sum: i32 = handles
            .into_iter()
            .filter_map(|h| h.wait().into_result().ok())
            .sum();
        assert_eq!(sum, 1_225);
    });
}

#[test]
fn all_of_none() {
    let mut none = Vec::<ExecutionHandle<(), ()>>::new();
    wait_all(&mut none);
    assert!(wait_all_timeout(&mut none, Duration::ZERO));
}

#[test]
fn all_within_one_limit_keeps_each_result() {
    let bulkhead = bulkhead(3, 0);
    let (opener, late) = at_a_gate(&bulkhead, 0);
    let mut handles = vec![bulkhead.run(|| 1), late, bulkhead.run(|| 2)];
    eventually("two have ended", || {
        handles.iter().filter(|handle| handle.is_finished()).count() == 2
    });
    assert!(!wait_all_timeout(&mut handles, SHORT));
    assert_eq!(
        handles
            .iter()
            .map(|handle| handle.is_finished())
            .collect::<Vec<_>>(),
        [true, false, true]
    );
    drop(opener);
    assert!(wait_all_timeout(&mut handles, PATIENCE));
    let values: Vec<_> = handles
        .into_iter()
        .map(|h| h.wait().into_result().unwrap())
        .collect();
    assert_eq!(values, [1, 0, 2]);
}

#[test]
fn all_ends_each_call_at_its_own_limit() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 2).queue_timeout(SECOND));
        let (opener, busy) = at_a_gate(&bulkhead, ());
        let mut handles = vec![busy, bulkhead.run(|| ())];
        assert!(!wait_all_timeout(&mut handles, SHORT));
        clock.advance(HOUR);
        // The first still runs, and the second expires before our eyes.
        assert!(!wait_all_timeout(&mut handles, SHORT));
        assert!(handles[1].is_finished());
        drop(opener);
        wait_all(&mut handles);
    });
}

// ---- on a worker of the same bulkhead

#[test]
fn the_only_worker_runs_what_it_waits_for() {
    on_a_worker(1, 4, |bulkhead| {
        let mut text = bulkhead.run(|| "text");
        let mut number = bulkhead.run(|| 1);
        let both: [&mut dyn Waitable; 2] = [&mut text, &mut number];
        assert_eq!(wait_any(both), Some(0));
        let both: [&mut dyn Waitable; 2] = [&mut text, &mut number];
        wait_all(both);
        assert!(text.is_finished() && number.is_finished());
    });
}

#[test]
fn a_limit_that_is_over_keeps_a_worker_from_running_the_rest() {
    on_a_worker(1, 4, |bulkhead| {
        let mut handles = [bulkhead.run(|| ()), bulkhead.run(|| ())];
        assert!(!wait_all_timeout(&mut handles, Duration::ZERO));
        wait_all(&mut handles);
    });
}
