//! Cancelling: a queued task never runs and leaves at once, a running one is asked to stop.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gate, OpenOnDrop, PATIENCE};
use crate::support::{assert_balanced, bulkhead, config, eventually, occupy, wait};
use bulkman::{Bulkhead, BulkheadError, ExecutionHandle, ExecutionResult};

/// Notices whether a task ran, and when its closure is gone.
#[derive(Clone, Default)]
struct Trace(Arc<AtomicU64>);

impl Trace {
    fn task(&self) -> impl FnOnce() + Send + 'static {
        let Self(inside) = self.clone();
        move || {
            inside.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn ran(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    fn is_dropped(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

#[track_caller]
fn assert_cancelled<T: std::fmt::Debug>(result: &ExecutionResult<T, Infallible>) {
    match result.error() {
        Some(
            error @ BulkheadError::Cancelled {
                bulkhead,
                by_shutdown: false,
            },
        ) => {
            assert_eq!(&**bulkhead, "test");
            assert!(error.never_started());
            assert!(!error.is_rejected());
            assert!(!error.is_timeout());
            assert_eq!(result.execution_time, Duration::ZERO);
        }
        _ => panic!("not cancelled: {result:?}"),
    }
}

/// Runs until it is asked to stop, and says whether it was.
fn stoppable(started: Gate) -> bool {
    started.open();
    let call = bulkman::current().expect("inside a task");
    let deadline = Instant::now() + PATIENCE;
    while !call.is_cancelled() {
        if Instant::now() > deadline {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// A task that runs until it is asked to stop; returns when it has started.
fn start_stoppable(bulkhead: &Bulkhead) -> ExecutionHandle<bool, Infallible> {
    let started = Gate::new();
    let handle = bulkhead.run({
        let started = started.clone();
        move || stoppable(started)
    });
    started.pass();
    handle
}

#[test]
fn a_queued_task_that_is_cancelled_never_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    assert!(queued.cancel());
    assert!(queued.is_finished());
    assert_cancelled(&wait(queued));
    busy.finish();
    // The worker has passed the place where it was.
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(!trace.ran());
    let stats = bulkhead.stats();
    assert_eq!(stats.cancelled_executions, 1);
    assert_eq!(stats.total_executions, 2);
    assert_balanced(&stats);
}

#[test]
fn its_closure_is_dropped_before_cancel_returns() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    assert!(!trace.is_dropped());
    assert!(queued.cancel());
    assert!(trace.is_dropped());
    busy.finish();
}

#[test]
fn a_cancelled_task_frees_its_place_at_once() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| "first");
    assert!(bulkhead.run(|| ()).is_finished(), "it is full");
    assert!(queued.cancel());
    assert_eq!(bulkhead.available_capacity(), 1);
    let next = bulkhead.run(|| "second");
    assert!(!next.is_finished(), "the place of a cancelled call is free");
    busy.finish();
    assert_eq!(wait(next).value(), Some(&"second"));
}

#[test]
fn a_second_cancel_changes_nothing() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    assert!(queued.cancel());
    for _ in 0..10 {
        assert!(!queued.cancel());
    }
    assert_eq!(
        bulkhead.available_capacity(),
        1,
        "one place, given back once"
    );
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    assert_cancelled(&wait(queued));
    busy.finish();
}

#[test]
fn of_many_who_cancel_the_same_call_one_succeeds() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    for _ in 0..200 {
        let queued = bulkhead.run(|| ());
        let succeeded = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| succeeded.fetch_add(queued.cancel().into(), Ordering::Relaxed));
            }
        });
        assert_eq!(succeeded.into_inner(), 1);
        assert_cancelled(&wait(queued));
        assert_eq!(bulkhead.available_capacity(), 1);
    }
    busy.finish();
}

#[test]
fn the_closure_may_use_the_bulkhead_while_it_is_dropped() {
    struct Uses(Arc<Bulkhead>, mpsc::Sender<u64>);
    impl Drop for Uses {
        fn drop(&mut self) {
            drop(self.0.run(|| ()));
            let _ = self.1.send(self.0.stats().submitted_executions);
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 2));
    let busy = occupy(&bulkhead, 1);
    let (sender, receiver) = mpsc::channel();
    let uses = Uses(Arc::clone(&bulkhead), sender);
    let queued = bulkhead.run(move || drop(uses));
    thread::spawn(move || queued.cancel());
    let submitted = receiver.recv_timeout(PATIENCE).expect("no lock is held");
    assert_eq!(submitted, 3);
    busy.finish();
}

#[test]
fn a_waiter_elsewhere_is_told() {
    // One end waits as a future, the other cancels.
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let busy = occupy(&bulkhead, 1);
        let queued = Arc::new(Mutex::new(Box::pin(bulkhead.run(|| ()))));
        let (sender, receiver) = mpsc::channel();
        let waiter = Arc::clone(&queued);
        thread::spawn(move || {
            let result = pollster::block_on(std::future::poll_fn(|context| {
                waiter.lock().unwrap().as_mut().poll(context)
            }));
            let _ = sender.send(result);
        });
        assert!(queued.lock().unwrap().cancel());
        let result = receiver
            .recv_timeout(PATIENCE)
            .expect("the waiter is woken");
        assert_cancelled(&result);
        busy.finish();
    }
}

#[test]
fn everything_is_in_order_by_the_time_a_waiter_is_told() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let mut queued = bulkhead.run(trace.task());
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(OnWake({
        let bulkhead = Arc::clone(&bulkhead);
        let closure = Arc::downgrade(&trace.0);
        move || {
            let free = bulkhead.available_capacity();
            let counted = bulkhead.stats().cancelled_executions;
            let _ = sender.send((closure.strong_count(), counted, free));
        }
    })));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut queued).poll(&mut context).is_pending());
    assert!(queued.cancel());
    // Only our own trace is left, the cancel is counted, and the place is free.
    assert_eq!(receiver.try_recv(), Ok((1, 1, 1)));
    assert_cancelled(&wait(queued));
    busy.finish();
}

/// Calls back when it is woken.
struct OnWake<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn any_number_of_cancels_leaves_room_for_later_calls() {
    for (n, q) in [(1, 1), (1, 8), (2, 50)] {
        let bulkhead = bulkhead(n, q);
        let busy = occupy(&bulkhead, n);
        let mut cancelled = 0;
        while cancelled < 12_000 {
            let queued: Vec<_> = (0..q).map(|i| bulkhead.run(move || i)).collect();
            for handle in &queued {
                assert!(!handle.is_finished(), "after {cancelled} cancels");
                assert!(handle.cancel());
                cancelled += 1;
            }
        }
        let stats = bulkhead.stats();
        assert_eq!(stats.cancelled_executions, cancelled);
        assert_eq!(stats.rejected_executions, 0);
        assert_balanced(&stats);

        let later: Vec<_> = (0..q).map(|i| bulkhead.run(move || i)).collect();
        assert!(bulkhead.run(|| ()).is_finished(), "it is full again");
        busy.finish();
        for (i, handle) in later.into_iter().enumerate() {
            assert_eq!(wait(handle).value(), Some(&i));
        }
        assert_eq!(bulkhead.available_capacity(), n + q);
    }
}

#[test]
fn cancels_between_them_do_not_change_the_order_of_the_others() {
    const STAY: usize = 6;
    let bulkhead = bulkhead(1, 2 * STAY);
    let order = Arc::new(Mutex::new(Vec::new()));
    let busy = occupy(&bulkhead, 1);
    let mut staying = Vec::new();
    for i in 0..STAY {
        let order = Arc::clone(&order);
        staying.push(bulkhead.run(move || order.lock().unwrap().push(i)));
        // More than the queue keeps as empty entries, so that it is tidied up several times.
        for _ in 0..100 {
            let going = bulkhead.run(|| ());
            assert!(going.cancel());
        }
    }
    busy.finish();
    for handle in staying {
        assert!(wait(handle).is_success());
    }
    assert!(order.lock().unwrap().iter().copied().eq(0..STAY));
}

#[test]
fn calls_at_every_position_can_be_cancelled() {
    let bulkhead = bulkhead(1, 10);
    for keep in 0..10 {
        let busy = occupy(&bulkhead, 1);
        let queued: Vec<_> = (0..10).map(|i| bulkhead.run(move || i)).collect();
        for (i, handle) in queued.iter().enumerate() {
            assert!(i == keep || handle.cancel());
        }
        assert_eq!(bulkhead.available_capacity(), 9);
        busy.finish();
        for (i, handle) in queued.into_iter().enumerate() {
            let result = wait(handle);
            if i == keep {
                assert_eq!(result.value(), Some(&i));
            } else {
                assert_cancelled(&result);
            }
        }
    }
}

#[test]
fn a_task_can_cancel_a_queued_call_of_its_own_bulkhead() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel::<ExecutionHandle<(), Infallible>>();
    let canceller = bulkhead.run(move || {
        let queued = receiver.recv_timeout(PATIENCE).unwrap();
        (queued.cancel(), queued)
    });
    let trace = Trace::default();
    sender.send(bulkhead.run(trace.task())).unwrap();
    let (cancelled, queued) = wait(canceller).into_result().unwrap();
    assert!(cancelled);
    assert_cancelled(&wait(queued));
    assert!(!trace.ran());
}

#[test]
fn a_running_task_is_asked_to_stop() {
    let bulkhead = bulkhead(1, 0);
    let running = start_stoppable(&bulkhead);
    assert!(!running.cancel(), "it has started");
    // What it returns is its outcome all the same.
    let result = wait(running);
    assert_eq!(result.value(), Some(&true));
    let stats = bulkhead.stats();
    assert_eq!(stats.successful_executions, 1);
    assert_eq!(stats.cancelled_executions, 0);
    assert_balanced(&stats);
}

#[test]
fn a_running_task_keeps_its_place_until_it_ends() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    assert!(!busy.handles[0].cancel());
    assert_eq!(bulkhead.available_capacity(), 0);
    assert!(bulkhead.run(|| ()).is_finished(), "it is still full");
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 1);
}

#[test]
fn only_the_cancelled_task_is_asked_to_stop() {
    let bulkhead = bulkhead(2, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let neighbour = bulkhead.run({
        let gate = gate.clone();
        move || {
            gate.pass();
            bulkman::current().unwrap().is_cancelled()
        }
    });
    gate.wait_for_arrivals(1);
    let running = start_stoppable(&bulkhead);
    let queued = bulkhead.run(|| ());
    assert!(queued.cancel());
    assert!(!running.cancel());
    assert_eq!(wait(running).value(), Some(&true));
    gate.open();
    assert_eq!(wait(neighbour).value(), Some(&false));
    // Nor does the worker remember it.
    for _ in 0..4 {
        let next = bulkhead.run(|| bulkman::current().unwrap().is_cancelled());
        assert_eq!(wait(next).value(), Some(&false));
    }
}

#[test]
fn a_finished_task_cannot_be_cancelled() {
    let bulkhead = bulkhead(1, 0);
    let handle = bulkhead.run(|| 7);
    eventually("it has finished", || handle.is_finished());
    assert!(!handle.cancel());
    assert_eq!(wait(handle).value(), Some(&7), "its value is still there");
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn a_refused_call_cannot_be_cancelled() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let refused = bulkhead.run(|| ());
    assert!(!refused.cancel());
    let result = wait(refused);
    assert!(result.error().unwrap().is_rejected());
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
    busy.finish();
}

#[test]
fn cancel_on_drop_cancels_a_queued_task() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    assert_eq!(bulkhead.available_capacity(), 0);
    drop(guard);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    busy.finish();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(!trace.ran());
}

#[test]
fn cancel_on_drop_asks_a_running_task_to_stop() {
    let bulkhead = bulkhead(1, 0);
    let (sender, receiver) = mpsc::channel();
    let started = Gate::new();
    let guard = bulkhead
        .run({
            let started = started.clone();
            move || sender.send(stoppable(started)).unwrap()
        })
        .cancel_on_drop();
    started.pass();
    drop(guard);
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn cancel_on_drop_works_while_a_panic_passes() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let panicked = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let _guard = bulkhead.run(trace.task()).cancel_on_drop();
            std::panic::resume_unwind(Box::new("the caller failed"));
        });
        caller.join().is_err()
    });
    assert!(panicked);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn waiting_disarms_cancel_on_drop() {
    let bulkhead = bulkhead(1, 1);
    let was_cancelled = || bulkman::current().unwrap().is_cancelled();
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    assert_eq!(guard.wait().value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    let result = guard.wait_timeout(PATIENCE).expect("an outcome");
    assert_eq!(result.value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    let result = guard.wait_deadline(Instant::now() + PATIENCE);
    assert_eq!(result.expect("an outcome").value(), Some(&false));
    let guard = bulkhead.run(was_cancelled).cancel_on_drop();
    assert_eq!(pollster::block_on(guard).value(), Some(&false));
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn into_handle_disarms_cancel_on_drop() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    let id = guard.execution_id();
    let handle = guard.into_handle();
    assert_eq!(handle.execution_id(), id);
    drop(handle);
    busy.finish();
    eventually("it runs", || trace.ran());
    assert_eq!(bulkhead.stats().cancelled_executions, 0);
}

#[test]
fn a_guard_that_gives_itself_back_is_still_armed() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let guard = bulkhead.run(trace.task()).cancel_on_drop();
    let guard = guard.wait_timeout(Duration::ZERO).expect_err("not yet");
    let guard = guard.wait_deadline(Instant::now()).expect_err("not yet");
    assert!(!guard.is_finished());
    assert!(!trace.is_dropped());
    drop(guard);
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn a_guard_can_cancel_by_itself() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    assert!(guard.cancel());
    assert!(guard.is_finished());
    assert_cancelled(&guard.wait());
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    busy.finish();
}

/// Submitters, cancellers, expiries and workers meet on one small queue. Each call has one outcome,
/// its body has run exactly if the outcome says so, and at the end nothing is missing.
#[test]
fn a_storm_of_cancels_leaves_everything_in_order() {
    const SUBMITTERS: u64 = 3;
    const CALLS: u64 = 4_000;

    struct Sent {
        handle: ExecutionHandle<u64, Infallible>,
        ran: Arc<AtomicBool>,
        number: u64,
    }

    #[derive(Default)]
    struct Tally {
        refused: AtomicU64,
        succeeded: AtomicU64,
        cancelled: AtomicU64,
        expired: AtomicU64,
    }

    fn settle(calls: Receiver<Sent>, tally: &Tally) {
        for (i, sent) in calls.into_iter().enumerate() {
            let Sent {
                handle,
                ran,
                number,
            } = sent;
            let refused = handle.is_finished() && !ran.load(Ordering::SeqCst);
            let cancelled = i % 3 != 0 && handle.cancel();
            let result = wait(handle);
            assert_eq!(cancelled, {
                matches!(result.error(), Some(BulkheadError::Cancelled { .. }))
            });
            let counter = match &result.result {
                Ok(value) => {
                    assert_eq!(*value, number);
                    &tally.succeeded
                }
                Err(BulkheadError::Cancelled {
                    by_shutdown: false, ..
                }) => &tally.cancelled,
                Err(BulkheadError::QueueTimeout { .. }) => &tally.expired,
                Err(BulkheadError::Full { .. }) => {
                    assert!(refused);
                    &tally.refused
                }
                Err(other) => panic!("{other:?}"),
            };
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(ran.load(Ordering::SeqCst), result.is_success());
            assert_eq!(Arc::strong_count(&ran), 1, "its closure is gone");
        }
    }

    let bulkhead = Bulkhead::new(config(2, 4)).unwrap();
    let tally = Tally::default();
    thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (sender, receiver) = mpsc::sync_channel(3);
            let (bulkhead, tally) = (&bulkhead, &tally);
            scope.spawn(move || settle(receiver, tally));
            scope.spawn(move || {
                for i in 0..CALLS {
                    let ran = Arc::new(AtomicBool::new(false));
                    let number = submitter * CALLS + i;
                    let limit = Duration::from_micros(1 + (number * 7) % 60);
                    let call = bulkhead.call().queue_timeout(limit);
                    let handle = call.run({
                        let ran = Arc::clone(&ran);
                        move || {
                            ran.store(true, Ordering::SeqCst);
                            if i % 5 == 0 {
                                thread::yield_now();
                            }
                            number
                        }
                    });
                    let sent = Sent {
                        handle,
                        ran,
                        number,
                    };
                    sender.send(sent).unwrap();
                }
            });
        }
        // Snapshots balance while all that goes on.
        for _ in 0..200 {
            assert_balanced(&bulkhead.stats());
            thread::yield_now();
        }
    });

    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.submitted_executions, SUBMITTERS * CALLS);
    assert_eq!(stats.rejected_full, tally.refused.into_inner());
    assert_eq!(stats.successful_executions, tally.succeeded.into_inner());
    assert_eq!(stats.cancelled_executions, tally.cancelled.into_inner());
    assert_eq!(stats.timed_out_executions, tally.expired.into_inner());
    assert_eq!((stats.queued_tasks, stats.active_tasks), (0, 0));

    // All six places are there, and six calls do fit.
    assert_eq!(bulkhead.available_capacity(), 6);
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
    assert!(bulkhead.run(|| ()).is_finished());
    busy.finish();
    for (i, handle) in queued.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
}

/// No worker gets anywhere, and four threads fill the queue and cancel again what they have put in.
#[test]
fn many_threads_can_cancel_on_a_full_queue() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 5_000;
    let bulkhead = bulkhead(1, 5);
    let busy = occupy(&bulkhead, 1);
    let (order, survivors): (Arc<Mutex<Vec<u32>>>, Vec<_>) = {
        let order = Arc::new(Mutex::new(Vec::new()));
        let survivors = (0..2)
            .map(|i| {
                let order = Arc::clone(&order);
                bulkhead.run(move || order.lock().unwrap().push(i))
            })
            .collect();
        (order, survivors)
    };
    let cancelled = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let handle = bulkhead.run(|| ());
                    let counter = if handle.cancel() {
                        &cancelled
                    } else {
                        &refused
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = bulkhead.stats();
    assert_eq!(stats.cancelled_executions, cancelled.into_inner());
    assert_eq!(stats.rejected_full, refused.into_inner());
    assert_eq!(
        stats.cancelled_executions + stats.rejected_full,
        THREADS * CALLS
    );
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 2));
    assert_balanced(&stats);
    assert_eq!(bulkhead.available_capacity(), 3);
    busy.finish();
    for handle in survivors {
        assert!(wait(handle).is_success());
    }
    assert_eq!(*order.lock().unwrap(), [0, 1]);
    assert_eq!(bulkhead.available_capacity(), 6);
}
