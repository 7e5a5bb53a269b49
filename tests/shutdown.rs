//! Shutting down: every call is refused or gets its outcome, and the threads are really gone.

mod support;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, BulkheadState, CapturedContext,
    CircuitBreakerConfig, ContextPropagator, ExecutionHandle, ManualClock, RejectReason,
    ShutdownReport,
};
use support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, config, eventually, occupy, wait,
};

/// Runs `body` in a thread of its own, so that a hang fails the test instead of stopping it.
fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = done.send(body());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("it has sent its result");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still not done after {PATIENCE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing"))
        }
    }
}

/// A name that no other test of this binary uses, short enough for what the system keeps of it.
fn named(name: &str, n: usize, q: usize) -> BulkheadConfig {
    assert!(
        name.len() <= 5,
        "the system keeps 15 bytes of a thread's name"
    );
    BulkheadConfig::new(name)
        .max_concurrent_calls(n)
        .max_queue_size(q)
}

/// How many worker threads of the bulkhead `name` the system has.
#[cfg(target_os = "linux")]
fn threads_of(name: &str) -> usize {
    let prefix = format!("bulkman-{name}-");
    std::fs::read_dir("/proc/self/task")
        .expect("the list of threads")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.starts_with(&prefix))
        .count()
}

/// The kernel takes a thread off its list a moment after `join` returns.
#[cfg(target_os = "linux")]
fn eventually_no_threads_of(name: &str) {
    eventually("all worker threads are gone", || threads_of(name) == 0);
}

#[cfg(not(target_os = "linux"))]
fn eventually_no_threads_of(_: &str) {}

fn is_shut_down<T, E>(handle: ExecutionHandle<T, E>) -> bool {
    handle.is_finished() && matches!(wait(handle).error(), Some(BulkheadError::ShutDown { .. }))
}

fn is_cancelled_by_shutdown<T, E>(handle: ExecutionHandle<T, E>) -> bool {
    matches!(
        wait(handle).error(),
        Some(BulkheadError::Cancelled {
            by_shutdown: true,
            ..
        })
    )
}

fn is_closed(bulkhead: &Bulkhead) -> bool {
    bulkhead.state() == BulkheadState::ShutDown
}

// ---- shutdown

#[test]
fn shutdown_runs_what_is_queued_and_joins_the_workers() {
    let bulkhead = Bulkhead::new(named("all", 2, 10)).unwrap();
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..10).map(|i| bulkhead.run(move || i)).collect();
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        assert!(!ending.is_finished(), "two tasks still run");
        busy.gate.open();
        ending.join().unwrap()
    });
    assert_eq!(report.finished, 12);
    assert_eq!(report.cancelled, 0);
    assert_eq!(report.still_running, []);
    assert!(report.is_clean());
    for (i, handle) in queued.into_iter().enumerate() {
        assert!(handle.is_finished(), "shutdown has waited for it");
        assert_eq!(wait(handle).value(), Some(&i));
    }
    eventually_no_threads_of("all");
}

#[test]
fn an_idle_bulkhead_shuts_down_with_an_empty_report() {
    let bulkhead = Bulkhead::new(named("idle", 3, 3)).unwrap();
    bulkhead.run(|| ()).wait().into_result().unwrap();
    let report = bulkhead.shutdown();
    assert_eq!((report.finished, report.cancelled), (0, 0));
    assert!(report.is_clean());
    eventually_no_threads_of("idle");
}

#[test]
fn after_a_shutdown_every_form_of_call_is_refused() {
    let bulkhead = bulkhead(1, 1);
    let wrapped = bulkhead.wrap(|n: u32| Ok::<_, ()>(n));
    let _ = bulkhead.shutdown();

    assert!(is_shut_down(bulkhead.execute(|| Ok::<_, ()>(1))));
    assert!(is_shut_down(bulkhead.run(|| 1)));
    assert!(is_shut_down(bulkhead.call().operation("late").run(|| 1)));
    // A place to wait for will never come.
    let waiting = bulkhead.call().wait_for_capacity(Duration::MAX);
    assert!(is_shut_down(waiting.execute(|| Ok::<_, ()>(1))));
    let rejected = bulkhead.try_execute(|| Ok::<_, ()>(7)).unwrap_err();
    assert!(matches!(rejected.reason, RejectReason::ShutDown { .. }));
    assert_eq!((rejected.task)(), Ok(7));
    let timed = bulkhead.execute_with_timeout(Duration::MAX, || Ok::<_, fmt::Error>(1));
    let error = timed.error().expect("refused");
    assert!(error.is_rejected() && error.never_started());
    assert_eq!(error.to_string(), "bulkhead `test` is shut down");
    assert!(matches!(
        wrapped(1).error(),
        Some(BulkheadError::ShutDown { .. })
    ));

    let stats = bulkhead.stats();
    assert_eq!(stats.rejected_shut_down, 7);
    assert_eq!(stats.submitted_executions, 7);
    assert_balanced(&stats);
}

#[test]
fn a_bulkhead_that_is_shut_down_says_so() {
    let bulkhead = bulkhead(2, 3);
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    assert_eq!(bulkhead.available_capacity(), 5);
    let busy = occupy(&bulkhead, 1);
    let _ = bulkhead.shutdown_now();
    assert_eq!(bulkhead.state(), BulkheadState::ShutDown);
    assert!(!bulkhead.is_healthy());
    assert_eq!(bulkhead.available_capacity(), 0);
    assert_eq!(bulkhead.stats().state, BulkheadState::ShutDown);
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 0);
}

#[test]
fn a_running_task_can_see_that_its_bulkhead_shuts_down() {
    let bulkhead = bulkhead(1, 1);
    let (seen, sees) = mpsc::channel();
    let handle = bulkhead.run(move || {
        let call = bulkman::current().expect("inside a task");
        seen.send(call.is_shutting_down()).unwrap();
        eventually("shutting down", || call.is_shutting_down());
        // Nobody has cancelled this call.
        call.is_cancelled()
    });
    assert!(!sees.recv_timeout(PATIENCE).unwrap());
    let report = bulkhead.shutdown();
    assert_eq!(report.finished, 1);
    assert_eq!(wait(handle).value(), Some(&false));
}

// ---- shutdown_timeout and shutdown_now

/// Ends a bulkhead that runs one task and has three queued.
fn end_with_one_running(end: impl FnOnce(&Bulkhead) -> ShutdownReport) {
    let bulkhead = bulkhead(1, 3);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let running = {
        let gate = gate.clone();
        bulkhead.call().operation("export").run(move || {
            gate.pass();
            "delivered"
        })
    };
    gate.wait_for_arrivals(1);
    let ran = Arc::new(AtomicUsize::new(0));
    let queued: Vec<_> = (0..3)
        .map(|_| {
            let ran = Arc::clone(&ran);
            bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed))
        })
        .collect();

    let report = end(&bulkhead);

    assert_eq!(report.finished, 0);
    assert_eq!(report.cancelled, 3);
    assert!(!report.is_clean());
    let [still] = &report.still_running[..] else {
        panic!("one task is running: {report:?}");
    };
    assert_eq!(still.execution_id, running.execution_id());
    assert_eq!(still.operation.as_deref(), Some("export"));
    for handle in queued {
        assert!(handle.is_finished());
        assert!(is_cancelled_by_shutdown(handle));
    }
    assert!(!running.is_finished());
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.cancelled_executions, stats.active_tasks), (3, 1));

    drop(opener);
    assert_eq!(wait(running).value(), Some(&"delivered"));
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn at_its_deadline_a_shutdown_cancels_what_is_queued_and_leaves_what_runs() {
    end_with_one_running(|bulkhead| bulkhead.shutdown_timeout(Duration::from_millis(5)));
}

#[test]
fn a_limit_of_zero_is_a_deadline_that_has_passed() {
    end_with_one_running(|bulkhead| bulkhead.shutdown_timeout(Duration::ZERO));
}

#[test]
fn shutdown_now_cancels_what_is_queued_and_leaves_what_runs() {
    end_with_one_running(Bulkhead::shutdown_now);
}

#[test]
fn shutdown_timeout_that_is_long_enough_runs_everything() {
    for limit in [PATIENCE, Duration::MAX] {
        let bulkhead = bulkhead(2, 5);
        let busy = occupy(&bulkhead, 2);
        let queued: Vec<_> = (0..5).map(|i| bulkhead.run(move || i)).collect();
        let report = thread::scope(|scope| {
            let ending = scope.spawn(|| bulkhead.shutdown_timeout(limit));
            eventually("closed", || is_closed(&bulkhead));
            busy.gate.open();
            ending.join().unwrap()
        });
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.finished, 7);
        assert!(queued.into_iter().all(|handle| wait(handle).is_success()));
    }
}

#[test]
fn a_report_names_every_task_that_still_runs() {
    let bulkhead = bulkhead(3, 0);
    let busy = occupy(&bulkhead, 3);
    let report = bulkhead.shutdown_now();
    let reported: HashSet<_> = report
        .still_running
        .iter()
        .map(|t| t.execution_id)
        .collect();
    let running: HashSet<_> = busy.handles.iter().map(|h| h.execution_id()).collect();
    assert_eq!(reported, running);
    assert_eq!(report.still_running.len(), 3);
    assert!(report.still_running.iter().all(|t| t.operation.is_none()));
    busy.finish();
}

#[test]
fn running_for_goes_by_the_bulkheads_clock() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 0))
        .clock(clock.clone())
        .build()
        .unwrap();
    // The task begins some time after its bulkhead.
    clock.advance(Duration::from_secs(20));
    let busy = occupy(&bulkhead, 1);
    clock.advance(Duration::from_secs(90));
    let report = bulkhead.shutdown_now();
    assert_eq!(report.still_running[0].running_for, Duration::from_secs(90));
    busy.finish();
}

#[test]
fn the_report_counts_what_finished_during_the_shutdown_only() {
    let bulkhead = bulkhead(1, 4);
    for _ in 0..5 {
        bulkhead.run(|| ()).wait().into_result().unwrap();
    }
    let busy = occupy(&bulkhead, 1);
    let fails = bulkhead.execute(|| Err::<(), _>("no"));
    let panics = bulkhead.run(|| panic!("no"));
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        busy.gate.open();
        ending.join().unwrap()
    });
    assert_eq!(report.finished, 3);
    let failed = wait(fails);
    assert!(matches!(failed.error(), Some(BulkheadError::Failed("no"))));
    let panicked: bulkman::ExecutionResult<(), _> = wait(panics);
    assert!(matches!(panicked.error(), Some(BulkheadError::Panicked(_))));
}

// ---- again, and at the same time

#[test]
fn shutting_down_twice_reports_nothing_new() {
    let bulkhead = bulkhead(2, 2);
    let busy = occupy(&bulkhead, 2);
    let queued = bulkhead.run(|| ());
    assert_eq!(bulkhead.shutdown_now().cancelled, 1);
    let again = bulkhead.shutdown_now();
    assert_eq!((again.finished, again.cancelled), (0, 0));
    assert_eq!(again.still_running.len(), 2);
    assert!(is_cancelled_by_shutdown(queued));
    busy.finish();
    assert!(bulkhead.shutdown().is_clean());
    assert!(bulkhead.shutdown_timeout(Duration::ZERO).is_clean());
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn several_threads_may_shut_down_at_once() {
    for round in 0..50 {
        let bulkhead = bulkhead(2, 4);
        let handles: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    let report = bulkhead.shutdown();
                    assert!(report.is_clean(), "round {round}: {report:?}");
                });
            }
        });
        assert!(handles.iter().all(ExecutionHandle::is_finished));
        assert_eq!(bulkhead.stats().successful_executions, 4);
    }
}

#[test]
fn shutdown_now_cuts_short_a_shutdown_that_is_under_way() {
    let bulkhead = bulkhead(1, 3);
    let busy = occupy(&bulkhead, 1);
    let queued: Vec<_> = (0..3).map(|i| bulkhead.run(move || i)).collect();
    thread::scope(|scope| {
        let patient = scope.spawn(|| bulkhead.shutdown());
        eventually("closed", || is_closed(&bulkhead));
        let now = bulkhead.shutdown_now();
        assert_eq!(now.cancelled, 3);
        assert_eq!(now.still_running.len(), 1);
        assert!(
            !patient.is_finished(),
            "it still waits for the one that runs"
        );
        busy.gate.open();
        let report = patient.join().unwrap();
        assert_eq!(report.finished, 1);
        assert_eq!(
            report.cancelled, 3,
            "the end of the same bulkhead, told to both"
        );
    });
    assert!(queued.into_iter().all(is_cancelled_by_shutdown));
}

thread_local!(static SLOW_END: RefCell<Option<SlowDrop>> = const { RefCell::new(None) });

#[test]
fn every_one_of_several_shutdowns_waits_until_the_threads_are_gone() {
    let bulkhead = bulkhead(1, 0);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let at_the_end = gate.clone();
    wait(bulkhead.run(move || SLOW_END.set(Some(SlowDrop(at_the_end)))))
        .into_result()
        .unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| bulkhead.shutdown());
        gate.wait_for_arrivals(1);
        let second = scope.spawn(|| bulkhead.shutdown());
        // The thread cannot go before the gate opens, so there is nothing else to wait for.
        for _ in 0..2_000 {
            thread::park_timeout(Duration::from_micros(50));
            assert!(!first.is_finished());
            assert!(!second.is_finished(), "a worker thread is still there");
        }
        gate.open();
    });
}

// ---- drop

#[test]
fn dropping_it_runs_what_is_queued_and_joins() {
    let bulkhead = Bulkhead::new(named("drop", 2, 20)).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let busy = occupy(&bulkhead, 2);
    for _ in 0..20 {
        let ran = Arc::clone(&ran);
        drop(bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed)));
    }
    busy.gate.open();
    drop(bulkhead);
    assert_eq!(ran.load(Ordering::Relaxed), 20);
    eventually_no_threads_of("drop");
}

#[test]
fn dropping_it_after_a_shutdown_that_gave_up_waiting_does_not_wait_either() {
    in_time(|| {
        let ends: [fn(&Bulkhead) -> ShutdownReport; 2] = [Bulkhead::shutdown_now, |bulkhead| {
            bulkhead.shutdown_timeout(Duration::ZERO)
        }];
        for end in ends {
            let bulkhead = Bulkhead::new(named("gave", 1, 1)).unwrap();
            let busy = occupy(&bulkhead, 1);
            let _ = end(&bulkhead);
            drop(bulkhead);
            busy.finish();
            eventually_no_threads_of("gave");
        }
    });
}

#[test]
fn handles_outlive_their_bulkhead() {
    let bulkhead = bulkhead(1, 5);
    let busy = occupy(&bulkhead, 1);
    let first = bulkhead.run(|| "ran");
    let second = bulkhead.run(|| "never");
    assert!(second.cancel());
    busy.gate.open();
    drop(bulkhead);
    assert!(first.is_finished() && second.is_finished());
    assert!(!first.cancel());
    assert_eq!(wait(first).value(), Some(&"ran"));
    assert!(wait(second).error().unwrap().never_started());
}

// ---- from within

#[test]
fn a_task_may_shut_its_own_bulkhead_down() {
    let ends: [fn(&Bulkhead) -> ShutdownReport; 3] =
        [Bulkhead::shutdown, Bulkhead::shutdown_now, |bulkhead| {
            bulkhead.shutdown_timeout(Duration::MAX)
        }];
    for (form, end) in ends.into_iter().enumerate() {
        in_time(move || {
            let bulkhead = Arc::new(bulkhead(1, 2));
            let gate = Gate::new();
            let opener = OpenOnDrop(gate.clone());
            let handle = {
                let bulkhead = Arc::clone(&bulkhead);
                bulkhead.clone().run(move || {
                    gate.pass();
                    let report = end(&bulkhead);
                    let refused = bulkhead.run(|| ()).wait();
                    (
                        report,
                        refused.error().is_some_and(BulkheadError::is_rejected),
                    )
                })
            };
            let queued = [bulkhead.run(|| ()), bulkhead.run(|| ())];
            drop(opener);
            let (report, refused) = wait(handle).into_result().unwrap();
            assert!(refused);
            assert_eq!(report.still_running.len(), 1, "the task itself");
            for handle in queued {
                if form == 1 {
                    assert!(is_cancelled_by_shutdown(handle));
                } else {
                    assert!(wait(handle).is_success(), "the queue is worked off");
                }
            }
            assert_eq!(report.cancelled, if form == 1 { 2 } else { 0 });
            assert!(bulkhead.shutdown().is_clean());
        });
    }
}

/// Something that owns a bulkhead.
struct Owner(#[allow(dead_code, reason = "it is dropped, which is its use")] Arc<Bulkhead>);

#[test]
fn the_last_owner_may_go_inside_a_task() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("intsk", 2, 4)).unwrap());
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let busy = occupy(&bulkhead, 1);
        let last = {
            let bulkhead = Arc::clone(&bulkhead);
            let gate = gate.clone();
            bulkhead.clone().run(move || {
                gate.pass();
                assert_eq!(Arc::strong_count(&bulkhead), 1);
                drop(bulkhead);
                "alive"
            })
        };
        gate.wait_for_arrivals(1);
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        drop(opener);
        assert_eq!(wait(last).value(), Some(&"alive"));
        busy.finish();
        assert_eq!(wait(queued).value(), Some(&"ran"));
        eventually_no_threads_of("intsk");
    });
}

#[test]
fn the_last_owner_may_be_a_result_that_nobody_waits_for() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("inres", 2, 4)).unwrap());
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        {
            let bulkhead = Arc::clone(&bulkhead);
            drop(bulkhead.clone().run(move || {
                gate.pass();
                Owner(bulkhead)
            }));
        }
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        drop(opener);
        assert_eq!(wait(queued).value(), Some(&"ran"));
        eventually_no_threads_of("inres");
    });
}

#[test]
fn the_last_owner_may_be_a_closure_that_a_worker_throws_away() {
    in_time(|| {
        let clock = ManualClock::new();
        let bulkhead = Bulkhead::builder(named("incls", 1, 4))
            .clock(clock.clone())
            .build()
            .unwrap();
        let bulkhead = Arc::new(bulkhead);
        let busy = occupy(&bulkhead, 1);
        let owner = Owner(Arc::clone(&bulkhead));
        let expiring = bulkhead.call().queue_timeout(Duration::from_secs(1));
        drop(expiring.run(move || drop(owner)));
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        clock.advance(Duration::from_secs(1));
        busy.finish();
        assert_eq!(queued.wait().value(), Some(&"ran"));
        eventually_no_threads_of("incls");
    });
}

/// A bulkhead with one worker, which is busy until the bulkhead is shut down.
fn busy_until_it_ends(name: &str, clock: &ManualClock) -> Arc<Bulkhead> {
    let gate = Gate::new();
    let bulkhead = Bulkhead::builder(named(name, 1, 4))
        .clock(clock.clone())
        .listener({
            let gate = gate.clone();
            move |event: &BulkheadEvent<'_>| {
                if matches!(event, BulkheadEvent::ShuttingDown { .. }) {
                    gate.open();
                }
            }
        })
        .build()
        .unwrap();
    let at_gate = gate.clone();
    drop(bulkhead.run(move || at_gate.pass()));
    gate.wait_for_arrivals(1);
    Arc::new(bulkhead)
}

#[test]
fn the_last_owner_may_be_a_closure_that_its_caller_cancels() {
    in_time(|| {
        let bulkhead = busy_until_it_ends("cancl", &ManualClock::new());
        let owner = Owner(Arc::clone(&bulkhead));
        let handle = bulkhead.run(move || drop(owner));
        drop(bulkhead);
        assert!(handle.cancel());
        eventually_no_threads_of("cancl");
    });
}

#[test]
fn the_last_owner_may_be_a_closure_that_expires_in_its_waiters_hands() {
    in_time(|| {
        let clock = ManualClock::new();
        let bulkhead = busy_until_it_ends("expir", &clock);
        let owner = Owner(Arc::clone(&bulkhead));
        let expiring = bulkhead.call().queue_timeout(Duration::from_secs(1));
        let handle = expiring.run(move || drop(owner));
        drop(bulkhead);
        clock.advance(Duration::from_secs(1));
        let result = handle.wait();
        assert!(matches!(
            result.error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        eventually_no_threads_of("expir");
    });
}

/// Where callbacks find the bulkhead that they belong to.
type Slot = Arc<Mutex<Option<Bulkhead>>>;

/// Drops the bulkhead in the slot, outside the slot's lock.
fn drop_from(slot: &Slot) {
    let bulkhead = slot.lock().unwrap().take();
    drop(bulkhead);
}

#[test]
fn the_last_owner_may_be_a_listener_on_a_worker() {
    for at_the_start in [true, false] {
        in_time(move || {
            let slot = Slot::default();
            let in_listener = Arc::clone(&slot);
            let bulkhead = Bulkhead::builder(named("inlsn", 1, 4))
                .listener(move |event: &BulkheadEvent<'_>| match event {
                    BulkheadEvent::Started { .. } if at_the_start => drop_from(&in_listener),
                    BulkheadEvent::Finished { .. } => drop_from(&in_listener),
                    _ => {}
                })
                .build()
                .unwrap();
            let handle;
            {
                let mut slot = slot.lock().unwrap();
                handle = bulkhead.run(|| "ran");
                *slot = Some(bulkhead);
            }
            assert_eq!(wait(handle).value(), Some(&"ran"));
            assert!(slot.lock().unwrap().is_none());
            eventually_no_threads_of("inlsn");
        });
    }
}

#[test]
fn a_report_is_clean_without_cancels_and_without_what_runs_on() {
    let mut report = ShutdownReport::default();
    assert!(report.is_clean());
    report.cancelled = 1;
    assert!(!report.is_clean());
}

#[test]
fn a_worker_that_shuts_down_with_a_limit_cancels_nothing() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let gate = Gate::new();
        let ending = {
            let (bulkhead, gate) = (Arc::clone(&bulkhead), gate.clone());
            bulkhead.clone().run(move || {
                gate.pass();
                bulkhead.shutdown_timeout(Duration::ZERO).cancelled
            })
        };
        let queued = bulkhead.run(|| "ran");
        gate.open();
        assert_eq!(wait(ending).value(), Some(&0));
        assert_eq!(wait(queued).value(), Some(&"ran"));
    });
}

#[test]
fn a_listener_that_hears_of_the_shutdown_may_shut_down_too() {
    in_time(|| {
        let slot: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
        let heard = Arc::new(AtomicUsize::new(0));
        let bulkhead = Bulkhead::builder(config(2, 2))
            .listener({
                let (slot, heard) = (Arc::clone(&slot), Arc::clone(&heard));
                move |event: &BulkheadEvent<'_>| {
                    if matches!(
                        event,
                        BulkheadEvent::ShuttingDown {
                            bulkhead: "test",
                            ..
                        }
                    ) {
                        heard.fetch_add(1, Ordering::Relaxed);
                        let bulkhead = slot.get().and_then(Weak::upgrade).unwrap();
                        assert!(bulkhead.shutdown().is_clean());
                    }
                }
            })
            .build()
            .unwrap();
        let bulkhead = Arc::new(bulkhead);
        slot.set(Arc::downgrade(&bulkhead)).unwrap();
        let handle = bulkhead.run(|| ());
        assert!(bulkhead.shutdown().is_clean());
        assert!(wait(handle).is_success());
        assert_eq!(heard.load(Ordering::Relaxed), 1);
    });
}

/// A bulkhead with an open circuit whose listener shuts it down at the first event that `picks` picks.
fn ended_by_its_listener(
    clock: &ManualClock,
    picks: fn(&BulkheadEvent<'_>) -> bool,
) -> Arc<Bulkhead> {
    let slot: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
    let rules = CircuitBreakerConfig::default();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules))
        .clock(clock.clone())
        .listener({
            let slot = Arc::clone(&slot);
            move |event: &BulkheadEvent<'_>| {
                if let (true, Some(bulkhead)) = (picks(event), slot.get()) {
                    let _ = bulkhead.upgrade().unwrap().shutdown();
                }
            }
        })
        .build()
        .unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    let bulkhead = Arc::new(bulkhead);
    slot.set(Arc::downgrade(&bulkhead)).unwrap();
    bulkhead
}

#[test]
fn a_listener_that_hears_of_a_refusal_may_shut_down() {
    in_time(|| {
        let bulkhead = ended_by_its_listener(&ManualClock::new(), |event| {
            matches!(event, BulkheadEvent::Rejected { .. })
        });
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
        assert!(is_shut_down(bulkhead.run(|| ())));
    });
}

#[test]
fn a_listener_that_hears_of_a_change_of_the_circuit_may_shut_down() {
    in_time(|| {
        let clock = ManualClock::new();
        let bulkhead = ended_by_its_listener(&clock, |event| {
            matches!(event, BulkheadEvent::CircuitChanged { .. })
        });
        clock.advance(Duration::from_secs(30));
        // This call half-opens the circuit, in this thread.
        assert!(bulkhead.run(|| ()).wait().is_success());
        assert!(is_shut_down(bulkhead.run(|| ())));
    });
}

/// Does something in the thread of each caller, which holds a place at that moment.
struct WhenCaptured<F>(F);

impl<F: Fn() + Send + Sync> ContextPropagator for WhenCaptured<F> {
    fn capture(&self) -> CapturedContext {
        (self.0)();
        CapturedContext::new(|| Box::new(()))
    }
}

fn with_propagator(
    config: BulkheadConfig,
    when_captured: impl Fn() + Send + Sync + 'static,
) -> Arc<Bulkhead> {
    let builder = Bulkhead::builder(config).context_propagator(WhenCaptured(when_captured));
    Arc::new(builder.build().unwrap())
}

#[test]
fn a_propagator_may_shut_down_also_for_a_call_to_another_bulkhead() {
    in_time(|| {
        let outer: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
        let inner = with_propagator(config(1, 1), {
            let outer = Arc::clone(&outer);
            move || {
                let outer = outer.get().and_then(Weak::upgrade).unwrap();
                // This thread holds places of both.
                let _ = outer.shutdown();
            }
        });
        let bulkhead = with_propagator(config(1, 1), {
            let inner = Arc::clone(&inner);
            move || {
                assert_eq!(wait(inner.run(|| "inner")).value(), Some(&"inner"));
                let _ = inner.shutdown();
            }
        });
        outer.set(Arc::downgrade(&bulkhead)).unwrap();
        assert_eq!(wait(bulkhead.run(|| "outer")).value(), Some(&"outer"));
        assert!(is_shut_down(bulkhead.run(|| ())));
        assert!(is_shut_down(inner.run(|| ())));
    });
}

#[test]
fn a_call_that_was_about_to_be_queued_when_the_queue_was_cancelled_is_cancelled_too() {
    let itself: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
    let bulkhead = with_propagator(config(1, 1), {
        let itself = Arc::clone(&itself);
        move || {
            if let Some(bulkhead) = itself.get().and_then(Weak::upgrade) {
                let _ = bulkhead.shutdown_now();
            }
        }
    });
    let busy = occupy(&bulkhead, 1);
    itself.set(Arc::downgrade(&bulkhead)).unwrap();
    // It has its place and is not in the queue yet when the shutdown comes.
    let late = bulkhead.run(|| ());
    assert!(late.is_finished(), "no worker is free to cancel it");
    assert!(is_cancelled_by_shutdown(late));
    busy.finish();
}

#[test]
fn a_propagator_waits_for_the_end_of_another_bulkhead() {
    for levels in [0, 1] {
        in_time(move || {
            let ended = Arc::new(AtomicBool::new(false));
            let other = Bulkhead::builder(config(1, 50))
                .on_worker_stop({
                    let ended = Arc::clone(&ended);
                    move |_| ended.store(true, Ordering::Relaxed)
                })
                .build()
                .unwrap();
            for _ in 0..50 {
                drop(other.run(thread::yield_now));
            }
            let captured = AtomicUsize::new(0);
            let seen_ended = Arc::new(AtomicBool::new(false));
            let itself: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
            let bulkhead = with_propagator(config(1, 1), {
                let (seen_ended, itself) = (Arc::clone(&seen_ended), Arc::clone(&itself));
                move || {
                    if captured.fetch_add(1, Ordering::Relaxed) < levels {
                        // Once more from in here.
                        let bulkhead = itself.get().and_then(Weak::upgrade).unwrap();
                        drop(bulkhead.run(|| ()));
                    } else {
                        let _ = other.shutdown();
                        seen_ended.fetch_or(ended.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                }
            });
            itself.set(Arc::downgrade(&bulkhead)).unwrap();
            assert!(wait(bulkhead.run(|| ())).is_success());
            assert!(seen_ended.load(Ordering::Relaxed), "level {levels}");
        });
    }
}

#[test]
fn a_worker_hook_may_shut_down() {
    in_time(|| {
        let slot: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
        let shut_down = |slot: &OnceLock<Weak<Bulkhead>>| {
            let bulkhead = slot.get().and_then(Weak::upgrade).unwrap();
            let _ = bulkhead.shutdown();
        };
        let stopped = Arc::new(AtomicUsize::new(0));
        let built = Gate::new();
        let bulkhead = Bulkhead::builder(named("hook", 2, 2))
            .on_worker_start({
                let (slot, built) = (Arc::clone(&slot), built.clone());
                move |_| {
                    built.pass();
                    shut_down(&slot);
                }
            })
            .on_worker_stop({
                let (slot, stopped) = (Arc::clone(&slot), Arc::clone(&stopped));
                move |_| {
                    shut_down(&slot);
                    stopped.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build()
            .unwrap();
        let bulkhead = Arc::new(bulkhead);
        slot.set(Arc::downgrade(&bulkhead)).unwrap();
        let admitted = bulkhead.run(|| "ran");
        built.open();
        assert_eq!(wait(admitted).value(), Some(&"ran"));
        let _ = bulkhead.shutdown();
        assert_eq!(stopped.load(Ordering::Relaxed), 2);
        eventually_no_threads_of("hook");
    });
}

thread_local!(static LAST_OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) });

#[test]
fn the_last_owner_may_be_a_thread_local_value_of_a_worker() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("tls", 2, 4)).unwrap());
        let handle = {
            let bulkhead = Arc::clone(&bulkhead);
            bulkhead
                .clone()
                .run(move || LAST_OWNER.set(Some(Owner(bulkhead))))
        };
        assert!(wait(handle).is_success());
        // The workers end, and one of them takes the last owner with it.
        let report = bulkhead.shutdown_timeout(Duration::MAX);
        assert!(report.is_clean());
        drop(bulkhead);
        eventually_no_threads_of("tls");
    });
}

thread_local!(static BEFORE_ALL: RefCell<Option<Owner>> = const { RefCell::new(None) });

#[test]
fn the_last_owner_may_be_a_thread_local_value_that_is_older_than_the_workers_own() {
    in_time(|| {
        // The hook is the first of the user's code on the thread, so its value is destroyed at
        // another moment than those of tasks.
        let slot: Arc<OnceLock<Arc<Bulkhead>>> = Arc::default();
        let built = Gate::new();
        let bulkhead = Bulkhead::builder(named("tls2", 1, 4))
            .on_worker_start({
                let (slot, built) = (Arc::downgrade(&slot), built.clone());
                move |_| {
                    built.pass();
                    let slot = slot.upgrade().unwrap();
                    BEFORE_ALL.set(Some(Owner(Arc::clone(slot.get().unwrap()))));
                }
            })
            .build()
            .unwrap();
        let bulkhead = Arc::clone(slot.get_or_init(|| Arc::new(bulkhead)));
        built.open();
        assert!(wait(bulkhead.run(|| ())).is_success());
        drop(slot);
        let report = bulkhead.shutdown_timeout(Duration::MAX);
        assert!(report.is_clean());
        drop(bulkhead);
        eventually_no_threads_of("tls2");
    });
}

// ---- races

/// What one submitter saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    ran: u64,
    cancelled: u64,
    full: u64,
    shut_down: u64,
}

impl Seen {
    fn add(&mut self, handle: ExecutionHandle<usize, ()>) {
        self.calls += 1;
        match wait(handle).into_result() {
            Ok(_) => self.ran += 1,
            Err(BulkheadError::Cancelled {
                by_shutdown: true, ..
            }) => self.cancelled += 1,
            Err(BulkheadError::Full { .. }) => self.full += 1,
            Err(BulkheadError::ShutDown { .. }) => self.shut_down += 1,
            Err(other) => panic!("no such outcome here: {other:?}"),
        }
    }
}

/// Several threads submit without a pause while the bulkhead is ended.
fn race(end: fn(&Bulkhead) -> ShutdownReport) {
    const ROUNDS: usize = 200;
    const SUBMITTERS: usize = 3;

    for round in 0..ROUNDS {
        let bulkhead = bulkhead(2, 3);
        let bodies = Arc::new(AtomicUsize::new(0));
        let start = Barrier::new(SUBMITTERS + 1);
        let submit = || {
            let mut seen = Seen::default();
            start.wait();
            while seen.shut_down == 0 {
                let burst: Vec<_> = (0..3)
                    .map(|_| {
                        let bodies = Arc::clone(&bodies);
                        bulkhead.execute(move || Ok(bodies.fetch_add(1, Ordering::Relaxed)))
                    })
                    .collect();
                for handle in burst {
                    seen.add(handle);
                }
                thread::yield_now();
            }
            seen
        };
        let mut all = Seen::default();
        thread::scope(|scope| {
            let submitters: Vec<_> = (0..SUBMITTERS).map(|_| scope.spawn(submit)).collect();
            start.wait();
            for _ in 0..round % 16 {
                thread::yield_now();
            }
            let _ = end(&bulkhead);
            for submitter in submitters {
                let seen = submitter.join().unwrap();
                all.calls += seen.calls;
                all.ran += seen.ran;
                all.cancelled += seen.cancelled;
                all.full += seen.full;
                all.shut_down += seen.shut_down;
            }
        });
        let _ = bulkhead.shutdown();
        assert_eq!(bodies.load(Ordering::Relaxed) as u64, all.ran);
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.submitted_executions, all.calls);
        assert_eq!(stats.successful_executions, all.ran);
        assert_eq!(stats.cancelled_executions, all.cancelled);
        assert_eq!(stats.rejected_full, all.full);
        assert_eq!(stats.rejected_shut_down, all.shut_down);
        assert_eq!(stats.in_flight, 0);
    }
}

#[test]
fn submitters_that_race_a_shutdown_get_exactly_one_answer() {
    race(Bulkhead::shutdown);
}

#[test]
fn submitters_that_race_a_shutdown_with_a_deadline_get_exactly_one_answer() {
    race(|bulkhead| bulkhead.shutdown_timeout(Duration::ZERO));
}

#[test]
fn submitters_that_race_a_shutdown_at_once_get_exactly_one_answer() {
    race(Bulkhead::shutdown_now);
}

/// A value whose drop stops at a gate.
struct SlowDrop(Gate);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        self.0.pass();
    }
}

/// Ends a bulkhead at once, where the first of two queued closures takes long to drop and the worker
/// becomes free meanwhile. The report, and whether the body of the second ran.
fn end_while_a_worker_becomes_free() -> (ShutdownReport, bool) {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let slow = SlowDrop(gate.clone());
    let first = bulkhead.run(move || drop(slow));
    let second = bulkhead.run(|| ());
    thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown_now());
        gate.wait_for_arrivals(1);
        busy.gate.open();
        let ran = !is_cancelled_by_shutdown(second);
        gate.open();
        let report = ending.join().unwrap();
        assert!(is_cancelled_by_shutdown(first));
        assert_eq!(bulkhead.stats().cancelled_executions, 2 - u64::from(ran));
        (report, ran)
    })
}

#[test]
fn while_a_shutdown_cancels_no_worker_starts_anything() {
    let (_, ran) = end_while_a_worker_becomes_free();
    assert!(!ran);
}

#[test]
fn the_report_counts_what_a_worker_has_cancelled_for_the_shutdown() {
    let (report, _) = end_while_a_worker_becomes_free();
    assert_eq!(report.cancelled, 2);
}

#[test]
fn callers_that_wait_for_a_place_are_released() {
    let ends: [fn(&Bulkhead) -> ShutdownReport; 2] = [Bulkhead::shutdown_now, |bulkhead| {
        bulkhead.shutdown_timeout(Duration::ZERO)
    }];
    for end in ends {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let busy = occupy(&bulkhead, 1);
        let (refused, refusals) = mpsc::channel();
        let asking = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let (bulkhead, refused) = (Arc::clone(&bulkhead), refused.clone());
            let asking = Arc::clone(&asking);
            thread::spawn(move || {
                asking.wait();
                let handle = bulkhead
                    .call()
                    .wait_for_capacity(Duration::MAX)
                    .execute(|| Ok::<_, ()>(()));
                refused.send(is_shut_down(handle)).unwrap();
            });
        }
        asking.wait();
        let _ = end(&bulkhead);
        for _ in 0..3 {
            let was_refused = refusals.recv_timeout(PATIENCE).expect("released");
            assert!(was_refused, "as shut down");
        }
        busy.finish();
    }
}

#[test]
fn callers_that_wait_for_a_place_do_not_hold_up_a_shutdown() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let busy = occupy(&bulkhead, 1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                is_shut_down(call.run(|| ()))
            });
            // It counts as submitted once it is decided, so nothing tells that it waits already.
            let ending = scope.spawn(|| bulkhead.shutdown());
            eventually("closed", || is_closed(&bulkhead));
            assert!(waiting.join().unwrap());
            assert!(!ending.is_finished());
            busy.gate.open();
            assert_eq!(ending.join().unwrap().finished, 1);
        });
    });
}

// ---- what is left

#[test]
fn nothing_that_tasks_captured_is_left_after_the_end() {
    let token = Arc::new(());
    let hold = || Arc::clone(&token);
    let bulkhead = bulkhead(2, 40);
    let busy = occupy(&bulkhead, 2);
    let mut handles = Vec::new();
    for i in 0..40 {
        let captured = hold();
        let handle = bulkhead.run(move || captured);
        match i % 3 {
            0 => assert!(handle.cancel()),
            1 => drop(handle),
            _ => handles.push(handle),
        }
    }
    busy.gate.open();
    drop(bulkhead);
    assert_eq!(Arc::strong_count(&token), 1 + handles.len(), "the results");
    drop(handles);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn nothing_of_the_bulkhead_itself_is_left_even_with_shells_in_its_queue() {
    let ends: [fn(&Bulkhead); 3] = [
        |bulkhead| drop(bulkhead.shutdown()),
        |bulkhead| drop(bulkhead.shutdown_now()),
        |bulkhead| drop(bulkhead.shutdown_timeout(Duration::ZERO)),
    ];
    for end in ends {
        let token = Arc::new(());
        let captured = Arc::clone(&token);
        let bulkhead = Bulkhead::builder(config(2, 10))
            .listener(move |_: &BulkheadEvent<'_>| {
                let _the_listener_lives_as_long_as_the_bulkhead = &captured;
            })
            .build()
            .unwrap();
        let busy = occupy(&bulkhead, 2);
        for _ in 0..9 {
            assert!(bulkhead.run(|| ()).cancel());
        }
        assert_eq!(Arc::strong_count(&token), 2);
        busy.gate.open();
        end(&bulkhead);
        drop(busy);
        drop(bulkhead);
        eventually("all is freed", || Arc::strong_count(&token) == 1);
    }
}

#[test]
fn a_wrapped_function_does_not_keep_the_workers() {
    let bulkhead = Bulkhead::new(named("wrap", 2, 2)).unwrap();
    let double = bulkhead.wrap(|n: u32| Ok::<_, ()>(2 * n));
    assert_eq!(double(4).value(), Some(&8));
    drop(bulkhead);
    eventually_no_threads_of("wrap");
    assert!(matches!(
        double(4).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn many_bulkheads_come_and_go() {
    let running = Arc::new(AtomicBool::new(false));
    for i in 0..200 {
        let bulkhead = Bulkhead::new(named("many", 2, 2)).unwrap();
        let alone = Arc::clone(&running);
        let handle = bulkhead.run(move || {
            assert!(!alone.swap(true, Ordering::SeqCst));
            alone.store(false, Ordering::SeqCst);
            i
        });
        drop(bulkhead);
        assert_eq!(wait(handle).value(), Some(&i));
    }
    eventually_no_threads_of("many");
}

#[test]
fn a_report_names_a_call_whose_listener_still_runs() {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let slow = gate.clone();
    let bulkhead = Bulkhead::builder(config(1, 0))
        .listener(move |event: &BulkheadEvent<'_>| {
            if matches!(event, BulkheadEvent::Finished { .. }) {
                slow.pass();
            }
        })
        .build()
        .unwrap();
    let handle = bulkhead.call().operation("slow to tell").run(|| ());
    gate.wait_for_arrivals(1);
    let report = bulkhead.shutdown_now();
    assert!(!handle.is_finished());
    assert_eq!(report.still_running.len(), 1);
    assert_eq!(
        report.still_running[0].operation.as_deref(),
        Some("slow to tell")
    );
    drop(opener);
    assert!(wait(handle).is_success());
}
