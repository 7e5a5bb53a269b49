//! Cancel handles and callbacks for the end of a call, against everything that ends a call.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CallOutcome, CancelHandle, ExecutionHandle};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore};

const LIMIT: Duration = Duration::from_secs(1);

/// What callbacks have heard. A callback contains its panics, so the assertions are the test's.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(usize, CallOutcome, bool)>>>);

impl Heard {
    /// Registers a callback that notes its number, how the call ended, and whether the call is shown as finished.
    fn on_finish<T, E>(&self, number: usize, handle: &ExecutionHandle<T, E>) {
        let heard = self.clone();
        let call = handle.cancel_handle();
        handle.on_finish(move |summary| {
            assert_eq!(summary.execution_id, call.execution_id());
            let noted = (number, summary.outcome, call.is_finished());
            heard.0.lock().unwrap().push(noted);
        });
    }

    fn all(&self) -> Vec<(usize, CallOutcome, bool)> {
        self.0.lock().unwrap().clone()
    }

    /// The outcome that the only callback was told, once.
    #[track_caller]
    fn once(&self) -> CallOutcome {
        let all = self.all();
        assert_eq!(all.len(), 1, "called {} times", all.len());
        assert!(all[0].2, "called before the call was shown as finished");
        all[0].1
    }
}

const CANCELLED: CallOutcome = CallOutcome::Cancelled { by_shutdown: false };

/// G2: a callback that is registered while the task ends is called once.
#[test]
fn a_callback_against_the_end_of_the_task() {
    explore("callback against the end", 2, || {
        let bulkhead = bulkhead(1, 0);
        let heard = Heard::default();
        let handle = bulkhead.run(|| 7);
        heard.on_finish(0, &handle);
        assert!(handle.wait().is_success());
        drop(bulkhead);
        assert_eq!(heard.once(), CallOutcome::Succeeded);
    });
}

/// G2: of several, each is called once, and those that the end of the task finds are called in their order.
#[test]
fn several_callbacks_against_the_end_of_the_task() {
    explore("several callbacks", 2, || {
        let bulkhead = bulkhead(1, 0);
        let heard = Heard::default();
        let handle = bulkhead.run(|| ());
        for number in 0..3 {
            heard.on_finish(number, &handle);
        }
        let was_finished = handle.is_finished();
        drop(handle);
        drop(bulkhead);
        let mut numbers: Vec<_> = heard.all().into_iter().map(|(number, ..)| number).collect();
        if !was_finished {
            assert_eq!(numbers, [0, 1, 2], "all were there before the end");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
    });
}

/// G2, G3: the callback of a call whose handle is dropped meanwhile: called once, when the place is free.
#[test]
fn a_callback_against_the_drop_of_its_handle() {
    explore("callback against drop", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let places = Arc::new(AtomicUsize::new(0));
        let (seen, from) = (Arc::clone(&places), Arc::downgrade(&bulkhead));
        let handle = bulkhead.run(|| ());
        handle.on_finish(move |_| {
            let free = from
                .upgrade()
                .map_or(1, |bulkhead| bulkhead.available_capacity());
            seen.fetch_add(1 + 10 * free, Ordering::Relaxed);
        });
        drop(handle);
        let _ = bulkhead.shutdown();
        // After a shutdown no place is available, so it has seen one or none.
        let seen = places.load(Ordering::Relaxed);
        assert!(seen == 1 || seen == 11, "{seen}");
        assert_balanced(&bulkhead.stats());
    });
}

/// G2, G6: a call that another thread cancels, just when its callback is registered and its task may start.
#[test]
fn a_callback_against_a_cancel() {
    explore("callback against cancel", 2, || {
        let bulkhead = bulkhead(1, 0);
        let heard = Heard::default();
        let handle = bulkhead.run(|| ());
        let canceller = handle.cancel_handle();
        let cancelling = thread::spawn(move || canceller.cancel());
        heard.on_finish(0, &handle);
        let result = handle.wait();
        let cancelled = cancelling.join().unwrap();
        drop(bulkhead);
        let expected = if cancelled {
            CANCELLED
        } else {
            CallOutcome::Succeeded
        };
        assert_eq!(heard.once(), expected);
        assert_eq!(result.is_success(), !cancelled);
    });
}

/// G2, G8: a call that a shutdown cancels, or a worker has just started.
#[test]
fn a_callback_against_a_shutdown() {
    explore("callback against shutdown", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let heard = Heard::default();
        let handle = bulkhead.run(|| ());
        let ending = Arc::clone(&bulkhead);
        let ending = thread::spawn(move || drop(ending.shutdown_now()));
        heard.on_finish(0, &handle);
        drop(handle);
        ending.join().unwrap();
        let _ = bulkhead.shutdown();
        match heard.once() {
            CallOutcome::Succeeded | CallOutcome::Cancelled { by_shutdown: true } => {}
            other => panic!("{other:?}"),
        }
    });
}

/// G5: the waiter that finds its call too late, or the worker that takes it, calls back.
#[test]
fn a_callback_against_the_queue_timeout() {
    explore("callback against queue timeout", 2, || {
        let bulkhead = Bulkhead::new(config(1, 0).queue_timeout(LIMIT)).unwrap();
        let heard = Heard::default();
        let handle = bulkhead.run(|| ());
        heard.on_finish(0, &handle);
        bulkman::model::advance(LIMIT);
        let result = handle.wait();
        drop(bulkhead);
        let expected = if result.is_success() {
            CallOutcome::Succeeded
        } else {
            CallOutcome::QueueTimeout
        };
        assert_eq!(heard.once(), expected);
    });
}

/// G4, G10: a caller that leaves at its limit is counted once, and the callback hears how the task ended.
#[test]
fn a_callers_limit_against_the_end_of_the_task() {
    explore("limit against the end", 2, || {
        let bulkhead = bulkhead(1, 0);
        let heard = Heard::default();
        let task = || bulkman::model::advance(LIMIT);
        let handle = bulkhead.call().timeout(LIMIT).run(task);
        heard.on_finish(0, &handle);
        let result = handle.wait();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        let left = matches!(result.error(), Some(BulkheadError::Timeout { .. }));
        assert_eq!(stats.caller_timeouts_started, u64::from(left));
        assert_eq!(stats.caller_timeouts_queued, 0);
        drop(bulkhead);
        assert_eq!(heard.once(), CallOutcome::Succeeded);
    });
}

/// G10: a caller whose limit passes in the queue is counted once, whoever notices.
#[test]
fn a_callers_limit_in_the_queue_against_dequeue() {
    explore("limit in the queue", 2, || {
        let bulkhead = bulkhead(1, 0);
        let handle = bulkhead.call().timeout(LIMIT).run(|| ());
        bulkman::model::advance(LIMIT);
        let result = handle.wait();
        drop(result.into_result());
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.caller_timeouts_queued, stats.timed_out_executions);
        let left = stats.caller_timeouts_queued + stats.caller_timeouts_started;
        assert!(left <= 1, "{left}");
    });
}

/// G2, G6: two cancels of one call, while its own handle is waited for: one of them at the most has cancelled it.
#[test]
fn two_cancels_against_the_worker() {
    explore("two cancels", 1, || {
        let bulkhead = bulkhead(1, 0);
        let handle = bulkhead.run(|| ());
        let here = handle.cancel_handle();
        let there = here.clone();
        let other = thread::spawn(move || there.cancel());
        let cancelled = [here.cancel(), other.join().unwrap()];
        let result = handle.wait();
        let by = cancelled.into_iter().filter(|cancelled| *cancelled).count();
        assert_eq!(by, usize::from(!result.is_success()));
        assert_eq!(here.is_started(), result.is_success());
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G2: a cancel handle never says less than a waiter knows already.
#[test]
fn a_look_at_a_call_against_its_end() {
    explore("a look", 2, || {
        let bulkhead = bulkhead(1, 0);
        let handle = bulkhead.run(|| ());
        let call = handle.cancel_handle();
        let look = |call: &CancelHandle| (call.is_started(), call.is_finished());
        let before = look(&call);
        // Both are asked one after the other, and a task starts before it ends.
        let after = look(&call);
        assert!(before <= after, "{before:?}, then {after:?}");
        assert!(handle.wait().is_success());
        assert_eq!(look(&call), (true, true), "the waiter has the outcome");
        assert!(!call.cancel());
    });
}
