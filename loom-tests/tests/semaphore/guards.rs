//! Calls without a closure, which a guard ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::BulkheadError;
use loom::thread;

use super::helpers::World;
use crate::support::{assert_balanced, explore};

/// G3, G4: a guard has the only slot while another caller waits: the caller has it next, and sees what was done before.
#[test]
fn guard_against_a_caller_in_line() {
    explore("guard against a caller in line", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::call);
        let guard = world.bulkhead.acquire().expect("a place for each");
        world.task();
        guard.success();
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 2);
        assert_eq!(world.assert_whole().successful_executions, 2);
        assert!(world.call().is_success(), "the slot was lost");
    });
}

/// G3, G4: of two guards in one slot the elder ends first. The slot goes to the next caller when both have ended.
#[test]
fn guards_that_end_out_of_order_against_a_caller_in_line() {
    explore("guards out of order", 3, || {
        let world = World::new(1, 2);
        let beside = world.beside(World::call);
        let elder = world.bulkhead.acquire().expect("a place for each");
        let younger = world.bulkhead.acquire().expect("a place for each");
        elder.success();
        world.task();
        younger.success();
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 2);
        assert_eq!(world.assert_whole().successful_executions, 3);
        assert!(world.call().is_success(), "the slot was lost");
    });
}

/// G10: snapshots while guards of one slot begin and end, the elder first.
#[test]
fn snapshot_against_guards_that_end_out_of_order() {
    explore("snapshot, guards out of order", 2, || {
        let world = World::new(1, 1);
        let other = Arc::clone(&world);
        let watcher = thread::spawn(move || {
            let first = other.bulkhead.stats();
            let second = other.bulkhead.stats();
            for stats in [&first, &second] {
                assert_balanced(stats);
                assert!(stats.total_executions <= stats.submitted_executions);
            }
            assert!(first.submitted_executions <= second.submitted_executions);
            assert!(first.total_executions <= second.total_executions);
            assert!(first.successful_executions <= second.successful_executions);
            assert!(first.failed_executions <= second.failed_executions);
        });
        let elder = world.bulkhead.acquire().expect("nobody else is here");
        let younger = world.bulkhead.acquire().expect("a place for each");
        elder.failure();
        younger.success();
        watcher.join().unwrap();
        let stats = world.assert_whole();
        assert_eq!(
            (stats.successful_executions, stats.failed_executions),
            (1, 1)
        );
    });
}

/// G1, G10: a caller that does not wait, against one that does: the slot is free for one of them at least, and a refusal is
/// counted as one.
#[test]
fn try_acquire_against_a_call() {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    explore("try_acquire against a call", 4, || {
        let world = World::new(1, 1);
        let beside = world.beside(|world| {
            let result = world.call();
            assert_balanced(&world.bulkhead.stats());
            result
        });
        let refused = match world.bulkhead.try_acquire() {
            Ok(guard) => {
                world.task();
                guard.success();
                0
            }
            Err(BulkheadError::Full { .. }) => 1,
            Err(error) => panic!("{error}"),
        };
        REFUSED.fetch_add(refused as usize, Ordering::Relaxed);
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 2 - refused);
        let stats = world.assert_whole();
        assert_eq!(stats.rejected_full, refused);
        assert_eq!(stats.submitted_executions, 2);
        let guard = world.bulkhead.try_acquire();
        assert!(guard.is_ok(), "a sequential caller was refused");
    });
    assert!(REFUSED.load(Ordering::Relaxed) > 0, "it never was");
}

/// G1: a caller that does not wait finds no slot, and takes no place meanwhile: a call that has the last one is never refused.
#[test]
fn try_acquire_without_a_slot_against_the_last_place() {
    explore("try_acquire without a slot", 4, || {
        let world = World::new(1, 1);
        let guard = world.bulkhead.acquire().expect("nobody else is here");
        let other = Arc::clone(&world);
        let beside = thread::spawn(move || other.bulkhead.try_acquire().is_err());
        assert!(world.call().is_success(), "the place was taken");
        assert!(beside.join().unwrap());
        guard.success();
        let stats = world.assert_whole();
        assert_eq!((stats.rejected_full, stats.submitted_executions), (1, 3));
    });
}

/// G1: two callers that do not wait, and one slot: one of them has it at least.
#[test]
fn two_that_do_not_wait() {
    explore("two that do not wait", 4, || {
        let world = World::new(1, 1);
        let attempt = |world: &World| {
            let guard = world.bulkhead.try_acquire();
            u64::from(guard.map(|_guard| world.task()).is_ok())
        };
        let other = Arc::clone(&world);
        let beside = thread::spawn(move || attempt(&other));
        let had = attempt(&world) + beside.join().unwrap();
        assert!(had > 0, "nobody got the only slot");
        assert_eq!(world.ran(), had);
        assert_eq!(world.assert_whole().rejected_full, 2 - had);
    });
}

/// G8: a graceful shutdown waits for a guard.
#[test]
fn shutdown_against_a_guard() {
    explore("shutdown against a guard", 4, || {
        let world = World::new(1, 0);
        let other = Arc::clone(&world);
        let beside = thread::spawn(move || match other.bulkhead.acquire() {
            Ok(guard) => {
                other.task();
                guard.success();
                1
            }
            Err(BulkheadError::ShutDown { .. }) => 0,
            Err(error) => panic!("{error}"),
        });
        assert!(world.bulkhead.shutdown().is_clean());
        let ran = world.ran();
        assert_eq!(beside.join().unwrap(), ran, "a guard has outlived it");
    });
}

/// G8: one that cancels names the guard that is there, or the call never starts.
#[test]
fn shutdown_now_against_a_guard() {
    explore("shutdown_now against a guard", 4, || {
        let world = World::new(1, 0);
        let other = Arc::clone(&world);
        let beside = thread::spawn(move || match other.bulkhead.try_acquire() {
            Ok(guard) => {
                other.task();
                let id = guard.execution_id();
                guard.success();
                Some(id)
            }
            Err(BulkheadError::ShutDown { .. } | BulkheadError::Cancelled { .. }) => None,
            Err(error) => panic!("{error}"),
        });
        let report = world.bulkhead.shutdown_now();
        let ran_before = world.ran() + report.finished;
        let held = beside.join().unwrap();
        let named: Vec<_> = report
            .still_running
            .iter()
            .map(|left| left.execution_id)
            .collect();
        // One that is named may still be cancelled, just before it starts.
        if let Some(id) = held {
            assert!(ran_before > 0 || named == [id], "it started unseen");
        }
        assert!(world.bulkhead.shutdown().is_clean());
        assert_eq!(world.bulkhead.stats().in_flight, 0);
    });
}
