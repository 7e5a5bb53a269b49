//! A limit that follows how long calls take.

use std::time::Duration;

use bulkman::policy::{Failure, FailureKind, Fallback, LayerKind, remaining};
use bulkman::{AdaptiveTimeout, AdaptiveTimeoutConfig, BulkheadConfig, ManualClock};

use super::helpers::{pipeline, retry, semaphore, threads};
use crate::support::{Gate, OpenOnDrop, SECOND, in_time, seconds};

/// Twice the 0.9 quantile of ten calls or more, looked at once a second.
fn adaptive(clock: &ManualClock) -> AdaptiveTimeout {
    let config = AdaptiveTimeoutConfig::new()
        .quantile(0.9)
        .factor(2.0)
        .minimum_samples(10)
        .window(10 * SECOND)
        .ceiling(seconds(20));
    AdaptiveTimeout::with_clock(config, clock.clone()).unwrap()
}

#[test]
fn each_attempt_has_the_limit_and_is_a_sample() {
    let clock = ManualClock::new();
    let timeout = adaptive(&clock);
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .timeout(seconds(60))
        .retry(retry(2, &clock).first_delay(Duration::from_millis(1)))
        .adaptive_timeout(&timeout)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    for _ in 0..10 {
        // An attempt that fails before its limit says nothing.
        let mut attempt = 0;
        let result = pipeline.execute(|| {
            assert_eq!(remaining(), Some(timeout.limit()));
            attempt += 1;
            clock.advance(Duration::from_millis(100));
            if attempt == 1 {
                Err("down")
            } else {
                Ok(attempt)
            }
        });
        assert_eq!(result.attempts, 2);
    }
    clock.advance(SECOND);
    let stats = timeout.stats();
    assert_eq!((stats.samples, stats.timeouts), (10, 0));
    let about = Duration::from_millis(200)..Duration::from_millis(226);
    assert!(about.contains(&stats.limit), "{stats:?}");
}

#[test]
fn an_attempt_that_fails_at_its_limit_was_cut_off() {
    let clock = ManualClock::new();
    let timeout = adaptive(&clock);
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .adaptive_timeout(&timeout)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = pipeline.execute(|| {
        clock.advance(seconds(19));
        Err::<(), _>("the client's timeout")
    });
    assert!(result.error().is_some());
    assert_eq!(timeout.stats().timeouts, 1);
}

#[test]
fn an_attempt_that_is_left_at_the_limit_was_not_successful() {
    let clock = ManualClock::new();
    let timeout = adaptive(&clock);
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .adaptive_timeout(&timeout)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let gate = Gate::new();
    let _opens = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let hand = clock.clone();
    let mover = std::thread::spawn(move || {
        gate.wait_for_arrivals(1);
        hand.advance(seconds(21));
    });
    let result = in_time(move || {
        pipeline.execute(move || {
            at_gate.pass();
            Ok(())
        })
    });
    mover.join().unwrap();
    let error = result.error().unwrap();
    assert_eq!(error.failure_kind(), FailureKind::Timeout);
    let stats = timeout.stats();
    assert_eq!((stats.samples, stats.timeouts), (0, 1));
}

#[test]
fn neither_a_refusal_nor_a_fallbacks_answer_is_a_sample() {
    let clock = ManualClock::new();
    let timeout = adaptive(&clock);
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    bulkhead.shutdown_now();
    let with_fallback = pipeline(&clock)
        .adaptive_timeout(&timeout)
        .fallback(Fallback::value(7).only_for(FailureKind::REFUSED))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = with_fallback.execute(|| Ok(1));
    assert_eq!(result.decided_by, LayerKind::Fallback);
    let without = pipeline(&clock)
        .adaptive_timeout(&timeout)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    assert!(without.execute(|| Ok(1)).error().is_some());
    let stats = timeout.stats();
    assert_eq!((stats.samples, stats.timeouts), (0, 0));
}
