//! Ownership: types that may cross threads, values that a call takes and returns, and nothing that it leaves behind.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt::Debug;
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

use crate::support::{Gate, OpenOnDrop, bulkhead, wait};

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
