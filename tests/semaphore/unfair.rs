//! Slots that go to whoever comes first: the limits hold, and nobody waits for ever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, SemaphoreBulkhead};

use super::helpers::{Inside, assert_idle, queued};
use crate::support::{Over, assert_balanced, config};

fn unfair(n: usize, q: usize) -> SemaphoreBulkhead {
    let builder = SemaphoreBulkhead::builder(config(n, q)).fair(false);
    builder.build().unwrap()
}

/// G4, G1, G10.
#[test]
fn never_more_than_n_at_a_time_and_nobody_is_refused_or_left() {
    for n in [1, 2, 5] {
        let bulkhead = unfair(n, 16 - n);
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
            assert_balanced(&bulkhead.stats());
        });
        assert!(most.into_inner() <= n);
        assert_eq!(bulkhead.stats().successful_executions, 16 * 500);
        assert_idle(&bulkhead);
    }
}

/// A caller that takes the slot again and again does not keep it from those that wait.
#[test]
fn everybody_gets_a_slot_in_the_end() {
    let bulkhead = unfair(1, 3);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = bulkhead.run(|| ());
            }
        });
        let _over = Over(&over);
        let waiting = [0, 1, 2].map(|_| {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(bulkhead.run(|| ()).is_success());
                }
            })
        });
        for waiting in waiting {
            waiting.join().unwrap();
        }
    });
    assert_idle(&bulkhead);
}

#[test]
fn the_ends_of_a_wait() {
    let bulkhead = unfair(1, 2);
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let brief = bulkhead.acquire_timeout(Duration::from_millis(1));
        assert!(matches!(brief, Err(BulkheadError::QueueTimeout { .. })));
        let patient = scope.spawn(|| bulkhead.run(|| 7));
        queued(&bulkhead, 1);
        assert!(bulkhead.try_acquire().is_err());
        let late = scope.spawn(|| bulkhead.acquire_timeout(Duration::from_millis(1)).is_err());
        assert!(late.join().unwrap());
        inside.finish();
        assert_eq!(patient.join().unwrap().value(), Some(&7));
    });
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        let waiting = [0, 1].map(|_| scope.spawn(|| bulkhead.run(|| ())));
        queued(&bulkhead, 2);
        assert_eq!(bulkhead.shutdown_now().still_running.len(), 1);
        for waiting in waiting {
            assert!(matches!(
                waiting.join().unwrap().error(),
                Some(BulkheadError::Cancelled {
                    by_shutdown: true,
                    ..
                })
            ));
        }
        inside.finish();
    });
    assert!(bulkhead.shutdown().is_clean());
    assert_idle(&bulkhead);
}
