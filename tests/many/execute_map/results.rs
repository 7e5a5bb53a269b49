//! One result for each item, in order or as the calls end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::BulkheadError;

use crate::support::{Gate, OpenOnDrop, assert_balanced, bulkhead, eventually, in_time};

#[test]
fn in_the_order_of_the_items() {
    in_time(|| {
        let bulkhead = bulkhead(3, 10);
        let results = bulkhead.run_map(0..1_000, |n: u32| {
            if n % 7 == 0 {
                std::thread::yield_now();
            }
            n * 2
        });
        let values: Vec<_> = results
            .map(|result| result.into_result().unwrap())
            .collect();
        assert_eq!(values, (0..1_000).map(|n| n * 2).collect::<Vec<_>>());
        assert_balanced(&bulkhead.stats());
        assert_eq!(bulkhead.stats().submitted_executions, 1_000);
    });
}

#[test]
fn as_the_calls_end() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let mut results = bulkhead
            .run_map(0..10, move |n| {
                if n == 0 {
                    gate.pass();
                }
                n
            })
            .as_completed();
        // The first item holds up none of the others.
        let mut values: Vec<_> = (&mut results)
            .take(9)
            .map(|result| result.into_result().unwrap())
            .collect();
        values.sort_unstable();
        assert_eq!(values, (1..10).collect::<Vec<_>>());
        drop(opener);
        assert_eq!(results.next().unwrap().into_result().unwrap(), 0);
        assert!(results.next().is_none());
    });
}

#[test]
fn as_they_end_after_some_in_order() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let mut results = bulkhead.run_map(0..8, move |n| {
            if n == 1 {
                gate.pass();
            }
            n
        });
        assert_eq!(results.next().unwrap().value(), Some(&0));
        let mut results = results.as_completed();
        let mut values: Vec<_> = (&mut results)
            .take(6)
            .map(|result| result.into_result().unwrap())
            .collect();
        values.sort_unstable();
        assert_eq!(values, [2, 3, 4, 5, 6, 7]);
        drop(opener);
        assert_eq!(results.next().unwrap().value(), Some(&1));
        assert!(results.next().is_none());
    });
}

#[test]
fn a_slow_first_item_does_not_keep_the_workers_idle() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(2, 10));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let watched = Arc::clone(&bulkhead);
        // The second result is there before the third item is, so that not all eight are submitted at once.
        let items = (0..20).inspect(move |n| {
            if *n == 2 {
                eventually("the second has ended", || {
                    watched.stats().successful_executions == 1
                });
            }
        });
        let mut results = bulkhead
            .run_map(items, move |n| {
                if n == 0 {
                    gate.pass();
                }
                counter.fetch_add(1, Ordering::SeqCst);
                n
            })
            .in_flight(8);
        let opening = std::thread::spawn(move || {
            // All others that may be out come to their ends while the first one runs.
            eventually("seven have run", || ran.load(Ordering::SeqCst) == 7);
            drop(opener);
        });
        assert_eq!(results.next().unwrap().value(), Some(&0));
        opening.join().unwrap();
        assert_eq!(results.count(), 19);
    });
}

#[test]
fn errors_and_panics_are_results_of_their_items() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let results: Vec<_> = bulkhead
            .execute_map(["1", "x", "panic", "4"], |text: &str| {
                assert_ne!(text, "panic");
                text.parse::<i32>()
            })
            .collect();
        assert_eq!(results.len(), 4);
        assert_eq!(results[0].value(), Some(&1));
        assert!(matches!(results[1].error(), Some(BulkheadError::Failed(_))));
        assert!(matches!(
            results[2].error(),
            Some(BulkheadError::Panicked(_))
        ));
        assert_eq!(results[3].value(), Some(&4));
    });
}

#[test]
fn it_stops_at_the_first_error_with_a_question_mark() {
    in_time(|| {
        let bulkhead = bulkhead(1, 10);
        let sum = || -> Result<i32, BulkheadError<std::num::ParseIntError>> {
            let mut sum = 0;
            for result in bulkhead.execute_map(["1", "x", "2"], str::parse::<i32>) {
                sum += result.into_result()?;
            }
            Ok(sum)
        };
        assert!(matches!(sum(), Err(BulkheadError::Failed(_))));
    });
}

#[test]
fn an_empty_input() {
    let bulkhead = bulkhead(1, 0);
    let mut results = bulkhead.run_map(Vec::<u8>::new(), |n| n);
    assert!(results.next().is_none());
    assert!(results.next().is_none());
}

#[test]
fn the_settings_of_the_call_hold_for_each_item() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let operations: Vec<_> = bulkhead
            .call()
            .operation("square")
            .timeout(Duration::from_secs(3600))
            .failure_if(|_: &()| false)
            .execute_map(0..4, |_| {
                let call = bulkman::current().unwrap();
                Ok((
                    call.operation().map(String::from),
                    call.deadline().is_some(),
                ))
            })
            .map(|result| result.into_result().unwrap())
            .collect();
        assert_eq!(operations, vec![(Some("square".into()), true); 4]);
    });
}

#[test]
fn it_says_how_many_results_are_left() {
    in_time(|| {
        let bulkhead = bulkhead(1, 10);
        let mut results = bulkhead.run_map(0..5, |n| n);
        assert_eq!(results.size_hint(), (5, Some(5)));
        assert!(results.next().is_some());
        assert_eq!(results.size_hint(), (4, Some(4)));
        assert_eq!(results.count(), 4);
    });
}
