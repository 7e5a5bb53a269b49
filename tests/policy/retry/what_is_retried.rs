//! Which reasons are worth another attempt.

use std::sync::Arc;
use std::time::Duration;

use bulkman::policy::{RetryError, RetryIf, RetryRule, RetryableError};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, RejectReason};

use crate::helpers::retry;
use crate::support::seconds;

type Error = BulkheadError<&'static str>;

fn name() -> Arc<str> {
    "dependency".into()
}

/// All reasons but a panic, of which only a task can make one, with whether each is retried by default.
fn reasons() -> Vec<(Error, bool)> {
    let timeout = |started| BulkheadError::Timeout {
        bulkhead: name(),
        limit: seconds(1),
        started,
    };
    let cancelled = |by_shutdown| BulkheadError::Cancelled {
        bulkhead: name(),
        by_shutdown,
    };
    let full = BulkheadError::Full {
        bulkhead: name(),
        max_concurrent_calls: 1,
        max_queue_size: 0,
        waited: None,
    };
    let queue = BulkheadError::QueueTimeout {
        bulkhead: name(),
        queued_for: seconds(2),
        limit: seconds(1),
    };
    let open = BulkheadError::CircuitOpen {
        bulkhead: name(),
        retry_after: seconds(3),
    };
    let down = BulkheadError::ShutDown { bulkhead: name() };
    vec![
        (full, true),
        (open, true),
        (down, false),
        (queue, true),
        (cancelled(false), false),
        (cancelled(true), false),
        (timeout(false), true),
        (timeout(true), false),
        (BulkheadError::Failed("its own"), true),
    ]
}

fn attempts<R: RetryRule<Error>>(retry: &bulkman::policy::Retry<R>, error: Error) -> u32 {
    let mut error = Some(error);
    let first = || Err::<(), _>(error.take().unwrap_or(BulkheadError::Failed("second")));
    retry
        .call(first)
        .map_or_else(|e: RetryError<Error>| e.attempts, |()| 0)
}

#[test]
fn by_default() {
    for (error, retried) in reasons() {
        let (retry, _, _) = retry(2);
        let what = format!("{error:?}");
        assert_eq!(error.is_retryable(), retried, "{what}");
        assert_eq!(attempts(&retry, error), 1 + u32::from(retried), "{what}");
    }
}

#[test]
fn a_predicate_over_the_own_error_decides_about_no_other_reason() {
    for (error, retried) in reasons() {
        let (retry, _, _) = retry(2);
        let retry = retry.retry_if(|_: &&str| false);
        let what = format!("{error:?}");
        let retried = retried && error.failed().is_none();
        assert_eq!(attempts(&retry, error), 1 + u32::from(retried), "{what}");
    }
}

#[test]
fn a_predicate_over_the_whole_error_decides_about_everything() {
    for asked in [true, false] {
        for (error, _) in reasons() {
            let (retry, _, _) = retry(2);
            let retry = retry.retry_if(move |_: &Error| asked);
            let what = format!("{error:?}");
            assert_eq!(attempts(&retry, error), 1 + u32::from(asked), "{what}");
        }
    }
}

#[test]
fn an_open_circuit_is_not_tried_before_its_time() {
    let open = |retry_after| -> Error {
        BulkheadError::CircuitOpen {
            bulkhead: name(),
            retry_after,
        }
    };
    let (plain, _, told) = retry(2);
    assert_eq!(attempts(&plain, open(seconds(30))), 2);
    assert_eq!(told.pauses(), [30_000]);
    // Beside a predicate too.
    let (retry, _, told) = retry(2);
    let retry = retry.retry_if(|_: &&str| true);
    assert_eq!(attempts(&retry, open(seconds(30))), 2);
    assert_eq!(told.pauses(), [30_000]);
    // A circuit that is open until it is reset is not waited for.
    assert_eq!(attempts(&plain, open(Duration::MAX)), 1);
}

#[test]
fn a_refusal_is_decided_as_the_same_error() {
    let full = Bulkhead::new(BulkheadConfig::new("refuses")).unwrap();
    full.shutdown();
    let reason = RejectReason::from(full.try_run(|| ()).unwrap_err());
    assert!(!reason.is_retryable());
    let open = RejectReason::CircuitOpen {
        bulkhead: name(),
        retry_after: seconds(1),
    };
    assert!(open.is_retryable());
    assert_eq!(open.retry_after(), Some(seconds(1)));
}

#[test]
fn an_error_type_says_so_itself() {
    struct Status(u16);
    impl RetryableError for Status {
        fn is_retryable(&self) -> bool {
            self.0 >= 500
        }
    }
    for (status, expected) in [(404, 1), (503, 3)] {
        let (retry, _, _) = retry(3);
        let error = retry.call(|| Err::<(), _>(Status(status)));
        assert_eq!(error.map_err(|error| error.attempts), Err(expected));
    }
}

#[test]
fn a_rule_has_a_name_that_a_struct_can_hold() {
    struct Client {
        retry: bulkman::policy::Retry<RetryIf<std::io::Error>>,
    }
    let client = Client {
        retry: retry(2).0.retry_if(|_: &std::io::Error| true),
    };
    assert!(client.retry.call(|| Ok::<_, std::io::Error>(1)).is_ok());
}

#[test]
fn a_task_that_may_still_run_is_retried_only_if_asked_for() {
    for started in [true, false] {
        let late = || -> Error {
            BulkheadError::Timeout {
                bulkhead: name(),
                limit: seconds(1),
                started,
            }
        };
        let (plain, _, _) = retry(2);
        assert_eq!(attempts(&plain, late()), 1 + u32::from(!started));
        assert_eq!(attempts(&plain.retry_timeouts(), late()), 2);
        // Also beside a predicate over the task's own error.
        let (asked, _, _) = retry(2);
        let asked = asked.retry_timeouts().retry_if(|_: &&str| false);
        assert_eq!(attempts(&asked, late()), 2);
    }
}

/// An error of another crate, which leaves everything else at the default.
#[derive(Clone, Copy)]
struct Own {
    late: bool,
    panicked: bool,
}

impl RetryableError for Own {
    fn may_still_run(&self) -> bool {
        self.late
    }

    fn is_panic(&self) -> bool {
        self.panicked
    }
}

#[test]
fn an_error_of_its_own_that_may_still_run_or_is_a_panic_has_to_be_asked_for() {
    for (late, panicked) in [(false, false), (true, false), (false, true), (true, true)] {
        let error = Own { late, panicked };
        for (timeouts, panics) in [(false, false), (true, false), (false, true), (true, true)] {
            let (mut retry, _, _) = retry(2);
            if timeouts {
                retry = retry.retry_timeouts();
            }
            if panics {
                retry = retry.retry_panics();
            }
            let attempts = retry.call(|| Err::<(), _>(error)).err().unwrap().attempts;
            let retried = (timeouts || !late) && (panics || !panicked);
            assert_eq!(
                attempts,
                1 + u32::from(retried),
                "{late} {panicked} {timeouts} {panics}"
            );
        }
    }
}
