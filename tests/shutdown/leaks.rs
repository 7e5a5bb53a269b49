//! Nothing is left after the end: no closure, no listener, no thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent};

use super::helpers::{eventually_no_threads_of, named};
use crate::support::{bulkhead, config, eventually, occupy, wait};

#[test]
fn nothing_that_tasks_captured_is_left_after_the_end() {
    let token = Arc::new(());
    let hold = || Arc::clone(&token);
    let bulkhead = bulkhead(2, 40);
    let busy = occupy(&bulkhead, 2);
    let mut handles = Vec::new();
    for i in 0..40 {
        let captured = hold();
        let handle = bulkhead.run(move || captured);
        match i % 3 {
            0 => assert!(handle.cancel()),
            1 => drop(handle),
            _ => handles.push(handle),
        }
    }
    busy.gate.open();
    drop(bulkhead);
    assert_eq!(Arc::strong_count(&token), 1 + handles.len(), "the results");
    drop(handles);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn nothing_of_the_bulkhead_itself_is_left_even_with_shells_in_its_queue() {
    let ends: [fn(&Bulkhead); 3] = [
        |bulkhead| drop(bulkhead.shutdown()),
        |bulkhead| drop(bulkhead.shutdown_now()),
        |bulkhead| drop(bulkhead.shutdown_timeout(Duration::ZERO)),
    ];
    for end in ends {
        let token = Arc::new(());
        let captured = Arc::clone(&token);
        let bulkhead = Bulkhead::builder(config(2, 10))
            .listener(move |_: &BulkheadEvent<'_>| {
                let _the_listener_lives_as_long_as_the_bulkhead = &captured;
            })
            .build()
            .unwrap();
        let busy = occupy(&bulkhead, 2);
        for _ in 0..9 {
            assert!(bulkhead.run(|| ()).cancel());
        }
        assert_eq!(Arc::strong_count(&token), 2);
        busy.gate.open();
        end(&bulkhead);
        drop(busy);
        drop(bulkhead);
        eventually("all is freed", || Arc::strong_count(&token) == 1);
    }
}

#[test]
fn a_wrapped_function_does_not_keep_the_workers() {
    let bulkhead = Bulkhead::new(named("wrap", 2, 2)).unwrap();
    let double = bulkhead.wrap(|n: u32| Ok::<_, ()>(2 * n));
    assert_eq!(double(4).value(), Some(&8));
    drop(bulkhead);
    eventually_no_threads_of("wrap");
    assert!(matches!(
        double(4).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn many_bulkheads_come_and_go() {
    let running = Arc::new(AtomicBool::new(false));
    for i in 0..200 {
        let bulkhead = Bulkhead::new(named("many", 2, 2)).unwrap();
        let alone = Arc::clone(&running);
        let handle = bulkhead.run(move || {
            assert!(!alone.swap(true, Ordering::SeqCst));
            alone.store(false, Ordering::SeqCst);
            i
        });
        drop(bulkhead);
        assert_eq!(wait(handle).value(), Some(&i));
    }
    eventually_no_threads_of("many");
}
