//! Snapshots under full load: each one balances, and no counter goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::helpers::{Counted, assert_never_goes_back, assert_started_fits, submit_many};
use crate::support::{Over, assert_balanced, bulkhead, eventually, wait};

#[test]
fn every_snapshot_balances_under_full_load_and_the_end_is_exact() {
    const CALLS: u64 = 10_000;

    let bulkhead = Arc::new(bulkhead(2, 6));
    let over = AtomicBool::new(false);
    let counted = thread::scope(|scope| {
        let ending = Over(&over);
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut before = bulkhead.stats();
                    let mut snapshots = 0_u64;
                    while !over.load(Ordering::Relaxed) {
                        let stats = bulkhead.stats();
                        assert_balanced(&stats);
                        assert_started_fits(&stats);
                        assert_never_goes_back(&before, &stats);
                        before = stats;
                        snapshots += 1;
                    }
                    snapshots
                })
            })
            .collect();
        let submitters: Vec<_> = (0..3)
            .map(|seed| {
                let bulkhead = &bulkhead;
                scope.spawn(move || submit_many(bulkhead, CALLS, seed))
            })
            .collect();
        let counted = submitters
            .into_iter()
            .map(|submitter| submitter.join().unwrap())
            .fold(Counted::default(), Counted::plus);
        drop(ending);
        for watcher in watchers {
            assert!(watcher.join().unwrap() > 0);
        }
        counted
    });
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(counted.submitted, 3 * CALLS);
    let seen = Counted {
        submitted: stats.submitted_executions,
        succeeded: stats.successful_executions,
        failed: stats.failed_executions,
        panicked: stats.panicked_executions,
        refused: stats.rejected_executions,
        expired: stats.timed_out_executions,
        cancelled: stats.cancelled_executions,
    };
    assert_eq!(seen, counted);
    assert_eq!(stats.in_flight, 0);
}

#[test]
fn every_snapshot_balances_while_tasks_nest_and_handles_are_dropped() {
    let bulkhead = Arc::new(bulkhead(2, 20));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = bulkhead.stats();
                while !over.load(Ordering::Relaxed) {
                    let stats = bulkhead.stats();
                    assert_balanced(&stats);
                    assert_never_goes_back(&before, &stats);
                    before = stats;
                }
            });
        }
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for i in 0..4_000 {
                        let inner = Arc::clone(&bulkhead);
                        let handle = bulkhead.run(move || {
                            for _ in 0..3 {
                                // Refused or run; both are outcomes.
                                let _ = inner.run(|| ()).wait();
                            }
                        });
                        if i % 3 == 0 {
                            drop(handle);
                        } else {
                            let _ = wait(handle);
                        }
                    }
                })
            })
            .collect();
        for submitter in submitters {
            submitter.join().unwrap();
        }
        drop(ending);
    });
    eventually("all is over", || bulkhead.stats().in_flight == 0);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_started_fits(&stats);
    assert_eq!(stats.abandoned_tasks, 0);
    assert_eq!(stats.total_executions, stats.successful_executions);
}

#[test]
fn no_snapshot_shows_more_started_than_submitted_while_tasks_nest() {
    let bulkhead = Arc::new(bulkhead(1, 20));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert_started_fits(&bulkhead.stats());
                    }
                })
            })
            .collect();
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            for _ in 0..200_000 {
                assert!(inner.run(|| ()).wait().is_success());
            }
        });
        assert!(wait(outer).is_success());
        drop(ending);
        for watcher in watchers {
            watcher.join().unwrap();
        }
    });
}
