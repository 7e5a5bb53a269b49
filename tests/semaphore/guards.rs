//! Calls without a closure: a guard begins and ends them.

use std::cell::RefCell;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{
    BulkheadError, BulkheadEvent, BulkheadState, CircuitBreakerConfig, CircuitState, ManualClock,
    SemaphoreBulkhead, SemaphoreGuard, Verdict,
};

use super::helpers::{Inside, assert_idle, queued, semaphore, with_clock};
use crate::support::{PATIENCE, assert_balanced, config, eventually, in_time, rules, seconds};

fn current_id() -> Option<uuid::Uuid> {
    bulkman::current().map(|call| call.execution_id())
}

#[test]
fn a_guard_is_a_call() {
    let (bulkhead, clock) = with_clock(config(2, 1));
    let guard = bulkhead.call().operation("send").acquire().unwrap();
    assert_eq!(guard.bulkhead_name(), "test");
    assert_eq!(guard.operation(), Some("send"));
    assert_eq!(guard.queued_time(), Duration::ZERO);
    assert_eq!(guard.remaining(), None);
    clock.advance(seconds(3));
    assert_eq!(guard.execution_time(), seconds(3));
    let me = bulkman::current().expect("the guard's call");
    assert_eq!(me.execution_id(), guard.execution_id());
    assert_eq!(me.operation(), Some("send"));
    assert_eq!(me.bulkhead_name(), "test");
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 0));
    assert_eq!(stats.longest_running, Some(seconds(3)));
    assert_eq!(bulkhead.available_capacity(), 2);
    guard.success();
    assert!(bulkman::current().is_none());
    let stats = bulkhead.stats();
    assert_eq!(stats.successful_executions, 1);
    assert_eq!(stats.run_time.max(), seconds(3));
    assert_eq!(stats.busy_time, seconds(3));
    assert_idle(&bulkhead);
}

#[test]
fn how_a_guard_says_that_the_call_ended() {
    let bulkhead = semaphore(1, 0);
    let numbers = || {
        let stats = bulkhead.stats();
        assert_eq!(stats.in_flight, 0, "{stats}");
        [
            stats.successful_executions,
            stats.failed_executions,
            stats.panicked_executions,
        ]
    };
    let acquire = || bulkhead.acquire().unwrap();
    acquire().success();
    assert_eq!(numbers(), [1, 0, 0]);
    acquire().failure();
    assert_eq!(numbers(), [1, 1, 0]);
    acquire().record(Verdict::Success);
    acquire().record(Verdict::Failure);
    acquire().record(Verdict::Ignored);
    assert_eq!(numbers(), [2, 3, 0]);
    drop(acquire());
    assert_eq!(numbers(), [3, 3, 0]);
    let guard = acquire();
    let id = guard.execution_id();
    let result = guard.finish(Ok::<_, ()>(7));
    assert_eq!((result.execution_id, result.value()), (id, Some(&7)));
    assert_eq!(&*result.bulkhead_name, "test");
    let result = acquire().finish(Err::<(), _>("no"));
    assert!(matches!(result.error(), Some(BulkheadError::Failed("no"))));
    assert_eq!(numbers(), [4, 4, 0]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = acquire();
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    assert_eq!(numbers(), [4, 4, 1]);
    assert_idle(&bulkhead);
}

/// A destructor that runs while its thread unwinds may make calls, which go well.
#[test]
fn a_guard_that_is_acquired_and_dropped_while_the_thread_unwinds_has_not_panicked() {
    struct Cleanup<'a>(&'a SemaphoreBulkhead);
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            drop(self.0.acquire().unwrap());
        }
    }
    let bulkhead = semaphore(1, 0);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _cleanup = Cleanup(&bulkhead);
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(unwound.is_err());
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.successful_executions, stats.panicked_executions),
        (1, 0)
    );
}

#[test]
fn try_acquire_never_waits() {
    let bulkhead = semaphore(1, 5);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        for call in [bulkhead.call(), bulkhead.call().wait_for_capacity(PATIENCE)] {
            let error = call.operation("x").try_acquire().unwrap_err();
            assert!(matches!(
                error,
                BulkheadError::Full {
                    max_concurrent_calls: 1,
                    max_queue_size: 0,
                    waited: None,
                    ..
                }
            ));
            assert!(error.is_rejected() && error.never_started());
        }
        assert_eq!(bulkhead.available_capacity(), 5);
        assert_eq!(bulkhead.stats().rejected_full, 2);
        inside.finish();
    });
    let guard = bulkhead.try_acquire().expect("a free slot");
    assert_eq!(bulkhead.stats().active_tasks, 1);
    drop(guard);
    bulkhead.shutdown();
    let error = bulkhead.try_acquire().unwrap_err();
    assert!(matches!(error, BulkheadError::ShutDown { .. }));
    assert_eq!(bulkhead.stats().rejected_shut_down, 1);
    assert_idle(&bulkhead);
}

/// It is a call like any other where it takes a place: with none free it is refused, also beside a free slot's owner.
#[test]
fn try_acquire_at_a_limit_that_is_over_never_starts() {
    let bulkhead = semaphore(1, 0);
    let error = bulkhead.call().timeout(Duration::ZERO).try_acquire();
    assert!(matches!(
        error,
        Err(BulkheadError::Timeout { started: false, .. })
    ));
    assert_eq!(bulkhead.stats().timed_out_executions, 1);
    // A queue timeout is nothing to a call that does not wait.
    let guard = bulkhead.call().queue_timeout(Duration::ZERO).try_acquire();
    assert!(guard.is_ok());
    drop(guard);
    assert_idle(&bulkhead);
}

#[test]
fn acquire_waits_as_a_call_does() {
    let bulkhead = semaphore(1, 1);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let error = bulkhead.acquire_timeout(Duration::from_millis(1));
        assert!(matches!(error, Err(BulkheadError::QueueTimeout { .. })));
        let limit = Duration::from_millis(1);
        let error = bulkhead.call().timeout(limit).acquire();
        assert!(matches!(
            error,
            Err(BulkheadError::Timeout { started: false, .. })
        ));
        let waiting = scope.spawn(|| bulkhead.acquire().map(SemaphoreGuard::success).is_ok());
        queued(&bulkhead, 1);
        let error = bulkhead.acquire_timeout(PATIENCE).unwrap_err();
        assert!(matches!(
            error,
            BulkheadError::Full {
                max_queue_size: 1,
                ..
            }
        ));
        inside.finish();
        assert!(waiting.join().unwrap());
    });
    let stats = bulkhead.stats();
    assert_eq!((stats.timed_out_executions, stats.rejected_full), (2, 1));
    assert_idle(&bulkhead);
}

#[test]
fn a_guard_knows_its_limit() {
    let (bulkhead, clock) = with_clock(config(1, 0));
    let guard = bulkhead.call().timeout(seconds(5)).acquire().unwrap();
    clock.advance(seconds(2));
    let me = bulkman::current().unwrap();
    assert_eq!(guard.remaining(), Some(seconds(3)));
    assert_eq!(me.remaining(), Some(seconds(3)));
    clock.advance(seconds(4));
    assert_eq!(guard.remaining(), Some(Duration::ZERO));
    assert!(me.is_cancelled());
}

#[test]
fn the_error_goes_into_a_box() {
    fn boxed(bulkhead: &SemaphoreBulkhead) -> Result<(), Box<dyn Error + Send + Sync>> {
        let guard = bulkhead.acquire_timeout(Duration::ZERO)?;
        guard.success();
        Ok(())
    }
    fn widened(bulkhead: &SemaphoreBulkhead) -> Result<(), BulkheadError<String>> {
        bulkhead.acquire().map_err(BulkheadError::widen)?.success();
        Ok(())
    }
    let bulkhead = semaphore(1, 0);
    bulkhead.shutdown();
    assert_eq!(
        boxed(&bulkhead).unwrap_err().to_string(),
        "bulkhead `test` is shut down"
    );
    assert!(widened(&bulkhead).unwrap_err().is_rejected());
}

/// G9.
#[test]
fn a_call_beside_a_guard_of_its_thread_runs_in_its_slot() {
    let bulkhead = Arc::new(semaphore(1, 3));
    in_time(move || {
        let first = bulkhead.acquire().unwrap();
        let second = bulkhead.try_acquire().unwrap();
        let nested = bulkhead.run(|| {
            let third = bulkhead.acquire().unwrap();
            let stats = bulkhead.stats();
            assert_balanced(&stats);
            assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 3));
            let refused = bulkhead.call().wait_for_capacity(PATIENCE).acquire();
            assert!(matches!(refused, Err(BulkheadError::Full { .. })));
            third.success();
        });
        assert!(nested.is_success());
        assert_eq!(bulkhead.stats().active_tasks, 1);
        second.success();
        first.success();
        assert_eq!(bulkhead.stats().successful_executions, 4);
        assert_idle(&bulkhead);
    });
}

/// G3, G4, G10.
#[test]
fn a_slot_goes_back_with_the_last_guard_in_it() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let outer = bulkhead.call().operation("outer").acquire().unwrap();
    clock.advance(seconds(1));
    let inner = bulkhead.acquire().unwrap();
    clock.advance(seconds(1));
    outer.success();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 0));
    assert_eq!(stats.busy_time, seconds(2));
    assert_eq!(current_id(), Some(inner.execution_id()));
    thread::scope(|scope| {
        let refused = || bulkhead.try_acquire().is_err();
        assert!(scope.spawn(refused).join().unwrap(), "the slot is taken");
    });
    clock.advance(seconds(1));
    inner.failure();
    let stats = bulkhead.stats();
    assert_eq!(stats.busy_time, seconds(3));
    assert_eq!(
        (stats.successful_executions, stats.failed_executions),
        (1, 1)
    );
    assert_idle(&bulkhead);
}

/// A task may give its guard away, and a guard from around a task may end in it.
#[test]
fn guards_that_leave_their_task_or_end_in_another() {
    let (a, b) = (semaphore(1, 4), semaphore(1, 4));
    let outer = a.acquire().unwrap();
    let result = b.run(|| {
        outer.success();
        assert!(current_id().is_some());
        let escaped = [a.acquire().unwrap(), b.acquire().unwrap()];
        assert_eq!(current_id(), Some(escaped[1].execution_id()));
        escaped
    });
    let [of_a, of_b] = result.into_result().unwrap();
    assert_eq!(current_id(), Some(of_b.execution_id()));
    for bulkhead in [&a, &b] {
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 0), "{stats}");
    }
    drop(of_b);
    assert_idle(&b);
    assert_eq!(current_id(), Some(of_a.execution_id()));
    drop(of_a);
    assert_idle(&a);
    assert!(bulkman::current().is_none());
}

#[test]
fn guards_that_end_in_an_inner_task_do_not_hide_the_outer_one() {
    let (a, b) = (semaphore(1, 4), semaphore(1, 4));
    let result = a.run(|| {
        let in_a = current_id();
        let result = b.run(|| {
            let in_b = current_id();
            let guard = a.acquire().unwrap();
            let result = b.run(|| {
                drop(guard);
                drop(a.acquire().unwrap());
                current_id()
            });
            assert_eq!(result.value(), Some(&Some(result.execution_id)));
            assert_eq!(current_id(), in_b);
        });
        assert!(result.is_success());
        assert_eq!(current_id(), in_a);
    });
    assert!(result.is_success());
    [a, b].iter().for_each(assert_idle);
}

/// Random guards and tasks of three bulkheads in one thread, which end in any order: `current()` is the youngest call that
/// has not ended, and the numbers are right at each step.
#[test]
fn guards_of_one_thread_end_in_any_order() {
    struct Trial<'a> {
        bulkheads: &'a [SemaphoreBulkhead],
        random: u64,
        /// The calls that have not ended, from the eldest to the youngest.
        alive: Vec<(uuid::Uuid, usize)>,
        guards: Vec<(SemaphoreGuard<'a>, usize)>,
    }
    impl Trial<'_> {
        fn chance(&mut self, of: usize) -> usize {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005);
            self.random = self.random.wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) as usize % of
        }

        fn ended(&mut self, id: uuid::Uuid) {
            self.alive.retain(|(other, _)| *other != id);
        }

        fn check(&self) {
            assert_eq!(current_id(), self.alive.last().map(|(id, _)| *id));
            for (index, bulkhead) in self.bulkheads.iter().enumerate() {
                let calls = self.alive.iter().filter(|(_, of)| *of == index).count() as u64;
                let stats = bulkhead.stats();
                assert_balanced(&stats);
                assert_eq!(stats.in_flight, calls, "{stats}");
                assert_eq!(stats.active_tasks, calls.min(1), "{stats}");
            }
        }

        fn step(&mut self, depth: usize) {
            let index = self.chance(self.bulkheads.len());
            let bulkhead = &self.bulkheads[index];
            match self.chance(7) {
                0 | 1 if self.guards.len() < 6 => {
                    let call = bulkhead.call();
                    let guard = match self.chance(3) {
                        0 => call.acquire(),
                        1 => call.try_acquire(),
                        _ => call.operation("named").acquire(),
                    };
                    let guard = guard.unwrap();
                    self.alive.push((guard.execution_id(), index));
                    self.guards.push((guard, index));
                }
                2 if depth < 4 => {
                    let mut me = None;
                    let result = bulkhead.run(|| {
                        me = current_id();
                        self.alive.push((me.unwrap(), index));
                        for _ in 0..self.chance(6) {
                            self.check();
                            self.step(depth + 1);
                        }
                        self.check();
                    });
                    assert!(result.is_success(), "{result:?}");
                    self.ended(me.unwrap());
                }
                _ if !self.guards.is_empty() => {
                    let which = self.chance(self.guards.len());
                    let (guard, _) = self.guards.swap_remove(which);
                    self.ended(guard.execution_id());
                    guard.success();
                }
                _ => {}
            }
        }
    }
    for seed in 1..=300 {
        let bulkheads = [0, 1, 2].map(|_| semaphore(2, 20));
        let mut trial = Trial {
            bulkheads: &bulkheads,
            random: seed,
            alive: Vec::new(),
            guards: Vec::new(),
        };
        for _ in 0..40 {
            trial.step(0);
            trial.check();
        }
        drop(trial);
        bulkheads.iter().for_each(assert_idle);
        assert!(bulkman::current().is_none());
    }
}

/// A worker that waits runs other tasks meanwhile, on top of its own and of the guards of that.
#[test]
fn guards_on_workers() {
    thread_local!(static KEPT: RefCell<Option<SemaphoreGuard<'static>>> = const { RefCell::new(None) });
    let semaphore: &'static SemaphoreBulkhead = Box::leak(Box::new(semaphore(1, 3)));
    let pool = Arc::new(crate::support::bulkhead(1, 2));
    let inside = Arc::clone(&pool);
    let result = pool.run(move || {
        let outer = semaphore.acquire().unwrap();
        let helped = inside.run(move || {
            let me = current_id();
            let guard = semaphore.acquire().unwrap();
            assert_eq!(current_id(), Some(guard.execution_id()));
            assert_eq!(semaphore.stats().active_tasks, 1);
            KEPT.set(Some(guard));
            me
        });
        let helped = helped.wait();
        assert_eq!(helped.value(), Some(&Some(helped.execution_id)));
        let kept = KEPT.take().expect("it was left here");
        assert_eq!(current_id(), Some(kept.execution_id()));
        outer.success();
        assert_eq!(current_id(), Some(kept.execution_id()));
        kept.success();
        current_id()
    });
    let result = crate::support::wait(result);
    assert_eq!(result.value(), Some(&Some(result.execution_id)));
    assert_idle(semaphore);
}

/// It is older than the tasks that follow on that worker.
#[test]
fn a_guard_that_a_task_leaves_behind_does_not_hide_the_next_task() {
    thread_local!(static KEPT: RefCell<Vec<SemaphoreGuard<'static>>> = const { RefCell::new(Vec::new()) });
    let semaphore: &'static SemaphoreBulkhead = Box::leak(Box::new(semaphore(1, 3)));
    let pool = crate::support::bulkhead(1, 1);
    let other = crate::support::bulkhead(1, 1);
    let keep_two = || {
        let guards = [semaphore.acquire().unwrap(), semaphore.acquire().unwrap()];
        KEPT.set(guards.into());
    };
    assert!(crate::support::wait(pool.run(keep_two)).is_success());

    let next = pool.call().timeout(crate::support::HOUR).run(move || {
        let me = current_id();
        let inner = other.run(|| bulkman::current().and_then(|call| call.remaining()));
        let inherited = inner.wait().into_result().unwrap();
        assert!(inherited.is_some(), "the limit of this task");
        let young = semaphore.acquire().unwrap();
        assert_eq!(current_id(), Some(young.execution_id()));
        young.success();
        assert_eq!(current_id(), me);
        KEPT.take().pop().expect("two were left here").success();
        assert_eq!(current_id(), me);
        me
    });
    let next = crate::support::wait(next);
    assert_eq!(next.value(), Some(&Some(next.execution_id)));
    assert_idle(semaphore);
}

#[test]
fn a_guard_ends_with_its_thread() {
    thread_local!(static KEPT: RefCell<Option<SemaphoreGuard<'static>>> = const { RefCell::new(None) });
    let bulkhead: &'static SemaphoreBulkhead = Box::leak(Box::new(semaphore(1, 0)));
    for used_before in [false, true] {
        let thread = thread::spawn(move || {
            if used_before {
                assert!(bulkhead.run(bulkman::current).value().unwrap().is_some());
            }
            KEPT.set(Some(bulkhead.acquire().unwrap()));
        });
        thread.join().unwrap();
        assert_idle(bulkhead);
    }
    assert_eq!(bulkhead.stats().successful_executions, 3);
}

/// G8.
#[test]
fn a_shutdown_waits_for_guards_and_names_them() {
    let bulkhead = semaphore(1, 1);
    thread::scope(|scope| {
        let (end, is_to_end) = mpsc::channel::<()>();
        let (began, has_begun) = mpsc::channel();
        let holding = scope.spawn({
            let bulkhead = &bulkhead;
            move || {
                let guard = bulkhead.call().operation("held").acquire().unwrap();
                began.send(guard.execution_id()).unwrap();
                let _ = is_to_end.recv();
                let me = bulkman::current().unwrap();
                assert!(me.is_shutting_down());
                guard.success();
            }
        });
        let id = has_begun.recv().unwrap();
        let waiting = scope.spawn(|| bulkhead.acquire().map(drop));
        queued(&bulkhead, 1);
        let report = bulkhead.shutdown_timeout(Duration::from_millis(5));
        let [left] = &report.still_running[..] else {
            panic!("{report:?}");
        };
        assert_eq!(left.execution_id, id);
        assert_eq!(left.operation.as_deref(), Some("held"));
        assert!(matches!(
            waiting.join().unwrap(),
            Err(BulkheadError::Cancelled {
                by_shutdown: true,
                ..
            })
        ));
        let patient = scope.spawn(|| bulkhead.shutdown());
        assert!(!patient.is_finished());
        drop(end);
        holding.join().unwrap();
        assert!(patient.join().unwrap().is_clean());
    });
    assert_idle(&bulkhead);
}

#[test]
fn a_shutdown_in_the_thread_of_a_guard_does_not_wait_for_it() {
    let bulkhead = semaphore(1, 1);
    in_time(move || {
        let guard = bulkhead.acquire().unwrap();
        let report = bulkhead.shutdown();
        assert_eq!(report.still_running[0].execution_id, guard.execution_id());
        guard.success();
        assert!(bulkhead.shutdown().is_clean());
        assert_eq!(bulkhead.stats().successful_executions, 1);
    });
}

/// It keeps its slot, as the docs say, and only that.
#[test]
fn a_guard_that_is_leaked_keeps_its_slot() {
    let bulkhead = Arc::new(semaphore(2, 0));
    let shared = Arc::clone(&bulkhead);
    let leaking = thread::spawn(move || {
        std::mem::forget(shared.acquire().unwrap());
        // The thread's other calls are nested in it.
        assert!(shared.run(|| ()).is_success());
    });
    leaking.join().unwrap();
    assert_eq!(bulkhead.stats().active_tasks, 1);
    assert_eq!(bulkhead.available_capacity(), 1);
    assert!(bulkhead.run(|| ()).is_success());
    assert_eq!(bulkhead.shutdown_now().still_running.len(), 1);
}

#[test]
fn listeners_hear_of_guards() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1))
        .clock(clock.clone())
        .listener(move |event: &BulkheadEvent<'_>| {
            let current = bulkman::current().map(|call| call.execution_id());
            ear.lock().unwrap().push(match event {
                BulkheadEvent::Started { call, .. } => {
                    assert_eq!(current, Some(call.execution_id));
                    format!("started {:?}", call.operation)
                }
                BulkheadEvent::Finished {
                    call,
                    outcome,
                    execution_time,
                    ..
                } => {
                    assert_eq!(current, Some(call.execution_id));
                    format!("{outcome:?} after {execution_time:?}")
                }
                BulkheadEvent::Rejected {
                    reason, operation, ..
                } => {
                    format!("rejected {operation:?}: {reason}")
                }
                BulkheadEvent::Expired { .. } => "expired".into(),
                BulkheadEvent::Admitted { call, .. } => format!("admitted {:?}", call.operation),
                _ => "another".into(),
            });
            panic!("nobody minds");
        })
        .build()
        .unwrap();
    let guard = bulkhead.call().operation("a").acquire().unwrap();
    clock.advance(seconds(2));
    guard.failure();
    drop(bulkhead.try_acquire().unwrap());
    assert!(
        bulkhead
            .call()
            .queue_timeout(Duration::ZERO)
            .acquire()
            .is_err()
    );
    thread::scope(|scope| {
        let _guard = bulkhead.acquire().unwrap();
        let refused = || bulkhead.call().operation("b").try_acquire().is_err();
        assert!(scope.spawn(refused).join().unwrap());
    });
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "admitted Some(\"a\")",
            "started Some(\"a\")",
            "Failed after 2s",
            "admitted None",
            "started None",
            "Succeeded after 0ns",
            "admitted None",
            "expired",
            "admitted None",
            "started None",
            "rejected Some(\"b\"): bulkhead `test` is full: all 1 places are taken, 1 to run and 0 to wait",
            "Succeeded after 0ns",
        ]
    );
}

#[test]
fn the_circuit_hears_of_guards() {
    let breaker = rules(2, 1, seconds(30));
    let (bulkhead, clock) = with_clock(config(1, 1).circuit_breaker(breaker));
    for _ in 0..5 {
        bulkhead.acquire().unwrap().record(Verdict::Ignored);
    }
    bulkhead.acquire().unwrap().failure();
    bulkhead.acquire().unwrap().success();
    bulkhead.acquire().unwrap().failure();
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    bulkhead.try_acquire().unwrap().failure();
    assert_eq!(bulkhead.state(), BulkheadState::Isolated);
    for error in [bulkhead.acquire(), bulkhead.try_acquire()] {
        assert!(matches!(error, Err(BulkheadError::CircuitOpen { .. })));
    }
    assert_eq!(bulkhead.stats().rejected_circuit_open, 2);
    clock.advance(seconds(30));
    let probe = bulkhead.try_acquire().expect("a probe");
    assert_eq!(bulkhead.state(), BulkheadState::Degraded);
    assert!(matches!(
        bulkhead.try_acquire(),
        Err(BulkheadError::CircuitOpen { .. })
    ));
    probe.success();
    assert!(bulkhead.circuit_breaker().unwrap().is_closed());
    assert_idle(&bulkhead);
}

/// A call that is refused for want of a slot uses up no probe.
#[test]
fn try_acquire_without_a_free_slot_takes_no_probe() {
    let (bulkhead, clock) = with_clock(config(1, 3).circuit_breaker(rules(1, 1, seconds(30))));
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let breaker = bulkhead.circuit_breaker().unwrap();
        breaker.trip();
        clock.advance(seconds(30));
        assert!(matches!(
            bulkhead.try_acquire(),
            Err(BulkheadError::Full { .. })
        ));
        inside.finish();
        let probe = bulkhead.try_acquire().expect("the probe is still there");
        probe.success();
        assert!(breaker.is_closed());
    });
    assert_idle(&bulkhead);
}

#[test]
fn a_guard_that_lasts_too_long_is_slow_or_late_for_the_circuit() {
    let slow = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .slow_call_duration(seconds(5));
    let late = CircuitBreakerConfig::default().failure_threshold(1);
    for (breaker, timeout) in [(slow, None), (late, Some(seconds(5)))] {
        let (bulkhead, clock) = with_clock(config(1, 0).circuit_breaker(breaker));
        let mut call = bulkhead.call();
        if let Some(timeout) = timeout {
            call = call.timeout(timeout);
        }
        let guard = call.acquire().unwrap();
        clock.advance(seconds(6));
        guard.success();
        assert_eq!(bulkhead.state(), BulkheadState::Isolated);
        assert_eq!(bulkhead.stats().successful_executions, 1);
    }
}

/// G9: the listener of a circuit runs while a call holds a slot, and may leave a guard there.
#[test]
fn a_listener_of_the_circuit_may_acquire_a_guard_and_keep_it() {
    thread_local!(static KEPT: RefCell<Option<SemaphoreGuard<'static>>> = const { RefCell::new(None) });
    for refused in [false, true] {
        let itself = Arc::new(Mutex::new(None::<&'static SemaphoreBulkhead>));
        let seen = Arc::clone(&itself);
        let clock = ManualClock::new();
        let bulkhead =
            SemaphoreBulkhead::builder(config(1, 3).circuit_breaker(rules(1, 9, seconds(1))))
                .clock(clock.clone())
                .listener(move |event: &BulkheadEvent<'_>| {
                    let BulkheadEvent::CircuitChanged { change, .. } = event else {
                        return;
                    };
                    if change.to != CircuitState::HalfOpen {
                        return;
                    }
                    let bulkhead = seen.lock().unwrap().expect("it was set");
                    KEPT.set(bulkhead.acquire().ok());
                    if refused {
                        bulkhead.circuit_breaker().unwrap().trip();
                    }
                })
                .build()
                .unwrap();
        let bulkhead: &'static SemaphoreBulkhead = Box::leak(Box::new(bulkhead));
        *itself.lock().unwrap() = Some(bulkhead);
        bulkhead.circuit_breaker().unwrap().trip();
        clock.advance(seconds(1));
        let guard = bulkhead.try_acquire();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        drop(guard);
        assert_balanced(&bulkhead.stats());
        drop(KEPT.take());
        eventually("all have ended", || bulkhead.stats().in_flight == 0);
        assert_balanced(&bulkhead.stats());
        bulkhead.circuit_breaker().unwrap().reset();
        thread::scope(|scope| {
            let call = || bulkhead.call().queue_timeout(PATIENCE).run(|| ());
            assert!(scope.spawn(call).join().unwrap().is_success());
        });
        assert_eq!(bulkhead.stats().in_flight, 0);
    }
}
