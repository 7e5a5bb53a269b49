//! G8: a shutdown that reports no running task is right, however late a thread is that was about to start one.

mod support;

use std::sync::Arc;

use bulkman::model::ignore_late_pushes;
use bulkman::{SemaphoreBulkhead, ShutdownReport};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use support::{bulkhead, config, explore};

/// Notices a task that starts after a report that named none.
#[derive(Default)]
struct Witness {
    nothing_runs: AtomicBool,
    started_late: AtomicBool,
}

impl Witness {
    fn task(self: &Arc<Self>) -> impl FnOnce() + Send + 'static {
        let witness = Arc::clone(self);
        move || {
            if witness.nothing_runs.load(Ordering::Acquire) {
                witness.started_late.store(true, Ordering::Release);
            }
        }
    }

    fn hear(&self, report: &ShutdownReport) {
        if report.still_running.is_empty() {
            self.nothing_runs.store(true, Ordering::Release);
        }
    }

    fn assert_none(&self) {
        let started_late = self.started_late.load(Ordering::Acquire);
        assert!(!started_late, "a task started after the report");
    }
}

#[test]
fn a_worker_that_is_about_to_start_a_call() {
    explore("report against a start", 2, || {
        ignore_late_pushes();
        let bulkhead = bulkhead(1, 0);
        let witness = Arc::new(Witness::default());
        let handle = bulkhead.run(witness.task());
        witness.hear(&bulkhead.shutdown_now());
        drop(handle.wait());
        // After a `shutdown_now`, dropping waits for nobody; the model wants its threads to end.
        bulkhead.shutdown();
        witness.assert_none();
    });
}

/// The same with a call that is shown in the list of its slot.
#[test]
fn a_worker_that_is_about_to_start_a_named_call() {
    explore("report against a named start", 2, || {
        ignore_late_pushes();
        let bulkhead = bulkhead(1, 0);
        let witness = Arc::new(Witness::default());
        let handle = bulkhead.call().operation("named").run(witness.task());
        witness.hear(&bulkhead.shutdown_now());
        drop(handle.wait());
        bulkhead.shutdown();
        witness.assert_none();
    });
}

#[test]
fn a_caller_that_is_about_to_run_its_call() {
    explore("report against a start in its caller", 3, || {
        ignore_late_pushes();
        let bulkhead = Arc::new(SemaphoreBulkhead::new(config(1, 0)).unwrap());
        let witness = Arc::new(Witness::default());
        let caller = {
            let (bulkhead, task) = (Arc::clone(&bulkhead), witness.task());
            thread::spawn(move || drop(bulkhead.run(task)))
        };
        witness.hear(&bulkhead.shutdown_now());
        caller.join().unwrap();
        witness.assert_none();
    });
}
