//! What a call gives: outcome, attempts, which layer decided, and where the time went.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bulkman::policy::{
    self, Failure, FailureKind, Fallback, LayerKind, PipelineError, RateLimit, RetryStop, attempt,
};
use bulkman::{BulkheadConfig, BulkheadError, ManualClock};

use super::helpers::{flaky, pipeline, retry, semaphore, threads};
use crate::helpers::millis;
use crate::support::{Gate, OpenOnDrop, SECOND, in_time, seconds};

#[test]
fn a_pipeline_of_nothing_makes_the_call() {
    let pipeline = pipeline(&ManualClock::new()).build().unwrap();
    let result = pipeline.execute(|| Ok(7));
    assert_eq!((result.attempts, result.decided_by), (1, LayerKind::Task));
    assert_eq!(result.into_result().unwrap(), 7);
    let failed = pipeline.execute(|| Err::<(), _>("its own"));
    assert_eq!(failed.error().unwrap().failed(), Some(&"its own"));
    assert_eq!(failed.retry_stop, None);
}

#[test]
fn attempts_are_counted_and_each_goes_through_the_bulkhead() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .retry(retry(5, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let (task, calls) = flaky(3);
    let result = pipeline.execute(task);
    assert_eq!((result.attempts, result.retry_stop), (3, None));
    assert_eq!(result.value(), Some(&3));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(bulkhead.stats().failed_executions, 2);

    let (task, _) = flaky(99);
    let result = pipeline.execute(task);
    assert_eq!(result.attempts, 5);
    assert_eq!(result.retry_stop, Some(RetryStop::AttemptsUsedUp));
    assert_eq!(result.decided_by, LayerKind::Task);
    assert_eq!(result.error().unwrap().failed(), Some(&"down"));
}

#[test]
fn a_refusal_of_the_bulkhead_keeps_its_type() {
    let clock = ManualClock::new();
    let bulkhead = threads(
        BulkheadConfig::new("users")
            .max_concurrent_calls(1)
            .max_queue_size(0),
        &clock,
    );
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    drop(bulkhead.run(move || gate.pass()));
    let pipeline = pipeline(&clock)
        .retry(retry(3, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = pipeline.execute(|| Ok(1));
    assert_eq!(
        (result.attempts, result.decided_by),
        (3, LayerKind::Bulkhead)
    );
    let error = result.into_result().unwrap_err();
    assert!(error.never_started());
    assert_eq!(error.failure_kind(), FailureKind::Full);
    assert!(matches!(
        error,
        PipelineError::Call(BulkheadError::Full { .. })
    ));
}

#[test]
fn a_rate_limit_inside_of_a_retry_counts_attempts_and_outside_calls() {
    for inside in [true, false] {
        let clock = ManualClock::new();
        let limit = RateLimit::new(1, seconds(3600)).unwrap();
        let limit = limit.burst(2).clock(clock.clone());
        let builder = pipeline(&clock);
        let retry = retry(5, &clock);
        let builder = if inside {
            builder.retry(retry).rate_limit(limit)
        } else {
            builder.rate_limit(limit).retry(retry)
        };
        let pipeline = builder.build().unwrap();
        let (task, calls) = flaky(99);
        let result = pipeline.execute(task);
        let made = calls.load(Ordering::Relaxed);
        if inside {
            // The third would have to wait for an hour, so there is none.
            assert_eq!((result.attempts, made), (3, 2));
            assert_eq!(result.decided_by, LayerKind::RateLimit);
            assert_eq!(result.retry_stop, Some(RetryStop::DelayTooLong));
            assert_eq!(
                result.error().unwrap().failure_kind(),
                FailureKind::RateLimited
            );
        } else {
            assert_eq!((result.attempts, made), (5, 5));
            assert!(pipeline.execute(|| Ok(1)).is_success());
            assert_eq!(pipeline.execute(|| Ok(1)).decided_by, LayerKind::RateLimit);
        }
    }
}

#[test]
fn a_fallback_answers_and_keeps_the_error() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .fallback(Fallback::value(0).only_for([FailureKind::Failed]))
        .retry(retry(2, &clock))
        .build()
        .unwrap();
    let result = pipeline.execute(|| Err("down"));
    assert!(result.is_success());
    assert_eq!(
        (result.attempts, result.decided_by),
        (2, LayerKind::Fallback)
    );
    assert_eq!(result.retry_stop, Some(RetryStop::AttemptsUsedUp));
    assert_eq!(
        result.fell_back_from.as_ref().unwrap().failed(),
        Some(&"down")
    );
    assert_eq!(result.value(), Some(&0));
    let panicked = pipeline.execute(|| panic!("a task"));
    assert_eq!(
        panicked.error().unwrap().failure_kind(),
        FailureKind::Panicked
    );
    assert!(panicked.fell_back_from.is_none());
}

#[test]
fn the_last_good_value_goes_by_the_pipelines_clock() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .fallback(Fallback::last_good(SECOND))
        .build()
        .unwrap();
    assert_eq!(pipeline.execute(|| Ok(5)).value(), Some(&5));
    clock.advance(SECOND);
    assert_eq!(pipeline.execute(|| Err("down")).value(), Some(&5));
    clock.advance(millis(1));
    assert!(!pipeline.execute(|| Err("down")).is_success());
}

#[test]
fn the_time_is_told_by_layer() {
    let clock = ManualClock::new();
    let hand = clock.clone();
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .fallback(Fallback::with(move |_| {
            hand.advance(seconds(7));
            Some(1)
        }))
        .retry(retry(3, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = pipeline.execute(|| {
        clock.advance(seconds(2));
        Err("down")
    });
    assert_eq!(
        result.time_in(LayerKind::Task),
        seconds(6),
        "three attempts"
    );
    assert_eq!(result.time_in(LayerKind::Bulkhead), millis(0));
    assert_eq!(result.time_in(LayerKind::Fallback), seconds(7));
    assert_eq!(result.time_in(LayerKind::RateLimit), millis(0));
    assert_eq!(result.elapsed, seconds(13) + millis(300));
}

#[test]
fn a_pipeline_of_nothing_tells_no_time() {
    let clock = ManualClock::new();
    let slow = || {
        clock.advance(SECOND);
        Ok(7)
    };
    let nothing = pipeline(&clock).build().unwrap().execute(slow);
    assert_eq!(nothing.elapsed, millis(0));
    assert_eq!(nothing.time_in(LayerKind::Task), millis(0));
    // Whoever asks for it pays for it.
    let told = Arc::new(Mutex::new(None));
    let listener = Arc::clone(&told);
    let watched = pipeline(&clock)
        .listener(move |event| *listener.lock().unwrap() = Some(event.elapsed))
        .build()
        .unwrap()
        .execute(slow);
    assert_eq!(watched.elapsed, SECOND);
    assert_eq!(watched.time_in(LayerKind::Task), SECOND);
    assert_eq!(*told.lock().unwrap(), Some(SECOND));
}

#[test]
fn a_bulkhead_alone_tells_the_times_that_it_has_measured() {
    let clock = ManualClock::new();
    let hand = clock.clone();
    let slow = move || {
        hand.advance(SECOND);
        Ok(7)
    };
    let here = semaphore(BulkheadConfig::new("users"), &clock);
    let here = pipeline(&clock).bulkhead(&here).build().unwrap();
    let there = threads(BulkheadConfig::new("users"), &clock);
    let there = pipeline(&clock).bulkhead(&there).build().unwrap();
    for result in [here.execute(slow.clone()), there.execute(slow)] {
        assert_eq!(result.elapsed, SECOND);
        assert_eq!(result.time_in(LayerKind::Task), SECOND);
    }
}

/// Layers share a reading of the clock only while nothing happens between them.
#[test]
fn a_second_attempt_has_its_own_limit_from_its_own_beginning() {
    let clock = ManualClock::new();
    let pipeline = pipeline(&clock)
        .timeout(seconds(60))
        .retry(retry(3, &clock))
        .timeout(seconds(4))
        .build()
        .unwrap();
    let result = pipeline.execute(|| {
        assert_eq!(policy::remaining(), Some(seconds(4)));
        clock.advance(seconds(3));
        Err::<(), _>("down")
    });
    assert_eq!(result.attempts, 3);
    assert_eq!(result.time_in(LayerKind::Task), seconds(9));
    assert_eq!(result.elapsed, seconds(9) + millis(300));
}

#[test]
fn a_pipeline_is_shared_by_threads_and_clones() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .timeout(SECOND)
        .retry(retry(3, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let pipeline = pipeline.clone();
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(pipeline.execute(move || Ok(n)).value(), Some(&n));
                }
            });
        }
    });
    assert_eq!(bulkhead.stats().successful_executions, 200);
}

#[test]
fn a_task_on_a_worker_knows_which_attempt_it_is() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .retry(retry(5, &clock))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let result = pipeline.execute(|| match attempt() {
        4 => Ok("here"),
        _ => Err("not yet"),
    });
    assert_eq!((result.value(), result.attempts), (Some(&"here"), 4));
}

#[test]
fn a_slow_attempt_leaves_time_for_the_next_if_it_may_be_retried() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    for (asked, attempts) in [(false, 1), (true, 2)] {
        let retry = retry(3, &clock);
        let retry = if asked { retry.retry_timeouts() } else { retry };
        let pipeline = pipeline(&clock)
            .timeout(seconds(10))
            .retry(retry)
            .timeout(seconds(3))
            .bulkhead(&bulkhead)
            .build()
            .unwrap();
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let hand = clock.clone();
        let result = in_time(move || {
            pipeline.execute(move || {
                if attempt() == 1 {
                    hand.advance(seconds(3));
                    gate.pass();
                }
                Ok(attempt())
            })
        });
        assert_eq!(result.attempts, attempts);
        assert_eq!(result.is_success(), asked);
    }
}
