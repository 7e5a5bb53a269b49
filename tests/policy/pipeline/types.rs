//! The types of pipelines: what they can hold, borrow and be held by.

use std::cell::Cell;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::Arc;

use bulkman::policy::{
    AnyValue, FailureKind, Fallback, Only, Pipeline, PipelineError, Retry, RetryIf,
};
use bulkman::{Bulkhead, BulkheadConfig, ManualClock, SemaphoreBulkhead, SemaphoreKind};

use super::helpers::{pipeline, retry, semaphore};

struct Users {
    any: Pipeline<io::Error>,
    names: Pipeline<io::Error, Only<String>>,
    here: Pipeline<io::Error, AnyValue, SemaphoreKind>,
}

impl Users {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let threads = Arc::new(Bulkhead::new(BulkheadConfig::new("users"))?);
        let here = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("users"))?);
        let retry: Retry<RetryIf<io::Error>> =
            Retry::new(3).retry_if(|error: &io::Error| error.kind() != io::ErrorKind::NotFound);
        Ok(Self {
            any: Pipeline::builder("users")
                .retry(retry.clone())
                .bulkhead(&threads)
                .build()?,
            names: Pipeline::builder("names")
                .fallback(Fallback::value(String::from("nobody")).only_for(FailureKind::REFUSED))
                .retry(retry)
                .bulkhead(&threads)
                .build()?,
            here: Pipeline::builder("here").bulkhead(&here).build()?,
        })
    }
}

#[test]
fn a_struct_holds_pipelines_of_each_kind() {
    let users = Users::new().unwrap();
    assert_eq!(users.any.execute(|| Ok(1)).value(), Some(&1));
    assert_eq!(users.any.execute(|| Ok("one")).value(), Some(&"one"));
    let name = users.names.execute(|| Ok(String::from("Ada")));
    assert_eq!(name.into_result().unwrap(), "Ada");
    let text = String::from("borrowed");
    assert_eq!(users.here.execute(|| Ok(text.len())).value(), Some(&8));
}

#[test]
fn closures_borrow_where_all_layers_run_in_the_callers_thread() {
    let clock = ManualClock::new();
    let bulkhead = semaphore(BulkheadConfig::new("users"), &clock);
    let builder = || pipeline(&clock).retry(retry(3, &clock));
    for pipeline in [
        builder().build().unwrap(),
        builder().bulkhead(&bulkhead).build().unwrap(),
    ] {
        let mut calls = 0;
        let shared = Rc::new(Cell::new(0));
        let result = pipeline.execute(|| {
            calls += 1;
            shared.set(shared.get() + 10);
            if calls < 3 {
                Err("down")
            } else {
                Ok(Rc::clone(&shared))
            }
        });
        assert!(Rc::ptr_eq(result.value().unwrap(), &shared));
        assert_eq!((calls, shared.get()), (3, 30));
    }
}

#[test]
fn they_are_send_sync_and_clone() {
    fn is<P: Send + Sync + Clone + UnwindSafe + RefUnwindSafe + 'static>() {}
    is::<Retry>();
    is::<Retry<RetryIf<io::Error>>>();
    is::<Pipeline<io::Error>>();
    is::<Pipeline<io::Error, Only<String>>>();
    is::<Pipeline<io::Error, Only<Cell<u32>>, SemaphoreKind>>();
}

#[test]
fn a_predicate_over_the_whole_error_decides_about_everything() {
    let clock = ManualClock::new();
    let retry =
        retry(3, &clock).retry_if(|error: &PipelineError<&'static str>| error.failed().is_none());
    let pipeline = pipeline(&clock).retry(retry).build().unwrap();
    assert_eq!(pipeline.execute(|| Err::<(), _>("down")).attempts, 1);
    let panicked = pipeline.execute(|| -> Result<(), _> { panic!("asked for") });
    assert_eq!(panicked.attempts, 3);
}
