//! How many calls are out at a time, how much of the input is taken, and what dropping the results does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Gate, OpenOnDrop, bulkhead, eventually, in_time, occupy};

/// Counts the items that are taken.
fn counted(taken: &Arc<AtomicUsize>) -> impl Iterator<Item = usize> + use<> {
    let taken = Arc::clone(taken);
    (0..).inspect(move |_| {
        taken.fetch_add(1, Ordering::SeqCst);
    })
}

#[test]
fn it_takes_nothing_before_the_first_result_is_asked_for() {
    let bulkhead = bulkhead(1, 0);
    let taken = Arc::new(AtomicUsize::new(0));
    drop(bulkhead.run_map(counted(&taken), |n| n));
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    assert_eq!(bulkhead.stats().submitted_executions, 0);
}

#[test]
fn an_endless_input_is_taken_as_results_are() {
    in_time(|| {
        let bulkhead = bulkhead(2, 20);
        let taken = Arc::new(AtomicUsize::new(0));
        let mut results = bulkhead.run_map(counted(&taken), |n| n).in_flight(5);
        for n in 0..100 {
            assert_eq!(results.next().unwrap().into_result().unwrap(), n);
            assert!(taken.load(Ordering::SeqCst) <= n + 5);
            assert!(bulkhead.stats().in_flight <= 5);
        }
    });
}

#[test]
fn twice_as_many_as_workers_are_out_by_default() {
    in_time(|| {
        let bulkhead = bulkhead(3, 100);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let taken = Arc::new(AtomicUsize::new(0));
        let input = counted(&taken);
        let opening = std::thread::spawn(move || {
            eventually("six are taken", || taken.load(Ordering::SeqCst) == 6);
            drop(opener);
        });
        let mut results = bulkhead.run_map(input, move |_| gate.pass());
        assert!(results.next().unwrap().is_success());
        opening.join().unwrap();
    });
}

#[test]
fn none_in_flight_is_one() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let inside = Arc::new(AtomicUsize::new(0));
        let results = bulkhead.run_map(0..50, move |n| {
            seen.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            inside.fetch_sub(1, Ordering::SeqCst);
            n
        });
        assert_eq!(results.in_flight(0).count(), 50);
        assert_eq!(most.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn more_in_flight_than_places_refuses_nothing() {
    in_time(|| {
        for (n, q) in [(1, 0), (1, 1), (2, 3)] {
            let bulkhead = bulkhead(n, q);
            let results = bulkhead.run_map(0..500, |n| n).in_flight(usize::MAX);
            assert_eq!(results.filter(|result| result.is_success()).count(), 500);
            let stats = bulkhead.stats();
            assert_eq!(stats.successful_executions, 500);
            assert_eq!(
                stats.rejected_executions, 0,
                "waiting counts as no refused call"
            );
        }
    });
}

#[test]
fn it_waits_while_others_take_all_places() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let busy = occupy(&bulkhead, 1);
        let queued = bulkhead.run(|| ());
        let other = Arc::clone(&bulkhead);
        let mapped = std::thread::spawn(move || {
            other
                .run_map(0..10, |n| n)
                .filter(|result| result.is_success())
                .count()
        });
        busy.finish();
        assert!(queued.wait().is_success());
        assert_eq!(mapped.join().unwrap(), 10);
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    });
}

#[test]
fn several_share_the_places() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(2, 1));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let bulkhead = Arc::clone(&bulkhead);
                std::thread::spawn(move || {
                    let results = bulkhead.run_map(0..200, |n| n).in_flight(3).as_completed();
                    results.filter(|result| result.is_success()).count()
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 200);
        }
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    });
}

#[test]
fn dropping_it_cancels_what_is_queued() {
    in_time(|| {
        let bulkhead = bulkhead(1, 10);
        let [taken, ran] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let told = Arc::new(AtomicBool::new(false));
        let input = counted(&taken);
        let all = Arc::clone(&taken);
        let (counter, flag) = (Arc::clone(&ran), Arc::clone(&told));
        let mut results = bulkhead
            .run_map(input, move |n| {
                counter.fetch_add(1, Ordering::SeqCst);
                if n == 0 {
                    eventually("five are out", || taken.load(Ordering::SeqCst) == 5);
                } else {
                    eventually("it is told to stop", || {
                        bulkman::current().is_some_and(|call| call.is_cancelled())
                    });
                    flag.store(true, Ordering::SeqCst);
                }
            })
            .in_flight(5);
        assert!(results.next().unwrap().is_success());
        eventually("the second runs", || ran.load(Ordering::SeqCst) == 2);
        drop(results);
        bulkhead.shutdown();
        assert!(told.load(Ordering::SeqCst));
        assert_eq!(ran.load(Ordering::SeqCst), 2);
        // The first call may have ended before the fifth was submitted: then a sixth item has been taken.
        let queued = all.load(Ordering::SeqCst) - 2;
        assert!(queued >= 3);
        assert_eq!(bulkhead.stats().cancelled_executions, queued as u64);
    });
}

#[test]
fn an_input_that_panics_is_at_its_end() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let input = (0..10).inspect(|n| assert_ne!(*n, 3, "the input"));
        let mut results = bulkhead.run_map(input, |n| n);
        let mut values = Vec::new();
        let mut panics = 0;
        loop {
            let next = std::panic::AssertUnwindSafe(|| results.next());
            match std::panic::catch_unwind(next) {
                Ok(Some(result)) => values.push(result.into_result().unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert_eq!((values, panics), (vec![0, 1, 2], 1));
    });
}
