//! What may cross threads, what may be moved in and out, and what converts into what.

mod support;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use bulkman::{
    BuildError, Bulkhead, BulkheadBuilder, BulkheadConfig, BulkheadError, BulkheadState,
    BulkheadStats, CancelOnDrop, CapturedContext, CircuitBreaker, CircuitBreakerConfig,
    CircuitChange, CircuitOpen, CircuitState, Clock, CurrentExecution, Distribution,
    ExecutionHandle, ExecutionResult, ManualClock, Panic, RejectReason, Rejected, RunningTask,
    ShutdownReport,
};
use support::{Gate, OpenOnDrop, bulkhead, occupy, wait};

fn is_send<T: Send>() {}
fn is_send_and_sync<T: Send + Sync>() {}
fn is_static<T: 'static>() {}
fn is_unpin<T: Unpin>() {}
fn is_debug<T: Debug>() {}
fn is_data<T: Clone + PartialEq + Debug + Send + Sync>() {}

/// Only `Send`.
type NotSync = Cell<i32>;

#[test]
fn what_is_shared_between_threads() {
    is_send_and_sync::<Bulkhead>();
    is_send_and_sync::<Arc<Bulkhead>>();
    is_send_and_sync::<BulkheadBuilder>();
    is_send_and_sync::<BulkheadStats>();
    is_send_and_sync::<Distribution>();
    is_send_and_sync::<ShutdownReport>();
    is_send_and_sync::<CircuitBreaker>();
    is_send_and_sync::<bulkman::CircuitStats>();
    is_send_and_sync::<bulkman::Verdict>();
    is_send_and_sync::<bulkman::CircuitMode>();
    is_send_and_sync::<CircuitChange>();
    is_send_and_sync::<CurrentExecution>();
    is_send_and_sync::<Clock>();
    is_send_and_sync::<ManualClock>();
    is_send_and_sync::<BuildError>();
    is_send_and_sync::<Panic>();
    is_send_and_sync::<CircuitOpen>();
    is_send_and_sync::<BulkheadError<Infallible>>();
    is_send_and_sync::<BulkheadError<io::Error>>();
    is_send_and_sync::<ExecutionResult<String, io::Error>>();
    is_send_and_sync::<ExecutionHandle<String, io::Error>>();
    is_send_and_sync::<CancelOnDrop<String, io::Error>>();
    is_send_and_sync::<Rejected<fn() -> Result<(), io::Error>>>();
    is_send::<CapturedContext>();
}

#[test]
fn what_moves_between_threads_although_it_cannot_be_shared() {
    is_send::<BulkheadError<NotSync>>();
    is_send::<ExecutionResult<NotSync, NotSync>>();
    is_send::<ExecutionHandle<NotSync, NotSync>>();
    is_send::<CancelOnDrop<NotSync, NotSync>>();
    is_send::<Rejected<NotSync>>();
}

#[test]
fn data_can_be_cloned_and_compared() {
    is_data::<BulkheadConfig>();
    is_data::<CircuitBreakerConfig>();
    is_data::<RejectReason>();
    is_data::<BulkheadState>();
    is_data::<CircuitState>();
    is_data::<RunningTask>();
}

#[test]
fn everything_can_be_printed_whatever_is_in_it() {
    struct Opaque;
    is_debug::<Bulkhead>();
    is_debug::<BulkheadBuilder>();
    is_debug::<BulkheadStats>();
    is_debug::<CircuitBreaker>();
    is_debug::<ExecutionHandle<Opaque, Opaque>>();
    is_debug::<CancelOnDrop<Opaque, Opaque>>();
    is_debug::<Rejected<Opaque>>();
    is_debug::<CapturedContext>();
    is_debug::<CurrentExecution>();
    is_debug::<Clock>();

    let bulkhead = bulkhead(1, 1);
    assert!(format!("{bulkhead:?}").contains("test"));
    assert!(format!("{:?}", bulkhead.call().operation("ping")).contains("ping"));
}

#[cfg(target_pointer_width = "64")]
#[test]
fn what_is_passed_around_is_small_whatever_the_value() {
    type Large = [u64; 100];
    assert_eq!(size_of::<Bulkhead>(), 8);
    assert!(size_of::<CurrentExecution>() <= 16);
    assert!(size_of::<RejectReason>() <= 48);
    assert_eq!(size_of::<Rejected<()>>(), size_of::<RejectReason>());
    assert!(size_of::<BulkheadError<()>>() <= 64);
    let handle = size_of::<ExecutionHandle<Large, Large>>();
    assert!(handle <= 64);
    assert_eq!(size_of::<CancelOnDrop<Large, Large>>(), handle);
    assert_eq!(size_of::<Option<CancelOnDrop<Large, Large>>>(), handle);
}

#[test]
fn a_handle_is_a_future_that_borrows_nothing() {
    fn is_future<F: Future + Unpin + Send + 'static>(future: F) -> F {
        future
    }
    is_static::<ExecutionHandle<String, io::Error>>();
    is_unpin::<ExecutionHandle<std::marker::PhantomPinned, Infallible>>();
    let bulkhead = bulkhead(1, 1);
    let handle = is_future(bulkhead.run(|| 7));
    let guard = is_future(bulkhead.run(|| 8).cancel_on_drop());
    drop(bulkhead);
    assert_eq!(wait(handle).value(), Some(&7));
    assert_eq!(guard.wait().value(), Some(&8));
}

#[test]
fn one_bulkhead_serves_many_threads() {
    let shared = Arc::new(bulkhead(2, 8));
    let callers: Vec<_> = (0..4)
        .map(|i| {
            let bulkhead = Arc::clone(&shared);
            thread::spawn(move || wait(bulkhead.run(move || i)).into_result().unwrap())
        })
        .collect();
    for (i, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.join().unwrap(), i);
    }
    // Borrowed just as well.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(wait(shared.run(|| ())).is_success()));
        }
    });
}

#[test]
fn a_closure_may_be_send_without_being_sync() {
    let bulkhead = bulkhead(1, 3);
    let cell = Cell::new(1);
    let execute = bulkhead.execute(move || Ok::<_, Infallible>(cell.get()));
    let (sender, receiver) = mpsc::channel();
    sender.send(2).unwrap();
    let run = bulkhead.run(move || receiver.recv().unwrap());
    let state = RefCell::new(vec![1, 2]);
    let accepted = bulkhead.try_execute(move || {
        state.borrow_mut().push(3);
        Ok::<_, Infallible>(state.into_inner())
    });
    assert_eq!(wait(execute).value(), Some(&1));
    assert_eq!(wait(run).value(), Some(&2));
    assert_eq!(wait(accepted.unwrap()).value(), Some(&vec![1, 2, 3]));
}

#[test]
fn a_closure_may_use_up_what_it_owns() {
    let bulkhead = bulkhead(1, 3);
    let text = String::from("owned");
    assert_eq!(wait(bulkhead.run(move || text)).value().unwrap(), "owned");
    let boxed: Box<dyn FnOnce() -> Result<i32, io::Error> + Send> = Box::new(|| Ok(7));
    assert_eq!(wait(bulkhead.execute(boxed)).value(), Some(&7));
    fn plain() -> Result<i32, Infallible> {
        Ok(8)
    }
    assert_eq!(wait(bulkhead.execute(plain)).value(), Some(&8));
}

#[test]
fn values_and_errors_may_be_send_without_being_sync() {
    let bulkhead = bulkhead(1, 1);
    let value = bulkhead.execute(|| Ok::<NotSync, NotSync>(Cell::new(1)));
    assert_eq!(value.wait().into_result().unwrap().get(), 1);
    let error = bulkhead.execute(|| Err::<NotSync, NotSync>(Cell::new(2)));
    match error.wait().into_result() {
        Err(BulkheadError::Failed(cell)) => assert_eq!(cell.get(), 2),
        other => panic!("{other:?}"),
    }
    // The waiter may be somebody else.
    let handle = bulkhead.run(|| Cell::new(3));
    let elsewhere = thread::spawn(move || pollster::block_on(handle));
    let value = elsewhere.join().unwrap().into_result().unwrap();
    assert_eq!(value.get(), 3);
}

#[test]
fn values_and_errors_need_no_traits() {
    struct Plain(i32);
    struct PlainError;
    let bulkhead = bulkhead(1, 1);
    let result = wait(bulkhead.execute(|| Ok::<_, PlainError>(Plain(7))));
    assert!(matches!(result.value(), Some(Plain(7))));
    let result = wait(bulkhead.execute(|| Err::<Plain, _>(PlainError)));
    let error = result.into_result().err().unwrap();
    assert!(error.failed().is_some());
    assert!(!error.never_started() && !error.is_rejected() && !error.is_timeout());
}

#[test]
fn large_values_arrive_whole() {
    let bulkhead = bulkhead(1, 1);
    let input = [7_u8; 10_000];
    let output = wait(bulkhead.run(move || input)).into_result().unwrap();
    assert_eq!(output, [7_u8; 10_000]);
}

#[test]
fn nothing_of_a_call_is_left_behind() {
    let bulkhead = bulkhead(1, 1);
    let token = Arc::new(());
    let inside = Arc::clone(&token);
    let result = wait(bulkhead.run(move || inside));
    assert_eq!(
        Arc::strong_count(&token),
        2,
        "in the result, and nowhere else"
    );
    drop(result);
    assert_eq!(Arc::strong_count(&token), 1);
}

// ---- errors

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

// ---- the bulkhead itself

#[test]
fn a_task_may_hold_the_last_reference_to_its_bulkhead() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let own = Arc::clone(&bulkhead);
    let handle = bulkhead.run({
        let gate = gate.clone();
        move || {
            gate.pass();
            // The last one: the worker must not wait for itself.
            drop(own);
            "done"
        }
    });
    gate.wait_for_arrivals(1);
    drop(bulkhead);
    gate.open();
    assert_eq!(wait(handle).value(), Some(&"done"));
}

#[test]
fn a_wrapped_function_can_be_cloned_sent_and_kept() {
    let bulkhead = bulkhead(1, 4);
    let double = bulkhead.wrap(|x: i32| Ok::<_, Infallible>(2 * x));
    let other = double.clone();
    let elsewhere = thread::spawn(move || other(4).into_result().unwrap());
    assert_eq!(elsewhere.join().unwrap(), 8);
    assert_eq!(double(5).into_result().unwrap(), 10);
    drop(bulkhead);
    assert!(matches!(
        double(6).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}
