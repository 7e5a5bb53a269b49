//! Errors: their texts, their predicates and their conversions.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bulkman::{BuildError, Bulkhead, BulkheadConfig, BulkheadError, RejectReason};

use crate::support::{bulkhead, occupy, wait};

#[test]
fn every_error_says_who_and_how_much() {
    type Error = BulkheadError<io::Error>;

    let bulkhead: Arc<str> = "db".into();
    let who = || Arc::clone(&bulkhead);
    let full = |waited| Error::Full {
        bulkhead: who(),
        max_concurrent_calls: 4,
        max_queue_size: 20,
        waited,
    };
    let cancelled = |by_shutdown| Error::Cancelled {
        bulkhead: who(),
        by_shutdown,
    };
    let timeout = |started| Error::Timeout {
        bulkhead: who(),
        limit: Duration::from_millis(1_500),
        started,
    };
    let table = [
        (
            full(None),
            "bulkhead `db` is full: all 24 places are taken, 4 to run and 20 to wait",
        ),
        (
            full(Some(Duration::from_millis(50))),
            "bulkhead `db` is full: all 24 places are taken, 4 to run and 20 to wait; \
             waited 50.0ms for a place",
        ),
        (
            Error::CircuitOpen {
                bulkhead: who(),
                retry_after: Duration::from_secs(12),
            },
            "bulkhead `db` has an open circuit: retry in 12.0s",
        ),
        (
            Error::ShutDown { bulkhead: who() },
            "bulkhead `db` is shut down",
        ),
        (
            Error::QueueTimeout {
                bulkhead: who(),
                queued_for: Duration::from_millis(2_003),
                limit: Duration::from_secs(2),
            },
            "bulkhead `db`: the call timed out in the queue after 2.0s, the limit is 2.0s; \
             the task never started",
        ),
        (
            cancelled(false),
            "bulkhead `db`: the call was cancelled in the queue; the task never started",
        ),
        (
            cancelled(true),
            "bulkhead `db`: the call was cancelled in the queue by a shutdown; the task never started",
        ),
        (
            timeout(true),
            "bulkhead `db`: the call timed out after 1.5s; the task may still be running",
        ),
        (
            timeout(false),
            "bulkhead `db`: the call timed out after 1.5s; the task never started",
        ),
        (
            Error::Failed(io::Error::other("the disk is full")),
            "the disk is full",
        ),
    ];
    for (error, text) in table {
        assert_eq!(error.to_string(), text);
        assert!(!error.to_string().ends_with('.'));
        let own = matches!(error, Error::Failed(_));
        assert_eq!(error.bulkhead_name(), (!own).then_some("db"));
        let is = [
            error.is_full(),
            error.is_circuit_open(),
            error.is_shut_down(),
        ];
        assert_eq!(is.contains(&true), error.is_rejected(), "{error}");
        assert_eq!(error.retry_after().is_some(), error.is_circuit_open());
    }
}

#[test]
fn reasons_of_refusal_say_the_same_as_the_errors_they_become() {
    let bulkhead: Arc<str> = "db".into();
    let reasons = [
        RejectReason::Full {
            bulkhead: Arc::clone(&bulkhead),
            max_concurrent_calls: 1,
            max_queue_size: 0,
            waited: None,
        },
        RejectReason::CircuitOpen {
            bulkhead: Arc::clone(&bulkhead),
            retry_after: Duration::from_millis(7),
        },
        RejectReason::ShutDown { bulkhead },
    ];
    for reason in reasons {
        assert_eq!(reason.bulkhead_name(), "db");
        let is = [
            reason.is_full(),
            reason.is_circuit_open(),
            reason.is_shut_down(),
        ];
        assert_eq!(is.iter().filter(|is| **is).count(), 1);
        let text = reason.to_string();
        let retry_after = reason.retry_after();
        let error = BulkheadError::<io::Error>::from(reason);
        assert_eq!(
            is,
            [
                error.is_full(),
                error.is_circuit_open(),
                error.is_shut_down()
            ]
        );
        assert_eq!(error.retry_after(), retry_after);
        assert_eq!(error.bulkhead_name(), Some("db"));
        assert_eq!(error.to_string(), text);
        assert!(error.is_rejected() && error.never_started() && !error.is_timeout());
    }
}

#[test]
fn a_tasks_own_error_is_the_source_of_nothing_but_itself() {
    let bulkhead = bulkhead(1, 1);
    let result = wait(bulkhead.execute(|| "x".parse::<u32>()));
    let error = result.into_result().unwrap_err();
    let own = "x".parse::<u32>().unwrap_err();
    assert_eq!(error.failed(), Some(&own));
    assert_eq!(error.to_string(), own.to_string(), "transparent");
    let boxed: Box<dyn Error + Send + Sync> = error.into();
    assert!(boxed.source().is_none());
}

#[test]
fn errors_can_be_widened_and_mapped() {
    let bulkhead = bulkhead(1, 1);
    let _ = bulkhead.shutdown();
    let refused = wait(bulkhead.run(|| ())).into_result().unwrap_err();
    let wide: BulkheadError<io::Error> = refused.widen();
    assert_eq!(wide.to_string(), "bulkhead `test` is shut down");
    let failed = BulkheadError::Failed(404_u16).map_failed(|code| format!("code {code}"));
    assert_eq!(failed.to_string().as_str(), "code 404");
}

/// Compiles only if errors can be sent, shared and boxed.
#[test]
fn errors_can_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<BulkheadError<io::Error>>();
    crosses::<RejectReason>();
    crosses::<BuildError>();
    crosses::<Bulkhead>();
    crosses::<bulkman::BulkheadStats>();
}

#[test]
fn a_tasks_error_goes_through_the_question_mark() {
    fn read(bulkhead: &Bulkhead) -> Result<String, Box<dyn Error + Send + Sync>> {
        let text = bulkhead
            .execute(|| std::fs::read_to_string("/no/such/file"))
            .wait()
            .into_result()?;
        Ok(text)
    }

    let bulkhead = bulkhead(1, 0);
    let error = read(&bulkhead).unwrap_err();
    let error = error.downcast::<BulkheadError<io::Error>>().unwrap();
    assert_eq!(error.failed().unwrap().kind(), io::ErrorKind::NotFound);

    let busy = occupy(&bulkhead, 1);
    let error = read(&bulkhead).unwrap_err();
    let error = error.downcast::<BulkheadError<io::Error>>().unwrap();
    assert!(error.is_rejected());
    busy.finish();
}

#[test]
fn every_error_type_goes_through_the_question_mark() {
    fn build_and_run() -> Result<i32, Box<dyn Error + Send + Sync>> {
        let bulkhead = Bulkhead::new(BulkheadConfig::new("question"))?;
        let handle = bulkhead.try_execute(|| "42".parse::<i32>())?;
        let parsed = handle.wait().into_result()?;
        let doubled = bulkhead.run(move || 2 * parsed).wait().into_result()?;
        Ok(doubled)
    }
    assert_eq!(build_and_run().unwrap(), 84);

    fn build() -> Result<Bulkhead, Box<dyn Error + Send + Sync>> {
        Ok(Bulkhead::new(BulkheadConfig::new(""))?)
    }
    assert!(build().unwrap_err().is::<BuildError>());
}

#[test]
fn a_time_to_retry_can_be_added_to_any_clock() {
    let second = Duration::from_secs(1);
    let century = 100 * 365 * 86_400 * second;
    let nano = Duration::from_nanos(1);
    for (inside, expected) in [
        (nano, Some(nano)),
        (second, Some(second)),
        (century, Some(century)),
        (century + nano, None),
        (Duration::MAX, None),
    ] {
        let reason = RejectReason::CircuitOpen {
            bulkhead: "db".into(),
            retry_after: inside,
        };
        assert_eq!(reason.retry_after(), expected);
        let error = BulkheadError::<io::Error>::from(reason);
        let retry_after = error.retry_after();
        assert_eq!(retry_after, expected);
        let now = (Instant::now(), SystemTime::now());
        let _at = retry_after.map(|wait| (now.0 + wait, now.1 + wait));
        let held_open = error.to_string().ends_with("held open until it is reset");
        assert_eq!(held_open, expected.is_none(), "{error}");
    }
}

#[test]
fn the_short_form_gives_only_the_outcome() {
    let bulkhead = bulkhead(1, 1);
    assert_eq!(bulkhead.run(|| 7).result().unwrap(), 7);
    assert_eq!(bulkhead.run(|| 7).cancel_on_drop().result().unwrap(), 7);
    let error = bulkhead.execute(|| "x".parse::<u32>()).result();
    assert!(error.unwrap_err().failed().is_some());
    let _ = bulkhead.shutdown();
    assert!(bulkhead.run(|| 7).result().unwrap_err().is_shut_down());
    let armed = bulkhead.run(|| 7).cancel_on_drop();
    assert!(armed.result().unwrap_err().is_shut_down());
}

/// An error of the task's own that has room for the bulkhead's.
#[derive(Debug, PartialEq)]
enum Own {
    Task(&'static str),
    Bulkhead(String),
}

impl From<BulkheadError<Infallible>> for Own {
    fn from(error: BulkheadError<Infallible>) -> Self {
        Self::Bulkhead(error.to_string())
    }
}

#[test]
fn all_errors_become_one_of_the_tasks_own_type() {
    let bulkhead = bulkhead(1, 0);
    let flat = |task: Result<u8, Own>| wait(bulkhead.execute(move || task)).flatten();
    assert_eq!(flat(Ok(7)), Ok(7));
    assert_eq!(flat(Err(Own::Task("mine"))), Err(Own::Task("mine")));
    let panics = || -> Result<u8, Own> { panic!("no luck") };
    let text = "bulkhead `test`: the task panicked".to_owned();
    assert_eq!(
        wait(bulkhead.execute(panics)).flatten(),
        Err(Own::Bulkhead(text))
    );
    let _ = bulkhead.shutdown();
    let text = "bulkhead `test` is shut down".to_owned();
    assert_eq!(flat(Ok(7)), Err(Own::Bulkhead(text)));
}

#[test]
fn the_tasks_own_error_and_the_other_reasons_can_be_told_apart_by_type() {
    let failed = BulkheadError::Failed(404_u16);
    assert_eq!(failed.into_failed().unwrap(), 404);
    let shut_down = BulkheadError::<u16>::ShutDown {
        bulkhead: "db".into(),
    };
    assert!(shut_down.into_failed().unwrap_err().is_shut_down());
}

#[test]
fn with_anyhow_a_tasks_error_keeps_what_it_can_be_downcast_to() {
    let bulkhead = bulkhead(1, 1);
    let flat = || -> anyhow::Result<u32> {
        let handle = bulkhead.execute(|| -> anyhow::Result<u32> { Ok("x".parse::<u32>()?) });
        wait(handle).flatten()
    };
    assert!(flat().unwrap_err().is::<std::num::ParseIntError>());
    let _ = bulkhead.shutdown();
    let refused = flat().unwrap_err();
    let reason: &BulkheadError<Infallible> = refused.downcast_ref().unwrap();
    assert!(reason.is_shut_down());
}

#[test]
fn a_rejection_goes_through_the_question_mark_into_an_error_of_the_bulkhead() {
    fn submit(bulkhead: &Bulkhead) -> Result<u32, BulkheadError<std::num::ParseIntError>> {
        bulkhead.try_execute(|| "7".parse())?.result()
    }
    let bulkhead = bulkhead(1, 0);
    assert_eq!(submit(&bulkhead).unwrap(), 7);
    let busy = occupy(&bulkhead, 1);
    assert!(submit(&bulkhead).unwrap_err().is_full());
    busy.finish();
}

#[test]
fn a_rejection_of_any_closure_is_an_error() {
    fn is_error<X: Error + Debug + Display>(error: &X) -> String {
        error.to_string()
    }

    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let unprintable = Cell::new(1);
    let rejected = match bulkhead.try_execute(move || Ok::<_, Infallible>(unprintable)) {
        Err(rejected) => rejected,
        Ok(_) => panic!("it was full"),
    };
    let text = is_error(&rejected);
    assert!(text.contains("test") && text.contains("full"), "{text}");
    assert!(format!("{rejected:?}").contains("Rejected"));
    assert!(rejected.reason.is_full());
    busy.finish();
}

#[test]
fn a_rejection_goes_through_the_question_mark_with_its_closure() {
    fn submit(bulkhead: &Bulkhead) -> Result<i32, Box<dyn Error + Send + Sync>> {
        let handle = bulkhead.try_execute(|| Ok::<_, Infallible>(7))?;
        Ok(wait(handle).into_result()?)
    }
    let bulkhead = bulkhead(1, 0);
    assert_eq!(submit(&bulkhead).unwrap(), 7);
    let busy = occupy(&bulkhead, 1);
    assert!(submit(&bulkhead).unwrap_err().to_string().contains("full"));
    busy.finish();
}

#[test]
fn a_rejected_closure_comes_back_and_can_be_submitted_again() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let token = Arc::new(());
    let inside = Arc::clone(&token);
    let task = move || Ok::<_, Infallible>(Arc::strong_count(&inside));
    let rejected = match bulkhead.try_execute(task) {
        Err(rejected) => rejected,
        Ok(_) => panic!("it was full"),
    };
    assert_eq!(Arc::strong_count(&token), 2, "it is untouched");
    busy.finish();
    let handle = match bulkhead.try_execute(rejected.task) {
        Ok(handle) => handle,
        Err(again) => panic!("{again}"),
    };
    assert_eq!(wait(handle).value(), Some(&2));
}

#[test]
fn an_error_can_be_converted() {
    let bulkhead = bulkhead(1, 1);
    let result = wait(bulkhead.execute(|| Err::<(), _>("7")));
    let error = result.into_result().unwrap_err();
    let error: BulkheadError<i32> = error.map_failed(|text| text.parse().unwrap());
    assert_eq!(error.failed(), Some(&7));

    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    assert!(queued.cancel());
    let error: BulkheadError<io::Error> = wait(queued).into_result().unwrap_err().widen();
    assert!(matches!(error, BulkheadError::Cancelled { .. }));
    busy.finish();
}

#[test]
fn a_panics_payload_comes_out_whole() {
    #[derive(Debug, PartialEq)]
    struct Payload(i32);
    let bulkhead = bulkhead(1, 1);
    let task = || std::panic::resume_unwind(Box::new(Payload(7)));
    match wait(bulkhead.run::<(), _>(task)).into_result() {
        Err(BulkheadError::Panicked(panic)) => {
            let payload = panic.into_payload().downcast::<Payload>().unwrap();
            assert_eq!(*payload, Payload(7));
        }
        other => panic!("{other:?}"),
    }
}
