//! The life of a call, in every interleaving: submit, claim, expire, cancel, complete, collect, detach.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, ExecutionResult};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore, explore_deep};

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_cancelled<T, E>(result: &ExecutionResult<T, E>) -> bool {
    matches!(result.error(), Some(BulkheadError::Cancelled { .. }))
}

/// G1, G3: the place is free before the result can be seen, so the second call always fits.
#[test]
fn sequential_caller_against_the_only_worker() {
    explore("sequential", 2, || {
        let bulkhead = bulkhead(1, 0);
        for value in 0..2 {
            let result = bulkhead.run(move || value).wait();
            assert_eq!(result.into_result().expect("never refused"), value);
        }
    });
}

/// G1: of two callers at a bulkhead with one place, one gets in or both do one after the other; and the
/// place is whole afterwards.
#[test]
fn two_submitters_for_one_place() {
    explore("two submitters", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let thread = thread::spawn(move || other.run(|| ()).wait().is_success());
        let here = bulkhead.run(|| ()).wait().is_success();
        let there = thread.join().unwrap();
        assert!(here || there, "nobody got the only place");
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G2, G6: cancel and claim agree on who was first, and the place comes back either way.
#[test]
fn cancel_against_claim() {
    explore("cancel against claim", 2, || {
        let bulkhead = bulkhead(1, 0);
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let handle = bulkhead.run(move || counter.fetch_add(1, Ordering::Relaxed));
        let cancelled = handle.cancel();
        if cancelled {
            assert_eq!(Arc::strong_count(&ran), 1, "the closure is dropped at once");
            assert_eq!(
                bulkhead.available_capacity(),
                1,
                "the place is free at once"
            );
        }
        let result = handle.wait();
        assert_eq!(is_cancelled(&result), cancelled);
        assert_eq!(ran.load(Ordering::Relaxed), usize::from(!cancelled));
        assert_eq!(bulkhead.available_capacity(), 1);
        assert_balanced(&bulkhead.stats());
    });
}

/// G2, G5: the worker that dequeues and the waiter whose deadline comes agree on one outcome.
#[test]
fn expiry_by_the_waiter_against_dequeue() {
    explore("expiry", 2, || {
        let config = config(1, 0).queue_timeout(Duration::from_secs(1));
        let bulkhead = Bulkhead::new(config).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let handle = bulkhead.run(move || counter.fetch_add(1, Ordering::Relaxed));
        bulkman::model::advance(Duration::from_secs(1));
        let result = handle.wait();
        match result.error() {
            None => assert_eq!(ran.load(Ordering::Relaxed), 1),
            Some(BulkheadError::QueueTimeout { .. }) => {
                assert_eq!(Arc::strong_count(&ran), 1, "the closure is dropped");
            }
            Some(other) => panic!("{other}"),
        }
        assert_eq!(bulkhead.available_capacity(), 1);
        let stats = bulkhead.stats();
        assert_eq!(stats.timed_out_executions + stats.successful_executions, 1);
    });
}

/// G4: a caller whose limit passes leaves; the task keeps its place until it ends.
#[test]
fn limit_of_the_caller_against_completion() {
    explore("limit", 2, || {
        let bulkhead = bulkhead(1, 0);
        let handle = bulkhead
            .call()
            .timeout(Duration::from_secs(1))
            .run(|| bulkman::model::advance(Duration::from_secs(1)));
        match handle.wait().error() {
            None | Some(BulkheadError::Timeout { .. }) => {}
            Some(other) => panic!("{other}"),
        }
        let report = bulkhead.shutdown();
        assert!(report.is_clean());
        let stats = bulkhead.stats();
        assert_eq!((stats.abandoned_tasks, stats.in_flight), (0, 0));
        assert_eq!(stats.longest_abandoned, None);
        assert_balanced(&stats);
    });
}

/// G2, G3: a handle that goes while the task completes; the value is dropped exactly once.
#[test]
fn handle_dropped_against_completion() {
    explore("handle dropped", 2, || {
        let bulkhead = bulkhead(1, 0);
        let drops = Arc::new(AtomicUsize::new(0));
        let value = Counted(Arc::clone(&drops));
        drop(bulkhead.run(move || value));
        drop(bulkhead);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&drops), 1);
    });
}

/// G7: a panic is this call's outcome; the worker takes the next one.
#[test]
fn panic_then_the_next_call() {
    explore("panic", 1, || {
        let bulkhead = bulkhead(1, 0);
        let result = bulkhead
            .run(|| std::panic::resume_unwind(Box::new("boom")))
            .wait();
        match result.into_result() {
            Ok(()) => panic!("it panicked"),
            Err(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "boom"),
            Err(other) => panic!("{other}"),
        }
        assert!(bulkhead.run(|| ()).wait().is_success());
    });
}

/// G9: the only worker waits for a call of its own and runs it itself.
#[test]
fn nested_wait_on_the_only_worker() {
    explore("nested wait", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || inner.run(|| 7).wait().into_result().unwrap());
        assert_eq!(outer.wait().into_result().unwrap(), 7);
    });
}

/// G9: two workers, one of which waits for a call that both may take.
#[test]
fn nested_wait_against_another_worker() {
    explore("nested wait, two workers", 1, || {
        let bulkhead = Arc::new(bulkhead(2, 0));
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || inner.run(|| 7).wait().into_result().unwrap());
        assert_eq!(outer.wait().into_result().unwrap(), 7);
        assert_eq!(bulkhead.available_capacity(), 2);
    });
}

/// Notifies nobody, but counts.
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// G2: a waker that is replaced while the task completes: the last one is woken, or the poll that set it
/// saw the outcome.
#[test]
fn waker_replaced_against_completion() {
    explore("waker replaced", 2, || {
        let bulkhead = bulkhead(1, 0);
        let mut handle = bulkhead.run(|| 7);
        let mut poll = |wakes: &Arc<CountWakes>| {
            let waker = Waker::from(Arc::clone(wakes));
            Pin::new(&mut handle).poll(&mut Context::from_waker(&waker))
        };
        let first = Arc::new(CountWakes(AtomicUsize::new(0)));
        let last = Arc::new(CountWakes(AtomicUsize::new(0)));
        let mut ready = poll(&first).is_ready();
        ready = ready || poll(&last).is_ready();
        drop(bulkhead);
        if !ready {
            assert_eq!(last.0.load(Ordering::Relaxed), 1, "a lost wake-up");
            assert_eq!(first.0.load(Ordering::Relaxed), 0);
            match poll(&last) {
                Poll::Ready(result) => assert_eq!(result.into_result().unwrap(), 7),
                Poll::Pending => panic!("the pool is gone and the call pending"),
            }
        }
    });
}

/// G10: a snapshot taken while a call is submitted, run and refused elsewhere.
#[test]
fn snapshot_against_everything() {
    explore("snapshot", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let watcher = thread::spawn(move || {
            let first = other.stats();
            assert_balanced(&first);
            let second = other.stats();
            assert_balanced(&second);
            assert!(second.submitted_executions >= first.submitted_executions);
            assert!(second.total_executions >= first.total_executions);
        });
        let handle = bulkhead.run(|| ());
        drop(bulkhead.run(|| ()));
        drop(handle.wait());
        assert!(bulkhead.stats().successful_executions >= 1);
        watcher.join().unwrap();
        assert_balanced(&bulkhead.stats());
    });
}

/// G10: many calls pass between two readings of one snapshot: it still shows no more at once than there can be.
#[test]
fn snapshot_against_calls_that_pass() {
    explore("snapshot, calls that pass", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let watcher = thread::spawn(move || assert_balanced(&other.stats()));
        for _ in 0..2 {
            assert!(bulkhead.run(|| ()).wait().is_success());
        }
        watcher.join().unwrap();
    });
}

/// G9, G10: the same with calls that a waiting worker runs itself: no more have started than were submitted.
#[test]
fn snapshot_against_nested_calls_that_pass() {
    explore("snapshot, nested calls that pass", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let inner = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            for _ in 0..2 {
                assert!(inner.run(|| ()).wait().is_success());
            }
        });
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert!(stats.total_executions <= stats.submitted_executions);
        assert!(outer.wait().is_success());
    });
}

/// G3, G10: a caller that gets a place finds the call counted that had it before, in whatever way that call ended.
#[test]
fn place_taken_again_against_the_count_of_its_last_call() {
    explore_deep("place taken again", 2, || {
        let bulkhead = bulkhead(1, 0);
        let first = bulkhead.run(|| ());
        let ending = thread::spawn(move || {
            first.cancel();
        });
        let second = bulkhead.try_run(|| ());
        let stats = bulkhead.stats();
        assert_eq!(stats.submitted_executions, 2);
        assert_eq!(stats.rejected_full, u64::from(second.is_err()));
        assert_balanced(&stats);
        drop(second);
        ending.join().unwrap();
    });
}
