//! Limits: of the wait in line, and of the whole call.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, SemaphoreBulkhead};

use super::helpers::{Inside, assert_idle, queued, semaphore, with_clock};
use crate::support::{PATIENCE, config};

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
        clock.advance(limit);
        let result = waiting.join().unwrap();
        assert_eq!(result.queued_time, limit);
        assert_eq!(result.execution_time, Duration::ZERO);
        assert_eq!(
            result.error().unwrap().to_string(),
            "bulkhead `test`: the call timed out in the queue after 5.0s, the limit is 5.0s; the task never started"
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
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 2);
    assert_eq!(stats.caller_timeouts_queued, 1, "the caller's own limit");
    assert_eq!(stats.caller_timeouts_started, 0);
    assert_idle(&bulkhead);
    bulkhead.reset_stats();
    assert_eq!(bulkhead.stats().caller_timeouts_queued, 0);
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
        clock.advance(Duration::from_secs(1));
        let result = waiting.join().unwrap();
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
        assert_eq!(bulkhead.stats().caller_timeouts_queued, 1);
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
    assert_eq!(bulkhead.stats().caller_timeouts_started, 0, "it stayed");
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
