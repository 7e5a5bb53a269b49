//! Calls that a task makes on its own bulkhead.

use std::cell::RefCell;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, SemaphoreBulkhead};

use super::helpers::{Inside, assert_idle, queued, semaphore};
use crate::support::{PATIENCE, assert_balanced, in_time};

/// G9.
#[test]
fn a_call_from_inside_runs_in_the_turn_of_the_outer_one() {
    let bulkhead = semaphore(1, 2);
    in_time(move || {
        let result = bulkhead.run(|| {
            bulkhead.run(|| {
                let deepest = bulkhead.run(|| bulkhead.stats());
                let refused = bulkhead.run(|| bulkhead.run(|| ()));
                assert!(refused.into_result().unwrap().error().is_some());
                deepest.into_result().unwrap()
            })
        });
        let stats = result.into_result().unwrap().into_result().unwrap();
        assert_balanced(&stats);
        assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 2));
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, 4);
        assert_eq!(stats.rejected_full, 1, "three calls take three places");
        assert_idle(&bulkhead);
    });
}

/// G4: a thread that has left a bulkhead is not inside any more.
#[test]
fn a_call_after_nested_ones_waits_for_its_turn_as_any_other() {
    let (bulkhead, other) = (semaphore(1, 2), semaphore(1, 2));
    let nested = bulkhead.run(|| {
        let inside = other.run(|| bulkhead.run(|| ()).is_success());
        inside.into_result().unwrap() && bulkhead.run(|| ()).is_success()
    });
    assert_eq!(nested.value(), Some(&true));
    for taken in [&bulkhead, &other] {
        thread::scope(|scope| {
            let inside = Inside::new(scope, taken, 1);
            let call = taken.call().queue_timeout(Duration::from_millis(1));
            let result = call.run(|| ());
            assert!(matches!(
                result.error(),
                Some(BulkheadError::QueueTimeout { .. })
            ));
            inside.finish();
        });
        assert_idle(taken);
    }
}

/// G9, with another bulkhead in between, and while others wait.
#[test]
fn a_call_from_inside_does_not_wait_in_line() {
    let bulkhead = Arc::new(semaphore(1, 3));
    let other = semaphore(1, 0);
    in_time(move || {
        thread::scope(|scope| {
            let result = bulkhead.run(|| {
                let waiting = scope.spawn(|| bulkhead.run(|| ()));
                queued(&bulkhead, 1);
                let inner = other.run(|| bulkhead.run(|| 5).into_result().unwrap());
                (inner.into_result().unwrap(), waiting)
            });
            let (five, waiting) = result.into_result().unwrap();
            assert_eq!(five, 5);
            assert!(waiting.join().unwrap().is_success());
        });
        assert_idle(&bulkhead);
    });
}

/// It would wait for the place of the call that it is in.
#[test]
fn a_call_from_inside_does_not_wait_for_capacity() {
    let bulkhead = semaphore(1, 0);
    in_time(move || {
        let result = bulkhead.run(|| bulkhead.call().wait_for_capacity(PATIENCE).run(|| ()));
        let inner = result.into_result().unwrap();
        assert!(matches!(inner.error(), Some(BulkheadError::Full { .. })));
        assert_idle(&bulkhead);
    });
}

/// Thread-local values may make calls in their destructors, nested ones too.
#[test]
fn calls_from_thread_local_destructors() {
    struct AtTheEnd(Arc<SemaphoreBulkhead>, mpsc::Sender<Option<i32>>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let result = self.0.run(|| self.0.run(|| 9).into_result().ok());
            let _ = self.1.send(result.into_result().ok().flatten());
        }
    }
    thread_local!(static VALUE: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });

    for used_before in [false, true] {
        let bulkhead = Arc::new(semaphore(1, 1));
        let (sender, nine) = mpsc::channel();
        let shared = Arc::clone(&bulkhead);
        let thread = thread::spawn(move || {
            if used_before {
                assert!(shared.run(bulkman::current).value().unwrap().is_some());
            }
            VALUE.set(Some(AtTheEnd(Arc::clone(&shared), sender)));
            if !used_before {
                assert!(shared.run(bulkman::current).value().unwrap().is_some());
            }
        });
        let told = nine.recv_timeout(PATIENCE).expect("the nested call hangs");
        assert_eq!(told, Some(9));
        thread.join().unwrap();
        assert_idle(&bulkhead);
    }
}
