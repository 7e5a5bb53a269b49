//! The bulkhead whose tasks run in their callers' threads.

mod support;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{
    BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, BulkheadState,
    CircuitBreakerConfig, CircuitState, ExecutionResult, ManualClock, MemoryStorage, RejectReason,
    SemaphoreBulkhead,
};
use support::{Bomb, Gate, OpenOnDrop, PATIENCE, assert_balanced, config, eventually};

fn semaphore(n: usize, q: usize) -> SemaphoreBulkhead {
    SemaphoreBulkhead::new(config(n, q)).expect("a valid configuration")
}

fn with_clock(config: BulkheadConfig) -> (SemaphoreBulkhead, ManualClock) {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config).clock(clock.clone());
    (bulkhead.build().unwrap(), clock)
}

/// Threads that are in the bulkhead, in `n` calls that run, until the gate is opened.
struct Inside<'scope> {
    gate: Gate,
    calls: Vec<thread::ScopedJoinHandle<'scope, ExecutionResult<(), Infallible>>>,
    _opener: OpenOnDrop,
}

impl<'scope> Inside<'scope> {
    fn new<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        bulkhead: &'scope SemaphoreBulkhead,
        n: usize,
    ) -> Self {
        let gate = Gate::new();
        let calls = (0..n)
            .map(|_| {
                let gate = gate.clone();
                scope.spawn(move || bulkhead.run(|| gate.pass()))
            })
            .collect();
        let opener = OpenOnDrop(gate.clone());
        gate.wait_for_arrivals(n);
        Self {
            gate,
            calls,
            _opener: opener,
        }
    }

    fn finish(self) {
        self.gate.open();
        for call in self.calls {
            call.join().unwrap().into_result().expect("it ends well");
        }
    }
}

fn queued(bulkhead: &SemaphoreBulkhead, n: u64) {
    eventually("the callers are in line", || {
        bulkhead.stats().queued_tasks == n
    });
}

/// Moves the clock on until a call that waits in line has noticed. One that is counted as queued may only be about to look
/// at the clock for the first time.
fn expire<T>(clock: &ManualClock, by: Duration, call: thread::ScopedJoinHandle<'_, T>) -> T {
    eventually("the call expires", || {
        clock.advance(by);
        call.is_finished()
    });
    call.join().unwrap()
}

fn assert_idle(bulkhead: &SemaphoreBulkhead) {
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.in_flight, stats.abandoned_tasks), (0, 0), "{stats}");
    if stats.state != BulkheadState::ShutDown {
        let all = stats.max_concurrent_calls + stats.max_queue_size;
        assert_eq!(bulkhead.available_capacity() as u64, all);
    }
}

/// Fails rather than hangs.
fn in_time<R: Send + 'static>(what: &str, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(body()));
    match result.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it has panicked"))
        }
    }
}

// ---- calls

#[test]
fn a_task_runs_in_its_callers_thread_and_may_borrow() {
    let bulkhead = semaphore(1, 0);
    let words = [String::from("not"), String::from("sent")];
    let shared = Rc::new(Cell::new(0));
    let mut longest = "";
    let result = bulkhead.execute(|| {
        shared.set(shared.get() + 1);
        longest = words.iter().max_by_key(|word| word.len()).ok_or("none")?;
        Ok::<_, &str>((thread::current().id(), Rc::clone(&shared)))
    });
    assert!(result.is_success());
    assert_eq!(result.bulkhead_name.as_ref(), "test");
    assert_eq!(result.queued_time, Duration::ZERO);
    let (thread, same) = result.into_result().unwrap();
    assert_eq!(thread, thread::current().id());
    assert_eq!((longest, same.get()), ("sent", 1));
    assert_idle(&bulkhead);
}

#[test]
fn errors_stay_what_they_are() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.execute(|| "x".parse::<i32>());
    let expected = "x".parse::<i32>().unwrap_err();
    assert_eq!(result.error().unwrap().failed(), Some(&expected));
    let stats = bulkhead.stats();
    assert_eq!((stats.failed_executions, stats.total_executions), (1, 1));
    assert_idle(&bulkhead);
}

#[test]
fn a_panic_stays_in_its_call() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.run(|| -> () { std::panic::panic_any(7_u8) });
    let Err(BulkheadError::Panicked(panic)) = result.into_result() else {
        panic!("it panicked");
    };
    assert_eq!(*panic.into_payload().downcast::<u8>().unwrap(), 7);

    let bomb = Bomb;
    let result = bulkhead.run(move || {
        let _in_the_task = &bomb;
    });
    assert!(matches!(result.error(), Some(BulkheadError::Panicked(_))));
    assert_eq!(bulkhead.stats().panicked_executions, 2);
    assert!(bulkhead.run(|| ()).is_success());
    assert_idle(&bulkhead);
}

/// G7: nor does one in the drop of what a call brings along that never starts.
#[test]
fn drops_that_panic_without_a_turn_stay_in_their_call() {
    let bulkhead = semaphore(1, 0);
    for in_the_closure in [true, false] {
        let (bomb, dud) = (Bomb, Arc::new(()));
        let (mine, judges) = if in_the_closure {
            (Some(bomb), None)
        } else {
            (None, Some(bomb))
        };
        let goes_too = Arc::clone(&dud);
        let call = bulkhead.call().queue_timeout(Duration::ZERO);
        let call = call.failure_if(move |_: &()| judges.is_none());
        let result = call.execute(move || {
            let _brought_along = (&mine, &goes_too);
            Ok(())
        });
        assert!(result.error().is_some_and(BulkheadError::is_timeout));
        assert_eq!(Arc::strong_count(&dud), 1);
        assert_idle(&bulkhead);
    }
}

/// G1, G3.
#[test]
fn a_sequential_caller_is_never_refused() {
    let bulkhead = semaphore(1, 0);
    for turn in 0..20_000 {
        let result = bulkhead.execute(|| match turn % 3 {
            0 => Ok(turn),
            1 => Err(turn),
            _ if turn % 100 == 2 => panic!("{turn}"),
            _ => Ok(turn),
        });
        assert!(!result.error().is_some_and(BulkheadError::is_rejected));
    }
    assert_eq!(bulkhead.stats().total_executions, 20_000);
    assert_idle(&bulkhead);
}

/// G1: N run, Q wait, one more is refused and gets its closure back; again and again.
#[test]
fn exactly_n_plus_q_fit() {
    let bulkhead = semaphore(3, 2);
    for round in 1..=20 {
        thread::scope(|scope| {
            let inside = Inside::new(scope, &bulkhead, 3);
            let waiting: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| bulkhead.run(|| ())))
                .collect();
            queued(&bulkhead, 2);
            assert_eq!(bulkhead.available_capacity(), 0);
            let refused = bulkhead.try_run(|| "mine").expect_err("it is full");
            assert!(refused.reason.is_full());
            assert_eq!((refused.task)(), "mine");
            assert_eq!(
                bulkhead.run(|| ()).error().unwrap().to_string(),
                "bulkhead `test` is full: all 5 places are taken, 3 to run and 2 to wait"
            );
            inside.finish();
            assert!(
                waiting
                    .into_iter()
                    .all(|call| call.join().unwrap().is_success())
            );
        });
        let stats = bulkhead.stats();
        assert_eq!(stats.rejected_full, 2 * round);
        assert_eq!(stats.successful_executions, 5 * round);
        assert_idle(&bulkhead);
    }
}

/// G4, G1: of many callers never more than N run, and with as many places as callers nobody is refused.
#[test]
fn never_more_than_n_at_a_time() {
    for n in [1, 2, 5] {
        let bulkhead = semaphore(n, 16 - n);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for turn in 0..500 {
                        let result = bulkhead.run(|| {
                            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            if turn % 64 == 0 {
                                thread::yield_now();
                            }
                            running.fetch_sub(1, Ordering::SeqCst);
                        });
                        assert!(result.is_success(), "{result:?}");
                    }
                });
            }
        });
        assert!(most.into_inner() <= n);
        assert_eq!(bulkhead.stats().successful_executions, 16 * 500);
        assert_idle(&bulkhead);
    }
}

#[test]
fn a_call_waits_for_capacity_if_it_wants_to() {
    let bulkhead = semaphore(1, 0);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let refused = bulkhead.call().wait_for_capacity(Duration::ZERO).run(|| ());
        assert!(matches!(
            refused.error(),
            Some(BulkheadError::Full {
                waited: Some(_),
                ..
            })
        ));
        let waiting = scope.spawn(|| bulkhead.call().wait_for_capacity(PATIENCE).run(|| 1));
        inside.finish();
        assert_eq!(waiting.join().unwrap().value(), Some(&1));
    });
    assert_idle(&bulkhead);
}

// ---- time

/// G5: it never starts, its closure is gone and its place is free.
#[test]
fn a_call_that_waits_too_long_for_its_turn_never_starts() {
    let limit = Duration::from_secs(5);
    let (bulkhead, clock) = with_clock(config(1, 1).queue_timeout(limit));
    let closure = Arc::new(());
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting = {
            let (bulkhead, closure) = (&bulkhead, Arc::clone(&closure));
            scope.spawn(move || bulkhead.run(move || drop(closure)))
        };
        queued(&bulkhead, 1);
        let result = expire(&clock, limit, waiting);
        assert!(result.queued_time >= limit);
        assert_eq!(result.execution_time, Duration::ZERO);
        assert_eq!(
            result.error().unwrap().to_string(),
            format!(
                "bulkhead `test` had no free place to run in time: queued for {:.1?}, the limit is 5.0s",
                result.queued_time
            )
        );
        assert!(result.error().unwrap().never_started());
        assert_eq!(Arc::strong_count(&closure), 1);
        assert_eq!(bulkhead.available_capacity(), 1);
        inside.finish();
    });
    assert_eq!(bulkhead.stats().timed_out_executions, 1);
    assert_idle(&bulkhead);
}

/// G5, in real time, and with the place of one who has left going to the next in line.
#[test]
fn one_that_leaves_the_line_does_not_take_the_turn_of_the_next() {
    let bulkhead = semaphore(1, 3);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let leaving = scope.spawn(|| {
            bulkhead
                .call()
                .queue_timeout(Duration::from_millis(20))
                .run(|| ())
        });
        let staying = scope.spawn(|| bulkhead.run(|| ()));
        assert!(matches!(
            leaving.join().unwrap().error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        queued(&bulkhead, 1);
        inside.finish();
        assert!(staying.join().unwrap().is_success());
    });
    assert_idle(&bulkhead);
}

#[test]
fn without_time_no_call_starts() {
    let bulkhead = semaphore(1, 1);
    let call = || bulkhead.call();
    let never = || panic!("it must not start");
    let queue = call().queue_timeout(Duration::ZERO).run(never);
    assert!(matches!(
        queue.error(),
        Some(BulkheadError::QueueTimeout { .. })
    ));
    let in_all = call().timeout(Duration::ZERO).run(never);
    let Some(BulkheadError::Timeout {
        started: false,
        limit,
        ..
    }) = in_all.error()
    else {
        panic!("{in_all:?}");
    };
    assert_eq!(*limit, Duration::ZERO);
    assert_eq!(bulkhead.stats().timed_out_executions, 2);
    assert_idle(&bulkhead);
}

#[test]
fn a_callers_limit_ends_its_wait_in_line() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting = scope.spawn(|| {
            bulkhead.execute_with_timeout(Duration::from_secs(1), || -> Result<(), ()> {
                panic!("it must not start")
            })
        });
        queued(&bulkhead, 1);
        let result = expire(&clock, Duration::from_secs(1), waiting);
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
        inside.finish();
    });
    assert_idle(&bulkhead);
}

/// It has the caller's thread, so it is told, and its result counts.
#[test]
fn a_task_beyond_its_limit_is_told_and_its_result_counts() {
    let (bulkhead, clock) = with_clock(config(1, 0));
    let result = bulkhead.execute_with_timeout(Duration::from_secs(3), || {
        let me = bulkman::current().unwrap();
        let before = (me.is_cancelled(), me.remaining());
        clock.advance(Duration::from_secs(2));
        let meanwhile = (me.is_cancelled(), me.remaining());
        clock.advance(Duration::from_secs(2));
        let after = (me.is_cancelled(), me.remaining());
        Ok::<_, ()>([before, meanwhile, after])
    });
    assert_eq!(result.execution_time, Duration::from_secs(4));
    assert_eq!(
        result.into_result().unwrap(),
        [
            (false, Some(Duration::from_secs(3))),
            (false, Some(Duration::from_secs(1))),
            (true, Some(Duration::ZERO)),
        ]
    );
    let configured = SemaphoreBulkhead::new(config(1, 0).execution_timeout(PATIENCE)).unwrap();
    let deadline = configured.run(|| bulkman::current().unwrap().deadline());
    assert!(deadline.into_result().unwrap().is_some());
}

#[test]
fn limits_beyond_the_clock_mean_for_ever() {
    let bulkhead = SemaphoreBulkhead::new(
        config(1, 1)
            .queue_timeout(Duration::MAX)
            .execution_timeout(Duration::MAX),
    )
    .unwrap();
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting = scope.spawn(|| {
            let call = bulkhead.call().wait_for_capacity(Duration::MAX);
            call.timeout(Duration::MAX)
                .run(|| bulkman::current().unwrap().remaining())
        });
        queued(&bulkhead, 1);
        inside.finish();
        assert_eq!(waiting.join().unwrap().into_result().unwrap(), None);
    });
    assert!(bulkhead.shutdown_timeout(Duration::MAX).is_clean());
}

// ---- what a task knows

#[test]
fn a_task_can_ask_about_itself() {
    let bulkhead = semaphore(1, 0);
    assert!(bulkman::current().is_none());
    for operation in [None, Some("get_user")] {
        let mut call = bulkhead.call();
        if let Some(operation) = operation {
            call = call.operation(operation);
        }
        let result = call.run(|| {
            let me = bulkman::current().expect("in a task");
            assert_eq!(me.bulkhead_name(), "test");
            assert_eq!(me.operation(), operation);
            assert_eq!((me.deadline(), me.remaining()), (None, None));
            assert!(!me.is_cancelled() && !me.is_shutting_down());
            me.execution_id()
        });
        assert_eq!(result.execution_id, *result.value().unwrap());
        assert!(bulkman::current().is_none());
    }
}

#[test]
fn what_a_task_knows_may_outlive_it() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.run(|| bulkman::current().unwrap());
    let id = result.execution_id;
    let me = result.into_result().unwrap();
    assert!(!me.is_shutting_down());
    drop(bulkhead);
    let there = thread::spawn(move || (me.execution_id(), me.is_shutting_down()));
    assert_eq!(there.join().unwrap(), (id, true));
}

/// The innermost call is the current one, whatever kinds of bulkheads are inside each other.
#[test]
fn the_innermost_call_is_the_current_one() {
    let (a, b) = (semaphore(1, 9), semaphore(1, 9));
    let pool = Arc::new(support::bulkhead(1, 9));
    let current = || bulkman::current().map(|me| me.execution_id());
    let inner = |bulkhead: &SemaphoreBulkhead, deeper: &dyn Fn()| {
        let before = current();
        let result = bulkhead.run(|| {
            let here = current();
            deeper();
            assert_eq!(current(), here, "after the call inside");
            here
        });
        assert_eq!(result.value(), Some(&Some(result.execution_id)));
        assert_eq!(current(), before, "after the call");
    };
    inner(&a, &|| {
        inner(&b, &|| inner(&a, &|| inner(&b, &|| ())));
        inner(&a, &|| ());
    });
    // On a worker: a call of the pool, in it one of a semaphore, in it one of the pool that the worker runs itself.
    let (pool_inside, a) = (Arc::clone(&pool), Arc::new(a));
    let result = pool.run(move || {
        let me = bulkman::current().unwrap().execution_id();
        let outer = a.run(|| {
            let inside = Arc::clone(&a);
            let handle = pool_inside.run(move || {
                let helped = bulkman::current().unwrap().execution_id();
                let nested = inside.run(|| bulkman::current().unwrap().execution_id());
                assert_eq!(nested.execution_id, *nested.value().unwrap());
                assert_eq!(bulkman::current().unwrap().execution_id(), helped);
                helped
            });
            let helped = handle.wait();
            assert_eq!(helped.execution_id, *helped.value().unwrap());
            bulkman::current().unwrap().execution_id()
        });
        assert_eq!(outer.execution_id, *outer.value().unwrap());
        assert_eq!(bulkman::current().unwrap().execution_id(), me);
    });
    assert!(result.wait().is_success());
}

// ---- calls from inside

/// G9.
#[test]
fn a_call_from_inside_runs_in_the_turn_of_the_outer_one() {
    let bulkhead = semaphore(1, 2);
    in_time("a nested call", move || {
        let result = bulkhead.run(|| {
            bulkhead.run(|| {
                let deepest = bulkhead.run(|| bulkhead.stats());
                let refused = bulkhead.run(|| bulkhead.run(|| ()));
                assert!(refused.into_result().unwrap().error().is_some());
                deepest.into_result().unwrap()
            })
        });
        let stats = result.into_result().unwrap().into_result().unwrap();
        assert_balanced(&stats);
        assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 2));
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, 4);
        assert_eq!(stats.rejected_full, 1, "three calls take three places");
        assert_idle(&bulkhead);
    });
}

/// G4: what a thread has been in, it is not in any more.
#[test]
fn a_call_after_nested_ones_waits_for_its_turn_as_any_other() {
    let (bulkhead, other) = (semaphore(1, 2), semaphore(1, 2));
    let nested = bulkhead.run(|| {
        let inside = other.run(|| bulkhead.run(|| ()).is_success());
        inside.into_result().unwrap() && bulkhead.run(|| ()).is_success()
    });
    assert_eq!(nested.value(), Some(&true));
    for taken in [&bulkhead, &other] {
        thread::scope(|scope| {
            let inside = Inside::new(scope, taken, 1);
            let call = taken.call().queue_timeout(Duration::from_millis(1));
            let result = call.run(|| ());
            assert!(matches!(
                result.error(),
                Some(BulkheadError::QueueTimeout { .. })
            ));
            inside.finish();
        });
        assert_idle(taken);
    }
}

/// G9, with another bulkhead in between, and while others wait.
#[test]
fn a_call_from_inside_does_not_wait_in_line() {
    let bulkhead = Arc::new(semaphore(1, 3));
    let other = semaphore(1, 0);
    in_time("a nested call", move || {
        thread::scope(|scope| {
            let result = bulkhead.run(|| {
                let waiting = scope.spawn(|| bulkhead.run(|| ()));
                queued(&bulkhead, 1);
                let inner = other.run(|| bulkhead.run(|| 5).into_result().unwrap());
                (inner.into_result().unwrap(), waiting)
            });
            let (five, waiting) = result.into_result().unwrap();
            assert_eq!(five, 5);
            assert!(waiting.join().unwrap().is_success());
        });
        assert_idle(&bulkhead);
    });
}

/// It would wait for the place of the call that it is in.
#[test]
fn a_call_from_inside_does_not_wait_for_capacity() {
    let bulkhead = semaphore(1, 0);
    in_time("waiting for one's own place", move || {
        let result = bulkhead.run(|| bulkhead.call().wait_for_capacity(PATIENCE).run(|| ()));
        let inner = result.into_result().unwrap();
        assert!(matches!(inner.error(), Some(BulkheadError::Full { .. })));
        assert_idle(&bulkhead);
    });
}

/// Thread-local values may make calls in their destructors, nested ones too.
#[test]
fn calls_from_thread_local_destructors() {
    struct AtTheEnd(Arc<SemaphoreBulkhead>, mpsc::Sender<Option<i32>>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let result = self.0.run(|| self.0.run(|| 9).into_result().ok());
            let _ = self.1.send(result.into_result().ok().flatten());
        }
    }
    thread_local!(static VALUE: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });

    for used_before in [false, true] {
        let bulkhead = Arc::new(semaphore(1, 1));
        let (sender, nine) = mpsc::channel();
        let shared = Arc::clone(&bulkhead);
        let thread = thread::spawn(move || {
            if used_before {
                assert!(shared.run(bulkman::current).value().unwrap().is_some());
            }
            VALUE.set(Some(AtTheEnd(Arc::clone(&shared), sender)));
            if !used_before {
                assert!(shared.run(bulkman::current).value().unwrap().is_some());
            }
        });
        let told = nine.recv_timeout(PATIENCE).expect("the nested call hangs");
        assert_eq!(told, Some(9));
        thread.join().unwrap();
        assert_idle(&bulkhead);
    }
}

// ---- shutting down

/// G8.
#[test]
fn shutdown_lets_everybody_finish_and_refuses_the_rest() {
    let bulkhead = semaphore(1, 2);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| bulkhead.run(|| ())))
            .collect();
        queued(&bulkhead, 2);
        let reports: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| bulkhead.shutdown()))
            .collect();
        eventually("it is closed", || {
            bulkhead.state() == BulkheadState::ShutDown
        });
        assert!(bulkhead.try_run(|| ()).unwrap_err().reason.is_shut_down());
        assert_eq!(bulkhead.available_capacity(), 0);
        inside.finish();
        assert!(
            waiting
                .into_iter()
                .all(|call| call.join().unwrap().is_success())
        );
        for report in reports {
            let report = report.join().unwrap();
            assert!(report.is_clean(), "{report:?}");
            assert!(report.finished <= 3);
        }
    });
    assert!(bulkhead.shutdown().is_clean());
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.successful_executions, stats.rejected_shut_down),
        (3, 1)
    );
    assert_idle(&bulkhead);
}

/// G8: by its limit it returns, those in line are told, and what runs is named.
#[test]
fn shutdown_with_a_limit_cancels_those_in_line() {
    for at_once in [true, false] {
        let bulkhead = semaphore(1, 2);
        let gate = Gate::new();
        thread::scope(|scope| {
            let _opener = OpenOnDrop(gate.clone());
            let running = scope.spawn(|| bulkhead.call().operation("slow").run(|| gate.pass()));
            gate.wait_for_arrivals(1);
            let waiting: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| bulkhead.run(|| ())))
                .collect();
            queued(&bulkhead, 2);
            let report = if at_once {
                bulkhead.shutdown_now()
            } else {
                bulkhead.shutdown_timeout(Duration::from_millis(5))
            };
            assert_eq!(report.finished, 0);
            // One that is counted as queued may only be on its way to the line; it then cancels itself.
            assert!(report.cancelled <= 2);
            let [left] = &report.still_running[..] else {
                panic!("{report:?}");
            };
            assert_eq!(left.operation.as_deref(), Some("slow"));
            for call in waiting {
                let result = call.join().unwrap();
                assert_eq!(
                    result.error().unwrap().to_string(),
                    "bulkhead `test` cancelled the queued task because it was shut down"
                );
            }
            gate.open();
            let result = running.join().unwrap();
            assert!(result.is_success());
            assert_eq!(result.execution_id, left.execution_id);
        });
        assert_eq!(bulkhead.stats().cancelled_executions, 2);
        assert_idle(&bulkhead);
    }
}

/// G8: it had a place, and its turn was free, but it came to it after the shutdown, which could not name it.
#[test]
fn a_call_on_its_way_to_a_free_turn_never_starts_after_a_shutdown_that_cancels() {
    for at_once in [true, false] {
        let gate = Gate::new();
        let at_the_circuit = gate.clone();
        let clock = ManualClock::new();
        let breaker = CircuitBreakerConfig::default();
        let isolation = breaker.isolation_duration;
        let bulkhead = SemaphoreBulkhead::builder(config(1, 0).circuit_breaker(breaker))
            .clock(clock.clone())
            .listener(move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::CircuitChanged { change, .. } = event {
                    if change.to == CircuitState::HalfOpen {
                        at_the_circuit.pass();
                    }
                }
            })
            .build()
            .unwrap();
        bulkhead.circuit_breaker().unwrap().trip();
        clock.advance(isolation);
        thread::scope(|scope| {
            let _opener = OpenOnDrop(gate.clone());
            let late = scope.spawn(|| bulkhead.run(|| ()));
            gate.wait_for_arrivals(1);
            let report = if at_once {
                bulkhead.shutdown_now()
            } else {
                bulkhead.shutdown_timeout(Duration::ZERO)
            };
            assert!(report.is_clean(), "{report:?}");
            gate.open();
            assert!(matches!(
                late.join().unwrap().error(),
                Some(BulkheadError::Cancelled {
                    by_shutdown: true,
                    ..
                })
            ));
        });
        let stats = bulkhead.stats();
        assert_eq!((stats.cancelled_executions, stats.total_executions), (1, 0));
        assert_idle(&bulkhead);
    }
}

#[test]
fn a_task_that_shuts_its_bulkhead_down_does_not_wait_for_itself() {
    let bulkhead = semaphore(1, 1);
    let report = in_time("a shutdown from inside", move || {
        let report = bulkhead.run(|| {
            assert!(!bulkman::current().unwrap().is_shutting_down());
            let report = bulkhead.shutdown();
            assert!(bulkman::current().unwrap().is_shutting_down());
            assert!(bulkhead.run(|| ()).error().unwrap().is_rejected());
            report
        });
        assert!(bulkhead.shutdown().is_clean());
        report.into_result().unwrap()
    });
    assert_eq!(report.still_running.len(), 1);
}

#[test]
fn the_last_reference_may_go_inside_a_task() {
    in_time("dropping it inside", || {
        let bulkhead = Arc::new(semaphore(1, 1));
        let wrapped = bulkhead.wrap(|inside: Option<Arc<SemaphoreBulkhead>>| {
            drop(inside);
            Ok::<_, ()>(())
        });
        assert!(wrapped(Some(bulkhead)).is_success());
        assert!(matches!(
            wrapped(None).error(),
            Some(BulkheadError::ShutDown { .. })
        ));
    });
}

/// Dropping waits for calls that came through a wrapped function.
#[test]
fn dropping_waits_for_wrapped_calls() {
    let bulkhead = semaphore(1, 0);
    let gate = Gate::new();
    let wrapped = bulkhead.wrap(|gate: Gate| {
        gate.pass();
        Ok::<_, ()>(())
    });
    let _opener = OpenOnDrop(gate.clone());
    let calling = {
        let (wrapped, gate) = (wrapped.clone(), gate.clone());
        thread::spawn(move || wrapped(gate).is_success())
    };
    gate.wait_for_arrivals(1);
    let dropping = thread::spawn(move || drop(bulkhead));
    eventually("it is closed", || {
        wrapped(gate.clone())
            .error()
            .is_some_and(|error| matches!(error, BulkheadError::ShutDown { .. }))
    });
    assert!(!dropping.is_finished());
    gate.open();
    dropping.join().unwrap();
    assert!(calling.join().unwrap());
}

// ---- numbers

/// G10.
#[test]
fn the_ledger_balances_in_every_snapshot() {
    let bulkhead = semaphore(2, 2);
    let calls = AtomicUsize::new(0);
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..6 {
            let (bulkhead, calls, over) = (&bulkhead, &calls, &over);
            scope.spawn(move || {
                for turn in 0..2_000 {
                    let call = bulkhead.call().queue_timeout(match turn % 5 {
                        0 => Duration::from_nanos(200),
                        _ => PATIENCE,
                    });
                    let result = call.execute(|| match (turn + thread) % 7 {
                        0 => Err(()),
                        1 => Ok(bulkhead.run(|| 1).is_success()),
                        2 if turn % 50 == 0 => panic!("on purpose"),
                        _ => Ok(true),
                    });
                    let inner = usize::from((turn + thread) % 7 == 1);
                    let never = result.error().is_some_and(BulkheadError::never_started);
                    calls.fetch_add(if never { 1 } else { 1 + inner }, Ordering::Relaxed);
                }
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut before = 0;
        while over.load(Ordering::Relaxed) < 6 {
            let stats = bulkhead.stats();
            assert_balanced(&stats);
            assert!(stats.submitted_executions >= before, "{stats}");
            before = stats.submitted_executions;
        }
    });
    let stats = bulkhead.stats();
    assert_eq!(stats.submitted_executions as usize, calls.into_inner());
    assert_eq!(stats.run_time.count(), stats.total_executions);
    assert_eq!(stats.queue_wait.count(), stats.total_executions);
    assert_idle(&bulkhead);

    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_eq!((stats.submitted_executions, stats.run_time.count()), (0, 0));
    assert!(bulkhead.run(|| ()).is_success());
    assert_eq!(bulkhead.stats().successful_executions, 1);
}

#[test]
fn times_are_those_of_the_clock() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting = scope.spawn(|| bulkhead.run(|| clock.advance(Duration::from_secs(7))));
        queued(&bulkhead, 1);
        clock.advance(Duration::from_secs(3));
        inside.finish();
        let result = waiting.join().unwrap();
        // It may have been counted as queued before it looked at the clock.
        assert!(
            [0, 3]
                .map(Duration::from_secs)
                .contains(&result.queued_time)
        );
        assert_eq!(result.execution_time, Duration::from_secs(7));
        assert_eq!(bulkhead.stats().queue_wait.max(), result.queued_time);
    });
    let stats = bulkhead.stats();
    assert_eq!(stats.run_time.max(), Duration::from_secs(7));
}

// ---- collaborators

#[test]
fn the_circuit_keeps_calls_away_and_probes() {
    let breaker = CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(30));
    let (bulkhead, clock) = with_clock(config(1, 1).circuit_breaker(breaker));
    let not_found = || {
        let call = bulkhead
            .call()
            .failure_if(|error: &&str| *error != "not found");
        call.execute(|| Err::<(), _>("not found"))
    };
    for _ in 0..5 {
        assert!(not_found().error().is_some());
    }
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    for _ in 0..2 {
        assert!(bulkhead.execute(|| Err::<(), _>("down")).error().is_some());
    }
    assert_eq!(bulkhead.state(), BulkheadState::Isolated);
    assert!(!bulkhead.is_healthy());
    let refused = bulkhead.try_run(|| 1).unwrap_err();
    let RejectReason::CircuitOpen { retry_after, .. } = refused.reason else {
        panic!("{refused:?}");
    };
    assert_eq!(retry_after, Duration::from_secs(30));
    assert_eq!(bulkhead.available_capacity(), 2, "the place is given back");
    clock.advance(retry_after);
    assert!(bulkhead.run(|| ()).is_success());
    assert!(bulkhead.circuit_breaker().unwrap().is_closed());
    assert_eq!(bulkhead.stats().rejected_circuit_open, 1);
    assert_idle(&bulkhead);
}

/// A probe that never gets its turn gives its right back.
#[test]
fn a_probe_that_leaves_the_line_lets_another_probe() {
    let breaker = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1);
    let (bulkhead, clock) = with_clock(config(1, 2).circuit_breaker(breaker));
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let breaker = bulkhead.circuit_breaker().unwrap();
        breaker.trip();
        clock.advance(
            bulkhead
                .config()
                .circuit_breaker
                .as_ref()
                .unwrap()
                .isolation_duration,
        );
        let probe = scope.spawn(|| {
            bulkhead
                .call()
                .queue_timeout(Duration::from_secs(1))
                .run(|| ())
        });
        queued(&bulkhead, 1);
        eventually("the probe is out", || breaker.is_half_open());
        assert!(
            bulkhead
                .try_run(|| ())
                .unwrap_err()
                .reason
                .is_circuit_open()
        );
        let probe = expire(&clock, Duration::from_secs(1), probe);
        assert!(probe.error().unwrap().is_timeout());
        let again = scope.spawn(|| bulkhead.run(|| ()));
        queued(&bulkhead, 1);
        inside.finish();
        assert!(again.join().unwrap().is_success());
        assert!(breaker.is_closed());
    });
    assert_idle(&bulkhead);
}

#[test]
fn both_kinds_share_a_circuit() {
    let storage = MemoryStorage::new();
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    let here = SemaphoreBulkhead::builder(config(1, 0).circuit_breaker(breaker.clone()))
        .circuit_storage(storage.clone())
        .build()
        .unwrap();
    let there = Bulkhead::builder(config(1, 0).circuit_breaker(breaker))
        .circuit_storage(storage)
        .build()
        .unwrap();
    assert!(there.execute(|| Err::<(), _>(())).wait().error().is_some());
    eventually("the other one knows", || {
        here.state() == BulkheadState::Isolated
    });
}

#[test]
fn listeners_hear_of_everything_in_the_callers_thread() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1))
        .clock(ManualClock::new())
        .listener(move |event: &BulkheadEvent<'_>| {
            let name = match event {
                BulkheadEvent::Rejected { operation, .. } => format!("rejected {operation:?}"),
                BulkheadEvent::Started { call, .. } => {
                    let me = bulkman::current().expect("it is its turn");
                    assert_eq!(me.execution_id(), call.execution_id);
                    format!("started {:?}", call.operation)
                }
                BulkheadEvent::Finished { outcome, .. } => format!("finished {outcome:?}"),
                BulkheadEvent::Expired { queued_time, .. } => format!("expired {queued_time:?}"),
                BulkheadEvent::Cancelled { .. } => "cancelled".into(),
                BulkheadEvent::ShuttingDown { bulkhead, .. } => {
                    format!("{bulkhead} is shutting down")
                }
                _ => "another".into(),
            };
            ear.lock().unwrap().push((thread::current().id(), name));
            panic!("nobody minds");
        })
        .build()
        .unwrap();
    let heard = || {
        let all = std::mem::take(&mut *heard.lock().unwrap());
        all.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let here = thread::current().id();

    let _ = bulkhead.call().operation("a").run(|| ());
    let _ = bulkhead.execute(|| Err::<(), _>(()));
    let _ = bulkhead.run(|| -> () { panic!("on purpose") });
    let (threads, events) = heard();
    assert!(threads.iter().all(|thread| *thread == here));
    assert_eq!(
        events,
        [
            "started Some(\"a\")",
            "finished Succeeded",
            "started None",
            "finished Failed",
            "started None",
            "finished Panicked"
        ]
    );
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        heard();
        let _ = bulkhead.call().queue_timeout(Duration::ZERO).run(|| ());
        let waiting = scope.spawn(|| bulkhead.run(|| ()));
        queued(&bulkhead, 1);
        let _ = bulkhead.call().operation("b").run(|| ());
        let _ = bulkhead.shutdown_now();
        let cancelled_in = waiting.thread().id();
        assert!(waiting.join().unwrap().error().is_some());
        let (threads, events) = heard();
        assert_eq!(threads, [here, here, here, cancelled_in]);
        assert_eq!(
            events,
            [
                "expired 0ns",
                "rejected Some(\"b\")",
                "test is shutting down",
                "cancelled"
            ]
        );
        inside.finish();
    });
    assert_idle(&bulkhead);
}

/// A listener that makes a call, or shuts the bulkhead down, waits for nothing that it holds itself.
#[test]
fn listeners_may_use_their_bulkhead() {
    let itself = Arc::new(Mutex::new(std::sync::Weak::<SemaphoreBulkhead>::new()));
    let seen = Arc::clone(&itself);
    let depth = Mutex::new(0);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 4))
        .listener(move |event: &BulkheadEvent<'_>| {
            let Some(bulkhead) = seen.lock().unwrap().upgrade() else {
                return;
            };
            if std::mem::replace(&mut *depth.lock().unwrap(), 1) == 0 {
                assert!(bulkhead.run(|| ()).is_success());
                if matches!(event, BulkheadEvent::Finished { .. }) {
                    bulkhead.shutdown();
                }
                *depth.lock().unwrap() = 0;
            }
        })
        .build()
        .unwrap();
    let bulkhead = Arc::new(bulkhead);
    *itself.lock().unwrap() = Arc::downgrade(&bulkhead);
    let stats = in_time("a listener's call", move || {
        assert!(bulkhead.run(|| ()).is_success());
        bulkhead.stats()
    });
    assert_eq!(stats.state, BulkheadState::ShutDown);
    assert_eq!(stats.in_flight, 0, "{stats}");
}

// ---- the rest

#[test]
fn a_wrapped_function_goes_through_the_bulkhead() {
    let bulkhead = semaphore(1, 0);
    let prices = [3, 5];
    let price = bulkhead.wrap(|item: usize| prices.get(item).ok_or("no such item"));
    let same = price.clone();
    assert_eq!(price(1).value(), Some(&&5));
    assert_eq!(same(2).error().unwrap().failed(), Some(&"no such item"));
    assert_eq!(bulkhead.stats().submitted_executions, 2);
    drop(bulkhead);
    assert!(matches!(
        price(0).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn bad_configuration_is_a_clear_error() {
    for (config, says) in [
        (
            config(0, 1),
            "max_concurrent_calls is 0, it must be at least 1",
        ),
        (
            config(1, 1).queue_timeout(Duration::ZERO),
            "queue_timeout is 0ns, it must be greater than zero; leave it out for no limit",
        ),
    ] {
        let error = SemaphoreBulkhead::new(config).unwrap_err();
        assert_eq!(error.to_string(), format!("invalid configuration: {says}"));
    }
    let error = SemaphoreBulkhead::builder(config(1, 1))
        .circuit_storage(MemoryStorage::new())
        .build()
        .unwrap_err();
    assert!(matches!(
        error,
        BuildError::InvalidValue {
            field: "circuit_breaker",
            ..
        }
    ));
}

/// All seats can be taken at once, and the largest bulkhead costs no more than it uses.
#[test]
fn many_seats() {
    let large = SemaphoreBulkhead::new(config(
        BulkheadConfig::MAX_WORKERS,
        BulkheadConfig::MAX_CAPACITY - BulkheadConfig::MAX_WORKERS,
    ))
    .unwrap();
    assert_eq!(large.available_capacity(), BulkheadConfig::MAX_CAPACITY);
    assert!(large.run(|| ()).is_success());

    let bulkhead = semaphore(100, 0);
    for _ in 0..2 {
        thread::scope(|scope| {
            let inside = Inside::new(scope, &bulkhead, 100);
            assert!(bulkhead.run(|| ()).error().unwrap().is_rejected());
            inside.finish();
        });
        assert_idle(&bulkhead);
    }
}

#[test]
fn what_it_shows_and_where_it_may_go() {
    fn is_shared<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>(_: &T) {}
    let bulkhead = semaphore(2, 3);
    is_shared(&bulkhead);
    assert_eq!(bulkhead.name(), "test");
    assert_eq!(bulkhead.config().max_queue_size, 3);
    assert!(bulkhead.is_healthy() && bulkhead.circuit_breaker().is_none());
    let shown = format!("{bulkhead:?}");
    assert!(
        shown.starts_with("SemaphoreBulkhead { name: \"test\""),
        "{shown}"
    );
    let call = format!("{:?}", bulkhead.call().operation("x"));
    assert!(
        call.starts_with("SemaphoreCall { bulkhead: \"test\""),
        "{call}"
    );
    let builder = format!("{:?}", SemaphoreBulkhead::builder(config(1, 1)));
    assert!(builder.starts_with("SemaphoreBulkheadBuilder"), "{builder}");
    let begun = Instant::now();
    let result = bulkhead.run(|| ());
    assert!(result.execution_time <= begun.elapsed());
}
