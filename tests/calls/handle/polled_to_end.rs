//! A handle that was polled to its end: its outcome is out. It can be looked at, and all that would wait says so clearly.

use std::convert::Infallible;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use bulkman::ExecutionHandle;

use crate::support::{bulkhead, in_time, occupy};

/// What a closure panics with, in bounded time.
fn panic_of<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> String {
    in_time(move || {
        let payload = catch_unwind(std::panic::AssertUnwindSafe(f))
            .err()
            .expect("it panics");
        match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => (*payload.downcast::<&str>().expect("a text")).into(),
        }
    })
}

const MESSAGE: &str = "the handle was polled to its end, and its outcome has been handed out";

/// The handle of a call that ran, and that of one that was refused, both polled to their ends.
fn polled() -> [ExecutionHandle<i32, Infallible>; 2] {
    let bulkhead = bulkhead(1, 0);
    let mut ran = bulkhead.run(|| 7);
    assert!(pollster::block_on(&mut ran).is_success());
    let busy = occupy(&bulkhead, 1);
    let mut refused = bulkhead.run(|| 7);
    assert!(pollster::block_on(&mut refused).error().is_some());
    busy.finish();
    [ran, refused]
}

#[test]
fn waiting_for_it_panics_and_says_why() {
    for handle in polled() {
        assert_eq!(panic_of(|| handle.wait()), MESSAGE);
    }
    for handle in polled() {
        assert_eq!(
            panic_of(|| handle.wait_timeout(Duration::from_millis(1))),
            MESSAGE
        );
    }
    for handle in polled() {
        assert_eq!(panic_of(|| handle.wait_timeout(Duration::MAX)), MESSAGE);
    }
    for handle in polled() {
        assert_eq!(panic_of(|| handle.wait_deadline(Instant::now())), MESSAGE);
    }
}

#[test]
fn so_does_waiting_for_one_that_cancels_when_dropped() {
    for handle in polled() {
        let guard = handle.cancel_on_drop();
        assert_eq!(panic_of(|| guard.wait()), MESSAGE);
    }
    for handle in polled() {
        let guard = handle.cancel_on_drop();
        assert_eq!(panic_of(|| guard.wait_timeout(Duration::ZERO)), MESSAGE);
    }
    for handle in polled() {
        let guard = handle.cancel_on_drop();
        assert_eq!(panic_of(|| guard.wait_deadline(Instant::now())), MESSAGE);
    }
}

#[test]
fn a_callback_for_its_end_comes_too_late() {
    for handle in polled() {
        assert_eq!(panic_of(move || handle.on_finish(|_| ())), MESSAGE);
    }
    for handle in polled() {
        let guard = handle.cancel_on_drop();
        assert_eq!(panic_of(move || guard.on_finish(|_| ())), MESSAGE);
    }
}

#[test]
fn it_can_be_looked_at_and_cancelled_without_harm() {
    for (handle, ran) in polled().into_iter().zip([true, false]) {
        let id = handle.execution_id();
        for _ in 0..2 {
            assert!(handle.is_finished());
            assert_eq!(handle.is_started(), ran);
            assert!(!handle.cancel());
            assert_eq!(handle.execution_id(), id);
        }
        let call = handle.cancel_handle();
        assert!(call.is_finished());
        assert_eq!(call.is_started(), ran);
        assert!(!call.cancel());
        assert_eq!(call.execution_id(), id);
        let text = format!("{handle:?}");
        assert!(text.contains(&id.to_string()), "{text}");
        let guard = handle.cancel_on_drop();
        assert!(!guard.cancel());
        assert!(guard.is_finished());
        assert_eq!(guard.execution_id(), id);
    }
}

#[test]
fn it_keeps_neither_value_nor_place() {
    let bulkhead = bulkhead(1, 0);
    let token = std::sync::Arc::new(());
    let inside = std::sync::Arc::clone(&token);
    let mut handle = bulkhead.run(move || inside);
    let value = pollster::block_on(&mut handle).into_result().unwrap();
    drop(value);
    assert_eq!(std::sync::Arc::strong_count(&token), 1);
    assert_eq!(bulkhead.available_capacity(), 1);
    drop(handle);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
}
