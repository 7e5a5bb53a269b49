//! A panic stays in its call: the payload is kept, the workers live on, no place is lost.

use std::any::Any;
use std::collections::HashSet;
use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadError, CapturedContext, ContextPropagator, ExecutionHandle, ManualClock,
    Panic,
};

use crate::support::{
    Bomb, Gate, OpenOnDrop, PATIENCE, SECOND, assert_balanced, bulkhead, config, eventually,
    occupy, poll_once, wait, with_clock,
};

/// The panic that a task ended with.
fn panic_of<T: Send + 'static>(
    bulkhead: &Bulkhead,
    task: impl FnOnce() -> T + Send + 'static,
) -> Panic {
    match wait(bulkhead.run(task)).into_result() {
        Err(BulkheadError::Panicked(panic)) => panic,
        Err(other) => panic!("not a panic: {other}"),
        Ok(_) => panic!("the task did not panic"),
    }
}

/// All N workers run at once, Q calls fit behind them, one more is refused, and the numbers agree.
fn assert_whole(bulkhead: &Bulkhead) {
    let n = bulkhead.config().max_concurrent_calls;
    let q = bulkhead.config().max_queue_size;
    eventually("every place is free", || {
        bulkhead.available_capacity() == n + q
    });
    let busy = occupy(bulkhead, n);
    let queued: Vec<_> = (0..q).map(|i| bulkhead.run(move || i)).collect();
    assert_eq!(bulkhead.available_capacity(), 0);
    let one_more = wait(bulkhead.run(|| ()));
    assert!(matches!(one_more.error(), Some(BulkheadError::Full { .. })));
    busy.finish();
    for (i, handle) in queued.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0));
    // Hangs if a worker died without saying so.
    assert!(bulkhead.shutdown().is_clean());
}

/// The threads that run tasks when all N workers are busy.
fn worker_threads(bulkhead: &Bulkhead) -> HashSet<ThreadId> {
    let n = bulkhead.config().max_concurrent_calls;
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let handles: Vec<_> = (0..n)
        .map(|_| {
            let (gate, seen) = (gate.clone(), Arc::clone(&seen));
            bulkhead.run(move || {
                seen.lock().unwrap().insert(thread::current().id());
                gate.pass();
            })
        })
        .collect();
    gate.wait_for_arrivals(n);
    drop(opener);
    for handle in handles {
        assert!(wait(handle).is_success());
    }
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[test]
fn a_literal_is_the_message_and_the_payload() {
    let bulkhead = bulkhead(1, 1);
    let panic = panic_of(&bulkhead, || panic!("no luck"));
    assert_eq!(panic.message(), "no luck");
    assert_eq!(panic.bulkhead_name(), "test");
    let payload = panic.into_payload();
    assert_eq!(payload.downcast_ref::<&'static str>(), Some(&"no luck"));
}

#[test]
fn a_formatted_text_is_the_message_and_the_payload() {
    let bulkhead = bulkhead(1, 1);
    let number = 7;
    let panic = panic_of(&bulkhead, move || panic!("number {number} failed"));
    assert_eq!(panic.message(), "number 7 failed");
    let payload: Box<dyn Any + Send> = panic.into_payload();
    let text = payload.downcast::<String>().expect("the String itself");
    assert_eq!(*text, "number 7 failed");
}

#[test]
fn any_other_payload_comes_back_as_it_is() {
    #[derive(Debug, PartialEq)]
    struct Code(u16);

    let bulkhead = bulkhead(1, 1);
    let panic = panic_of(&bulkhead, || panic_any(Code(503)));
    assert_eq!(panic.message(), "a payload that is not a string");
    let code = panic.into_payload().downcast::<Code>().expect("a Code");
    assert_eq!(*code, Code(503));
}

#[test]
fn resume_goes_on_with_the_same_payload_in_the_callers_thread() {
    let bulkhead = bulkhead(1, 1);
    let panic = panic_of(&bulkhead, || panic_any(42_u64));
    let caught = catch_unwind(AssertUnwindSafe(|| panic.resume())).expect_err("it panics");
    assert_eq!(caught.downcast_ref::<u64>(), Some(&42));
    assert_whole(&bulkhead);
}

#[test]
fn the_error_says_who_and_keeps_what_out_of_its_text() {
    let bulkhead = bulkhead(1, 1);
    let result = wait(bulkhead.execute(|| -> Result<(), std::fmt::Error> { panic!("no luck") }));
    let error = result.error().expect("an error");
    assert_eq!(error.to_string(), "bulkhead `test`: the task panicked");
    let BulkheadError::Panicked(panic) = error else {
        panic!("{error:?}");
    };
    assert_eq!(panic.to_string(), error.to_string());
    assert_eq!(panic.message(), "no luck");
    assert_eq!(error.bulkhead_name(), Some("test"));
    assert!(!error.never_started());
    assert!(!error.is_rejected());
    assert!(!error.is_timeout());
}

#[test]
fn panics_never_cost_a_worker_thread() {
    let bulkhead = bulkhead(3, 50);
    let before = worker_threads(&bulkhead);
    assert_eq!(before.len(), 3);
    let handles: Vec<_> = (0..50)
        .map(|i| bulkhead.run(move || panic!("{i}")))
        .collect();
    for (i, handle) in handles.into_iter().enumerate() {
        let result: bulkman::ExecutionResult<(), _> = wait(handle);
        match result.into_result() {
            Err(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), i.to_string()),
            other => panic!("not a panic: {other:?}"),
        }
    }
    assert_eq!(worker_threads(&bulkhead), before, "the same threads go on");
    assert_eq!(bulkhead.stats().panicked_executions, 50);
    assert_whole(&bulkhead);
}

#[test]
fn a_panic_is_counted_and_its_place_is_free_before_it_can_be_seen() {
    let bulkhead = bulkhead(1, 0);
    for i in 1..=500 {
        let result = wait(bulkhead.run(|| panic!("again")));
        let result: bulkman::ExecutionResult<(), _> = result;
        assert!(matches!(result.error(), Some(BulkheadError::Panicked(_))));
        assert_eq!(bulkhead.available_capacity(), 1);
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.panicked_executions, i);
        assert_eq!(stats.submitted_executions, i);
        assert_eq!(stats.in_flight, 0);
    }
    assert_whole(&bulkhead);
}

#[test]
fn calls_beside_and_behind_a_panic_are_not_touched() {
    let bulkhead = bulkhead(2, 20);
    let busy = occupy(&bulkhead, 2);
    let handles: Vec<_> = (0..20)
        .map(|i| {
            bulkhead.execute(move || match i % 3 {
                0 => Ok(i),
                1 => Err(i),
                _ => panic!("{i}"),
            })
        })
        .collect();
    busy.finish();
    for (i, handle) in handles.into_iter().enumerate() {
        match wait(handle).into_result() {
            Ok(value) => assert_eq!((i % 3, value), (0, i)),
            Err(BulkheadError::Failed(error)) => assert_eq!((i % 3, error), (1, i)),
            Err(BulkheadError::Panicked(panic)) => {
                assert_eq!(i % 3, 2);
                assert_eq!(panic.message(), i.to_string());
            }
            Err(other) => panic!("{other}"),
        }
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.successful_executions, 2 + 7);
    assert_eq!(stats.failed_executions, 7);
    assert_eq!(stats.panicked_executions, 6);
    assert_whole(&bulkhead);
}

#[test]
fn a_drop_that_panics_at_the_end_of_a_task_is_the_tasks_panic() {
    let bulkhead = bulkhead(2, 2);
    let panic = panic_of(&bulkhead, || {
        let _at_the_end = Bomb;
    });
    assert_eq!(panic.message(), "the bomb went off");
    assert_whole(&bulkhead);
}

#[test]
fn a_cancelled_task_whose_closure_panics_when_dropped() {
    let bulkhead = bulkhead(2, 3);
    let busy = occupy(&bulkhead, 2);
    for _ in 0..10 {
        let bomb = Bomb;
        let handle = bulkhead.run(move || drop(bomb));
        assert!(handle.cancel());
        assert_eq!(bulkhead.available_capacity(), 3, "its place is free");
        let result = wait(handle);
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Cancelled {
                by_shutdown: false,
                ..
            })
        ));
    }
    assert_eq!(bulkhead.stats().cancelled_executions, 10);
    busy.finish();
    assert_whole(&bulkhead);
}

#[test]
fn a_task_cancelled_by_the_drop_of_its_handle_whose_closure_panics_when_dropped() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let bomb = Bomb;
    drop(bulkhead.run(move || drop(bomb)).cancel_on_drop());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
    assert_whole(&bulkhead);
}

#[test]
fn an_expired_task_whose_closure_panics_in_the_waiters_hands() {
    let (bulkhead, clock) = with_clock(config(2, 2).queue_timeout(Duration::from_secs(1)));
    let busy = occupy(&bulkhead, 2);
    let bomb = Bomb;
    let handle = bulkhead.run(move || drop(bomb));
    clock.advance(Duration::from_secs(1));
    let result = handle.wait();
    assert!(matches!(
        result.error(),
        Some(BulkheadError::QueueTimeout { .. })
    ));
    assert_eq!(bulkhead.available_capacity(), 2);
    busy.finish();
    assert_whole(&bulkhead);
}

#[test]
fn an_expired_task_whose_closure_panics_in_the_workers_hands() {
    let (bulkhead, clock) = with_clock(config(2, 8).queue_timeout(Duration::from_secs(1)));
    let busy = occupy(&bulkhead, 2);
    for _ in 0..8 {
        let bomb = Bomb;
        drop(bulkhead.run(move || drop(bomb)));
    }
    clock.advance(Duration::from_secs(1));
    busy.finish();
    eventually("all have expired", || {
        bulkhead.stats().timed_out_executions == 8
    });
    assert_whole(&bulkhead);
}

#[test]
fn tasks_cancelled_by_a_shutdown_whose_closures_panic_when_dropped() {
    let bulkhead = bulkhead(2, 5);
    let busy = occupy(&bulkhead, 2);
    let handles: Vec<_> = (0..5)
        .map(|_| {
            let bomb = Bomb;
            bulkhead.run(move || drop(bomb))
        })
        .collect();
    let report = bulkhead.shutdown_now();
    assert_eq!(report.cancelled, 5);
    assert_eq!(report.still_running.len(), 2);
    for handle in handles {
        assert!(matches!(
            wait(handle).error(),
            Some(BulkheadError::Cancelled {
                by_shutdown: true,
                ..
            })
        ));
    }
    busy.finish();
    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(bulkhead.stats().in_flight, 0);
}

/// Runs each task on a detached handle, more often than there are workers.
fn detached<T: Send + 'static, E: Send + 'static>(bulkhead: &Bulkhead, task: fn() -> Result<T, E>) {
    for _ in 0..3 {
        let gate = Gate::new();
        let handle = {
            let gate = gate.clone();
            bulkhead.execute(move || {
                gate.pass();
                task()
            })
        };
        gate.wait_for_arrivals(1);
        drop(handle);
        gate.open();
        eventually("the task is over", || bulkhead.stats().in_flight == 0);
    }
}

#[test]
fn a_result_that_nobody_waits_for_and_that_panics_when_dropped() {
    let bulkhead = bulkhead(2, 2);
    detached(&bulkhead, || Ok::<_, ()>(Bomb));
    assert_eq!(bulkhead.stats().successful_executions, 3);
    assert_whole(&bulkhead);
}

#[test]
fn an_error_that_nobody_waits_for_and_that_panics_when_dropped() {
    let bulkhead = bulkhead(2, 2);
    detached(&bulkhead, || Err::<(), _>(Bomb));
    assert_eq!(bulkhead.stats().failed_executions, 3);
    assert_whole(&bulkhead);
}

#[test]
fn a_panic_payload_that_nobody_waits_for_and_that_panics_when_dropped() {
    let bulkhead = bulkhead(2, 2);
    detached(&bulkhead, || -> Result<(), ()> { panic_any(Bomb) });
    assert_eq!(bulkhead.stats().panicked_executions, 3);
    assert_whole(&bulkhead);
}

#[test]
fn a_payload_whose_drop_panics_with_a_payload_whose_drop_panics() {
    struct Chain(u32);

    impl Drop for Chain {
        fn drop(&mut self) {
            if !thread::panicking() && self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    let bulkhead = bulkhead(2, 2);
    detached(&bulkhead, || -> Result<(), ()> { panic_any(Chain(5)) });
    detached(&bulkhead, || Ok::<_, ()>(Chain(5)));
    assert_whole(&bulkhead);
}

#[test]
fn a_finished_result_that_panics_when_dropped_does_so_where_its_handle_is_dropped() {
    let bulkhead = bulkhead(1, 1);
    let handle = bulkhead.run(|| Bomb);
    eventually("finished", || handle.is_finished());
    let caught = catch_unwind(AssertUnwindSafe(|| drop(handle))).expect_err("the bomb is ours");
    assert_eq!(
        caught.downcast_ref::<&'static str>(),
        Some(&"the bomb went off")
    );
    assert_whole(&bulkhead);
}

/// A task that is over the limit of its caller, and that returns a bomb when the gate opens.
fn late_bomb(
    bulkhead: &Bulkhead,
    clock: &ManualClock,
) -> (OpenOnDrop, ExecutionHandle<Bomb, Infallible>) {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let handle = bulkhead.call().timeout(SECOND).run(move || {
        at_gate.pass();
        Bomb
    });
    gate.wait_for_arrivals(1);
    clock.advance(SECOND);
    (opener, handle)
}

#[test]
fn a_result_whose_caller_ran_out_of_time_and_that_panics_when_dropped() {
    let (bulkhead, clock) = with_clock(config(2, 2));
    let (opener, handle) = late_bomb(&bulkhead, &clock);
    let result = handle.wait();
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Timeout { started: true, .. })
    ));
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    drop(opener);
    assert_whole(&bulkhead);
}

/// Counts how often it was woken, and panics.
#[derive(Default)]
struct PanickingWaker(Mutex<u32>);

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        panic!("a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_costs_neither_the_worker_nor_the_outcome() {
    let bulkhead = bulkhead(2, 2);
    for round in 0..3 {
        let gate = Gate::new();
        let waker = Arc::new(PanickingWaker::default());
        let mut handle = {
            let gate = gate.clone();
            bulkhead.run(move || {
                gate.pass();
                round
            })
        };
        gate.wait_for_arrivals(1);
        assert!(poll_once(&mut handle, &Arc::clone(&waker).into()).is_pending());
        gate.open();
        eventually("woken once", || *waker.0.lock().unwrap() == 1);
        assert_eq!(wait(handle).value(), Some(&round));
    }
    assert_whole(&bulkhead);
}

#[test]
fn a_result_whose_awaiter_ran_out_of_time_and_that_panics_when_dropped() {
    let (bulkhead, clock) = with_clock(config(2, 2));
    // If a worker dies, the drop would wait for it for ever.
    let bulkhead = ManuallyDrop::new(bulkhead);
    for _ in 0..3 {
        let (opener, mut handle) = late_bomb(&bulkhead, &clock);
        let Poll::Ready(result) = poll_once(&mut handle, Waker::noop()) else {
            panic!("the limit has passed");
        };
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ));
        drop(handle);
        assert_eq!(bulkhead.stats().abandoned_tasks, 1);
        drop(opener);
        eventually("the task is over", || bulkhead.stats().in_flight == 0);
    }
    let both_run = Gate::new();
    let opener = OpenOnDrop(both_run.clone());
    let (run, runs) = mpsc::channel();
    for _ in 0..2 {
        let (run, both_run) = (run.clone(), both_run.clone());
        drop(bulkhead.run(move || {
            run.send(()).unwrap();
            both_run.pass();
        }));
    }
    for _ in 0..2 {
        runs.recv_timeout(PATIENCE).expect("both workers live");
    }
    drop(opener);
    assert_whole(&bulkhead);
    drop(ManuallyDrop::into_inner(bulkhead));
}

/// A propagator whose captured context panics when it is dropped.
struct BombInTheLuggage;

impl ContextPropagator for BombInTheLuggage {
    fn capture(&self) -> CapturedContext {
        let bomb = Bomb;
        CapturedContext::new(move || Box::new(bomb))
    }
}

#[test]
fn captured_contexts_of_a_cancelled_call_panic_one_by_one() {
    let bulkhead = Bulkhead::builder(config(1, 1))
        .context_propagator(BombInTheLuggage)
        .context_propagator(BombInTheLuggage)
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    // Two panics at once would abort the process.
    assert!(bulkhead.run(|| ()).cancel());
    busy.finish();
    assert_whole(&bulkhead);
}

/// A waker that panics when it is dropped.
struct BombWaker(Bomb);

impl Wake for BombWaker {
    fn wake(self: Arc<Self>) {
        // Woken is well.
        std::mem::forget(self);
    }
}

#[test]
fn a_waker_whose_drop_panics_costs_nobody_the_result() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let mut handle = bulkhead.run(|| 7);
    let waker = Waker::from(Arc::new(BombWaker(Bomb)));
    assert!(poll_once(&mut handle, &waker).is_pending());
    // Not the last one; that one stays with the call.
    drop(waker);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(handle));
        busy.finish();
        assert_eq!(waiting.join().unwrap().into_result().unwrap(), 7);
    });
    let mut handle = bulkhead.run(|| 7);
    let waker = Waker::from(Arc::new(BombWaker(Bomb)));
    if poll_once(&mut handle, &waker).is_ready() {
        std::mem::forget(waker);
    } else {
        drop(waker);
        drop(handle);
    }
    assert_whole(&bulkhead);
}
