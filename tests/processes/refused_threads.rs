//! The system refuses a thread to a bulkhead that works: each call has its outcome, and what runs goes on.

use std::env;
use std::error::Error;
use std::io;
use std::sync::{Arc, Weak};

use bulkman::{BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent};

use super::build_failure::in_child_of;
use super::helpers::{CHILD, DONE};
use crate::support::{PATIENCE, eventually, in_time, occupy, wait};

const GIB: usize = 1 << 30;

/// Runs the test in a child process with room for so many threads of 1 GiB, and half of that for all else.
fn with_room_for(threads: usize, test: &str, child: fn()) {
    if env::var_os(CHILD).is_some() {
        child();
        println!("{DONE}");
        return;
    }
    let kib = (threads << 20) + (1 << 19);
    let (status, text) = in_child_of(module_path!(), test, threads, 2 << 20, kib);
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains(DONE), "{text}");
}

fn config(workers: usize) -> BulkheadConfig {
    BulkheadConfig::new("refused")
        .max_concurrent_calls(workers)
        .max_queue_size(10)
        .stack_size(GIB)
}

fn on_demand(workers: usize) -> Bulkhead {
    Bulkhead::new(config(workers).idle_timeout(PATIENCE)).expect("it starts no thread yet")
}

#[test]
fn without_any_worker_the_calls_in_the_queue_end() {
    let test = "without_any_worker_the_calls_in_the_queue_end";
    with_room_for(0, test, || {
        let bulkhead = on_demand(3);
        for _ in 0..3 {
            let result = wait(bulkhead.run(|| ()));
            let error = result.error().expect("there is no thread");
            assert!(
                matches!(
                    error,
                    BulkheadError::NoThread {
                        kind: io::ErrorKind::WouldBlock,
                        ..
                    }
                ),
                "{error:?}"
            );
            assert_eq!(
                error.to_string(),
                "bulkhead `refused` has no worker thread for the call, and the system refuses it one: operation would block"
            );
            assert!(error.never_started() && error.is_rejected());
            assert_eq!(error.bulkhead_name(), Some("refused"));
        }
        let stats = bulkhead.stats();
        assert_eq!((stats.refused_in_queue_executions, stats.in_flight), (3, 0));
        assert_eq!(stats.worker_threads, 0);
        assert!(bulkhead.shutdown().is_clean());
    });
}

/// Shuts a bulkhead down when it is dropped.
struct ShutDownOnDrop(Arc<Bulkhead>);

impl Drop for ShutDownOnDrop {
    fn drop(&mut self) {
        assert!(self.0.shutdown().still_running.is_empty());
    }
}

#[test]
fn a_listener_and_a_task_that_never_starts_may_shut_the_bulkhead_down() {
    let test = "a_listener_and_a_task_that_never_starts_may_shut_the_bulkhead_down";
    with_room_for(0, test, || {
        for in_listener in [false, true] {
            let bulkhead = Arc::new_cyclic(|me: &Weak<Bulkhead>| {
                let me = me.clone();
                let builder = Bulkhead::builder(config(3).idle_timeout(PATIENCE));
                let builder = builder.on_event(move |event| {
                    if let (true, BulkheadEvent::NoThread { .. }) = (in_listener, event) {
                        drop(me.upgrade().map(ShutDownOnDrop));
                    }
                });
                builder.build().expect("it starts no thread yet")
            });
            let caller = Arc::clone(&bulkhead);
            let result = in_time(move || {
                let ends = (!in_listener).then(|| ShutDownOnDrop(Arc::clone(&caller)));
                caller.run(move || drop(ends)).wait()
            });
            let error = result.error().expect("there is no thread");
            assert!(matches!(error, BulkheadError::NoThread { .. }), "{error:?}");
            assert!(bulkhead.wait_closed(PATIENCE));
            assert_eq!(bulkhead.stats().in_flight, 0);
        }
    });
}

#[test]
fn calls_wait_for_the_workers_that_there_are() {
    let test = "calls_wait_for_the_workers_that_there_are";
    with_room_for(1, test, || {
        let bulkhead = on_demand(3);
        let busy = occupy(&bulkhead, 1);
        let waiting: Vec<_> = (0..5).map(|i| bulkhead.run(move || i)).collect();
        assert_eq!(bulkhead.stats().worker_threads, 1);
        busy.finish();
        for (i, handle) in waiting.into_iter().enumerate() {
            assert_eq!(wait(handle).value(), Some(&i));
        }
        assert!(bulkhead.shutdown().is_clean());
    });
}

#[test]
fn more_workers_than_there_is_room_for_are_an_error_and_change_nothing() {
    let test = "more_workers_than_there_is_room_for_are_an_error_and_change_nothing";
    with_room_for(2, test, || {
        let bulkhead = Bulkhead::new(config(1)).expect("there is room for one");
        let busy = occupy(&bulkhead, 1);
        let waiting = bulkhead.run(|| 7);
        let error = bulkhead.resize(5, 20).expect_err("there is room for two");
        assert!(error.source().is_some(), "what the system said");
        assert_eq!(
            error.to_string(),
            "bulkhead `refused` could start only 2 of its 5 worker threads"
        );
        assert!(matches!(
            error,
            BuildError::ThreadStart {
                worker: 2,
                workers: 5,
                ..
            }
        ));
        assert_eq!(
            (bulkhead.max_concurrent_calls(), bulkhead.max_queue_size()),
            (1, 10)
        );
        eventually("the other has left", || {
            bulkhead.stats().worker_threads == 1
        });
        busy.finish();
        assert_eq!(wait(waiting).value(), Some(&7));
        assert!(bulkhead.shutdown().is_clean());
    });
}
