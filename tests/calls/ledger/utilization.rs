//! How busy the workers are, and rates.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadStats, ManualClock, SemaphoreBulkhead};

use crate::support::{
    Over, SECOND, assert_balanced, bulkhead, config, occupy, seconds, wait, with_clock,
};

fn assert_mean(stats: &BulkheadStats, mean: f64) {
    let read = stats.mean_utilization();
    assert!((read - mean).abs() < 1e-9, "{read} is not {mean}");
}

#[test]
fn utilization_at_a_moment_is_the_share_of_busy_workers_and_of_taken_places() {
    let (bulkhead, _clock) = with_clock(config(4, 8));
    assert_eq!(bulkhead.stats().utilization(), 0.0);
    assert_eq!(bulkhead.stats().queue_utilization(), 0.0);
    let busy = occupy(&bulkhead, 4);
    let queued: Vec<_> = (0..2).map(|_| bulkhead.run(|| ())).collect();
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.utilization(), stats.queue_utilization()),
        (1.0, 0.25)
    );
    busy.finish();
    queued.into_iter().for_each(|handle| drop(wait(handle)));
    assert_eq!(bulkhead.stats().utilization(), 0.0);
}

#[test]
fn without_a_queue_its_utilization_is_zero() {
    let (bulkhead, _clock) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    assert_eq!(bulkhead.stats().queue_utilization(), 0.0);
    busy.finish();
}

#[test]
fn mean_utilization_counts_what_has_ended_and_what_runs() {
    let (bulkhead, clock) = with_clock(config(4, 4));
    assert_mean(&bulkhead.stats(), 0.0);
    assert_eq!(bulkhead.stats().per_second(7), 0.0);
    let busy = occupy(&bulkhead, 2);
    clock.advance(seconds(10));
    let stats = bulkhead.stats();
    assert_mean(&stats, 0.5);
    assert_eq!(stats.measured_for, seconds(10));
    assert_eq!(stats.busy_time, seconds(20));
    assert_eq!(stats.longest_running, Some(seconds(10)));
    busy.finish();
    clock.advance(seconds(10));
    let stats = bulkhead.stats();
    assert_mean(&stats, 0.25);
    assert_eq!(stats.longest_running, None);
    assert_eq!(stats.per_second(stats.successful_executions), 0.1);
}

#[test]
fn the_longest_running_task_is_the_one_that_began_first_named_or_not() {
    let (bulkhead, clock) = with_clock(config(3, 0));
    let first = occupy(&bulkhead, 1);
    clock.advance(SECOND);
    let gate = crate::support::Gate::new();
    let pass = gate.clone();
    let named = bulkhead.call().operation("export").run(move || pass.pass());
    gate.wait_for_arrivals(1);
    clock.advance(SECOND);
    assert_eq!(bulkhead.stats().longest_running, Some(seconds(2)));
    first.finish();
    assert_eq!(bulkhead.stats().longest_running, Some(SECOND));
    assert_eq!(bulkhead.stats().busy_time, seconds(3));
    gate.open();
    assert!(wait(named).is_success());
    assert_eq!(bulkhead.stats().busy_time, seconds(3));
}

#[test]
fn the_call_that_has_been_queued_longest_is_the_oldest_that_still_waits() {
    let (bulkhead, clock) = with_clock(config(1, 4));
    assert_eq!(bulkhead.stats().longest_queued, None);
    let busy = occupy(&bulkhead, 1);
    assert_eq!(bulkhead.stats().longest_queued, None);
    let queued: Vec<_> = (0..4)
        .map(|_| {
            let handle = bulkhead.run(|| ());
            clock.advance(SECOND);
            handle
        })
        .collect();
    for cancelled in 0..2 {
        assert_eq!(
            bulkhead.stats().longest_queued,
            Some(seconds(4 - cancelled))
        );
        assert!(queued[cancelled as usize].cancel());
    }
    assert_eq!(bulkhead.stats().longest_queued, Some(seconds(2)));
    // The places of the cancelled ones are free, and the order is as before.
    let late = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    assert!(!wait(bulkhead.run(|| ())).is_success());
    assert_eq!(bulkhead.stats().longest_queued, Some(seconds(2)));
    busy.finish();
    for handle in queued.into_iter().chain(late) {
        let _ = wait(handle);
    }
    assert_eq!(bulkhead.stats().longest_queued, None);
    let _ = bulkhead.shutdown();
    assert_eq!(bulkhead.stats().longest_queued, None);
}

#[test]
fn looking_for_the_oldest_call_loses_and_reorders_none() {
    let bulkhead = Arc::new(bulkhead(1, 200));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = bulkhead.stats().longest_queued;
            }
        });
        let over = Over(&is_over);
        let order = Arc::new(Mutex::new(Vec::new()));
        for round in 0..50 {
            let handles: Vec<_> = (0..100)
                .map(|number| {
                    let order = Arc::clone(&order);
                    bulkhead.run(move || order.lock().unwrap().push(number))
                })
                .collect();
            let kept = handles
                .into_iter()
                .enumerate()
                .filter_map(|(i, handle)| (i % 3 != 0 || !handle.cancel()).then_some(handle));
            for handle in kept.collect::<Vec<_>>() {
                assert!(wait(handle).is_success());
            }
            let order = std::mem::take(&mut *order.lock().unwrap());
            assert!(order.len() >= 66, "{round}: {order:?}");
            for (place, number) in order.iter().enumerate() {
                // The worker may overtake an entry once, while that is on its way into the front.
                let overtaken_by = order[..place].iter().filter(|other| *other > number);
                assert!(overtaken_by.count() <= 1, "{round}: {number} in {order:?}");
            }
        }
        drop(over);
    });
    assert_eq!(bulkhead.stats().in_flight, 0);
    assert_balanced(&bulkhead.stats());
}

#[test]
fn a_reset_forgets_the_time_that_running_tasks_have_run_before_it() {
    let (bulkhead, clock) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    clock.advance(seconds(30));
    bulkhead.reset_stats();
    assert_eq!(bulkhead.stats().busy_time, Duration::ZERO);
    clock.advance(seconds(5));
    let stats = bulkhead.stats();
    assert_eq!(
        (stats.busy_time, stats.measured_for),
        (seconds(5), seconds(5))
    );
    assert_eq!(stats.longest_running, Some(seconds(35)));
    busy.finish();
    clock.advance(seconds(5));
    assert_mean(&bulkhead.stats(), 0.5);
}

#[test]
fn a_nested_call_keeps_its_worker_busy_once() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let inner = Arc::clone(&bulkhead);
    let task = move || {
        clock.advance(SECOND);
        let nested = clock.clone();
        assert!(
            inner
                .run(move || nested.advance(seconds(2)))
                .wait()
                .is_success()
        );
        assert_eq!(inner.stats().busy_time, seconds(3), "while it runs");
        drop(inner);
    };
    assert!(wait(bulkhead.run(task)).is_success());
    let stats = bulkhead.stats();
    assert_eq!(stats.run_time.sum(), seconds(5));
    assert_eq!(stats.busy_time, seconds(3));
    assert_mean(&stats, 1.0);
}

#[test]
fn a_semaphores_slots_are_busy_like_workers() {
    let clock = ManualClock::new();
    let built = SemaphoreBulkhead::builder(config(2, 0)).clock(clock.clone());
    let bulkhead = built.build().unwrap();
    let result = bulkhead.run(|| {
        clock.advance(SECOND);
        assert!(bulkhead.run(|| clock.advance(SECOND)).is_success());
        assert_eq!(bulkhead.stats().longest_running, Some(seconds(2)));
    });
    assert!(result.is_success());
    let stats = bulkhead.stats();
    assert_eq!(stats.busy_time, seconds(2));
    assert_mean(&stats, 0.5);
}
