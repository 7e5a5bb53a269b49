//! Shutdowns that race calls, workers and callers that wait for a place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, ExecutionHandle, ShutdownReport};

use super::helpers::{is_cancelled_by_shutdown, is_closed, is_shut_down};
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SlowDrop, assert_balanced, bulkhead, eventually, in_time, occupy,
    wait,
};

/// The outcomes that one submitter saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    ran: u64,
    cancelled: u64,
    full: u64,
    shut_down: u64,
}

impl Seen {
    fn add(&mut self, handle: ExecutionHandle<usize, ()>) {
        self.calls += 1;
        match wait(handle).into_result() {
            Ok(_) => self.ran += 1,
            Err(BulkheadError::Cancelled {
                by_shutdown: true, ..
            }) => self.cancelled += 1,
            Err(BulkheadError::Full { .. }) => self.full += 1,
            Err(BulkheadError::ShutDown { .. }) => self.shut_down += 1,
            Err(other) => panic!("no such outcome here: {other:?}"),
        }
    }
}

/// Several threads submit without a pause while the bulkhead is ended.
fn race(end: fn(&Bulkhead) -> ShutdownReport) {
    const ROUNDS: usize = 200;
    const SUBMITTERS: usize = 3;

    for round in 0..ROUNDS {
        let bulkhead = bulkhead(2, 3);
        let bodies = Arc::new(AtomicUsize::new(0));
        let start = Barrier::new(SUBMITTERS + 1);
        let submit = || {
            let mut seen = Seen::default();
            start.wait();
            while seen.shut_down == 0 {
                let burst: Vec<_> = (0..3)
                    .map(|_| {
                        let bodies = Arc::clone(&bodies);
                        bulkhead.execute(move || Ok(bodies.fetch_add(1, Ordering::Relaxed)))
                    })
                    .collect();
                for handle in burst {
                    seen.add(handle);
                }
                thread::yield_now();
            }
            seen
        };
        let mut all = Seen::default();
        thread::scope(|scope| {
            let submitters: Vec<_> = (0..SUBMITTERS).map(|_| scope.spawn(submit)).collect();
            start.wait();
            for _ in 0..round % 16 {
                thread::yield_now();
            }
            let _ = end(&bulkhead);
            for submitter in submitters {
                let seen = submitter.join().unwrap();
                all.calls += seen.calls;
                all.ran += seen.ran;
                all.cancelled += seen.cancelled;
                all.full += seen.full;
                all.shut_down += seen.shut_down;
            }
        });
        let _ = bulkhead.shutdown();
        assert_eq!(bodies.load(Ordering::Relaxed) as u64, all.ran);
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.submitted_executions, all.calls);
        assert_eq!(stats.successful_executions, all.ran);
        assert_eq!(stats.cancelled_executions, all.cancelled);
        assert_eq!(stats.rejected_full, all.full);
        assert_eq!(stats.rejected_shut_down, all.shut_down);
        assert_eq!(stats.in_flight, 0);
    }
}

#[test]
fn submitters_that_race_a_shutdown_get_exactly_one_answer() {
    race(Bulkhead::shutdown);
}

#[test]
fn submitters_that_race_a_shutdown_with_a_deadline_get_exactly_one_answer() {
    race(|bulkhead| bulkhead.shutdown_timeout(Duration::ZERO));
}

#[test]
fn submitters_that_race_a_shutdown_at_once_get_exactly_one_answer() {
    race(Bulkhead::shutdown_now);
}

/// Ends a bulkhead at once, where the first of two queued closures takes long to drop and the worker
/// becomes free meanwhile. The report, and whether the body of the second ran.
fn end_while_a_worker_becomes_free() -> (ShutdownReport, bool) {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let slow = SlowDrop(gate.clone());
    let first = bulkhead.run(move || drop(slow));
    let second = bulkhead.run(|| ());
    thread::scope(|scope| {
        let ending = scope.spawn(|| bulkhead.shutdown_now());
        gate.wait_for_arrivals(1);
        busy.gate.open();
        let ran = !is_cancelled_by_shutdown(second);
        gate.open();
        let report = ending.join().unwrap();
        assert!(is_cancelled_by_shutdown(first));
        assert_eq!(bulkhead.stats().cancelled_executions, 2 - u64::from(ran));
        (report, ran)
    })
}

#[test]
fn while_a_shutdown_cancels_no_worker_starts_anything() {
    let (_, ran) = end_while_a_worker_becomes_free();
    assert!(!ran);
}

#[test]
fn the_report_counts_what_a_worker_has_cancelled_for_the_shutdown() {
    let (report, _) = end_while_a_worker_becomes_free();
    assert_eq!(report.cancelled, 2);
}

#[test]
fn callers_that_wait_for_a_place_are_released() {
    let ends: [fn(&Bulkhead) -> ShutdownReport; 2] = [Bulkhead::shutdown_now, |bulkhead| {
        bulkhead.shutdown_timeout(Duration::ZERO)
    }];
    for end in ends {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let busy = occupy(&bulkhead, 1);
        let (refused, refusals) = mpsc::channel();
        let asking = Arc::new(Barrier::new(4));
        for _ in 0..3 {
            let (bulkhead, refused) = (Arc::clone(&bulkhead), refused.clone());
            let asking = Arc::clone(&asking);
            thread::spawn(move || {
                asking.wait();
                let handle = bulkhead
                    .call()
                    .wait_for_capacity(Duration::MAX)
                    .execute(|| Ok::<_, ()>(()));
                refused.send(is_shut_down(handle)).unwrap();
            });
        }
        asking.wait();
        let _ = end(&bulkhead);
        for _ in 0..3 {
            let was_refused = refusals.recv_timeout(PATIENCE).expect("released");
            assert!(was_refused, "as shut down");
        }
        busy.finish();
    }
}

#[test]
fn callers_that_wait_for_a_place_do_not_hold_up_a_shutdown() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let busy = occupy(&bulkhead, 1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                is_shut_down(call.run(|| ()))
            });
            // It counts as submitted once it is decided, so nothing tells that it waits already.
            let ending = scope.spawn(|| bulkhead.shutdown());
            eventually("closed", || is_closed(&bulkhead));
            assert!(waiting.join().unwrap());
            assert!(!ending.is_finished());
            busy.gate.open();
            assert_eq!(ending.join().unwrap().finished, 1);
        });
    });
}
