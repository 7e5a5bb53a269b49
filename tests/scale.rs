//! Many of everything: bulkheads, workers, callers, life cycles.
//!
//! The file is a binary of its own, since it counts the threads of the process and watches its memory.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

use bulkman::{BuildError, Bulkhead, BulkheadError, BulkheadStats};
use support::{
    Gate, OpenOnDrop, assert_balanced, bulkhead, eventually, named, resident, threads_named, wait,
};

/// One test of this file at a time: they count threads and memory of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worker threads of this process, where the system tells.
fn workers() -> usize {
    threads_named("bulkman-")
}

#[test]
fn hundreds_of_bulkheads_do_not_disturb_each_other() {
    let _alone = alone();
    let gate = Gate::new();
    let bulkheads: Vec<_> = (0..300)
        .map(|i| Bulkhead::new(named(&format!("hundreds-{i}"), 1, 1)).unwrap())
        .collect();
    // After them, so that they can be dropped if something fails.
    let _opener = OpenOnDrop(gate.clone());
    let submit = |(i, bulkhead): (usize, &Bulkhead)| {
        let gate = gate.clone();
        let first = bulkhead.run(move || gate.pass());
        (first, bulkhead.run(move || i))
    };
    let handles: Vec<_> = bulkheads.iter().enumerate().map(submit).collect();
    gate.wait_for_arrivals(300);
    for bulkhead in &bulkheads {
        let refused = bulkhead.try_run(|| ()).expect_err("one runs, one waits");
        assert_eq!(refused.reason.bulkhead_name(), bulkhead.name());
    }
    gate.open();
    for (i, (first, second)) in handles.into_iter().enumerate() {
        assert!(wait(first).is_success());
        assert_eq!(wait(second).value(), Some(&i));
    }
    for bulkhead in &bulkheads {
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        let numbers = (stats.successful_executions, stats.rejected_full);
        assert_eq!(numbers, (2, 1));
    }
    drop(bulkheads);
    eventually("no worker is left", || workers() == 0);
}

#[test]
fn thousands_of_callers_at_once_are_all_accounted_for() {
    const CALLERS: u64 = 2_000;
    const CALLS: u64 = 20;
    let _alone = alone();
    let bulkhead = bulkhead(4, 12);
    let start = Barrier::new(CALLERS as usize);
    let (succeeded, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let call = || {
        start.wait();
        for i in 0..CALLS {
            match wait(bulkhead.run(move || i)).into_result() {
                Ok(value) => {
                    assert_eq!(value, i);
                    succeeded.fetch_add(1, Ordering::Relaxed);
                }
                Err(BulkheadError::Full { .. }) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            let small = thread::Builder::new().stack_size(256 * 1024);
            small.spawn_scoped(scope, call).expect("a thread");
        }
    });
    let BulkheadStats {
        successful_executions,
        rejected_full,
        submitted_executions,
        in_flight,
        ..
    } = bulkhead.stats();
    assert_eq!((submitted_executions, in_flight), (CALLERS * CALLS, 0));
    assert_eq!(successful_executions, succeeded.into_inner());
    assert_eq!(rejected_full, refused.into_inner());
    assert!(successful_executions >= 16, "the first N + Q at least");
    assert_eq!(bulkhead.available_capacity(), 16);
}

#[test]
fn ten_thousand_life_cycles_leave_nothing_behind() {
    const CYCLES: usize = 10_000;
    /// A bulkhead alone takes some kilobytes.
    const GROWTH_IN_KB: u64 = 16 * 1024;
    let _alone = alone();
    let token = Arc::new(());
    let mut warm = 0;
    for i in 0..CYCLES {
        let bulkhead = Bulkhead::new(named("cycles", 1, 1)).unwrap();
        let inside = Arc::clone(&token);
        let handle = bulkhead.run(move || drop(inside));
        match i % 3 {
            0 => drop(bulkhead),
            1 => assert!(bulkhead.shutdown().still_running.is_empty()),
            // Its worker may be on its way out for a moment longer.
            _ => drop(bulkhead.shutdown_now()),
        }
        let result = wait(handle).into_result();
        assert!(matches!(
            result,
            Ok(()) | Err(BulkheadError::Cancelled { .. })
        ));
        if i == CYCLES / 5 {
            warm = resident();
        }
        if i % 100 == 0 {
            eventually("few workers are left", || workers() <= 4);
        }
    }
    eventually("no worker is left", || workers() == 0);
    assert_eq!(Arc::strong_count(&token), 1);
    let end = resident();
    assert!(end <= warm + GROWTH_IN_KB, "{end} kB, {warm} kB when warm");
}

#[test]
fn ten_thousand_workers_start_or_are_refused_with_a_clear_error() {
    const WORKERS: usize = 10_000;
    let _alone = alone();
    match Bulkhead::new(named("crowd", WORKERS, 0)) {
        Ok(bulkhead) => {
            let handles: Vec<_> = (0..WORKERS)
                .map(|i| bulkhead.try_run(move || i).expect("a place for each"))
                .collect();
            for (i, handle) in handles.into_iter().enumerate() {
                assert_eq!(wait(handle).value(), Some(&i));
            }
            assert!(bulkhead.shutdown().is_clean());
        }
        Err(error) => {
            let text = error.to_string();
            let BuildError::ThreadStart { worker, .. } = error else {
                panic!("another error: {text}");
            };
            let expected = format!(
                "bulkhead `crowd` could start only {worker} of its {WORKERS} worker threads"
            );
            assert_eq!(text, expected);
        }
    }
    eventually("no worker is left", || workers() == 0);
}
