//! Dropping a bulkhead shuts it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::{Bulkhead, ShutdownReport};

use super::helpers::{eventually_no_threads_of, named};
use crate::support::{bulkhead, in_time, occupy, wait};

#[test]
fn dropping_it_runs_what_is_queued_and_joins() {
    let bulkhead = Bulkhead::new(named("drop", 2, 20)).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let busy = occupy(&bulkhead, 2);
    for _ in 0..20 {
        let ran = Arc::clone(&ran);
        drop(bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed)));
    }
    busy.gate.open();
    drop(bulkhead);
    assert_eq!(ran.load(Ordering::Relaxed), 20);
    eventually_no_threads_of("drop");
}

#[test]
fn dropping_it_after_a_shutdown_that_gave_up_waiting_does_not_wait_either() {
    in_time(|| {
        let ends: [fn(&Bulkhead) -> ShutdownReport; 2] = [Bulkhead::shutdown_now, |bulkhead| {
            bulkhead.shutdown_timeout(Duration::ZERO)
        }];
        for end in ends {
            let bulkhead = Bulkhead::new(named("gave", 1, 1)).unwrap();
            let busy = occupy(&bulkhead, 1);
            let _ = end(&bulkhead);
            drop(bulkhead);
            busy.finish();
            eventually_no_threads_of("gave");
        }
    });
}

#[test]
fn handles_outlive_their_bulkhead() {
    let bulkhead = bulkhead(1, 5);
    let busy = occupy(&bulkhead, 1);
    let first = bulkhead.run(|| "ran");
    let second = bulkhead.run(|| "never");
    assert!(second.cancel());
    busy.gate.open();
    drop(bulkhead);
    assert!(first.is_finished() && second.is_finished());
    assert!(!first.cancel());
    assert_eq!(wait(first).value(), Some(&"ran"));
    assert!(wait(second).error().unwrap().never_started());
}
