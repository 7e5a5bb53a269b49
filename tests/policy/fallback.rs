//! An answer in place of an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::policy::{Deadline, Failure, FailureKind, Fallback, Retry};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, ManualClock};

use crate::support::{Bomb, in_time, seconds};

type Error = BulkheadError<&'static str>;

fn error(kind: FailureKind) -> Error {
    let bulkhead: Arc<str> = "dependency".into();
    match kind {
        FailureKind::Full => BulkheadError::Full {
            bulkhead,
            max_concurrent_calls: 1,
            max_queue_size: 0,
            waited: None,
        },
        FailureKind::CircuitOpen => BulkheadError::CircuitOpen {
            bulkhead,
            retry_after: seconds(1),
        },
        FailureKind::ShutDown => BulkheadError::ShutDown { bulkhead },
        FailureKind::QueueTimeout => BulkheadError::QueueTimeout {
            bulkhead,
            queued_for: seconds(2),
            limit: seconds(1),
        },
        FailureKind::Cancelled => BulkheadError::Cancelled {
            bulkhead,
            by_shutdown: false,
        },
        FailureKind::Timeout => BulkheadError::Timeout {
            bulkhead,
            limit: seconds(1),
            started: true,
        },
        FailureKind::Failed => BulkheadError::Failed("its own"),
        other => panic!("only a task makes one: {other}"),
    }
}

const KINDS: [FailureKind; 7] = [
    FailureKind::Full,
    FailureKind::CircuitOpen,
    FailureKind::ShutDown,
    FailureKind::QueueTimeout,
    FailureKind::Cancelled,
    FailureKind::Timeout,
    FailureKind::Failed,
];

#[test]
fn a_value_answers_each_error() {
    let fallback = Fallback::value(7);
    for kind in KINDS {
        assert_eq!(error(kind).failure_kind(), kind);
        assert_eq!(fallback.call(|| Err(error(kind))).unwrap(), 7, "{kind}");
    }
    assert_eq!(fallback.call(|| Ok::<_, Error>(1)).unwrap(), 1);
}

#[test]
fn it_can_answer_some_kinds_only() {
    let fallback = Fallback::value(1)
        .only_for(FailureKind::REFUSED)
        .or(Fallback::value(2).only_for(FailureKind::TOO_LATE));
    for (kind, expected) in KINDS.into_iter().zip([1, 1, 1, 2, 0, 2, 0]) {
        let answer = fallback.call(|| Err(error(kind)));
        match answer {
            Ok(value) => assert_eq!(value, expected, "{kind}"),
            Err(own) => {
                assert_eq!(expected, 0, "{kind}");
                assert_eq!(own.failure_kind(), kind, "the error keeps its type");
            }
        }
    }
}

#[test]
fn a_panic_has_a_kind_too() {
    let bulkhead = Bulkhead::new(BulkheadConfig::new("panics")).unwrap();
    let fallback = Fallback::value(3).only_for([FailureKind::Panicked]);
    let call = || {
        bulkhead
            .execute(|| -> Result<i32, &str> { panic!("a task") })
            .wait()
    };
    assert_eq!(fallback.call(call).unwrap(), 3);
}

#[test]
fn a_function_sees_the_error_and_may_have_no_answer() {
    let fallback = Fallback::with(|error: &Error| error.failed().map(|own| own.len()));
    assert_eq!(
        fallback.call(|| Err(error(FailureKind::Failed))).unwrap(),
        7
    );
    assert!(fallback.call(|| Err(error(FailureKind::Full))).is_err());
}

#[test]
fn the_first_source_with_an_answer_gives_it_and_no_other_is_asked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let source = |answer: Option<u32>| {
        let asked = Arc::clone(&asked);
        Fallback::with(move |_: &&str| {
            asked.fetch_add(1, Ordering::Relaxed);
            answer
        })
    };
    let fallback = source(None).or(source(Some(2))).or(source(Some(3)));
    assert_eq!(fallback.call(|| Err("down")), Ok(2));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(fallback.call(|| Ok(1)), Ok(1));
    assert_eq!(
        asked.load(Ordering::Relaxed),
        2,
        "none where there is a value"
    );
}

#[test]
fn the_last_good_value_has_an_age_limit() {
    let clock = ManualClock::new();
    let fallback = Fallback::last_good(seconds(10)).clock(clock.clone());
    let fails = || fallback.call(|| Err::<u32, _>("down"));
    assert_eq!(fails(), Err("down"), "there is none yet");
    for value in [1, 2] {
        assert_eq!(fallback.call(|| Ok(value)), Ok(value));
        for (passed, expected) in [(0, Ok(value)), (9, Ok(value)), (1, Ok(value))] {
            clock.advance(seconds(passed));
            assert_eq!(fails(), expected);
        }
    }
    clock.advance(seconds(1));
    assert_eq!(fails(), Err("down"), "it is too old");
}

#[test]
fn clones_share_the_last_good_value() {
    let fallback = Fallback::last_good(seconds(10));
    let clone = fallback.clone();
    assert_eq!(fallback.call(|| Ok::<_, &str>(5)), Ok(5));
    assert_eq!(clone.call(|| Err("down")), Ok(5));
}

#[test]
fn an_answer_is_not_remembered_as_a_good_value() {
    let fallback = Fallback::last_good(seconds(10)).or(Fallback::value(9));
    assert_eq!(fallback.call(|| Ok::<_, &str>(5)), Ok(5));
    let only = fallback.clone();
    assert_eq!(only.call(|| Err("down")), Ok(5));
    let empty = Fallback::last_good(seconds(10)).or(Fallback::value(9));
    assert_eq!(empty.call(|| Err("down")), Ok(9));
    assert_eq!(empty.call(|| Err("down")), Ok(9));
}

#[test]
fn another_bulkhead_answers() {
    let other = Arc::new(Bulkhead::new(BulkheadConfig::new("replica")).unwrap());
    let fallback = Fallback::bulkhead(Arc::clone(&other), || Ok::<_, &str>("replica"));
    assert_eq!(fallback.call(|| Err("primary is down")), Ok("replica"));
    assert_eq!(other.stats().successful_executions, 1);
    other.shutdown();
    assert_eq!(
        fallback.call(|| Err("primary is down")),
        Err("primary is down")
    );
}

#[test]
fn another_bulkhead_is_waited_for_until_the_deadline() {
    let other = Arc::new(Bulkhead::new(BulkheadConfig::new("replica")).unwrap());
    let fallback = Fallback::bulkhead(other, || Ok::<_, &str>(bulkman::policy::remaining()));
    let clock = ManualClock::new();
    let deadline = Deadline::after_on(clock.clone(), seconds(3));
    let left = deadline.with(|| fallback.call(|| Err("down")));
    assert!(left.unwrap() <= Some(seconds(3)));
    clock.advance(seconds(3));
    let late = in_time(move || deadline.with(|| fallback.call(|| Err("down"))));
    assert_eq!(late, Err("down"));
}

#[test]
fn a_source_that_panics_has_no_answer() {
    let panics = || Fallback::with(|_: &&str| panic!("a source"));
    assert_eq!(panics().call(|| Err::<u32, _>("down")), Err("down"));
    let then = panics().or(Fallback::value(4));
    assert_eq!(then.call(|| Err("down")), Ok(4));
    let condition = Fallback::value(1)
        .only_if(|_| panic!("a condition"))
        .or(Fallback::value(2));
    assert_eq!(condition.call(|| Err("down")), Ok(2));
}

#[test]
fn a_value_whose_clone_panics_is_not_remembered() {
    #[derive(Debug, PartialEq)]
    struct Bad;
    impl Clone for Bad {
        fn clone(&self) -> Self {
            panic!("a clone")
        }
    }
    let fallback = Fallback::last_good(seconds(10));
    assert_eq!(fallback.call(|| Ok::<_, &str>(Bad)), Ok(Bad));
    assert_eq!(fallback.call(|| Err("down")), Err("down"));
}

#[test]
fn it_goes_around_a_retry() {
    let retry = Retry::new(3).first_delay(std::time::Duration::ZERO);
    let fallback = Fallback::with(|error: &bulkman::policy::RetryError<&str>| Some(error.attempts));
    assert_eq!(fallback.call(|| retry.call(|| Err("down"))).unwrap(), 3);
}

#[test]
fn an_error_whose_drop_panics_is_answered_as_any_other() {
    let fallback = Fallback::value(1);
    let answer = fallback.call(|| Err(Bomb));
    assert_eq!(answer.map_err(std::mem::forget), Ok(1));
}
