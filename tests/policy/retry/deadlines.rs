//! No attempt begins after a deadline.

use std::time::Duration;

use bulkman::policy::{Deadline, Retry, RetryStop};
use bulkman::{Bulkhead, BulkheadConfig};

use crate::helpers::{failing_until, millis, over, retry};
use crate::support::{HOUR, seconds};

#[test]
fn an_endless_retry_ends_at_its_limit() {
    let (retry, clock, told) = over(Retry::forever().total_limit(seconds(1)));
    let began = clock.now();
    let error = retry.call(failing_until(u32::MAX)).unwrap_err();
    assert_eq!(error.stop, RetryStop::DeadlineTooNear);
    assert_eq!(told.pauses(), [100, 200, 400]);
    assert_eq!(error.attempts, 4);
    assert_eq!(
        clock.now() - began,
        millis(700),
        "the last failure waits for nothing"
    );
    assert_eq!(error.elapsed, millis(700));
}

#[test]
fn the_time_of_the_attempts_counts() {
    let (retry, clock, told) = over(Retry::forever().total_limit(seconds(1)));
    let error = retry.call(|| {
        clock.advance(millis(300));
        Err::<(), _>("slow")
    });
    // 300, then 100 of pause, 300, and 200 would end at 900, 300 more at 1,200.
    assert_eq!(error.unwrap_err().attempts, 3);
    assert_eq!(told.pauses(), [100, 200]);
}

#[test]
fn an_endless_retry_ends_with_the_deadline_around_it() {
    let (retry, clock, _) = over(Retry::forever());
    let deadline = Deadline::after_on(clock, seconds(1));
    let error = deadline.with(|| retry.call(failing_until(u32::MAX)).unwrap_err());
    assert_eq!(
        (error.stop, error.attempts),
        (RetryStop::DeadlineTooNear, 4)
    );
}

#[test]
fn an_endless_retry_ends_with_the_call_around_it() {
    let (retry, clock, _) = over(Retry::forever());
    let bulkhead = Bulkhead::builder(BulkheadConfig::new("outer"))
        .clock(clock)
        .build()
        .unwrap();
    let call = bulkhead.call().timeout(seconds(1));
    // Within the limit of a call: the retry ends before, and the outcome is the task's own.
    let outcome = call.execute(move || retry.call(failing_until(u32::MAX)));
    let error = outcome.wait().into_result().unwrap_err();
    let own = error.failed().expect("the task's own error");
    assert_eq!((own.stop, own.attempts), (RetryStop::DeadlineTooNear, 4));
}

#[test]
fn a_deadline_that_is_over_lets_the_first_attempt_be_the_last() {
    let (retry, _, told) = retry(5);
    let error = Deadline::after(Duration::ZERO).with(|| retry.call(failing_until(9)));
    assert_eq!(error.unwrap_err().attempts, 1);
    assert!(told.pauses().is_empty());
}

#[test]
fn limits_beyond_every_clock_are_none() {
    for retry in [retry(3).0.total_limit(Duration::MAX), retry(3).0] {
        let outcome = Deadline::after(Duration::MAX).with(|| retry.call(failing_until(3)));
        assert_eq!(outcome, Ok(3));
    }
    assert_eq!(retry(3).0.total_limit(HOUR).call(failing_until(3)), Ok(3));
}
