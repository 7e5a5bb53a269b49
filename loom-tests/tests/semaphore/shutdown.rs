//! The three forms of shutdown, against calls, callers in line and each other.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::model::advance;
use bulkman::{SemaphoreBulkhead, ShutdownReport};
use loom::thread::{self};

use super::helpers::{Met, SECOND, World, met};
use crate::support::{assert_balanced, config, explore, explore_deep, rules};

/// Two callers of a bulkhead with one slot call while this thread shuts it down by `how`. Each call is refused as shut
/// down, cancelled, or has its outcome. A task ran exactly if the result says so, and the numbers add up. Afterwards
/// `check` gets the number of tasks that had run when the shutdown returned, its report, and the ends of both calls.
fn calls_against(
    how: fn(&SemaphoreBulkhead) -> ShutdownReport,
    check: fn(u64, &ShutdownReport, [Met; 2]),
) {
    let world = World::new(1, 1);
    let beside = [0, 1].map(|_| {
        world.beside(|world| {
            let result = world.call();
            let stats = world.bulkhead.stats();
            let counted = match met(&result) {
                Met::Ran => stats.successful_executions,
                Met::Refused => stats.rejected_shut_down,
                Met::Cancelled => stats.cancelled_executions,
                Met::Expired => stats.timed_out_executions,
            };
            assert!(counted > 0, "its end is not counted, but told");
            result
        })
    });
    let report = how(&world.bulkhead);
    let ran = world.ran();
    let met = beside.map(|beside| met(&beside.join().unwrap()));
    check(ran, &report, met);
    let of = |what: Met| met.iter().filter(|met| **met == what).count() as u64;
    assert_eq!(world.ran(), of(Met::Ran));
    let _ = world.bulkhead.shutdown();
    let stats = world.bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (2, 0));
    assert_eq!(stats.successful_executions, of(Met::Ran));
    assert_eq!(stats.cancelled_executions, of(Met::Cancelled));
    assert_eq!(stats.rejected_shut_down, of(Met::Refused));
    assert!(report.cancelled <= of(Met::Cancelled));
}

/// G8: the graceful one returns when all that was admitted has had its turn.
#[test]
fn shutdown_against_calls() {
    explore_deep("shutdown against calls", 3, || {
        calls_against(SemaphoreBulkhead::shutdown, |ran, report, met| {
            assert!(report.is_clean());
            assert!(!met.contains(&Met::Cancelled));
            let in_the_end = met.iter().filter(|met| **met == Met::Ran).count() as u64;
            assert_eq!(ran, in_the_end, "a call has outlived the shutdown");
        });
    });
}

/// G8: those who wait are cancelled, and those who are about to wait.
#[test]
fn shutdown_now_against_calls() {
    explore("shutdown_now against calls", 2, || {
        calls_against(SemaphoreBulkhead::shutdown_now, |_, report, _| {
            assert!(report.still_running.len() <= 1);
        });
    });
}

/// G8: the same when the limit has passed.
#[test]
fn shutdown_timeout_against_calls() {
    explore("shutdown_timeout against calls", 2, || {
        let at_once = |bulkhead: &SemaphoreBulkhead| bulkhead.shutdown_timeout(Duration::ZERO);
        calls_against(at_once, |_, report, _| {
            assert!(report.still_running.len() <= 1);
        });
    });
}

/// G2, G8: a task that has the only slot shuts its own bulkhead down while another call comes, and waits for that
/// caller. The shutdown cancels and reports a caller in line. A caller that comes to the line later is cancelled too.
#[test]
fn shutdown_now_by_a_task_against_a_caller_in_line() {
    static REPORTED: AtomicUsize = AtomicUsize::new(0);
    explore("shutdown_now by a task", 3, || {
        let world = World::new(1, 1);
        let outer = world.bulkhead.run(|| {
            let beside = world.beside(World::call);
            let report = world.bulkhead.shutdown_now();
            (report, met(&beside.join().unwrap()))
        });
        let (report, beside) = outer.into_result().unwrap();
        assert_eq!(report.still_running.len(), 1, "the task itself");
        assert!(matches!(beside, Met::Cancelled | Met::Refused));
        let cancelled = u64::from(beside == Met::Cancelled);
        assert!(report.cancelled <= cancelled);
        if report.cancelled > 0 {
            REPORTED.fetch_add(1, Ordering::Relaxed);
        }
        assert!(world.bulkhead.shutdown().is_clean());
        let stats = world.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.in_flight, world.ran()), (0, 0));
        assert_eq!(stats.cancelled_executions, cancelled);
    });
    assert!(REPORTED.load(Ordering::Relaxed) > 0, "none was reported");
}

/// G8: a graceful shutdown that waits, and one that cancels: both return, and each call has its outcome.
#[test]
fn two_shutdowns() {
    explore("two shutdowns", 1, || {
        let world = World::new(1, 1);
        let other = Arc::clone(&world);
        let shutting = thread::spawn(move || drop(other.bulkhead.shutdown_now()));
        let beside = world.beside(World::call);
        let here = met(&world.call());
        let _ = world.bulkhead.shutdown();
        let ended = world.bulkhead.stats();
        assert_eq!(ended.in_flight, 0, "{ended}");
        shutting.join().unwrap();
        let met = [here, met(&beside.join().unwrap())];
        let ran = met.iter().filter(|met| **met == Met::Ran).count() as u64;
        assert_eq!(world.ran(), ran);
        assert_eq!(world.bulkhead.stats().successful_executions, ran);
    });
}

/// G8: the shutdown lets a caller go that waits for a place, with or without one.
#[test]
fn waiting_for_a_place_against_shutdown() {
    explore("wait for capacity against shutdown", 3, || {
        let world = World::new(1, 0);
        let beside = [0, 1].map(|_| world.beside(World::patient_call));
        assert!(world.bulkhead.shutdown().is_clean());
        let ran = world.ran();
        let met = beside.map(|beside| met(&beside.join().unwrap()));
        let in_the_end = met.iter().filter(|met| **met == Met::Ran).count() as u64;
        assert_eq!((ran, world.ran()), (in_the_end, in_the_end));
        assert!(!met.contains(&Met::Cancelled));
    });
}

/// G8: the bulkhead is dropped while a call goes through a function that wraps it: the drop waits for the call.
#[test]
fn drop_against_a_wrapped_call() {
    explore("drop against a wrapped call", 4, || {
        let bulkhead = SemaphoreBulkhead::new(config(1, 1)).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let wrapped = bulkhead.wrap(move |()| {
            thread::yield_now();
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        });
        let calling = thread::spawn(move || met(&wrapped(())));
        drop(bulkhead);
        let ran = ran.load(Ordering::Relaxed);
        let met = calling.join().unwrap();
        assert!(met != Met::Cancelled);
        assert_eq!(ran, usize::from(met == Met::Ran));
    });
}

/// G8: a running task in a report is one of the calls, and not a piece of one and a piece of the next, which another
/// thread makes in the same slot.
#[test]
fn report_against_the_next_call_in_the_seat() {
    explore_deep("report against the next call", 3, || {
        let world = World::new(2, 1);
        // In a task a shutdown does not wait, so that its report is made while the others go on.
        let outer = world.bulkhead.run(|| {
            let beside = [0, 1].map(|_| world.beside(|world| world.bulkhead.run(|| ())));
            (world.bulkhead.shutdown(), beside)
        });
        let here = outer.execution_id;
        let (report, beside) = outer.into_result().unwrap();
        let [first, second] = beside.map(|beside| beside.join().unwrap().execution_id);
        assert!(report.still_running.len() <= 2, "two seats, two calls");
        for task in report.still_running {
            assert!([here, first, second].contains(&task.execution_id));
        }
    });
}

/// A call in line that has a half-open circuit's only turn is cancelled by a shutdown: the turn is given back.
#[test]
fn probe_in_line_against_shutdown_now() {
    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);
    explore("probe in line", 4, || {
        let config = config(1, 1).circuit_breaker(rules(1, 1, SECOND));
        let world = World::around(SemaphoreBulkhead::new(config).unwrap());
        let breaker = world.bulkhead.circuit_breaker().expect("it has one");
        // Admitted before the circuit opens, so what comes of it is no news.
        let probe = world.bulkhead.run(|| {
            breaker.trip();
            advance(SECOND);
            let probe = world.beside(World::call);
            drop(world.bulkhead.shutdown_now());
            probe
        });
        let met = met(&probe.into_result().unwrap().join().unwrap());
        if met == Met::Cancelled {
            assert!(breaker.is_half_open());
            GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
        }
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
    assert!(GIVEN_BACK.load(Ordering::Relaxed) > 0, "none was cancelled");
}
