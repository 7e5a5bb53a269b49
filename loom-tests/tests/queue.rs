//! Places and tombstones: blocking admission, and compacting against submitters and workers.

mod support;

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use support::{assert_balanced, bulkhead, explore, explore_deep};

/// G1: a caller that waits for a place gets it when the call before ends. No wake-up is lost.
#[test]
fn waiting_for_a_place_against_its_return() {
    explore("wait for capacity", 2, || {
        let bulkhead = bulkhead(1, 0);
        let first = bulkhead.run(|| ());
        let second = bulkhead.call().wait_for_capacity(Duration::MAX).run(|| ());
        assert!(second.wait().is_success());
        assert!(first.wait().is_success());
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G1: two callers wait for the only place, and both get it in turn.
#[test]
fn two_wait_for_one_place() {
    explore("two wait for capacity", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let waiting = thread::spawn(move || {
            let call = other.call().wait_for_capacity(Duration::MAX).run(|| ());
            assert!(call.wait().is_success());
        });
        let call = bulkhead.call().wait_for_capacity(Duration::MAX).run(|| ());
        assert!(call.wait().is_success());
        waiting.join().unwrap();
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G8: a caller that waits for a place is let go by the shutdown, with or without a place.
#[test]
fn waiting_for_a_place_against_shutdown() {
    explore("wait for capacity against shutdown", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        drop(bulkhead.run(|| ()));
        let waiting = thread::spawn(move || {
            let call = other.call().wait_for_capacity(Duration::MAX).run(|| ());
            let result = call.wait();
            assert!(result.is_success() || result.error().is_some_and(|e| e.is_rejected()));
        });
        let report = bulkhead.shutdown();
        assert!(report.is_clean());
        waiting.join().unwrap();
    });
}

/// G6: more cancels than the allowance for shells; the sweep meets the worker's dequeue. The channel
/// never overflows, which it would say itself, and the place is free each time.
#[test]
fn sweep_against_dequeue() {
    explore_deep("sweep against dequeue", 2, || {
        let bulkhead = bulkhead(1, 0);
        for _ in 0..3 {
            let handle = bulkhead.run(|| ());
            handle.cancel();
            drop(handle.wait());
            assert_eq!(bulkhead.available_capacity(), 1);
        }
        let stats = bulkhead.stats();
        assert_eq!(stats.rejected_executions, 0);
        assert_balanced(&stats);
    });
}

/// G1, G6: a sweep that holds another call's entry in its hands loses nothing.
#[test]
fn sweep_against_submit_and_dequeue() {
    explore("sweep against submit", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let other = Arc::clone(&bulkhead);
        let submitting = thread::spawn(move || {
            let handle = other.run(|| 7);
            let result = handle.wait();
            assert_eq!(result.into_result().expect("there is a place"), 7);
        });
        for _ in 0..3 {
            let handle = bulkhead.run(|| ());
            handle.cancel();
            drop(handle.wait());
        }
        submitting.join().unwrap();
        let stats = bulkhead.stats();
        assert_eq!((stats.rejected_executions, stats.in_flight), (0, 0));
    });
}

/// G2: two handles cancel at once, past the allowance, while the worker dequeues.
#[test]
fn two_cancels_against_dequeue() {
    explore("two cancels", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        drop({
            let shell = bulkhead.run(|| ());
            shell.cancel();
            shell
        });
        let handle = bulkhead.run(|| ());
        let here = bulkhead.run(|| ());
        let canceller = thread::spawn(move || {
            handle.cancel();
            drop(handle.wait());
        });
        here.cancel();
        drop(here.wait());
        canceller.join().unwrap();
        assert_eq!(bulkhead.available_capacity(), 2);
        assert_balanced(&bulkhead.stats());
    });
}
