//! Other limits while callers run and wait.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use bulkman::{BuildError, BulkheadEvent, SemaphoreBulkhead};

use crate::support::{Gate, OpenOnDrop, PATIENCE, assert_balanced, config, eventually};

fn bulkhead(n: usize, q: usize) -> SemaphoreBulkhead {
    SemaphoreBulkhead::new(config(n, q)).unwrap()
}

#[test]
fn callers_that_wait_get_the_new_slots() {
    for fair in [true, false] {
        let bulkhead = SemaphoreBulkhead::builder(config(1, 2));
        let bulkhead = bulkhead.fair(fair).build().unwrap();
        let all = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| bulkhead.run(|| all.wait()));
            }
            eventually("two wait", || bulkhead.stats().queued_tasks == 2);
            bulkhead.resize(3, 2).unwrap();
            all.wait();
        });
        assert_eq!(bulkhead.available_capacity(), 5);
        assert_balanced(&bulkhead.stats());
    }
}

#[test]
fn exactly_as_many_run_as_the_new_limits_say() {
    for (from, to) in [(1, 4), (4, 1), (3, 2), (2, 70), (70, 2)] {
        let bulkhead = bulkhead(from, 0);
        bulkhead.resize(to, 0).unwrap();
        let guards: Vec<_> = (0..to).map(|_| bulkhead.try_acquire().unwrap()).collect();
        assert!(bulkhead.try_acquire().is_err(), "from {from} to {to}");
        let stats = bulkhead.stats();
        assert_eq!(
            (stats.in_flight, stats.max_concurrent_calls),
            (to as u64, to as u64)
        );
        assert_balanced(&stats);
        drop(guards);
        assert_eq!(bulkhead.available_capacity(), to);
    }
}

#[test]
fn nobody_is_admitted_until_fewer_are_there() {
    let bulkhead = bulkhead(3, 0);
    let mut guards: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.resize(1, 0).unwrap();
    while let Some(guard) = guards.pop() {
        assert!(
            bulkhead.try_acquire().is_err(),
            "{} still run",
            guards.len() + 1
        );
        assert_eq!(bulkhead.available_capacity(), 0);
        drop(guard);
    }
    let guard = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.try_acquire().is_err());
    drop(guard);
}

#[test]
fn a_slot_that_goes_does_not_go_to_a_caller_that_waits() {
    let bulkhead = bulkhead(2, 2);
    let gates = [Gate::new(), Gate::new()];
    let _openers = gates.clone().map(OpenOnDrop);
    let last = AtomicUsize::new(0);
    thread::scope(|scope| {
        for gate in &gates {
            scope.spawn(|| bulkhead.run(|| gate.pass()));
            gate.wait_for_arrivals(1);
        }
        scope.spawn(|| bulkhead.run(|| last.fetch_add(1, SeqCst)));
        eventually("one waits", || bulkhead.stats().queued_tasks == 1);
        bulkhead.resize(1, 2).unwrap();
        gates[0].open();
        eventually("one has ended", || bulkhead.stats().active_tasks == 1);
        assert_eq!(
            last.load(SeqCst),
            0,
            "one runs, and one is all that there is"
        );
        gates[1].open();
    });
    assert_eq!(last.load(SeqCst), 1);
    assert_eq!(bulkhead.available_capacity(), 3);
}

#[test]
fn a_caller_that_waits_for_a_place_gets_a_new_one() {
    let bulkhead = bulkhead(1, 0);
    let guard = bulkhead.try_acquire().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| bulkhead.call().wait_for_capacity(PATIENCE).run(|| 7));
        bulkhead.resize(2, 0).unwrap();
        assert_eq!(waiting.join().unwrap().value(), Some(&7));
    });
    drop(guard);
}

#[test]
fn a_task_may_change_the_limits_of_its_own_bulkhead() {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let bulkhead = SemaphoreBulkhead::builder(config(2, 1))
        .on_event(move |event| {
            if let BulkheadEvent::Resized { .. } = event {
                count.fetch_add(1, SeqCst);
            }
        })
        .build()
        .unwrap();
    let result = bulkhead.run(|| {
        bulkhead.resize(1, 0).unwrap();
        // Nested, in the slot that is there.
        bulkhead.run(|| 7).into_result().is_err()
    });
    assert_eq!(
        result.value(),
        Some(&true),
        "the place is taken by the outer call"
    );
    assert_eq!(bulkhead.available_capacity(), 1);
    assert_eq!(heard.load(SeqCst), 1);
}

#[test]
fn limits_out_of_range_and_a_shutdown_are_errors() {
    let bulkhead = bulkhead(2, 3);
    assert!(matches!(
        bulkhead.resize(0, 3),
        Err(BuildError::InvalidValue { .. })
    ));
    assert_eq!(
        (bulkhead.max_concurrent_calls(), bulkhead.max_queue_size()),
        (2, 3)
    );
    bulkhead.shutdown();
    assert!(matches!(
        bulkhead.resize(3, 3),
        Err(BuildError::ShutDown { .. })
    ));
    assert_eq!(bulkhead.available_capacity(), 0);
}

#[test]
fn callers_at_any_rate_of_change_all_get_through() {
    let bulkhead = bulkhead(2, 100);
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..2_000 {
                    assert_eq!(bulkhead.run(|| round).into_result().unwrap(), round);
                }
                over.fetch_add(1, SeqCst);
            });
        }
        while over.load(SeqCst) < 4 {
            for n in [1, 3, 2, 8] {
                bulkhead.resize(n, 100).unwrap();
            }
        }
    });
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (8_000, 0));
    bulkhead.resize(3, 0).unwrap();
    let guards = [(); 3].map(|()| bulkhead.try_acquire().unwrap());
    assert!(bulkhead.try_acquire().is_err());
    drop(guards);
}
