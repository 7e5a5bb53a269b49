//! The system refuses a thread to a bulkhead that works: each call has its outcome, and what runs goes on.

use std::env;
use std::error::Error;
use std::io;
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bulkman::{BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent};

use super::build_failure::in_child_of;
use super::helpers::{CHILD, DONE};
use crate::support::{Gate, PATIENCE, eventually, in_time, occupy, wait};

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
fn a_listener_may_shut_the_bulkhead_down_when_nobody_takes_the_stead_of_a_worker_that_leaves() {
    let test =
        "a_listener_may_shut_the_bulkhead_down_when_nobody_takes_the_stead_of_a_worker_that_leaves";
    with_room_for(1, test, || {
        let leaves = Gate::new();
        let stop = leaves.clone();
        let bulkhead = Arc::new_cyclic(|me: &Weak<Bulkhead>| {
            let me = me.clone();
            let config = config(1).idle_timeout(Duration::from_millis(1));
            let builder = Bulkhead::builder(config).on_worker_stop(move |_| stop.pass());
            let builder = builder.on_event(move |event| {
                if let BulkheadEvent::NoThread { .. } = event {
                    drop(me.upgrade().map(ShutDownOnDrop));
                }
            });
            builder.build().expect("it starts no thread yet")
        });
        assert_eq!(wait(bulkhead.run(|| 1)).value(), Some(&1));
        leaves.wait_for_arrivals(1);
        // The stack of the worker that leaves is all that there is room for.
        let queued = bulkhead.run(|| 2);
        leaves.open();
        let result = in_time(|| queued.wait());
        let error = result.error().expect("there is no thread");
        assert!(matches!(error, BulkheadError::NoThread { .. }), "{error:?}");
        assert!(bulkhead.wait_closed(PATIENCE));
        assert_eq!(bulkhead.stats().in_flight, 0);
    });
}

/// Threads of the test's own, which take the room.
struct Others {
    threads: Vec<JoinHandle<()>>,
    gate: Gate,
}

impl Others {
    fn new() -> Self {
        Self {
            threads: Vec::new(),
            gate: Gate::new(),
        }
    }

    /// Until one more is there, and there is no room for another: a stack is free a moment after its thread has ended.
    fn take_the_room(&mut self) {
        let before = self.threads.len();
        eventually("there was room, and there is none", || {
            let (gate, builder) = (self.gate.clone(), thread::Builder::new().stack_size(GIB));
            let started = builder.spawn(move || gate.pass());
            let is_refused = started.map(|other| self.threads.push(other)).is_err();
            is_refused && self.threads.len() > before
        });
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.gate.open();
        self.threads
            .drain(..)
            .for_each(|other| other.join().unwrap());
    }
}

#[test]
fn fewer_workers_do_not_need_those_that_are_missing() {
    let test = "fewer_workers_do_not_need_those_that_are_missing";
    with_room_for(4, test, || {
        let gates = [(); 4].map(|()| Gate::new());
        let (stops, (sender, leavers)) = (gates.clone(), mpsc::channel());
        let builder = Bulkhead::builder(config(4)).on_worker_stop(move |index| {
            let _ = sender.send(index);
            stops[index].pass();
        });
        let bulkhead = builder.build().expect("there is room for four");
        let mut others = Others::new();
        bulkhead.resize(2, 10).unwrap();
        let leavers = [(); 2].map(|()| leavers.recv_timeout(PATIENCE).unwrap());
        // Those that leave are there until they have left.
        bulkhead.resize(4, 10).unwrap();
        for (leaver, left) in leavers.into_iter().zip([3, 2]) {
            // Its stack is the last for which there is room.
            gates[leaver].open();
            eventually("nobody takes its stead", || {
                bulkhead.stats().worker_threads == left
            });
            others.take_the_room();
        }
        gates.iter().for_each(Gate::open);
        bulkhead.resize(3, 10).expect("it is fewer");
        assert_eq!(bulkhead.max_concurrent_calls(), 3);
        let busy = occupy(&bulkhead, 2);
        let waiting = bulkhead.run(|| 7);
        busy.finish();
        assert_eq!(wait(waiting).value(), Some(&7));
        drop(others);
        assert!(bulkhead.shutdown().is_clean());
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
