//! Shutdown and cancel during a pause.

use std::sync::Arc;
use std::thread;

use bulkman::policy::{AttemptEnd, Jitter, Retry, RetryStop};
use bulkman::{Bulkhead, BulkheadConfig, ManualClock, SemaphoreBulkhead};

use super::helpers::{flaky, pipeline, semaphore, threads};
use crate::support::{Gate, HOUR, in_time, wait};

/// A retry whose pause takes an hour, and a gate that it opens then.
fn waiting() -> (Retry, Gate) {
    let gate = Gate::new();
    let opened = gate.clone();
    let retry = Retry::new(5)
        .jitter(Jitter::None)
        .first_delay(HOUR)
        .max_delay(HOUR)
        .listener(move |event| {
            if let AttemptEnd::Retrying { .. } = event.end {
                opened.open();
            }
        });
    (retry, gate)
}

#[test]
fn a_shutdown_of_a_pool_ends_the_pause() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let (retry, waits) = waiting();
    let pipeline = pipeline(&clock)
        .retry(retry)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let ender = thread::spawn(move || {
        waits.pass();
        Bulkhead::shutdown(&bulkhead)
    });
    let result = in_time(move || pipeline.execute(flaky(9).0));
    assert_eq!(
        (result.attempts, result.retry_stop),
        (1, Some(RetryStop::Stopped))
    );
    assert!(ender.join().unwrap().is_clean());
}

#[test]
fn a_shutdown_of_a_semaphore_ends_the_pause() {
    let clock = ManualClock::new();
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let (retry, waits) = waiting();
    let pipeline = pipeline(&clock)
        .retry(retry)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let ended: Arc<SemaphoreBulkhead> = bulkhead;
    let ender = thread::spawn(move || {
        waits.pass();
        ended.shutdown()
    });
    let result = in_time(move || pipeline.execute(flaky(9).0));
    assert_eq!(result.retry_stop, Some(RetryStop::Stopped));
    assert!(ender.join().unwrap().is_clean());
}

#[test]
fn a_condition_of_the_retrys_own_still_holds() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let (retry, _) = waiting();
    let retry = retry.stop_if(|| true);
    let pipeline = pipeline(&clock)
        .retry(retry)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = in_time(move || pipeline.execute(flaky(9).0));
    assert_eq!(result.retry_stop, Some(RetryStop::Stopped));
}

#[test]
fn a_cancelled_call_around_it_ends_the_pause() {
    let clock = ManualClock::new();
    let outer = Bulkhead::new(BulkheadConfig::new("outer")).unwrap();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let (retry, waits) = waiting();
    let pipeline = pipeline(&clock)
        .retry(retry)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let handle = outer.run(move || pipeline.execute(flaky(9).0).retry_stop);
    waits.pass();
    assert!(!handle.cancel());
    assert_eq!(wait(handle).value(), Some(&Some(RetryStop::Stopped)));
}

#[test]
fn a_bulkhead_that_is_shut_down_is_not_retried() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    bulkhead.shutdown();
    let (retry, _) = waiting();
    let pipeline = pipeline(&clock)
        .retry(retry)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = in_time(move || pipeline.execute(flaky(9).0));
    assert_eq!(
        (result.attempts, result.retry_stop),
        (1, Some(RetryStop::NotRetryable))
    );
}
