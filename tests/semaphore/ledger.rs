//! The numbers: balanced in every snapshot, and times by the clock of the bulkhead.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::BulkheadError;

use super::helpers::{Inside, assert_idle, queued, semaphore, with_clock};
use crate::support::{PATIENCE, SECOND, assert_balanced, config, eventually, seconds};

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
        assert_eq!(
            (result.queued_time, result.execution_time),
            (seconds(3), seconds(7))
        );
        assert_eq!(bulkhead.stats().run_time.max(), result.execution_time);
        assert_eq!(bulkhead.stats().queue_wait.max(), result.queued_time);
    });
}

#[test]
fn the_caller_that_has_waited_longest_for_its_turn_shows() {
    let (bulkhead, clock) = with_clock(config(1, 2));
    let longest = || bulkhead.stats().longest_queued;
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        eventually("it runs", || bulkhead.stats().active_tasks == 1);
        assert_eq!(longest(), None);
        for number in 1..=2 {
            scope.spawn(|| assert!(bulkhead.run(|| ()).is_success()));
            queued(&bulkhead, number);
            clock.advance(SECOND);
        }
        assert_eq!(longest(), Some(2 * SECOND));
        inside.finish();
    });
    assert_eq!(longest(), None);
    assert_idle(&bulkhead);
}
