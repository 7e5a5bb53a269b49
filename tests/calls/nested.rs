//! A task may call its own bulkhead and wait: it never waits for the worker that it occupies itself.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadError, BulkheadState, ExecutionHandle, ShutdownReport};

use crate::support;
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, config, eventually, occupy, with_clock,
};

/// Runs `task` on a worker of a bulkhead with N workers and Q places, and fails if it hangs.
fn on_a_worker<R: Send + 'static>(
    n: usize,
    q: usize,
    task: impl FnOnce(&Arc<Bulkhead>) -> R + Send + 'static,
) -> R {
    on_a_worker_of(Arc::new(bulkhead(n, q)), task)
}

fn on_a_worker_of<R: Send + 'static>(
    bulkhead: Arc<Bulkhead>,
    task: impl FnOnce(&Arc<Bulkhead>) -> R + Send + 'static,
) -> R {
    let (done, result) = mpsc::channel();
    let handle = {
        let bulkhead = Arc::clone(&bulkhead);
        bulkhead.clone().run(move || done.send(task(&bulkhead)))
    };
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            assert!(handle.wait().is_success());
            let stats = bulkhead.stats();
            assert_balanced(&stats);
            assert_eq!(stats.in_flight, 0);
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // Its workers are stuck: dropping it would hang too.
            std::mem::forget(bulkhead);
            panic!("the task hangs");
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => match handle.wait().into_result() {
            Err(BulkheadError::Panicked(panic)) => panic.resume(),
            other => panic!("no result, but {:?}", other.map(drop)),
        },
    }
}

// ---- every way to wait

#[test]
fn wait_with_one_worker() {
    let value = on_a_worker(1, 1, |bulkhead| bulkhead.run(|| 6 * 7).wait().into_result());
    assert_eq!(value.unwrap(), 42);
}

#[test]
fn wait_timeout_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let result = bulkhead.run(|| 42).wait_timeout(Duration::from_nanos(1));
        assert_eq!(result.expect("run here, so in time").value(), Some(&42));
    });
}

#[test]
fn wait_deadline_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let result = bulkhead.run(|| 42).wait_deadline(Instant::now());
        assert_eq!(result.expect("run here, so in time").value(), Some(&42));
    });
}

#[test]
fn execute_with_timeout_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let result = bulkhead.execute_with_timeout(PATIENCE, || Ok::<_, ()>(42));
        assert_eq!(result.value(), Some(&42));
    });
}

#[test]
fn await_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let handle = bulkhead.run(|| 42);
        let value = pollster::block_on(async { handle.await.into_result() });
        assert_eq!(value.unwrap(), 42);
    });
}

#[test]
fn wait_of_a_handle_that_cancels_on_drop_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let handle = bulkhead.run(|| 42).cancel_on_drop();
        assert_eq!(handle.wait().value(), Some(&42));
        let handle = bulkhead.run(|| 43).cancel_on_drop();
        assert_eq!(pollster::block_on(handle).value(), Some(&43));
    });
}

#[test]
fn a_wrapped_function_with_one_worker() {
    on_a_worker(1, 1, |bulkhead| {
        let double = bulkhead.wrap(|n: u32| Ok::<_, ()>(2 * n));
        assert_eq!(double(21).value(), Some(&42));
    });
}

// ---- depth and width

fn down(bulkhead: &Arc<Bulkhead>, levels: u32) -> u32 {
    if levels == 0 {
        return 0;
    }
    let inner = Arc::clone(bulkhead);
    let result = bulkhead.run(move || down(&inner, levels - 1)).wait();
    1 + result
        .into_result()
        .expect("there is a place for each level")
}

#[test]
fn as_many_levels_as_there_are_places() {
    assert_eq!(on_a_worker(1, 50, |bulkhead| down(bulkhead, 50)), 50);
}

#[test]
fn one_level_more_is_refused_as_full_and_does_not_hang() {
    fn down_until_refused(bulkhead: &Arc<Bulkhead>) -> u32 {
        let inner = Arc::clone(bulkhead);
        match bulkhead
            .run(move || down_until_refused(&inner))
            .wait()
            .into_result()
        {
            Ok(levels) => 1 + levels,
            Err(BulkheadError::Full { .. }) => 0,
            Err(other) => panic!("{other}"),
        }
    }

    assert_eq!(on_a_worker(1, 20, down_until_refused), 20);
    assert_eq!(on_a_worker(1, 0, down_until_refused), 0);
}

#[test]
fn all_workers_nest_at_once() {
    const N: usize = 4;

    let bulkhead = Arc::new(bulkhead(N, N));
    let all_in = Arc::new(Barrier::new(N));
    let (done, results) = mpsc::channel();
    for i in 0..N {
        let (bulkhead, all_in) = (Arc::clone(&bulkhead), Arc::clone(&all_in));
        let done = done.clone();
        drop(bulkhead.clone().run(move || {
            all_in.wait();
            let inner = bulkhead.run(move || i);
            // Now each worker waits, and no place is left.
            all_in.wait();
            done.send(inner.wait().into_result().unwrap()).unwrap();
        }));
    }
    let mut values: Vec<_> = (0..N)
        .map(|_| results.recv_timeout(PATIENCE).expect("no hang"))
        .collect();
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2, 3]);
}

#[test]
fn several_inner_calls_waited_for_in_any_order() {
    on_a_worker(1, 10, |bulkhead| {
        for backwards in [false, true, true, false] {
            let mut handles: Vec<_> = (0..10).map(|i| (i, bulkhead.run(move || i))).collect();
            if backwards {
                handles.reverse();
            }
            for (i, handle) in handles {
                assert_eq!(handle.wait().value(), Some(&i));
            }
            assert_eq!(bulkhead.available_capacity(), 10);
        }
    });
}

#[test]
fn a_tree_of_calls_on_two_workers() {
    /// Refused branches are computed in place, as a user would.
    fn fib(bulkhead: &Arc<Bulkhead>, n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let inner = Arc::clone(bulkhead);
        let left = bulkhead.try_execute(move || Ok::<_, ()>(fib(&inner, n - 1)));
        let right = fib(bulkhead, n - 2);
        let left = match left {
            Ok(handle) => handle.wait().into_result().unwrap(),
            Err(rejected) => (rejected.task)().unwrap(),
        };
        left + right
    }

    for _ in 0..20 {
        assert_eq!(on_a_worker(2, 12, |bulkhead| fib(bulkhead, 14)), 377);
    }
}

#[test]
fn an_inner_call_that_another_worker_has_begun_is_waited_for() {
    on_a_worker(2, 1, |bulkhead| {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let inner = {
            let gate = gate.clone();
            bulkhead.run(move || {
                gate.pass();
                thread::current().id()
            })
        };
        gate.wait_for_arrivals(1);
        let Err(inner) = inner.wait_timeout(Duration::from_millis(1)) else {
            panic!("it is at the gate");
        };
        drop(opener);
        let elsewhere = inner.wait().into_result().unwrap();
        assert_ne!(elsewhere, thread::current().id());
    });
}

#[test]
fn a_task_may_wait_for_a_call_that_was_submitted_outside() {
    let bulkhead = Arc::new(bulkhead(1, 2));
    let (send, receive) = mpsc::channel::<ExecutionHandle<&str, _>>();
    let outer = bulkhead.run(move || {
        let handle = receive.recv_timeout(PATIENCE).expect("the handle");
        handle.wait().into_result()
    });
    send.send(bulkhead.run(|| "from outside")).unwrap();
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(outer.wait().into_result()));
    let value = result.recv_timeout(PATIENCE).expect("no hang");
    assert_eq!(value.unwrap().unwrap(), "from outside");
}

// ---- refusals

#[test]
fn without_a_queue_an_inner_call_is_refused() {
    on_a_worker(1, 0, |bulkhead| {
        let result = bulkhead.run(|| ()).wait();
        assert!(matches!(result.error(), Some(BulkheadError::Full { .. })));
    });
}

#[test]
fn a_worker_never_blocks_for_a_place_of_its_own_bulkhead() {
    on_a_worker(1, 0, |bulkhead| {
        let call = bulkhead.call().wait_for_capacity(Duration::MAX);
        match call.run(|| ()).wait().into_result() {
            Err(BulkheadError::Full { waited, .. }) => {
                assert!(waited.is_some(), "the caller did ask to wait");
            }
            other => panic!("not refused: {other:?}"),
        }
    });
}

#[test]
fn a_worker_of_another_bulkhead_may_block_for_a_place() {
    let theirs = Arc::new(bulkhead(1, 0));
    let busy = occupy(&theirs, 1);
    let (asks, asked) = mpsc::channel();
    let (done, result) = mpsc::channel();
    let ours = bulkhead(1, 0);
    {
        let theirs = Arc::clone(&theirs);
        drop(ours.run(move || {
            asks.send(()).unwrap();
            let call = theirs.call().wait_for_capacity(PATIENCE);
            done.send(call.run(|| "got in").wait().into_result())
                .unwrap();
        }));
    }
    asked.recv_timeout(PATIENCE).unwrap();
    busy.finish();
    let value = result.recv_timeout(PATIENCE).expect("no hang");
    assert_eq!(value.unwrap(), "got in");
}

// ---- outcomes of inner calls

#[test]
fn an_inner_failure_stays_in_the_inner_call() {
    on_a_worker(1, 1, |bulkhead| {
        let result = bulkhead.execute(|| Err::<(), _>("inner")).wait();
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Failed("inner"))
        ));
    });
}

#[test]
fn an_inner_panic_stays_in_the_inner_call() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    on_a_worker_of(Arc::clone(&bulkhead), |bulkhead| {
        let handle = bulkhead.run(|| panic!("inner"));
        let result: bulkman::ExecutionResult<(), _> = handle.wait();
        match result.into_result() {
            Err(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "inner"),
            other => panic!("no panic: {other:?}"),
        }
        assert!(bulkman::current().is_some(), "the outer task goes on");
    });
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.panicked_executions, stats.successful_executions),
        (1, 1)
    );
}

#[test]
fn an_outer_panic_detaches_the_inner_call() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let ran = Arc::new(AtomicUsize::new(0));
    let outer = {
        let (bulkhead, ran) = (Arc::clone(&bulkhead), Arc::clone(&ran));
        bulkhead.clone().run(move || {
            let _inner = bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed));
            panic!("outer");
        })
    };
    let result: bulkman::ExecutionResult<(), _> = support::wait(outer);
    assert!(matches!(result.error(), Some(BulkheadError::Panicked(_))));
    eventually("the inner task runs", || ran.load(Ordering::Relaxed) == 1);
}

#[test]
fn an_inner_call_that_expired_does_not_run() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    on_a_worker_of(bulkhead, move |bulkhead| {
        let second = Duration::from_secs(1);
        let handle = bulkhead.call().queue_timeout(second).run(|| ());
        clock.advance(second);
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        let handle = bulkhead.call().timeout(second).run(|| ());
        clock.advance(second);
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
        let stats = bulkhead.stats();
        assert_eq!(stats.timed_out_executions, 2);
        assert_eq!(stats.total_executions, 1, "the outer one");
    });
}

#[test]
fn an_inner_call_that_was_cancelled_does_not_run() {
    on_a_worker(1, 1, |bulkhead| {
        let handle = bulkhead.run(|| ());
        assert!(handle.cancel());
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::Cancelled {
                by_shutdown: false,
                ..
            })
        ));
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

#[test]
fn an_inner_call_that_runs_into_its_callers_limit_ends_the_wait_when_it_is_run_elsewhere() {
    let (bulkhead, clock) = with_clock(config(2, 1));
    on_a_worker_of(bulkhead, move |bulkhead| {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let limit = Duration::from_secs(1);
        let inner = bulkhead.call().timeout(limit).run(move || at_gate.pass());
        gate.wait_for_arrivals(1);
        clock.advance(limit);
        assert!(matches!(
            inner.wait().error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ));
        drop(opener);
        eventually("it has ended", || bulkhead.stats().active_tasks == 1);
    });
}

// ---- what an inner task sees

#[test]
fn current_is_the_inner_call_inside_and_the_outer_one_again_after() {
    on_a_worker(1, 2, |bulkhead| {
        let outer = bulkman::current().expect("on a worker").execution_id();
        let handle = bulkhead.call().operation("inner").run(|| {
            let call = bulkman::current().expect("on a worker");
            (call.execution_id(), call.operation().map(str::to_owned))
        });
        let id = handle.execution_id();
        let (seen, operation) = handle.wait().into_result().unwrap();
        assert_eq!(seen, id);
        assert_ne!(seen, outer);
        assert_eq!(operation.as_deref(), Some("inner"));
        let again = bulkman::current().expect("still on a worker");
        assert_eq!(again.execution_id(), outer);
        assert_eq!(again.operation(), None);

        let panics = bulkhead.run(|| panic!("inner"));
        let result: bulkman::ExecutionResult<(), _> = panics.wait();
        assert!(!result.is_success());
        let again = bulkman::current().expect("still on a worker");
        assert_eq!(again.execution_id(), outer, "also after a panic");
    });
    assert!(bulkman::current().is_none());
}

#[test]
fn the_ledger_balances_in_the_middle_of_nesting() {
    on_a_worker(1, 3, |bulkhead| {
        let inner = Arc::clone(bulkhead);
        let handle = bulkhead.run(move || {
            let innermost = Arc::clone(&inner);
            inner.run(move || innermost.stats()).wait()
        });
        let waiting = bulkhead.stats();
        assert_balanced(&waiting);
        assert_eq!((waiting.active_tasks, waiting.queued_tasks), (1, 1));
        assert_eq!(waiting.total_executions, 1);

        let result = handle.wait().into_result().unwrap();
        let deep = result.into_result().unwrap();
        assert_balanced(&deep);
        assert_eq!(deep.active_tasks, 1, "one worker is one running task");
        assert_eq!(deep.in_flight, 3);
        assert_eq!(deep.total_executions, 3);

        let after = bulkhead.stats();
        assert_balanced(&after);
        assert_eq!(after.successful_executions, 2);
        assert_eq!((after.active_tasks, after.queued_tasks), (1, 0));
    });
}

#[test]
fn no_more_than_n_workers_ever_run_at_the_same_time() {
    const N: usize = 2;

    let bulkhead = Arc::new(bulkhead(N, 60));
    // Only leaves count: a task that waits does not run.
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let (bulkhead, running) = (Arc::clone(&bulkhead), Arc::clone(&running));
            let most = Arc::clone(&most);
            bulkhead.clone().run(move || {
                let leaf = bulkhead.run(move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    for _ in 0..100 {
                        thread::yield_now();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
                leaf.wait().into_result().unwrap();
            })
        })
        .collect();
    for handle in handles {
        assert!(support::wait(handle).is_success());
    }
    assert!(most.load(Ordering::SeqCst) <= N);
}

// ---- while the bulkhead ends

/// Ends the bulkhead while a task has an inner call queued, and gives what that call came to.
fn nested_while_ending(
    end: fn(&Bulkhead) -> ShutdownReport,
    returns_at_once: bool,
) -> Result<&'static str, BulkheadError<Infallible>> {
    let bulkhead = Arc::new(bulkhead(1, 2));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let (done, result) = mpsc::channel();
    {
        let bulkhead = Arc::clone(&bulkhead);
        let gate = gate.clone();
        drop(bulkhead.clone().run(move || {
            let inner = bulkhead.run(|| "inner");
            gate.pass();
            let late = bulkhead.run(|| "late").wait();
            assert!(matches!(late.error(), Some(BulkheadError::ShutDown { .. })));
            done.send(inner.wait().into_result()).unwrap();
        }));
    }
    gate.wait_for_arrivals(1);
    thread::scope(|scope| {
        let ending = scope.spawn(|| end(&bulkhead));
        eventually("closed", || bulkhead.state() == BulkheadState::ShutDown);
        if returns_at_once {
            let _ = ending.join().unwrap();
        }
        drop(opener);
    });
    let inner = result.recv_timeout(PATIENCE).expect("no hang");
    assert!(bulkhead.shutdown().is_clean());
    inner
}

#[test]
fn a_shutdown_lets_nested_calls_end_well() {
    let inner = nested_while_ending(Bulkhead::shutdown, false);
    assert_eq!(inner.unwrap(), "inner");
}

#[test]
fn a_shutdown_at_once_cancels_nested_calls_that_are_queued() {
    assert!(matches!(
        nested_while_ending(Bulkhead::shutdown_now, true),
        Err(BulkheadError::Cancelled {
            by_shutdown: true,
            ..
        })
    ));
}

#[test]
fn a_report_names_the_outer_tasks_that_still_run_too() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let outer = {
        let (bulkhead, gate) = (Arc::clone(&bulkhead), gate.clone());
        bulkhead.clone().call().operation("outer").run(move || {
            let inner = bulkhead.call().operation("inner").run(move || gate.pass());
            inner.wait().is_success()
        })
    };
    gate.wait_for_arrivals(1);
    let report = bulkhead.shutdown_now();
    let mut names: Vec<_> = report
        .still_running
        .iter()
        .filter_map(|task| task.operation.as_deref())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["inner", "outer"]);
    gate.open();
    assert_eq!(support::wait(outer).value(), Some(&true));
}

#[test]
fn nesting_tasks_that_race_a_shutdown_never_hang() {
    for round in 0..200 {
        let bulkhead = Arc::new(bulkhead(2, 6));
        let (done, results) = mpsc::channel();
        for _ in 0..4 {
            let bulkhead = Arc::clone(&bulkhead);
            let done = done.clone();
            drop(bulkhead.clone().run(move || {
                let inner = bulkhead.run(|| 1);
                let _ = done.send(inner.wait().into_result());
            }));
        }
        drop(done);
        for _ in 0..round % 40 {
            thread::yield_now();
        }
        let _ = bulkhead.shutdown_now();
        loop {
            match results.recv_timeout(PATIENCE) {
                Ok(
                    Ok(1) | Err(BulkheadError::Cancelled { .. } | BulkheadError::ShutDown { .. }),
                ) => {}
                Ok(other) => panic!("{other:?}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    std::mem::forget(bulkhead);
                    panic!("round {round} hangs");
                }
            }
        }
        assert!(bulkhead.shutdown().is_clean());
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0);
    }
}

// ---- waits on a worker that runs no call

/// Drops a closure or calls a callback on a worker, whose call is over by then. The `user_code` waits for a call.
fn beside_a_call(start: impl FnOnce(&Bulkhead, Box<dyn FnOnce() + Send>)) {
    let (bulkhead, clock) = with_clock(config(1, 2));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let (tell, told) = mpsc::channel();
    let inside = Arc::clone(&bulkhead);
    let on_clock = clock.clone();
    let user_code = move || {
        let outer = Arc::clone(&inside);
        let numbers = outer.run(move || {
            let stats = inside.stats();
            assert_balanced(&stats);
            on_clock.advance(Duration::from_secs(1));
            let inner = inside.clone();
            let nested = inside.run(move || inner.stats()).wait();
            (stats, nested.into_result().unwrap())
        });
        tell.send(numbers.wait().into_result().unwrap()).unwrap();
    };
    let at_gate = gate.clone();
    let busy = bulkhead.run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    start(&bulkhead, Box::new(user_code));
    clock.advance(Duration::from_secs(1));
    drop(opener);
    let (alone, nested) = told.recv_timeout(PATIENCE).expect("it has run");
    assert!(support::wait(busy).is_success());
    assert_eq!((alone.active_tasks, alone.in_flight), (1, 1), "{alone}");
    assert_eq!(alone.queued_tasks, 0, "{alone}");
    assert_eq!((nested.active_tasks, nested.in_flight), (1, 2), "{nested}");
    eventually("it is idle", || bulkhead.stats().in_flight == 0);
    assert_eq!(bulkhead.stats().busy_time, Duration::from_secs(2));
}

#[test]
fn a_call_that_a_callback_waits_for_is_active() {
    beside_a_call(|bulkhead, user_code| {
        let handle = bulkhead.run(|| ());
        handle.on_finish(move |_| user_code());
        drop(handle);
    });
}

#[test]
fn a_call_that_the_drop_of_an_expired_task_waits_for_is_active() {
    struct OnDrop(Option<Box<dyn FnOnce() + Send>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            (self.0.take().expect("dropped once"))();
        }
    }
    beside_a_call(|bulkhead, user_code| {
        let on_drop = OnDrop(Some(user_code));
        let call = bulkhead.call().queue_timeout(Duration::from_millis(1));
        drop(call.run(move || drop(on_drop)));
    });
}
