//! Admission: N callers run, Q wait in line, and one more is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadConfig, BulkheadError, SemaphoreBulkhead};

use super::helpers::{Inside, assert_idle, queued, semaphore};
use crate::support::{PATIENCE, config};

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
