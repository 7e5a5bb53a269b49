//! One deadline goes through all layers.

use std::time::Duration;

use bulkman::policy::{
    Deadline, Failure, FailureKind, LayerKind, PipelineError, RetryStop, remaining,
};
use bulkman::{BulkheadConfig, BulkheadError, ManualClock};

use super::helpers::{flaky, pipeline, retry, semaphore, threads};
use crate::helpers::millis;
use crate::support::{Gate, HOUR, OpenOnDrop, SECOND, in_time, seconds};

#[test]
fn a_task_and_what_it_calls_know_what_is_left() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .timeout(seconds(3))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    assert_eq!(
        pipeline.execute(|| Ok(remaining())).value(),
        Some(&Some(seconds(3)))
    );
    let inner = pipeline.clone();
    let nested = pipeline.execute(move || {
        clock.advance(SECOND);
        inner
            .execute(|| Ok(remaining()))
            .into_result()
            .map_err(|_| "inner")
    });
    assert_eq!(nested.value(), Some(&Some(seconds(2))));
    let around = Deadline::after_on(ManualClock::new(), SECOND);
    let seen = around.with(|| pipeline.execute(|| Ok(remaining())));
    assert_eq!(seen.value(), Some(&Some(SECOND)));
}

#[test]
fn a_limit_over_all_and_one_for_each_attempt() {
    let clock = ManualClock::new();
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .timeout(seconds(10))
        .retry(retry(9, &clock).factor(1.0).first_delay(SECOND))
        .timeout(seconds(4))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let mut left = Vec::new();
    let result = pipeline.execute(|| {
        left.push(remaining().unwrap());
        clock.advance(seconds(3));
        Err::<(), _>("down")
    });
    // 3 s of work and 1 s of pause: the third attempt has only what is left of the whole.
    assert_eq!(left, [4, 4, 2].map(seconds));
    assert_eq!(result.attempts, 3);
    assert_eq!(result.retry_stop, Some(RetryStop::DeadlineTooNear));
}

#[test]
fn a_workers_task_is_left_at_the_limit() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let pipeline = pipeline(&clock)
        .timeout(seconds(3))
        .retry(retry(5, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = in_time(move || {
        pipeline.execute(move || {
            clock.advance(seconds(3));
            gate.pass();
            Ok(())
        })
    });
    assert_eq!(
        (result.attempts, result.decided_by),
        (1, LayerKind::Timeout)
    );
    assert_eq!(result.error().unwrap().failure_kind(), FailureKind::Timeout);
    assert_eq!(result.retry_stop, Some(RetryStop::NotRetryable));
    assert!(!result.error().unwrap().never_started());
}

#[test]
fn the_bulkheads_own_limit_is_its_own_decision() {
    let clock = ManualClock::new();
    let config = BulkheadConfig::new("users").execution_timeout(SECOND);
    let bulkhead = threads(config, &clock);
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let pipeline = pipeline(&clock)
        .timeout(seconds(3))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = in_time(move || {
        pipeline.execute(move || {
            clock.advance(SECOND);
            gate.pass();
            Ok(())
        })
    });
    assert_eq!(result.decided_by, LayerKind::Bulkhead);
    let limit = match result.into_result() {
        Err(PipelineError::Call(BulkheadError::Timeout { limit, .. })) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(limit, SECOND);
}

#[test]
fn without_time_no_task_starts() {
    let clock = ManualClock::new();
    let over = Deadline::after_on(clock.clone(), Duration::ZERO);
    let builder = || pipeline(&clock).timeout(HOUR);
    let (on_threads, in_callers) = (
        threads(BulkheadConfig::new("users"), &clock),
        semaphore(BulkheadConfig::new("users"), &clock),
    );
    let (task, calls) = flaky(1);
    let error = over.with(|| {
        builder()
            .bulkhead(&on_threads)
            .build()
            .unwrap()
            .execute(task)
            .into_result()
    });
    let text = error.as_ref().unwrap_err().to_string();
    assert_eq!(
        text,
        "pipeline `users` had no time left to start the task; the limit is 3600.0s"
    );
    let (task, more) = flaky(1);
    for pipeline in [
        builder().bulkhead(&in_callers).build().unwrap(),
        builder().build().unwrap(),
        // Nothing at all is around this one.
        pipeline(&clock).build().unwrap(),
    ] {
        let result = over.with(|| pipeline.execute(&task));
        assert_eq!(result.decided_by, LayerKind::Timeout);
        assert!(matches!(
            result.error(),
            Some(PipelineError::TimedOut { .. })
        ));
    }
    for calls in [calls, more] {
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

#[test]
fn an_endless_retry_ends_with_the_timeout_around_it() {
    let clock = ManualClock::new();
    let endless = retry(u32::MAX, &clock).factor(1.0).first_delay(millis(300));
    let pipeline = pipeline(&clock)
        .timeout(SECOND)
        .retry(endless)
        .build()
        .unwrap();
    let (task, _) = flaky(u32::MAX);
    let result = pipeline.execute(task);
    assert_eq!(result.attempts, 4);
    assert_eq!(result.retry_stop, Some(RetryStop::DeadlineTooNear));
    assert_eq!(result.elapsed, millis(900));
    assert_eq!(
        result.error().unwrap().failed(),
        Some(&"down"),
        "the last error"
    );
}

#[test]
fn a_task_in_its_callers_thread_gives_its_result_however_late() {
    let clock = ManualClock::new();
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .timeout(SECOND)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = pipeline.execute(|| {
        clock.advance(HOUR);
        Ok(1)
    });
    assert_eq!(result.value(), Some(&1));
}
