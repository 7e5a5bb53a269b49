//! Exactly N + Q calls fit: never one fewer, never one more.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bulkman::{Bulkhead, BulkheadError, ExecutionHandle};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, eventually, occupy, wait,
};

/// N and Q.
const SHAPES: [(usize, usize); 6] = [(1, 0), (1, 1), (3, 0), (2, 5), (4, 1), (1, 40)];

/// Submits calls that stay in until the gate opens.
fn submit(bulkhead: &Bulkhead, gate: &Gate, calls: usize) -> Vec<ExecutionHandle<(), Infallible>> {
    (0..calls)
        .map(|_| {
            let gate = gate.clone();
            bulkhead.run(move || gate.pass())
        })
        .collect()
}

#[test]
fn exactly_n_plus_q_calls_fit_and_the_next_is_refused() {
    for (n, q) in SHAPES {
        let bulkhead = bulkhead(n, q);
        let gate = Gate::new();
        let _opener = OpenOnDrop(gate.clone());
        let handles = submit(&bulkhead, &gate, n + q);
        for (i, handle) in handles.iter().enumerate() {
            assert!(!handle.is_finished(), "N={n} Q={q}: call {i} was refused");
        }

        let refused = bulkhead.run(|| ());
        assert!(refused.is_finished(), "N={n} Q={q}: one too many got in");
        match wait(refused).into_result() {
            Err(BulkheadError::Full {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                waited,
            }) => {
                assert_eq!(&*bulkhead, "test");
                assert_eq!((max_concurrent_calls, max_queue_size), (n, q));
                assert_eq!(waited, None, "nobody asked it to wait");
            }
            other => panic!("N={n} Q={q}: {other:?}"),
        }

        gate.open();
        for handle in handles {
            assert!(wait(handle).is_success());
        }
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, (n + q) as u64);
        assert_eq!(stats.rejected_full, 1);
        assert_eq!(stats.submitted_executions, (n + q + 1) as u64);
        assert_balanced(&stats);
    }
}

#[test]
fn a_full_bulkhead_takes_one_call_for_each_that_ends() {
    let bulkhead = bulkhead(1, 2);
    let mut inside = VecDeque::new();
    let submit_one = |inside: &mut VecDeque<_>| {
        let gate = Gate::new();
        let handle = submit(&bulkhead, &gate, 1).remove(0);
        inside.push_back((OpenOnDrop(gate), handle));
    };
    for _ in 0..3 {
        submit_one(&mut inside);
    }
    for _ in 0..100 {
        assert!(bulkhead.run(|| ()).is_finished(), "it was full");
        let (gate, first) = inside.pop_front().unwrap();
        drop(gate);
        assert!(wait(first).is_success());
        submit_one(&mut inside);
        assert!(
            !inside[2].1.is_finished(),
            "a place was free, and the call was refused"
        );
    }
    for (gate, handle) in inside {
        drop(gate);
        assert!(wait(handle).is_success());
    }
}

#[test]
fn a_burst_of_n_plus_q_on_an_idle_pool_loses_none() {
    for (n, q) in SHAPES {
        let bulkhead = bulkhead(n, q);
        for round in 0..300 {
            let gate = Gate::new();
            let _opener = OpenOnDrop(gate.clone());
            let handles = submit(&bulkhead, &gate, n + q);
            let refused = handles.iter().filter(|h| h.is_finished()).count();
            assert_eq!(refused, 0, "N={n} Q={q}, round {round}");
            assert_eq!(bulkhead.available_capacity(), 0);
            gate.open();
            for handle in handles {
                assert!(wait(handle).is_success());
            }
        }
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    }
}

#[test]
fn a_burst_of_n_plus_q_short_tasks_loses_none() {
    let bulkhead = bulkhead(2, 6);
    for round in 0..2_000 {
        let handles: Vec<_> = (0..8).map(|i| bulkhead.run(move || i)).collect();
        for (i, handle) in handles.into_iter().enumerate() {
            assert_eq!(wait(handle).value(), Some(&i), "round {round}");
        }
    }
}

#[test]
fn a_sequential_caller_is_never_refused() {
    let bulkhead = bulkhead(1, 0);
    for i in 0..10_000 {
        let result = wait(bulkhead.run(move || i));
        assert_eq!(result.value(), Some(&i), "{result:?}");
    }
}

#[test]
fn a_sequential_caller_is_never_refused_whatever_its_tasks_do() {
    let bulkhead = bulkhead(1, 0);
    for i in 0..3_000 {
        let result = wait(bulkhead.execute(move || match i % 3 {
            0 => Ok(()),
            1 => Err("no"),
            // Unlike `panic!` it prints nothing.
            _ => resume_unwind(Box::new("a panic")),
        }));
        match (i % 3, &result.result) {
            (0, Ok(())) | (1, Err(BulkheadError::Failed("no"))) => {}
            (2, Err(BulkheadError::Panicked(panic))) => assert_eq!(panic.message(), "a panic"),
            other => panic!("call {i}: {other:?}"),
        }
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.successful_executions, 1_000);
    assert_eq!(stats.failed_executions, 1_000);
    assert_eq!(stats.panicked_executions, 1_000);
    assert_balanced(&stats);
}

#[test]
fn a_sequential_caller_that_awaits_is_never_refused() {
    let bulkhead = bulkhead(1, 0);
    for i in 0..5_000 {
        let result = pollster::block_on(bulkhead.run(move || i));
        assert_eq!(result.value(), Some(&i), "{result:?}");
    }
}

#[test]
fn the_place_is_free_as_soon_as_a_handle_says_finished() {
    let bulkhead = bulkhead(1, 0);
    for i in 0..3_000 {
        let handle = bulkhead.run(|| ());
        while !handle.is_finished() {
            thread::yield_now();
        }
        assert_eq!(bulkhead.available_capacity(), 1, "call {i}");
        assert!(wait(handle).is_success(), "call {i}");
    }
}

#[test]
fn as_many_sequential_callers_as_workers_are_never_refused() {
    for n in [2, 3] {
        let bulkhead = bulkhead(n, 0);
        thread::scope(|scope| {
            for _ in 0..n {
                scope.spawn(|| {
                    for i in 0..2_000 {
                        let result = wait(bulkhead.run(move || i));
                        assert_eq!(result.value(), Some(&i), "{result:?}");
                    }
                });
            }
        });
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, 2_000 * n as u64);
        assert_eq!(stats.rejected_executions, 0);
    }
}

#[test]
fn as_many_sequential_callers_as_places_are_never_refused() {
    let bulkhead = bulkhead(2, 3);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for i in 0..1_000 {
                    let result = wait(bulkhead.run(move || i));
                    assert_eq!(result.value(), Some(&i), "{result:?}");
                }
            });
        }
    });
    assert_eq!(bulkhead.stats().rejected_executions, 0);
}

/// Lets `callers` threads submit one call each at the same moment, again and again, and returns how
/// many were refused in each round.
fn concurrent_bursts(n: usize, q: usize, callers: usize) -> Vec<usize> {
    const ROUNDS: usize = 100;
    let bulkhead = bulkhead(n, q);
    let gates: Vec<Gate> = (0..ROUNDS).map(|_| Gate::new()).collect();
    let refused: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(callers);
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                for (gate, refused) in gates.iter().zip(&refused) {
                    barrier.wait();
                    let handle = bulkhead.run({
                        let gate = gate.clone();
                        move || gate.pass()
                    });
                    if handle.is_finished() {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    // Nobody is let out before everybody has knocked.
                    if barrier.wait().is_leader() {
                        gate.open();
                    }
                    drop(handle.wait_timeout(PATIENCE));
                }
            });
        }
    });
    assert_balanced(&bulkhead.stats());
    refused.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn a_burst_from_n_plus_q_threads_at_once_loses_none() {
    for (n, q) in [(1, 1), (3, 0), (2, 5)] {
        let refused = concurrent_bursts(n, q, n + q);
        assert!(refused.iter().all(|&r| r == 0), "N={n} Q={q}: {refused:?}");
    }
}

#[test]
fn of_more_threads_than_places_exactly_the_surplus_is_refused() {
    for (n, q) in [(1, 0), (2, 3)] {
        let refused = concurrent_bursts(n, q, n + q + 3);
        assert!(refused.iter().all(|&r| r == 3), "N={n} Q={q}: {refused:?}");
    }
}

#[test]
fn no_more_than_n_run_at_a_time() {
    let bulkhead = bulkhead(2, 30);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let handles: Vec<_> = (0..32)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                bulkhead.run(move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for handle in handles {
            assert!(wait(handle).is_success());
        }
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} ran at a time");
}

#[test]
fn n_do_run_at_a_time() {
    for n in [1, 2, 5] {
        let bulkhead = bulkhead(n, 3);
        // Returns only once all of them have started.
        let busy = occupy(&bulkhead, n);
        let queued = bulkhead.run(|| ());
        let stats = bulkhead.stats();
        assert_eq!(stats.active_tasks, n as u64);
        assert_eq!(stats.queued_tasks, 1);
        busy.finish();
        assert!(wait(queued).is_success());
    }
}

#[test]
fn available_capacity_counts_the_free_places() {
    let bulkhead = Arc::new(bulkhead(2, 3));
    assert_eq!(bulkhead.available_capacity(), 5);
    let busy = occupy(&bulkhead, 2);
    assert_eq!(bulkhead.available_capacity(), 3);
    let mut queued = Vec::new();
    for left in (0..3).rev() {
        queued.push(bulkhead.run(|| ()));
        assert_eq!(bulkhead.available_capacity(), left);
    }
    drop(bulkhead.run(|| ()));
    assert_eq!(bulkhead.available_capacity(), 0, "a refusal takes nothing");
    assert!(queued.pop().unwrap().cancel());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    assert_eq!(bulkhead.available_capacity(), 5);

    // The task itself still holds its place.
    let inside = Arc::clone(&bulkhead);
    let seen = wait(bulkhead.run(move || inside.available_capacity()));
    assert_eq!(seen.value(), Some(&4));

    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(bulkhead.available_capacity(), 0, "nothing is admitted now");
}

#[test]
fn one_worker_runs_calls_in_the_order_they_came() {
    let bulkhead = bulkhead(1, 100);
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = occupy(&bulkhead, 1);
    let handles: Vec<_> = (0..100)
        .map(|i| {
            let order = Arc::clone(&order);
            bulkhead.run(move || order.lock().unwrap().push(i))
        })
        .collect();
    busy.finish();
    for handle in handles {
        assert!(wait(handle).is_success());
    }
    let order = order.lock().unwrap();
    assert!(order.iter().copied().eq(0..100), "{order:?}");
}

#[test]
fn a_detached_call_gives_its_place_back() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..200 {
        let gate = Gate::new();
        let _opener = OpenOnDrop(gate.clone());
        for handle in submit(&bulkhead, &gate, 2) {
            assert!(!handle.is_finished());
            drop(handle);
        }
        assert_eq!(bulkhead.available_capacity(), 0);
        gate.open();
        eventually("both places are free", || {
            bulkhead.available_capacity() == 2
        });
    }
    assert_eq!(bulkhead.stats().rejected_executions, 0);
}
