//! A bulkhead that is closed refuses new calls, works off what it has, and can be waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{AnyBulkhead, Bulkhead, BulkheadEvent, SemaphoreBulkhead, ShutdownReport};

use super::helpers::{
    eventually_no_threads_of, is_cancelled_by_shutdown, is_closed, is_shut_down, named,
};
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, config, eventually, in_time, occupy,
    wait,
};

#[test]
fn close_returns_at_once_refuses_and_runs_what_is_queued() {
    let bulkhead = Bulkhead::new(named("close", 1, 2)).unwrap();
    let busy = occupy(&bulkhead, 1);
    let queued = [bulkhead.run(|| 1), bulkhead.run(|| 2)];
    bulkhead.close();
    assert!(is_closed(&bulkhead));
    assert_eq!(bulkhead.available_capacity(), 0);
    assert!(is_shut_down(bulkhead.run(|| 3)));
    assert!(!bulkhead.wait_closed(Duration::ZERO), "a task runs");
    busy.finish();
    assert_eq!(
        queued.map(|handle| wait(handle).into_result().unwrap()),
        [1, 2]
    );
    assert!(bulkhead.wait_closed(PATIENCE));
    eventually_no_threads_of("close");
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.rejected_shut_down, stats.in_flight), (1, 0));
}

#[test]
fn the_end_of_an_idle_bulkhead_comes_with_its_close() {
    let bulkhead = bulkhead(3, 3);
    assert!(!bulkhead.wait_closed(Duration::ZERO), "nobody has closed");
    bulkhead.close();
    assert!(bulkhead.wait_closed(PATIENCE));
    assert!(bulkhead.wait_closed(Duration::ZERO), "and stays");
    assert!(bulkhead.wait_closed(Duration::MAX), "for any limit");
}

#[test]
fn waiting_for_the_end_waits_for_the_close_too_and_closes_nothing() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        assert!(!bulkhead.wait_closed(Duration::from_millis(1)));
        assert!(wait(bulkhead.run(|| ())).is_success(), "still open");
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| scope.spawn(|| bulkhead.wait_closed(PATIENCE)));
            let for_ever = scope.spawn(|| bulkhead.wait_closed(Duration::MAX));
            bulkhead.close();
            for waiting in waiting {
                assert!(waiting.join().unwrap());
            }
            assert!(for_ever.join().unwrap());
        });
    });
}

#[test]
fn waiting_for_the_end_cancels_nothing() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| "ran");
    bulkhead.close();
    assert!(!bulkhead.wait_closed(Duration::from_millis(1)));
    busy.finish();
    assert_eq!(wait(queued).value(), Some(&"ran"));
}

#[test]
fn listeners_hear_of_the_first_close_or_shutdown_only() {
    let ends: [fn(&Bulkhead); 2] = [Bulkhead::close, |bulkhead| drop(bulkhead.shutdown_now())];
    for first in ends {
        let heard = Arc::new(AtomicUsize::new(0));
        let bulkhead = Bulkhead::builder(config(1, 1))
            .listener({
                let heard = Arc::clone(&heard);
                move |event: &BulkheadEvent<'_>| {
                    if matches!(event, BulkheadEvent::ShuttingDown { .. }) {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .build()
            .unwrap();
        first(&bulkhead);
        bulkhead.close();
        bulkhead.close();
        bulkhead.shutdown();
        drop(bulkhead);
        assert_eq!(heard.load(Ordering::Relaxed), 1);
    }
}

/// A closed bulkhead with a task at a gate and two calls in the queue.
fn closed() -> (
    Bulkhead,
    crate::support::Busy,
    [bulkman::ExecutionHandle<(), std::convert::Infallible>; 2],
) {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let queued = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    bulkhead.close();
    (bulkhead, busy, queued)
}

fn numbers(report: &ShutdownReport) -> (u64, u64, usize) {
    (
        report.finished,
        report.cancelled,
        report.still_running.len(),
    )
}

#[test]
fn a_shutdown_after_a_close_reports_what_it_does_itself() {
    let (bulkhead, busy, queued) = closed();
    let report = thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown());
        busy.finish();
        ending.join().unwrap()
    });
    assert_eq!(report.cancelled, 0);
    assert!(report.finished <= 3 && report.is_clean(), "{report:?}");
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    assert_eq!(numbers(&bulkhead.shutdown()), (0, 0, 0));
}

#[test]
fn a_shutdown_that_cancels_after_a_close_cancels_what_is_left() {
    let ends: [fn(&Bulkhead) -> ShutdownReport; 2] = [Bulkhead::shutdown_now, |bulkhead| {
        bulkhead.shutdown_timeout(Duration::ZERO)
    }];
    for end in ends {
        let (bulkhead, busy, queued) = closed();
        assert_eq!(numbers(&end(&bulkhead)), (0, 2, 1));
        for handle in queued {
            assert!(is_cancelled_by_shutdown(handle));
        }
        assert!(!bulkhead.wait_closed(Duration::ZERO));
        busy.finish();
        assert!(bulkhead.wait_closed(PATIENCE));
    }
}

#[test]
fn dropping_a_closed_bulkhead_waits_for_what_is_left() {
    let (bulkhead, busy, queued) = closed();
    let dropping = thread::spawn(move || drop(bulkhead));
    busy.finish();
    dropping.join().unwrap();
    for handle in queued {
        assert!(handle.is_finished());
        assert!(wait(handle).is_success());
    }
}

#[test]
fn a_task_may_close_its_own_bulkhead_and_waits_for_nobody() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let of_task = Arc::clone(&bulkhead);
        let answers = bulkhead.run(move || {
            of_task.close();
            [
                of_task.wait_closed(Duration::MAX),
                of_task.wait_closed(PATIENCE),
            ]
        });
        assert_eq!(wait(answers).value(), Some(&[false, false]));
        assert!(bulkhead.wait_closed(PATIENCE));
    });
}

#[test]
fn a_listener_and_a_worker_hook_that_wait_for_the_end_do_not_hang() {
    in_time(|| {
        let itself: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
        let asks = {
            let itself = Arc::clone(&itself);
            move || {
                let bulkhead = itself.get().and_then(Weak::upgrade);
                bulkhead.is_none_or(|bulkhead| bulkhead.wait_closed(Duration::MAX))
            }
        };
        let (tells, told) = mpsc::channel();
        let bulkhead = Bulkhead::builder(config(1, 1))
            .listener({
                let asks = asks.clone();
                move |event: &BulkheadEvent<'_>| {
                    if matches!(event, BulkheadEvent::Finished { .. }) {
                        assert!(!asks());
                    }
                }
            })
            .on_worker_stop(move |_| tells.send(asks()).unwrap())
            .build()
            .unwrap();
        let bulkhead = Arc::new(bulkhead);
        itself.set(Arc::downgrade(&bulkhead)).unwrap();
        assert!(wait(bulkhead.run(|| ())).is_success());
        bulkhead.close();
        assert!(!told.recv().unwrap(), "the worker has not ended yet");
        assert!(bulkhead.wait_closed(PATIENCE));
    });
}

#[test]
fn a_destructor_of_a_thread_local_may_wait_for_the_end_of_its_worker() {
    struct Asks(Weak<Bulkhead>, mpsc::Sender<bool>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let bulkhead = self.0.upgrade().expect("it is held outside");
            // The latch may be at zero already, and this thread may not join itself.
            let _ = bulkhead.wait_closed(Duration::MAX);
            let _ = self.1.send(bulkhead.wait_idle(Duration::MAX));
        }
    }
    std::thread_local! {
        static ASKS: OnceLock<Asks> = const { OnceLock::new() };
    }

    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let (tells, told) = mpsc::channel();
        let asks = Asks(Arc::downgrade(&bulkhead), tells);
        assert!(wait(bulkhead.run(|| ASKS.with(|slot| slot.set(asks).is_ok()))).is_success());
        bulkhead.close();
        assert!(told.recv().unwrap(), "no call is left");
        let _ = bulkhead.shutdown();
    });
}

#[test]
fn debug_shows_what_the_methods_say_after_a_close() {
    for any in [
        AnyBulkhead::from(Arc::new(bulkhead(2, 3))),
        AnyBulkhead::from(Arc::new(SemaphoreBulkhead::new(config(2, 3)).unwrap())),
    ] {
        assert!(
            format!("{any:?}").contains("available_capacity: 5"),
            "{any:?}"
        );
        any.close();
        assert_eq!(any.available_capacity(), 0);
        let shown = format!("{any:?}");
        assert!(shown.contains("available_capacity: 0"), "{shown}");
        assert!(shown.contains("state: ShutDown"), "{shown}");
        assert!(any.wait_closed(PATIENCE));
    }
}

#[test]
fn callers_that_wait_for_a_place_are_refused_by_the_close() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let running = bulkhead.run(move || gate.pass());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                wait(call.run(|| ()))
            });
            eventually("it is full", || bulkhead.available_capacity() == 0);
            bulkhead.close();
            assert!(waiting.join().unwrap().error().unwrap().is_rejected());
        });
        drop(opener);
        assert!(wait(running).is_success());
    });
}

#[test]
fn errors_tell_what_a_shutdown_has_refused_or_cancelled() {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let [by_handle, by_shutdown] = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    by_handle.cancel();
    let _ = bulkhead.shutdown_now();
    let refused = bulkhead.run(|| ());
    busy.finish();
    for (handle, expected) in [(by_handle, false), (by_shutdown, true), (refused, true)] {
        let result = wait(handle);
        let error = result.error().expect("none of them ran");
        assert_eq!(error.is_shutting_down(), expected, "{error}");
    }
}
