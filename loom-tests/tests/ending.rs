//! Closing a bulkhead, and waiting for its end or for a moment without calls, against submitters, ends of calls and each
//! other.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bulkman::model::{advance, threads_awaiting_idle};
use bulkman::{BulkheadError, SemaphoreBulkhead};
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore};

const SECOND: Duration = Duration::from_secs(1);

fn semaphore(n: usize, q: usize) -> Arc<SemaphoreBulkhead> {
    Arc::new(SemaphoreBulkhead::new(config(n, q)).unwrap())
}

/// A worker ends the last call while this thread begins to wait. This thread then sees the effects of the task.
#[test]
fn idle_against_the_end_of_the_last_call() {
    explore("idle against the last end", 2, || {
        let bulkhead = bulkhead(1, 0);
        let ran = Arc::new(AtomicU64::new(0));
        let of_task = Arc::clone(&ran);
        let handle = bulkhead.run(move || of_task.store(1, Ordering::Relaxed));
        assert!(bulkhead.wait_idle(Duration::MAX));
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        assert_eq!(bulkhead.stats().in_flight, 0);
        assert!(handle.wait().is_success());
    });
}

/// The moment of which a waiting thread is told counts although the next call has come since.
#[test]
fn idle_against_a_new_call() {
    explore("idle against a new call", 2, || {
        let bulkhead = semaphore(1, 0);
        let begun = Arc::new(AtomicBool::new(false));
        let over = Arc::new(AtomicBool::new(false));
        let calls = {
            let bulkhead = Arc::clone(&bulkhead);
            let (begun, over) = (Arc::clone(&begun), Arc::clone(&over));
            thread::spawn(move || {
                let _ = bulkhead.run(|| {
                    begun.store(true, Ordering::Release);
                    while threads_awaiting_idle(&bulkhead) == 0 {
                        thread::yield_now();
                    }
                });
                let _ = bulkhead.run(|| {
                    while !over.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                });
            })
        };
        while !begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert!(bulkhead.wait_idle(Duration::MAX));
        over.store(true, Ordering::Release);
        calls.join().unwrap();
        assert!(bulkhead.wait_idle(Duration::ZERO));
    });
}

/// A worker that is late to tell of an idle moment says nothing about a call that was made after it.
#[test]
fn idle_against_the_news_of_an_earlier_moment() {
    explore("idle against earlier news", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let first = bulkhead.run(|| ());
        let waiting = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || assert!(bulkhead.wait_idle(Duration::MAX)))
        };
        let ran = Arc::new(AtomicU64::new(0));
        let of_task = Arc::clone(&ran);
        let second = bulkhead.run(move || of_task.store(1, Ordering::Relaxed));
        assert!(bulkhead.wait_idle(Duration::MAX));
        assert_eq!(ran.load(Ordering::Relaxed), 1, "the call still runs");
        waiting.join().unwrap();
        drop((first, second));
    });
}

/// A waiting thread that leaves at its limit takes nothing from one that goes on waiting.
#[test]
fn two_threads_wait_for_an_idle_moment() {
    explore("two wait for an idle moment", 2, || {
        let bulkhead = semaphore(1, 0);
        let calling = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                // Each yield lets the other two go as far as they can.
                let result = bulkhead.run(|| {
                    thread::yield_now();
                    advance(SECOND);
                    thread::yield_now();
                });
                result.is_success()
            })
        };
        let brief = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.wait_idle(SECOND))
        };
        thread::yield_now();
        assert!(bulkhead.wait_idle(Duration::MAX));
        assert!(calling.join().unwrap());
        let _either = brief.join().unwrap();
    });
}

/// G8: one thread submits while this one closes. The call is refused or runs, and all has ended afterwards.
#[test]
fn close_against_submit() {
    explore("close against submit", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let submitting = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.run(|| ()).wait())
        };
        bulkhead.close();
        assert!(bulkhead.wait_closed(Duration::MAX));
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.in_flight, stats.cancelled_executions), (0, 0));
        let result = submitting.join().unwrap();
        match result.error() {
            None => assert_eq!(stats.successful_executions, 1),
            Some(BulkheadError::ShutDown { .. }) => assert_eq!(stats.successful_executions, 0),
            Some(other) => panic!("{other}"),
        }
    });
}

/// One thread waits for the end before another closes, and a third is in a call.
#[test]
fn wait_closed_against_close_and_the_last_end() {
    explore("wait_closed against close", 2, || {
        let bulkhead = semaphore(1, 0);
        let calling = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.run(|| ()).error().map(BulkheadError::is_rejected))
        };
        let closing = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.close())
        };
        assert!(bulkhead.wait_closed(Duration::MAX));
        assert_eq!(bulkhead.stats().in_flight, 0);
        closing.join().unwrap();
        assert_ne!(calling.join().unwrap(), Some(false));
    });
}

/// G8: a close beside a shutdown that cancels. The report is right, and both see the end.
#[test]
fn close_against_shutdown_now() {
    explore("close against shutdown_now", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let handle = bulkhead.run(|| ());
        let other = Arc::clone(&bulkhead);
        let shutting = thread::spawn(move || other.shutdown_now());
        bulkhead.close();
        assert!(bulkhead.wait_closed(Duration::MAX));
        let cancelled = match handle.wait().error() {
            None => 0,
            Some(BulkheadError::Cancelled {
                by_shutdown: true, ..
            }) => 1,
            Some(other) => panic!("{other}"),
        };
        let report = shutting.join().unwrap();
        assert_eq!(report.cancelled, cancelled);
        let _ = bulkhead.shutdown();
    });
}
