//! The error at the end.

use std::error::Error;
use std::io;

use bulkman::policy::{Retry, RetryStop};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};

use crate::helpers::retry;

#[test]
fn it_has_the_last_error_and_its_sources() {
    let (retry, _, _) = retry(3);
    let mut calls = 0;
    let error = retry
        .call(|| {
            calls += 1;
            Err::<(), _>(io::Error::other(format!("call {calls}")))
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 3 attempts in 300.0ms: all attempts are used up"
    );
    assert_eq!(error.source().unwrap().to_string(), "call 3");
    assert_eq!(error.into_last().to_string(), "call 3");
}

#[test]
fn a_bulkheads_reason_keeps_its_type() {
    let bulkhead = Bulkhead::new(BulkheadConfig::new("gone")).unwrap();
    bulkhead.shutdown();
    let error = Retry::new(3)
        .call(|| {
            bulkhead
                .execute(|| Err::<(), _>(io::Error::other("never runs")))
                .wait()
        })
        .unwrap_err();
    assert_eq!((error.stop, error.attempts), (RetryStop::NotRetryable, 1));
    let source = error
        .source()
        .unwrap()
        .downcast_ref::<BulkheadError<io::Error>>();
    assert!(matches!(source, Some(BulkheadError::ShutDown { .. })));
}

#[test]
fn each_reason_to_stop_has_words() {
    for stop in [
        RetryStop::NotRetryable,
        RetryStop::AttemptsUsedUp,
        RetryStop::BudgetUsedUp,
        RetryStop::DeadlineTooNear,
        RetryStop::DelayTooLong,
        RetryStop::Stopped,
    ] {
        let words = stop.to_string();
        assert!(words.len() > 10 && !words.ends_with('.'), "{words}");
    }
}

#[test]
fn one_attempt_is_singular() {
    let (retry, _, _) = retry(1);
    let error = retry.call(|| Err::<(), _>("no")).unwrap_err();
    assert!(error.to_string().starts_with("gave up after 1 attempt in "));
}
