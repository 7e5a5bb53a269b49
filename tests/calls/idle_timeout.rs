//! Workers that start when there is work for them, and leave when there has been none.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{BuildError, Bulkhead, BulkheadConfig, BulkheadState};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, config, eventually, named, occupy, threads_named,
    wait,
};

/// Too short for anything but to be over.
const SHORT: Duration = Duration::from_millis(1);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

fn on_demand(n: usize, q: usize, idle: Duration) -> Bulkhead {
    Bulkhead::new(config(n, q).idle_timeout(idle)).unwrap()
}

fn workers(bulkhead: &Bulkhead) -> u64 {
    bulkhead.stats().worker_threads
}

#[test]
fn there_is_no_worker_before_there_is_work() {
    let bulkhead = Bulkhead::new(named("lazybones", 4, 4).idle_timeout(LONG)).unwrap();
    assert_eq!(workers(&bulkhead), 0);
    assert_eq!(threads_named("lazybones-"), 0);
    assert_eq!(bulkhead.available_capacity(), 8);
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn the_first_call_starts_one_worker() {
    let bulkhead = on_demand(4, 4, LONG);
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(workers(&bulkhead), 1);
}

#[test]
fn as_many_workers_start_as_are_needed_and_no_more_than_n() {
    let bulkhead = on_demand(3, 5, LONG);
    for n in 1..=3 {
        let busy = occupy(&bulkhead, n);
        // Perhaps one more: a worker that has told an outcome is not free at that moment, but a moment later.
        assert!((n as u64..=3).contains(&workers(&bulkhead)));
        busy.finish();
    }
    let busy = occupy(&bulkhead, 3);
    let queued: Vec<_> = (0..5).map(|_| bulkhead.run(|| ())).collect();
    assert!(bulkhead.try_run(|| ()).is_err(), "exactly N + Q");
    assert_eq!(workers(&bulkhead), 3);
    assert_balanced(&bulkhead.stats());
    busy.finish();
    for handle in queued {
        assert!(wait(handle).is_success());
    }
}

#[test]
fn idle_workers_leave_and_new_ones_come() {
    let bulkhead = on_demand(3, 3, SHORT);
    for _ in 0..5 {
        occupy(&bulkhead, 3).finish();
        eventually("all have left", || workers(&bulkhead) == 0);
    }
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (15, 0));
}

#[test]
fn a_busy_worker_does_not_leave() {
    let bulkhead = on_demand(2, 0, SHORT);
    let busy = occupy(&bulkhead, 1);
    let other = wait(bulkhead.run(|| ()));
    assert!(other.is_success());
    eventually("the idle one has left", || workers(&bulkhead) == 1);
    busy.finish();
    eventually("and then the other", || workers(&bulkhead) == 0);
}

#[test]
fn calls_that_come_while_workers_leave_are_not_lost() {
    // About as long as the next call takes to come.
    let bulkhead = on_demand(2, 8, Duration::from_micros(30));
    for round in 0..3_000 {
        let handles = [0, 1].map(|i| bulkhead.run(move || round + i));
        for (i, handle) in handles.into_iter().enumerate() {
            assert_eq!(wait(handle).into_result().unwrap(), round + i);
        }
        if round % 3 == 0 {
            thread::park_timeout(Duration::from_micros(40));
        }
    }
}

#[test]
fn hooks_run_around_each_life_and_no_two_workers_share_an_index() {
    let lives = Arc::new(Mutex::new(Vec::new()));
    let (started, stopped) = (Arc::clone(&lives), Arc::clone(&lives));
    let bulkhead = Bulkhead::builder(config(2, 8).idle_timeout(Duration::from_micros(50)))
        .on_worker_start(move |index| started.lock().unwrap().push((index, true)))
        .on_worker_stop(move |index| {
            thread::yield_now();
            stopped.lock().unwrap().push((index, false));
        })
        .build()
        .unwrap();
    for _ in 0..300 {
        let handles = [(); 3].map(|()| bulkhead.run(|| ()));
        for handle in handles {
            assert!(wait(handle).is_success());
        }
        thread::park_timeout(Duration::from_micros(100));
    }
    assert!(bulkhead.shutdown().is_clean());
    let lives = lives.lock().unwrap();
    for index in 0..2 {
        let of_index = lives.iter().filter(|(i, _)| *i == index);
        assert!(of_index.zip(0..).all(|((_, up), i)| *up == (i % 2 == 0)));
    }
    assert!(lives.iter().all(|(index, _)| *index < 2));
    assert_eq!(lives.len() % 2, 0, "who has started has stopped");
}

#[test]
fn queued_calls_are_worked_off_after_a_close() {
    let bulkhead = on_demand(1, 20, SHORT);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let first = bulkhead.run(move || gate.pass());
    let queued: Vec<_> = (0..20).map(|_| bulkhead.run(|| ())).collect();
    bulkhead.close();
    drop(opener);
    assert!(bulkhead.wait_closed(PATIENCE));
    assert!(wait(first).is_success());
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    assert_eq!(workers(&bulkhead), 0);
}

#[test]
fn a_shutdown_that_cancels_needs_no_worker() {
    let bulkhead = on_demand(1, 4, LONG);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    let report = bulkhead.shutdown_now();
    assert_eq!((report.cancelled, report.still_running.len()), (1, 1));
    assert!(wait(queued).error().is_some());
    busy.finish();
    assert!(bulkhead.wait_closed(PATIENCE));
}

#[test]
fn a_task_that_waits_for_its_own_bulkhead_does_not_hang() {
    let bulkhead = Arc::new(on_demand(1, 2, SHORT));
    for _ in 0..50 {
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || inner.run(|| 7).wait().into_result().unwrap());
        assert_eq!(wait(outer).into_result().unwrap(), 7);
    }
}

#[test]
fn a_resize_starts_only_the_workers_that_are_needed() {
    let bulkhead = on_demand(1, 4, LONG);
    bulkhead.resize(5, 4).unwrap();
    assert_eq!(workers(&bulkhead), 0);
    bulkhead.resize(1, 4).unwrap();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handles: Vec<_> = (0..4)
        .map(|_| {
            let gate = gate.clone();
            bulkhead.run(move || gate.pass())
        })
        .collect();
    gate.wait_for_arrivals(1);
    bulkhead.resize(3, 4).unwrap();
    gate.wait_for_arrivals(3);
    assert_eq!(workers(&bulkhead), 3);
    bulkhead.resize(1, 4).unwrap();
    drop(opener);
    for handle in handles {
        assert!(wait(handle).is_success());
    }
    eventually("two have left", || workers(&bulkhead) == 1);
}

#[test]
fn the_last_reference_may_go_while_a_worker_leaves() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        let dropped = Arc::clone(&dropped);
        let bulkhead = Arc::new(on_demand(2, 2, Duration::from_micros(20)));
        let inner = Arc::clone(&bulkhead);
        let handle = bulkhead.run(move || drop(inner));
        drop(bulkhead);
        let _ = wait(handle);
        dropped.fetch_add(1, SeqCst);
    }
    assert_eq!(dropped.load(SeqCst), 200);
}

#[test]
fn a_timeout_of_zero_is_an_error_and_one_beyond_the_clock_is_for_ever() {
    let error = Bulkhead::new(config(1, 1).idle_timeout(Duration::ZERO)).expect_err("zero");
    assert!(matches!(
        error,
        BuildError::InvalidValue {
            field: "idle_timeout",
            ..
        }
    ));
    let bulkhead = on_demand(1, 1, Duration::MAX);
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(workers(&bulkhead), 1);
    assert_eq!(BulkheadConfig::new("x").idle_timeout, None, "the default");
}
