//! Shutdown in its three forms, against submitters, workers and each other.

mod support;

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CapturedContext, ContextPropagator, RunningTask};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore, explore_deep};

/// One thread submits while this one shuts down by `how`. Each call is refused as shut down or has its
/// outcome, the body runs exactly when the result says so, and the numbers add up.
fn submit_against(how: fn(&Bulkhead)) {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let ran = Arc::new(AtomicUsize::new(0));
    let submitting = {
        let (bulkhead, ran) = (Arc::clone(&bulkhead), Arc::clone(&ran));
        thread::spawn(move || {
            let result = bulkhead
                .run(move || ran.fetch_add(1, Ordering::Relaxed))
                .wait();
            match result.error() {
                None => 1,
                Some(BulkheadError::ShutDown { .. } | BulkheadError::Cancelled { .. }) => 0,
                Some(other) => panic!("{other}"),
            }
        })
    };
    how(&bulkhead);
    let succeeded = submitting.join().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), succeeded);
    let _ = bulkhead.shutdown();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (1, 0));
}

/// G8.
#[test]
fn graceful_against_submit() {
    explore("shutdown against submit", 2, || {
        submit_against(|bulkhead| assert!(bulkhead.shutdown().is_clean()));
    });
}

/// G8.
#[test]
fn immediate_against_submit() {
    explore("shutdown_now against submit", 1, || {
        submit_against(|bulkhead| drop(bulkhead.shutdown_now()));
    });
}

/// G8.
#[test]
fn deadline_against_submit() {
    explore("shutdown_timeout against submit", 1, || {
        submit_against(|bulkhead| drop(bulkhead.shutdown_timeout(Duration::ZERO)));
    });
}

/// G8: nothing that was admitted is lost, and no worker is left behind (loom would call it a deadlock).
#[test]
fn drop_with_a_call_in_the_queue() {
    explore("drop with a queue", 2, || {
        let bulkhead = bulkhead(1, 1);
        let handles = [bulkhead.run(|| 1), bulkhead.run(|| 2)];
        drop(bulkhead);
        let values = handles.map(|handle| handle.wait().into_result().unwrap());
        assert_eq!(values, [1, 2]);
    });
}

/// G8: the stop token reaches every worker.
#[test]
fn two_workers_end() {
    explore("two workers end", 2, || drop(bulkhead(2, 0)));
}

/// G8: two shutdowns at once, of which one cancels.
#[test]
fn two_shutdowns() {
    explore("two shutdowns", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let handle = bulkhead.run(|| ());
        let other = Arc::clone(&bulkhead);
        let shutting = thread::spawn(move || drop(other.shutdown_now()));
        let _ = bulkhead.shutdown();
        shutting.join().unwrap();
        match handle.wait().error() {
            None
            | Some(BulkheadError::Cancelled {
                by_shutdown: true, ..
            }) => {}
            Some(other) => panic!("{other}"),
        }
    });
}

/// G8, G9: a task drops the last reference to its own bulkhead.
#[test]
fn last_reference_dropped_by_a_task() {
    explore("last reference in a task", 2, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let inside = Arc::clone(&bulkhead);
        let handle = bulkhead.run(move || drop(inside));
        drop(bulkhead);
        assert!(handle.wait().is_success());
    });
}

/// G6, G8: a cancel that meets the shutdown's own.
#[test]
fn cancel_against_shutdown_now() {
    explore("cancel against shutdown_now", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let handle = bulkhead.run(|| ());
        let other = Arc::clone(&bulkhead);
        let shutting = thread::spawn(move || drop(other.shutdown_now()));
        let cancelled = handle.cancel();
        let result = handle.wait();
        match result.error() {
            None => assert!(!cancelled),
            Some(BulkheadError::Cancelled { by_shutdown, .. }) => {
                assert_eq!(cancelled, !by_shutdown);
            }
            Some(other) => panic!("{other}"),
        }
        shutting.join().unwrap();
        // After a `shutdown_now`, dropping waits for nobody; the model wants its threads to end.
        bulkhead.shutdown();
    });
}

/// G8: a task that ends while `shutdown_now` looks at everything is in its report all the same.
#[test]
fn report_against_a_task_that_ends() {
    explore("report against a task that ends", 2, || {
        let bulkhead = bulkhead(1, 0);
        // It ends during the shutdown and not before.
        let handle = bulkhead.run(|| {
            while !bulkman::current().unwrap().is_shutting_down() {
                thread::yield_now();
            }
        });
        let report = bulkhead.shutdown_now();
        let running = report.still_running.len() as u64;
        assert!(report.finished + report.cancelled + running > 0);
        drop(handle.wait());
        bulkhead.shutdown();
    });
}

/// Shuts down from where a shutdown does not wait, so that its report is made while the worker goes on.
#[derive(Default)]
struct ShutsDown {
    bulkhead: Mutex<Weak<Bulkhead>>,
    seen: Mutex<Vec<RunningTask>>,
}

struct Propagator(Arc<ShutsDown>);

impl ContextPropagator for Propagator {
    fn capture(&self) -> CapturedContext {
        let bulkhead = self.0.bulkhead.lock().unwrap().upgrade();
        if let Some(bulkhead) = bulkhead {
            *self.0.seen.lock().unwrap() = bulkhead.shutdown().still_running;
        }
        CapturedContext::new(|| -> Box<dyn Any> { Box::new(()) })
    }
}

/// G8: a running task in a report is one of the calls, and not a piece of one and a piece of the next.
#[test]
fn report_against_the_next_task() {
    explore_deep("report against the next task", 2, || {
        let shuts_down = Arc::new(ShutsDown::default());
        let bulkhead = Bulkhead::builder(config(1, 2))
            .context_propagator(Propagator(Arc::clone(&shuts_down)))
            .build();
        let bulkhead = Arc::new(bulkhead.unwrap());
        let first = bulkhead.run(|| ());
        let second = bulkhead.run(|| ());
        *shuts_down.bulkhead.lock().unwrap() = Arc::downgrade(&bulkhead);
        let last = bulkhead.run(|| ());
        let seen = std::mem::take(&mut *shuts_down.seen.lock().unwrap());
        assert!(seen.len() <= 1, "one worker runs one task");
        for task in seen {
            assert!([first.execution_id(), second.execution_id()].contains(&task.execution_id));
        }
        for handle in [first, second, last] {
            assert!(handle.wait().is_success());
        }
    });
}
