//! A wait that ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bulkman::policy::{AttemptEnd, Retry, RetryStop};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadState, ManualClock};

use crate::helpers::failing_until;
use crate::support::{Gate, HOUR, in_time, wait};

/// A retry whose first pause takes an hour, by a clock that stands still. It opens the gate when it waits.
fn waiting() -> (Retry, Gate) {
    let gate = Gate::new();
    let opened = gate.clone();
    let retry = Retry::new(5)
        .first_delay(HOUR)
        .max_delay(HOUR)
        .clock(ManualClock::new())
        .listener(move |event| {
            if let AttemptEnd::Retrying { .. } = event.end {
                opened.open();
            }
        });
    (retry, gate)
}

#[test]
fn a_condition_ends_the_wait() {
    let (retry, waits) = waiting();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let retry = retry.seed(1).stop_if(move || seen.load(Ordering::Relaxed));
    let stopper = thread::spawn(move || {
        waits.pass();
        stop.store(true, Ordering::Relaxed);
    });
    let error = in_time(move || retry.call(failing_until(9)).unwrap_err());
    stopper.join().unwrap();
    assert_eq!((error.stop, error.attempts), (RetryStop::Stopped, 1));
}

#[test]
fn a_shutdown_of_the_bulkhead_ends_the_wait() {
    let (retry, waits) = waiting();
    let bulkhead = Arc::new(Bulkhead::new(BulkheadConfig::new("ends")).unwrap());
    let watched = Arc::clone(&bulkhead);
    let retry = retry.stop_if(move || watched.state() == BulkheadState::ShutDown);
    let called = Arc::clone(&bulkhead);
    let ender = thread::spawn(move || {
        waits.pass();
        bulkhead.shutdown()
    });
    let error = in_time(move || {
        retry
            .call(|| called.execute(|| Err::<(), _>("down")).wait())
            .unwrap_err()
    });
    assert_eq!(error.stop, RetryStop::Stopped);
    assert_eq!(error.last.failed(), Some(&"down"));
    assert!(ender.join().unwrap().is_clean(), "the wait held no place");
}

#[test]
fn a_wait_holds_neither_worker_nor_place() {
    let (retry, waits) = waiting();
    let bulkhead = Bulkhead::new(
        BulkheadConfig::new("free")
            .max_concurrent_calls(1)
            .max_queue_size(0),
    );
    let bulkhead = Arc::new(bulkhead.unwrap());
    let watched = Arc::clone(&bulkhead);
    let retry = retry.stop_if(move || watched.state() == BulkheadState::ShutDown);
    let called = Arc::clone(&bulkhead);
    let caller = thread::spawn(move || {
        retry
            .call(|| called.execute(|| Err::<(), _>("down")).wait())
            .is_err()
    });
    waits.pass();
    for n in 0..100 {
        assert_eq!(wait(bulkhead.run(move || n)).value(), Some(&n));
    }
    bulkhead.shutdown();
    assert!(caller.join().unwrap());
}

#[test]
fn a_cancelled_call_around_it_ends_the_wait() {
    let (retry, waits) = waiting();
    let bulkhead = Bulkhead::new(BulkheadConfig::new("outer")).unwrap();
    let handle = bulkhead.execute(move || retry.call(failing_until(9)));
    waits.pass();
    assert!(!handle.cancel(), "it runs");
    let error = wait(handle).into_result().unwrap_err();
    let own = error.failed().expect("the task's own error");
    assert_eq!((own.stop, own.attempts), (RetryStop::Stopped, 1));
}

#[test]
fn a_wait_takes_no_wake_up_that_is_meant_for_its_caller() {
    in_time(|| {
        thread::current().unpark();
        let retry = Retry::new(2).first_delay(std::time::Duration::from_millis(2));
        retry.call(failing_until(2)).unwrap();
        thread::park(); // the token is still there
    });
}
