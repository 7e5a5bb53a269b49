//! Wrapped functions: every call of the function goes through the bulkhead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self};

use bulkman::{BulkheadError, CircuitBreakerConfig};

use crate::support::{SECOND, bulkhead, config, occupy, wait, with_clock};

#[test]
fn a_wrapped_function_takes_a_tuple_and_gives_each_callers_result() {
    let bulkhead = bulkhead(2, 8);
    let divide = bulkhead.wrap(|(a, b): (i32, i32)| a.checked_div(b).ok_or("division by zero"));
    assert_eq!(divide((42, 6)).value(), Some(&7));
    assert!(matches!(
        divide((1, 0)).error(),
        Some(BulkheadError::Failed("division by zero"))
    ));
    assert_eq!(bulkhead.stats().submitted_executions, 2);
}

#[test]
fn a_wrapped_function_is_shared_by_many_threads() {
    let bulkhead = bulkhead(2, 8);
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let square = bulkhead.wrap(move |n: usize| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, ()>(n * n)
    });
    thread::scope(|scope| {
        for t in 0..4 {
            let own = square.clone();
            let shared = &square;
            scope.spawn(move || {
                for n in 0..100 {
                    let n = n + t;
                    assert_eq!(own(n).value(), Some(&(n * n)));
                    assert_eq!(shared(n).value(), Some(&(n * n)));
                }
            });
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), 800);
}

#[test]
fn a_wrapped_function_that_panics_can_be_called_again() {
    let bulkhead = bulkhead(1, 1);
    let picky = bulkhead.wrap(|n: u32| {
        assert!(n < 10, "too much");
        Ok::<_, ()>(n)
    });
    assert!(matches!(
        picky(10).error(),
        Some(BulkheadError::Panicked(_))
    ));
    assert_eq!(picky(9).value(), Some(&9));
}

#[test]
fn a_wrapped_function_outlives_its_bulkhead_and_says_so() {
    let bulkhead = bulkhead(1, 1);
    let wrapped = bulkhead.wrap(|()| Ok::<_, ()>(1));
    drop(bulkhead);
    assert!(matches!(
        wrapped(()).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn a_wrapped_function_keeps_the_settings_of_its_call() {
    let circuit = CircuitBreakerConfig::default().failure_threshold(1);
    let (bulkhead, clock) = with_clock(config(1, 1).circuit_breaker(circuit));
    let operation = || bulkman::current().unwrap().operation().map(str::to_owned);
    let wrapped = bulkhead
        .call()
        .operation(format!("get_{}", "user"))
        .timeout(SECOND)
        .failure_if(|error: &u16| *error >= 500)
        .wrap(move |error: u16| {
            let limit = bulkman::current().unwrap().remaining();
            if error == 0 {
                Ok((operation(), limit))
            } else {
                Err(error)
            }
        });
    drop(clock);
    let same = wrapped.clone();
    for function in [&wrapped, &same] {
        let (name, limit) = function(0).into_result().unwrap();
        assert_eq!(name.as_deref(), Some("get_user"));
        assert_eq!(limit, Some(SECOND));
        assert!(function(404).error().is_some());
        assert!(bulkhead.is_healthy(), "not an error that counts");
    }
    assert!(wrapped(503).error().is_some());
    assert!(!bulkhead.is_healthy());
}

#[test]
fn a_wrapped_function_that_is_refused_drops_its_arguments_and_says_so() {
    let bulkhead = bulkhead(1, 0);
    let wrapped = bulkhead.wrap(|argument: Arc<()>| Ok::<_, ()>(Arc::strong_count(&argument)));
    let busy = occupy(&bulkhead, 1);
    let argument = Arc::new(());
    let refused = wrapped(Arc::clone(&argument));
    assert!(refused.error().unwrap().is_full());
    assert_eq!(Arc::strong_count(&argument), 1);
    busy.finish();
}

#[test]
fn the_settings_of_a_call_can_be_used_again() {
    let bulkhead = bulkhead(1, 4);
    let operation = || bulkman::current().unwrap().operation().map(str::to_owned);
    let preset = bulkhead.call().operation("again");
    for call in [preset.clone(), preset] {
        let name = wait(call.run(operation)).into_result().unwrap();
        assert_eq!(name.as_deref(), Some("again"));
    }
}
