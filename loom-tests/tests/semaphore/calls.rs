//! Calls that go from slot to slot: two callers and more, the numbers, panics, nested calls.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bulkman::BulkheadError;
use loom::thread::{self};

use super::helpers::{Done, World};
use crate::support::{assert_balanced, explore, explore_deep};

/// G1, G3, G4: two callers and one slot: never both at once, each sees what the other has done, and neither is refused,
/// however often it comes.
#[test]
fn two_callers_and_one_turn() {
    explore("two callers, one turn", 2, || {
        let world = World::new(1, 1);
        let twice = |world: &World| {
            assert!(world.call().is_success(), "a sequential caller was refused");
            world.call()
        };
        let beside = world.beside(twice);
        assert!(twice(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 4);
        assert_eq!(world.assert_whole().successful_executions, 4);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G1, G3: without a line one of the two may be refused, but not both; and not who comes after the other.
#[test]
fn two_callers_and_no_line() {
    explore("two callers, no line", 4, || {
        let world = World::new(1, 0);
        let beside = world.beside(World::call);
        let here = world.call();
        let there = beside.join().unwrap();
        let succeeded = u64::from(here.is_success()) + u64::from(there.is_success());
        assert!(succeeded > 0, "nobody got the only place");
        assert_eq!(world.ran(), succeeded);
        let stats = world.assert_whole();
        assert_eq!(stats.rejected_full, 2 - succeeded);
        assert!(world.call().is_success(), "a sequential caller was refused");
    });
}

/// G2, G3: three callers and one slot: each has it once, and no caller is left in line.
#[test]
fn a_third_in_line() {
    explore("a third in line", 2, || {
        let world = World::new(1, 2);
        let beside = [0, 1].map(|_| world.beside(World::call));
        assert!(world.call().is_success());
        for beside in beside {
            assert!(beside.join().unwrap().is_success());
        }
        assert_eq!(world.ran(), 3);
        assert_eq!(world.assert_whole().successful_executions, 3);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G10: two callers hand two slots to each other. The counters of a slot go with it, and the numbers are exact in the
/// end. A task sees its own id, and not that of the call before it in the slot.
#[test]
fn seats_that_change_hands() {
    explore("seats that change hands", 2, || {
        let world = World::new(2, 0);
        let twice = |world: &World| {
            let told = || bulkman::current().map(|call| call.execution_id());
            for _ in 0..2 {
                let result = world.bulkhead.run(told);
                let id = result.execution_id;
                assert_eq!(result.into_result().expect("never refused"), Some(id));
            }
            world.bulkhead.run(|| ())
        };
        let beside = world.beside(twice);
        assert!(twice(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.assert_whole().successful_executions, 6);
    });
}

/// G10: a snapshot while the only slot goes from caller to caller: it balances, and nothing goes back from one to the
/// next.
#[test]
fn snapshot_against_a_seat_that_changes_hands() {
    explore_deep("snapshot, a seat that changes hands", 2, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::call);
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
        });
        assert!(world.call().is_success());
        assert!(world.bulkhead.stats().successful_executions >= 1);
        assert!(beside.join().unwrap().is_success());
        watcher.join().unwrap();
        assert_eq!(world.assert_whole().successful_executions, 2);
    });
}

/// G3, G10: a caller that has a slot finds the call counted that had it before.
#[test]
fn turn_against_the_count_of_the_call_before() {
    explore("count of the call before", 3, || {
        let world = World::new(1, 1);
        let counted = |world: &World| {
            world.bulkhead.run(|| {
                let before = world.ran();
                world.task();
                let stats = world.bulkhead.stats();
                assert_balanced(&stats);
                assert_eq!(stats.successful_executions, before);
                assert_eq!(stats.active_tasks, 1);
            })
        };
        let beside = world.beside(counted);
        assert!(counted(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        world.assert_whole();
    });
}

/// G7: a task panics while another caller waits for the slot: this caller has it next.
#[test]
fn panic_against_a_caller_in_line() {
    explore("panic", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::call);
        let panicked: Done = world.bulkhead.run(|| resume_unwind(Box::new("boom")));
        match panicked.error() {
            Some(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "boom"),
            other => panic!("{other:?}"),
        }
        assert!(beside.join().unwrap().is_success());
        let stats = world.assert_whole();
        assert_eq!(
            (stats.panicked_executions, stats.successful_executions),
            (1, 1)
        );
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G9: a task makes a call on its own bulkhead, whose only slot it has, while others wait in line for it: the call has
/// its slot at once.
#[test]
fn nested_call_against_a_caller_in_line() {
    explore("nested call", 3, || {
        let world = World::new(1, 2);
        let beside = world.beside(World::call);
        let outer = world.bulkhead.run(|| {
            assert!(world.call().is_success(), "there is a place for each");
            world.task();
        });
        assert!(outer.is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 3);
        assert_eq!(world.assert_whole().successful_executions, 3);
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G9: a nested call that would wait for a place does not, while another caller does so and may be given its own.
#[test]
fn nested_call_for_a_place_against_a_caller_that_waits_for_one() {
    explore("nested call for a place", 4, || {
        let world = World::new(1, 0);
        let beside = world.beside(World::patient_call);
        let outer = world.bulkhead.call().wait_for_capacity(Duration::MAX);
        let outer = outer.run(|| {
            world
                .patient_call()
                .error()
                .is_some_and(|e| e.is_rejected())
        });
        assert!(outer.into_result().unwrap(), "it had the only place");
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 1);
        assert_eq!(world.assert_whole().rejected_full, 1);
    });
}

/// G1: a caller that waits for a place gets it when the call before ends, and with it the slot. No wake-up is lost.
#[test]
fn waiting_for_a_place_against_its_return() {
    explore("wait for capacity", 4, || {
        let world = World::new(1, 0);
        let beside = world.beside(World::patient_call);
        assert!(world.patient_call().is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 2);
        assert_eq!(world.assert_whole().successful_executions, 2);
    });
}
