//! Cancelled calls, and tasks that run until they are asked to stop.

use std::convert::Infallible;
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadError, ExecutionHandle, ExecutionResult};

use crate::support::{Gate, PATIENCE};

#[track_caller]
pub fn assert_cancelled<T: std::fmt::Debug>(result: &ExecutionResult<T, Infallible>) {
    match result.error() {
        Some(
            error @ BulkheadError::Cancelled {
                bulkhead,
                by_shutdown: false,
            },
        ) => {
            assert_eq!(&**bulkhead, "test");
            assert!(error.never_started());
            assert!(!error.is_rejected());
            assert!(!error.is_timeout());
            assert_eq!(result.execution_time, Duration::ZERO);
        }
        _ => panic!("not cancelled: {result:?}"),
    }
}

/// Runs until it is asked to stop, and says whether it was.
pub fn stoppable(started: Gate) -> bool {
    started.open();
    let call = bulkman::current().expect("inside a task");
    let deadline = Instant::now() + PATIENCE;
    while !call.is_cancelled() {
        if Instant::now() > deadline {
            return false;
        }
        thread::yield_now();
    }
    true
}

/// A task that runs until it is asked to stop; returns when it has started.
pub fn start_stoppable(bulkhead: &Bulkhead) -> ExecutionHandle<bool, Infallible> {
    let started = Gate::new();
    let handle = bulkhead.run({
        let started = started.clone();
        move || stoppable(started)
    });
    started.pass();
    handle
}
