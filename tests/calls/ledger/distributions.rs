//! The distributions of queued times and run times.

use std::time::Duration;

use bulkman::Distribution;

use super::helpers::with_breaker;
use crate::support::{SECOND, bulkhead, occupy};

fn assert_consistent(times: &Distribution) {
    assert!(times.mean() <= times.max());
    let quantiles = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0].map(|q| times.quantile(q));
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    assert!(quantiles.iter().all(|q| *q <= times.max()));
}

#[test]
fn run_times_and_queue_waits_are_recorded() {
    let (bulkhead, clock) = with_breaker(1, 1);
    for millis in 1..=100 {
        let clock = clock.clone();
        let result = bulkhead
            .run(move || clock.advance(Duration::from_millis(millis)))
            .wait();
        assert_eq!(result.execution_time, Duration::from_millis(millis));
        assert_eq!(result.queued_time, Duration::ZERO);
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.run_time.count(), 100);
    assert_eq!(stats.run_time.max(), Duration::from_millis(100));
    assert_eq!(stats.run_time.mean(), Duration::from_micros(50_500));
    let median = stats.run_time.quantile(0.5);
    assert!(median >= Duration::from_millis(50) && median <= Duration::from_micros(56_250));
    assert_consistent(&stats.run_time);
    assert_eq!(stats.queue_wait.count(), 100);
    assert_eq!(stats.queue_wait.max(), Duration::ZERO);

    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    clock.advance(3 * SECOND);
    busy.gate.open();
    assert_eq!(queued.wait().queued_time, 3 * SECOND);
    let stats = bulkhead.stats();
    assert_eq!(stats.queue_wait.max(), 3 * SECOND);
    assert_consistent(&stats.queue_wait);
}

#[test]
fn calls_that_never_start_are_in_no_distribution() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    assert!(bulkhead.run(|| ()).cancel());
    busy.finish();
    let stats = bulkhead.stats();
    assert_eq!(stats.queue_wait.count(), 1);
    assert_eq!(stats.run_time.count(), 1);
}
