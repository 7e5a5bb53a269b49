//! Shutdowns from within: by tasks, listeners, context propagators and worker hooks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, CapturedContext, CircuitBreakerConfig,
    ContextPropagator, ManualClock, ShutdownReport,
};

use super::helpers::{eventually_no_threads_of, is_cancelled_by_shutdown, is_shut_down, named};
use crate::support::{Gate, OpenOnDrop, bulkhead, config, in_time, occupy, wait};

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
