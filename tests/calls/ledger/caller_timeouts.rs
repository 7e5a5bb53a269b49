//! Callers that left at their own limits: counted apart, since their calls count by their own ends.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, BulkheadStats, ManualClock};

use crate::support::{
    Gate, OpenOnDrop, SECOND, assert_balanced, config, eventually, occupy, wait, with_clock,
};

/// Callers that left: those whose tasks ran, and those whose tasks were queued.
fn left(stats: &BulkheadStats) -> (u64, u64) {
    assert_balanced(stats);
    (stats.caller_timeouts_started, stats.caller_timeouts_queued)
}

#[test]
fn a_caller_that_leaves_a_running_task_is_counted_at_that_moment() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_clock(config(1, 1));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead.call().timeout(SECOND).run(move || at_gate.pass());
        gate.wait_for_arrivals(1);
        clock.advance(SECOND);
        assert_eq!(left(&bulkhead.stats()), (0, 0), "it has not left yet");
        let result = if awaited {
            pollster::block_on(handle)
        } else {
            handle.wait()
        };
        assert!(result.error().unwrap().is_timeout());
        let stats = bulkhead.stats();
        assert_eq!(left(&stats), (1, 0));
        assert_eq!((stats.active_tasks, stats.abandoned_tasks), (1, 1));
        assert_eq!(stats.timed_out_executions, 0, "the call is not over");
        drop(opener);
        eventually("it ends", || bulkhead.stats().in_flight == 0);
        let stats = bulkhead.stats();
        assert_eq!(left(&stats), (1, 0), "it stays counted");
        assert_eq!(
            (stats.successful_executions, stats.submitted_executions),
            (1, 1)
        );
    }
}

#[test]
fn a_caller_that_leaves_the_queue_is_counted_beside_its_expired_call() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_clock(config(1, 2));
        let busy = occupy(&bulkhead, 1);
        let mine = bulkhead.call().timeout(SECOND).run(|| ());
        let the_bulkheads = bulkhead.call().queue_timeout(SECOND).run(|| ());
        clock.advance(SECOND);
        let results = if awaited {
            [mine, the_bulkheads].map(pollster::block_on)
        } else {
            [mine.wait(), the_bulkheads.wait()]
        };
        assert!(matches!(
            results[0].error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
        let stats = bulkhead.stats();
        assert_eq!(left(&stats), (0, 1), "a queue timeout is no caller's");
        assert_eq!(stats.timed_out_executions, 2);
        busy.finish();
    }
}

#[test]
fn execute_with_timeout_counts_too() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let result = bulkhead.execute_with_timeout(SECOND, move || {
        clock.advance(SECOND);
        gate.pass();
        Ok::<_, ()>(())
    });
    assert!(result.error().unwrap().is_timeout());
    assert_eq!(left(&bulkhead.stats()), (1, 0));
}

#[test]
fn a_caller_that_leaves_in_another_way_is_not_counted() {
    let (bulkhead, clock) = with_clock(config(1, 2));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let running = bulkhead.call().timeout(SECOND).run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    let running = running.wait_timeout(Duration::ZERO).expect_err("not yet");
    let queued = bulkhead.call().timeout(SECOND).run(|| ());
    drop(running);
    drop(queued);
    clock.advance(SECOND);
    drop(opener);
    eventually("both are over", || bulkhead.stats().in_flight == 0);
    let stats = bulkhead.stats();
    assert_eq!(left(&stats), (0, 0), "nobody was there to leave");
    assert_eq!(stats.timed_out_executions, 1);
}

#[test]
fn a_task_that_ends_in_time_is_no_timeout_however_late_its_caller_looks() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let handle = bulkhead.call().timeout(SECOND).run(|| 7);
    eventually("it ends", || handle.is_finished());
    clock.advance(2 * SECOND);
    assert_eq!(wait(handle).value(), Some(&7));
    assert_eq!(left(&bulkhead.stats()), (0, 0));
}

#[test]
fn a_reset_starts_both_numbers_anew() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let running = bulkhead.call().timeout(SECOND).run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    let queued = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    drop((running.wait(), queued.wait()));
    assert_eq!(left(&bulkhead.stats()), (1, 1));
    bulkhead.reset_stats();
    let stats = bulkhead.stats();
    assert_eq!(left(&stats), (0, 0));
    assert_eq!(stats.abandoned_tasks, 1, "that one is no counter");
    let queued = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(queued.wait().error().is_some());
    assert_eq!(left(&bulkhead.stats()), (0, 1));
    drop(opener);
}

#[test]
fn a_listener_hears_of_the_caller_in_the_callers_thread() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (clock, ear) = (ManualClock::new(), Arc::clone(&heard));
    let bulkhead = Bulkhead::builder(config(1, 1))
        .clock(clock.clone())
        .listener(move |event: &BulkheadEvent<'_>| {
            let line = match event {
                BulkheadEvent::CallerTimedOut {
                    call,
                    limit,
                    started,
                    ..
                } => {
                    assert_eq!(call.bulkhead, "test");
                    format!(
                        "{} left after {limit:?}, {started}",
                        call.operation.unwrap_or("-")
                    )
                }
                BulkheadEvent::Expired { call, .. } => {
                    format!("{} expired", call.operation.unwrap_or("-"))
                }
                BulkheadEvent::Finished { call, .. } => {
                    format!("{} finished", call.operation.unwrap_or("-"))
                }
                _ => return,
            };
            ear.lock().unwrap().push((line, thread::current().id()));
            panic!("and nobody minds");
        })
        .build()
        .unwrap();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let call = |name| bulkhead.call().operation(name).timeout(SECOND);
    let running = call("a").run(move || at_gate.pass());
    gate.wait_for_arrivals(1);
    let queued = call("b").run(|| ());
    clock.advance(SECOND);
    drop((queued.wait(), running.wait()));
    drop(opener);
    eventually("the task ends", || bulkhead.stats().in_flight == 0);
    let heard = heard.lock().unwrap();
    let lines: Vec<_> = heard.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "b expired",
            "b left after 1s, false",
            "a left after 1s, true",
            "a finished"
        ]
    );
    let here = thread::current().id();
    let threads: Vec<_> = heard.iter().map(|(_, thread)| *thread == here).collect();
    assert_eq!(threads, [true, true, true, false]);
}

#[test]
fn such_a_listener_may_use_the_bulkhead() {
    let slot: Arc<std::sync::OnceLock<Arc<Bulkhead>>> = Arc::default();
    let (clock, inside) = (ManualClock::new(), Arc::clone(&slot));
    let bulkhead = Bulkhead::builder(config(1, 1))
        .clock(clock.clone())
        .listener(move |event: &BulkheadEvent<'_>| {
            if let (BulkheadEvent::CallerTimedOut { .. }, Some(bulkhead)) = (event, inside.get()) {
                assert_balanced(&bulkhead.stats());
                drop(bulkhead.shutdown_now());
            }
        })
        .build()
        .unwrap();
    let bulkhead = slot.get_or_init(|| Arc::new(bulkhead));
    let busy = occupy(bulkhead, 1);
    let queued = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(queued.wait().error().unwrap().is_timeout());
    busy.gate.open();
    assert!(bulkhead.shutdown().is_clean());
    busy.finish();
}
