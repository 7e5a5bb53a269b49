//! Wrapped functions: every call of the function goes through the bulkhead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self};

use bulkman::BulkheadError;

use crate::support::bulkhead;

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
