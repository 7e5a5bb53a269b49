//! Errors: their texts, their predicates and their conversions.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::io;
use std::sync::Arc;
use std::time::Duration;

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
            "bulkhead `db` had no free place to run in time: queued for 2.0s, the limit is 2.0s",
        ),
        (cancelled(false), "bulkhead `db` cancelled the queued task"),
        (
            cancelled(true),
            "bulkhead `db` cancelled the queued task because it was shut down",
        ),
        (
            timeout(true),
            "bulkhead `db` gave no result within 1.5s; the task may still be running",
        ),
        (
            timeout(false),
            "bulkhead `db` gave no result within 1.5s; the task never started",
        ),
        (
            Error::Failed(io::Error::other("the disk is full")),
            "the disk is full",
        ),
    ];
    for (error, text) in table {
        assert_eq!(error.to_string(), text);
        assert!(!error.to_string().ends_with('.'));
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
        let error = BulkheadError::<io::Error>::from(reason);
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
