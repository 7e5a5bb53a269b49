//! Items that find no place: a full bulkhead, an open circuit, a shutdown.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, BulkheadListener};

use crate::support::{HOUR, assert_balanced, bulkhead, config, in_time, occupy, rules};

#[test]
fn a_shutdown_in_the_middle_gives_each_item_a_result() {
    in_time(|| {
        let bulkhead = bulkhead(1, 10);
        let mut results = bulkhead.run_map(0..20, |n| n).in_flight(4);
        assert!(results.next().unwrap().is_success());
        bulkhead.shutdown();
        let rest: Vec<_> = results.collect();
        assert_eq!(rest.len(), 19);
        let ran = rest.iter().take_while(|result| result.is_success()).count();
        assert!(ran <= 4);
        assert!(
            rest[ran..]
                .iter()
                .all(|result| { matches!(result.error(), Some(BulkheadError::ShutDown { .. })) })
        );
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn a_shutdown_ends_the_wait_for_a_place() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let busy = occupy(&bulkhead, 1);
        let other = Arc::clone(&bulkhead);
        let waiting = thread::spawn(move || other.run_map(0..3, |n| n).collect::<Vec<_>>());
        bulkhead.shutdown_now();
        let results = waiting.join().unwrap();
        assert_eq!(results.len(), 3);
        assert!(
            results
                .iter()
                .all(|result| { matches!(result.error(), Some(BulkheadError::ShutDown { .. })) })
        );
        busy.finish();
    });
}

#[test]
fn it_may_outlive_the_bulkhead() {
    let bulkhead = bulkhead(1, 1);
    let results = bulkhead.run_map(0..3, |n| n);
    drop(bulkhead);
    let refused = |result: bulkman::ExecutionResult<_, _>| {
        matches!(result.error(), Some(BulkheadError::ShutDown { .. }))
    };
    assert_eq!(results.map(refused).collect::<Vec<_>>(), [true; 3]);
}

#[test]
fn an_open_circuit_gives_each_item_a_result() {
    in_time(|| {
        let config = config(1, 10).circuit_breaker(rules(1, 1, HOUR));
        let bulkhead = Bulkhead::new(config).unwrap();
        let results: Vec<_> = bulkhead
            .execute_map(0..10, |n| if n == 2 { Err("down") } else { Ok(n) })
            .in_flight(1)
            .collect();
        assert_eq!(results.len(), 10);
        assert!(
            results[..2]
                .iter()
                .all(bulkman::ExecutionResult::is_success)
        );
        assert!(matches!(
            results[2].error(),
            Some(BulkheadError::Failed("down"))
        ));
        assert!(
            results[3..].iter().all(|result| {
                matches!(result.error(), Some(BulkheadError::CircuitOpen { .. }))
            })
        );
        assert_eq!(bulkhead.stats().rejected_circuit_open, 7);
    });
}

#[test]
fn an_item_waits_as_long_as_it_is_told() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let busy = occupy(&bulkhead, 1);
        let results: Vec<_> = bulkhead
            .call()
            .wait_for_capacity(Duration::from_millis(1))
            .run_map(0..2, |n| n)
            .collect();
        assert_eq!(results.len(), 2);
        assert!(
            results
                .iter()
                .all(|result| { matches!(result.error(), Some(BulkheadError::Full { .. })) })
        );
        busy.finish();
    });
}

#[test]
fn listeners_hear_of_refused_items() {
    struct Counts(std::sync::mpsc::Sender<()>);
    impl BulkheadListener for Counts {
        fn on_event(&self, event: &BulkheadEvent<'_>) {
            if let BulkheadEvent::Rejected { .. } = event {
                let _ = self.0.send(());
            }
        }
    }
    in_time(|| {
        let (sender, refused) = std::sync::mpsc::channel();
        let bulkhead = Bulkhead::builder(config(1, 1))
            .listener(Counts(sender))
            .build()
            .unwrap();
        bulkhead.shutdown();
        assert_eq!(bulkhead.run_map(0..3, |n| n).count(), 3);
        drop(bulkhead);
        assert_eq!(refused.iter().count(), 3);
    });
}
