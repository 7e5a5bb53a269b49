//! Resetting the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::helpers::{every_outcome, growing, submit_many, with_breaker};
use crate::support::{Over, SECOND, assert_balanced, bulkhead, occupy, wait};

#[test]
fn a_reset_starts_all_counters_anew() {
    let (bulkhead, clock) = with_breaker(2, 2);
    every_outcome(&bulkhead, &clock);
    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(growing(&stats), [0; 14]);
    assert_eq!((stats.queue_wait.count(), stats.run_time.count()), (0, 0));
    assert_eq!(stats.run_time.max(), Duration::ZERO);
    every_outcome(&bulkhead, &clock);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.submitted_executions, 15);
    assert_eq!(stats.total_executions, 9);
    assert_eq!(stats.run_time.count(), 9);
    let _ = bulkhead.shutdown();
    assert!(!wait(bulkhead.run(|| ())).is_success());
    bulkhead.reset_stats();
    assert_eq!(growing(&bulkhead.stats()), [0; 14]);
}

#[test]
fn a_reset_forgets_the_longest_time() {
    let (bulkhead, clock) = with_breaker(1, 1);
    for longest in [10, 1] {
        let clock = clock.clone();
        let task = move || clock.advance(longest * SECOND);
        assert!(wait(bulkhead.run(task)).is_success());
        assert_eq!(bulkhead.stats().run_time.max(), longest * SECOND);
        bulkhead.reset_stats();
    }
}

#[test]
fn calls_in_flight_at_a_reset_count_as_submitted_again() {
    let bulkhead = bulkhead(2, 3);
    assert!(wait(bulkhead.run(|| ())).is_success());
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..3).map(|_| bulkhead.run(|| ())).collect();
    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (5, 5));
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 3));
    assert_eq!(stats.total_executions, 2, "the running ones");
    assert_eq!(stats.successful_executions, 0);
    busy.finish();
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (5, 0));
    assert_eq!(stats.successful_executions, 5);
    assert_eq!(stats.total_executions, 5);
}

#[test]
fn resets_under_load_leave_every_snapshot_balanced() {
    let bulkhead = Arc::new(bulkhead(2, 6));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ending = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                bulkhead.reset_stats();
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let stats = bulkhead.stats();
                assert_balanced(&stats);
                assert!(stats.run_time.mean() <= stats.run_time.max());
            }
        });
        let submitters: Vec<_> = (0..2)
            .map(|seed| {
                let bulkhead = &bulkhead;
                scope.spawn(move || submit_many(bulkhead, 5_000, seed))
            })
            .collect();
        for submitter in submitters {
            submitter.join().unwrap();
        }
        drop(ending);
    });
    bulkhead.reset_stats();
    assert_eq!(growing(&bulkhead.stats()), [0; 14]);
}
