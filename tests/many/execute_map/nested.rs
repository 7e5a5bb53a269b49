//! On a worker of the same bulkhead it never waits for a place that may be its own.

use bulkman::BulkheadError;

use crate::helpers::on_a_worker;

#[test]
fn the_only_worker_runs_the_calls_itself() {
    let values = on_a_worker(1, 3, |bulkhead| {
        let results = bulkhead.run_map(0..20, |n| n);
        results
            .map(|result| result.into_result().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(values, (0..20).collect::<Vec<_>>());
}

#[test]
fn as_completed_too() {
    let values = on_a_worker(1, 2, |bulkhead| {
        let results = bulkhead.run_map(0..20, |n| n).in_flight(10).as_completed();
        results
            .map(|result| result.into_result().unwrap())
            .sum::<i32>()
    });
    assert_eq!(values, 190);
}

#[test]
fn without_a_place_each_item_is_refused() {
    let refused = on_a_worker(1, 0, |bulkhead| {
        let is_full = |error: &BulkheadError<_>| matches!(error, BulkheadError::Full { .. });
        bulkhead
            .run_map(0..5, |n| n)
            .filter(|result| result.error().is_some_and(is_full))
            .count()
    });
    assert_eq!(refused, 5);
}

#[test]
fn in_calls_of_its_own() {
    let sum = on_a_worker(2, 20, |bulkhead| {
        let inner = std::sync::Arc::clone(bulkhead);
        bulkhead
            .run_map(0..5, move |n| {
                let results = inner.run_map(0..n, |m| m).in_flight(2);
                results
                    .map(|result| result.into_result().unwrap())
                    .sum::<i32>()
            })
            .map(|result| result.into_result().unwrap())
            .sum::<i32>()
    });
    assert_eq!(sum, 1 + 3 + 6);
}
