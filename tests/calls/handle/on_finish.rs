//! Callbacks for the end of a call: called once, whatever ends the call, with a summary of how it ended.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadRegistry, CallOutcome, CallSummary, CircuitBreakerConfig,
    ExecutionHandle, ExecutionResult,
};

use super::helpers::{Tells, at_a_gate};
use crate::support::{
    Bomb, Gate, OpenOnDrop, PATIENCE, SECOND, assert_balanced, bulkhead, config, eventually,
    in_time, occupy, wait, with_clock,
};

/// Where a callback sends what it is told.
type Told = Receiver<(CallSummary, ThreadId)>;

/// Registers a callback that sends its summary and its thread.
fn listen<T, E>(handle: &ExecutionHandle<T, E>) -> Told {
    let (sender, receiver) = mpsc::channel();
    handle.on_finish(move |summary| {
        let _ = sender.send((summary.clone(), thread::current().id()));
    });
    receiver
}

/// The one call of the callback: it is gone after that.
#[track_caller]
fn once(told: &Told) -> (CallSummary, ThreadId) {
    let first = told.recv_timeout(PATIENCE).expect("it is called");
    assert_eq!(
        told.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected),
        "it is called once, and then dropped"
    );
    first
}

#[track_caller]
fn outcome(told: &Told) -> CallOutcome {
    once(told).0.outcome
}

const CANCELLED: CallOutcome = CallOutcome::Cancelled { by_shutdown: false };

// ---- what it is told

#[test]
fn it_is_told_how_the_task_ended() {
    let bulkhead = bulkhead(1, 3);
    let busy = occupy(&bulkhead, 1);
    let good = bulkhead.execute(|| Ok::<_, ()>(7));
    let bad = bulkhead.execute(|| Err::<(), _>("no"));
    let ugly: ExecutionHandle<(), _> = bulkhead.run(|| std::panic::resume_unwind(Box::new("boom")));
    let told = [listen(&good), listen(&bad), listen(&ugly)];
    busy.finish();
    assert_eq!(outcome(&told[0]), CallOutcome::Succeeded);
    assert_eq!(outcome(&told[1]), CallOutcome::Failed);
    assert_eq!(outcome(&told[2]), CallOutcome::Panicked);
    // The outcomes themselves are still there.
    assert_eq!(wait(good).value(), Some(&7));
    assert!(wait(bad).error().unwrap().failed().is_some());
    assert!(wait(ugly).error().is_some());
}

#[test]
fn it_is_told_why_the_task_never_started() {
    let breaker = CircuitBreakerConfig::default();
    let (bulkhead, clock) = with_clock(config(1, 5).circuit_breaker(breaker));
    let busy = occupy(&bulkhead, 1);
    let cancelled = bulkhead.run(|| ());
    let queue_timeout = bulkhead.call().queue_timeout(SECOND).run(|| ());
    let timeout = bulkhead.call().timeout(SECOND).run(|| ());
    let told = [&cancelled, &queue_timeout, &timeout].map(listen);
    assert!(cancelled.cancel());
    clock.advance(SECOND);
    drop((queue_timeout.wait(), timeout.wait()));
    let [cancelled, queue_timeout, timeout] = told.map(|told| outcome(&told));
    assert_eq!(cancelled, CANCELLED);
    assert_eq!(queue_timeout, CallOutcome::QueueTimeout);
    assert_eq!(timeout, CallOutcome::Timeout);

    let queued = bulkhead.run(|| ());
    let told = listen(&queued);
    bulkhead.circuit_breaker().unwrap().trip();
    let refused_in_queue = outcome(&told);
    assert!(
        matches!(refused_in_queue, CallOutcome::CircuitOpen { retry_after } if retry_after > SECOND),
        "{refused_in_queue:?}"
    );
    bulkhead.circuit_breaker().unwrap().reset();

    let queued = bulkhead.run(|| ());
    let told = listen(&queued);
    let _ = bulkhead.shutdown_now();
    let by_shutdown = outcome(&told);
    assert_eq!(by_shutdown, CallOutcome::Cancelled { by_shutdown: true });
    for outcome in [
        cancelled,
        queue_timeout,
        timeout,
        refused_in_queue,
        by_shutdown,
    ] {
        assert!(outcome.never_started() && !outcome.is_success());
    }
    busy.finish();
}

#[test]
fn it_is_told_at_once_why_a_call_was_refused() {
    let breaker = CircuitBreakerConfig::default();
    let bulkhead = Bulkhead::new(config(1, 0).circuit_breaker(breaker)).unwrap();
    let here = thread::current().id();
    let refused = || {
        let handle = bulkhead.call().operation("refused").run(|| ());
        let told = listen(&handle);
        let (summary, thread) = told.try_recv().expect("it has been called");
        assert_eq!(thread, here);
        assert_eq!(summary.execution_id, handle.execution_id());
        assert_eq!(&*summary.bulkhead_name, "test");
        assert_eq!(summary.operation, None, "the handle does not keep it");
        assert_eq!(summary.queued_time, Duration::ZERO);
        assert_eq!(summary.execution_time, Duration::ZERO);
        assert!(wait(handle).error().unwrap().is_rejected());
        summary.outcome
    };
    let busy = occupy(&bulkhead, 1);
    assert_eq!(refused(), CallOutcome::Full);
    busy.finish();
    bulkhead.circuit_breaker().unwrap().force_open();
    let open = CallOutcome::CircuitOpen {
        retry_after: Duration::MAX,
    };
    assert_eq!(refused(), open);
    let _ = bulkhead.shutdown();
    assert_eq!(refused(), CallOutcome::ShutDown);
}

#[test]
fn the_summary_says_what_the_result_says() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let moves = clock.clone();
    let handle = bulkhead
        .call()
        .operation(String::from("get_user"))
        .run(move || moves.advance(3 * SECOND));
    let told = listen(&handle);
    clock.advance(2 * SECOND);
    busy.finish();
    let result = wait(handle);
    let (summary, _) = once(&told);
    assert_eq!(summary.execution_id, result.execution_id);
    assert_eq!(summary.bulkhead_name, result.bulkhead_name);
    assert_eq!(summary.operation.as_deref(), Some("get_user"));
    assert_eq!(summary.queued_time, 2 * SECOND);
    assert_eq!(summary.execution_time, 3 * SECOND);
    assert_eq!(summary.queued_time, result.queued_time);
    assert_eq!(summary.execution_time, result.execution_time);
    assert_eq!(summary.clone(), summary);
}

#[test]
fn when_the_caller_left_at_its_limit_it_is_told_how_the_task_ended() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_clock(config(1, 1));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let (at_gate, moves) = (gate.clone(), clock.clone());
        let handle = bulkhead.call().timeout(SECOND).execute(move || {
            at_gate.pass();
            moves.advance(SECOND);
            Err::<(), _>("late")
        });
        gate.wait_for_arrivals(1);
        let told = listen(&handle);
        clock.advance(2 * SECOND);
        let result = if awaited {
            pollster::block_on(handle)
        } else {
            handle.wait()
        };
        assert!(result.error().unwrap().is_timeout());
        assert!(told.try_recv().is_err(), "the call goes on");
        drop(opener);
        let (summary, _) = once(&told);
        assert_eq!(summary.outcome, CallOutcome::Failed);
        assert_eq!(summary.execution_time, 3 * SECOND, "the whole of it");
    }
}

#[test]
fn a_call_in_its_callers_thread_is_over_at_once() {
    let registry = BulkheadRegistry::new();
    let semaphore = BulkheadConfig::new("cache").max_concurrent_calls(1);
    registry.create_semaphore(semaphore).unwrap();
    let bulkhead = registry.get("cache").expect("it is there");
    let handle = bulkhead.execute(|| Err::<(), _>("no"));
    assert!(handle.is_started() && handle.is_finished());
    let told = listen(&handle);
    let (summary, thread) = once(&told);
    assert_eq!(thread, thread::current().id());
    assert_eq!(summary.outcome, CallOutcome::Failed);
    assert_eq!(&*summary.bulkhead_name, "cache");
    let call = handle.cancel_handle();
    assert!(call.is_started() && call.is_finished() && !call.cancel());
    assert_eq!(summary.execution_id, call.execution_id());
    assert!(handle.wait().error().is_some());
}

#[test]
fn each_outcome_has_a_name() {
    let names: Vec<_> = [
        CallOutcome::Succeeded,
        CallOutcome::Failed,
        CallOutcome::Panicked,
        CallOutcome::QueueTimeout,
        CallOutcome::Timeout,
        CANCELLED,
        CallOutcome::Full,
        CallOutcome::CircuitOpen {
            retry_after: SECOND,
        },
        CallOutcome::ShutDown,
    ]
    .iter()
    .map(|outcome| {
        let started = ["succeeded", "failed", "panicked"].contains(&&*outcome.to_string());
        assert_eq!(outcome.never_started(), !started);
        assert_eq!(outcome.is_success(), *outcome == CallOutcome::Succeeded);
        outcome.to_string()
    })
    .collect();
    assert_eq!(
        names,
        [
            "succeeded",
            "failed",
            "panicked",
            "queue timeout",
            "timeout",
            "cancelled",
            "full",
            "circuit open",
            "shut down"
        ]
    );
}

// ---- when and where it is called

#[test]
fn it_finds_the_outcome_the_place_and_the_numbers() {
    let bulkhead = Arc::new(bulkhead(1, 0));
    for round in 1..=200 {
        let handle = bulkhead.run(|| 7);
        let (call, looked_at) = (handle.cancel_handle(), Arc::clone(&bulkhead));
        let (sender, receiver) = mpsc::channel();
        handle.on_finish(move |_| {
            let stats = looked_at.stats();
            let free = looked_at.available_capacity();
            let _ = sender.send((call.is_finished(), free, stats.successful_executions));
        });
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok((true, 1, round)));
        let result = handle.wait_timeout(Duration::ZERO);
        let result = result.expect("who was called back need not wait");
        assert_eq!(result.value(), Some(&7));
    }
}

#[test]
fn it_is_called_on_the_worker_that_ran_the_task() {
    let bulkhead = bulkhead(1, 0);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let told = listen(&handle);
    drop(opener);
    let (_, thread) = once(&told);
    drop(handle);
    let worker = wait(bulkhead.run(|| thread::current().id()));
    assert_eq!(worker.into_result().unwrap(), thread);
}

#[test]
fn it_is_called_in_the_thread_that_cancels() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let handle = bulkhead.run(|| ());
    let told = listen(&handle);
    let call = handle.cancel_handle();
    let canceller = thread::spawn(move || {
        assert!(call.cancel());
        thread::current().id()
    });
    let canceller = canceller.join().unwrap();
    let (_, thread) = told.try_recv().expect("before `cancel` returns");
    assert_eq!(thread, canceller);
    busy.finish();
}

#[test]
fn it_is_called_at_once_if_the_call_is_over() {
    let bulkhead = bulkhead(1, 1);
    let handle = bulkhead.run(|| 7);
    eventually("it ends", || handle.is_finished());
    for _ in 0..2 {
        let told = listen(&handle);
        let (summary, thread) = told.try_recv().expect("it has been called");
        assert_eq!(summary.outcome, CallOutcome::Succeeded);
        assert_eq!(thread, thread::current().id());
    }
    assert_eq!(wait(handle).value(), Some(&7));
}

#[test]
fn several_are_called_in_their_order() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let called = Arc::new(Mutex::new(Vec::new()));
    for number in 0..10 {
        let called = Arc::clone(&called);
        handle.on_finish(move |_| called.lock().unwrap().push(number));
    }
    drop(opener);
    eventually("all are called", || called.lock().unwrap().len() == 10);
    assert!(called.lock().unwrap().iter().copied().eq(0..10));
}

#[test]
fn it_outlives_the_handle() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let told = listen(&handle);
    drop(handle);
    eventually("it runs for nobody", || {
        bulkhead.stats().abandoned_tasks == 1
    });
    assert!(told.try_recv().is_err());
    drop(opener);
    assert_eq!(outcome(&told), CallOutcome::Succeeded);
}

#[test]
fn a_result_that_nobody_wants_is_dropped_before() {
    let bulkhead = bulkhead(1, 1);
    let (sender, dropped) = mpsc::channel();
    let (opener, handle) = at_a_gate(&bulkhead, Tells(sender));
    let (before, told) = mpsc::channel();
    handle.on_finish(move |_| before.send(dropped.try_recv().is_ok()).unwrap());
    drop(handle);
    drop(opener);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn a_guard_that_is_dropped_cancels_and_calls_back() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    let (sender, told) = mpsc::channel();
    guard.on_finish(move |summary| sender.send(summary.outcome).unwrap());
    drop(guard);
    assert_eq!(told.try_recv(), Ok(CANCELLED));
    busy.finish();
}

#[test]
fn one_that_blocks_holds_up_no_waiter() {
    let bulkhead = bulkhead(1, 0);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    let blocks = Gate::new();
    let _unblock = OpenOnDrop(blocks.clone());
    let at_gate = blocks.clone();
    handle.on_finish(move |_| at_gate.pass());
    drop(opener);
    let result = in_time(move || handle.wait());
    assert_eq!(result.value(), Some(&7));
    blocks.wait_for_arrivals(1);
    assert_eq!(bulkhead.available_capacity(), 1);
    assert_eq!(bulkhead.stats().active_tasks, 0);
    // Its worker is busy with it, and takes the next call after that.
    let next = bulkhead.run(|| 8);
    assert!(!next.is_started());
    blocks.open();
    assert_eq!(wait(next).value(), Some(&8));
}

#[test]
fn it_does_not_count_as_part_of_the_call() {
    let bulkhead = bulkhead(1, 0);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let (sender, told) = mpsc::channel();
    handle.on_finish(move |_| sender.send(bulkman::current().is_none()).unwrap());
    drop(opener);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "no call is running");
    drop(handle);
}

#[test]
fn a_shutdown_returns_after_the_callbacks_of_its_workers() {
    let bulkhead = bulkhead(2, 20);
    let called = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let called = Arc::clone(&called);
        let handle = bulkhead.run(thread::yield_now);
        handle.on_finish(move |_| {
            thread::yield_now();
            called.fetch_add(1, Ordering::SeqCst);
        });
        drop(handle);
    }
    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(called.load(Ordering::SeqCst), 20);
}

// ---- what it may do

#[test]
fn a_panic_in_it_harms_nobody() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    handle.on_finish(|_| panic!("a callback that panics"));
    let bomb = Bomb;
    handle.on_finish(move |_| drop(bomb));
    let told = listen(&handle);
    drop(opener);
    assert_eq!(outcome(&told), CallOutcome::Succeeded);
    handle.on_finish(|_| panic!("at once"));
    assert_eq!(wait(handle).value(), Some(&7));
    assert_eq!(wait(bulkhead.run(|| 8)).value(), Some(&8));
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    queued.on_finish(|_| panic!("in the thread that cancels"));
    assert!(queued.cancel());
    assert!(bulkhead.run(|| ()).cancel(), "the place is free");
    busy.finish();
    assert_balanced(&bulkhead.stats());
    assert!(bulkhead.shutdown().is_clean());
    let refused = bulkhead.run(|| ());
    refused.on_finish(|_| panic!("of a refused call"));
}

#[test]
fn it_may_call_its_own_bulkhead_and_wait() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let (sender, told) = mpsc::channel();
    let inner = Arc::clone(&bulkhead);
    handle.on_finish(move |_| {
        let result = inner.run(|| thread::current().id()).wait();
        let _ = sender.send((result.into_result().unwrap(), thread::current().id()));
    });
    drop(opener);
    let (task, callback) = told.recv_timeout(PATIENCE).expect("the only worker helps");
    assert_eq!(task, callback);
    assert!(wait(handle).is_success());
}

#[test]
fn it_may_submit_the_next_call_for_ever() {
    const CALLS: usize = 2_000;
    fn go_on(bulkhead: &Arc<Bulkhead>, left: usize, done: mpsc::Sender<()>) {
        let Some(left) = left.checked_sub(1) else {
            return done.send(()).unwrap();
        };
        let handle = bulkhead.run(|| ());
        let next = Arc::clone(bulkhead);
        handle.on_finish(move |summary| {
            assert!(summary.outcome.is_success());
            go_on(&next, left, done);
        });
    }
    let bulkhead = Arc::new(bulkhead(1, 0));
    let (done, is_done) = mpsc::channel();
    go_on(&bulkhead, CALLS, done);
    is_done
        .recv_timeout(PATIENCE)
        .expect("each follows the last");
    assert_eq!(bulkhead.stats().successful_executions, CALLS as u64);
}

#[test]
fn it_may_register_another_and_cancel_its_own_call() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let handle = Arc::new(handle);
    let (sender, told) = mpsc::channel();
    let same = Arc::clone(&handle);
    handle.on_finish(move |_| {
        assert!(!same.cancel());
        let here = thread::current().id();
        same.on_finish(move |_| {
            let _ = sender.send(thread::current().id() == here);
        });
    });
    drop(opener);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true), "at once");
}

#[test]
fn one_that_is_called_at_once_may_register_another() {
    let bulkhead = bulkhead(1, 1);
    let handle = Arc::new(bulkhead.run(|| ()));
    eventually("it ends", || handle.is_finished());
    let (sender, told) = mpsc::channel();
    in_time(move || {
        let same = Arc::clone(&handle);
        handle.on_finish(move |_| {
            same.on_finish(move |summary| sender.send(summary.outcome).unwrap());
        });
    });
    assert_eq!(told.try_recv(), Ok(CallOutcome::Succeeded));
}

#[test]
fn it_may_shut_the_bulkhead_down_and_be_its_last_owner() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let (sender, told) = mpsc::channel();
    handle.on_finish(move |_| {
        let report = bulkhead.shutdown();
        drop(bulkhead);
        let _ = sender.send(report.is_clean());
    });
    drop(opener);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert!(wait(handle).is_success());

    // The same in a thread that cancels.
    let bulkhead = Arc::new(crate::support::bulkhead(1, 1));
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    let weak = Arc::downgrade(&bulkhead);
    queued.on_finish(move |_| {
        drop(bulkhead.shutdown_now());
        drop(bulkhead);
    });
    busy.gate.open();
    let _ = in_time(move || queued.cancel());
    eventually("the bulkhead is gone", || weak.strong_count() == 0);
    busy.finish();
}

#[test]
fn a_nested_call_calls_back_too() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let inner = Arc::clone(&bulkhead);
    let (sender, told) = mpsc::channel();
    let outer = bulkhead.run(move || {
        let me = bulkman::current().unwrap().execution_id();
        let handle = inner.run(|| ());
        handle.on_finish(move |summary| {
            // On top of the call that waits, which is the one that runs.
            let current = bulkman::current().unwrap().execution_id();
            let _ = sender.send((summary.outcome, current == me));
        });
        handle.wait().is_success()
    });
    assert_eq!(wait(outer).value(), Some(&true));
    assert_eq!(told.try_recv(), Ok((CallOutcome::Succeeded, true)));
}

#[test]
fn each_of_very_many_is_called_once_whoever_ends_the_call() {
    const CALLS: usize = 3_000;
    let bulkhead = Arc::new(bulkhead(2, 20));
    let called = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (bulkhead, called) = (&bulkhead, &called);
            scope.spawn(move || {
                for i in 0..CALLS {
                    let handle: ExecutionHandle<(), Infallible> = match (i + seed) % 4 {
                        0 => bulkhead
                            .call()
                            .queue_timeout(Duration::from_micros(5))
                            .run(|| ()),
                        1 => bulkhead
                            .call()
                            .timeout(Duration::from_micros(20))
                            .run(|| ()),
                        _ => bulkhead.run(|| ()),
                    };
                    let calls = Arc::new(AtomicUsize::new(0));
                    let (mine, all) = (Arc::clone(&calls), Arc::clone(called));
                    handle.on_finish(move |_| {
                        mine.fetch_add(1, Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                    });
                    match i % 3 {
                        0 => drop(handle),
                        1 => drop(handle.cancel_on_drop()),
                        _ => {
                            let _: ExecutionResult<_, _> = wait(handle);
                        }
                    }
                    assert!(calls.load(Ordering::SeqCst) <= 1);
                }
            });
        }
    });
    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(called.load(Ordering::SeqCst), 3 * CALLS);
    assert_balanced(&bulkhead.stats());
}
