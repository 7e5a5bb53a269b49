//! Deadlines of callers in line.

use bulkman::model::advance;

use super::helpers::{Met, SECOND, World, is_expired, met};
use crate::support::{assert_balanced, explore};

/// G2, G5: the deadline of a caller in line against the slot that is handed to it: one outcome, and the slot is there
/// for the next.
#[test]
fn deadline_in_line_against_a_seat() {
    explore("deadline in line", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::brief_call);
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
        });
        assert!(here.is_success());
        let there = beside.join().unwrap();
        assert!(there.is_success() || is_expired(&there));
        assert_eq!(world.ran(), 1 + u64::from(there.is_success()));
        let stats = world.assert_whole();
        assert_eq!(stats.timed_out_executions, u64::from(is_expired(&there)));
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G2, G5: the first in line goes at the limit of its caller while it is given the slot, or gives it back: the next in
/// line has it.
#[test]
fn limit_of_the_first_in_line_against_the_next() {
    explore("limit of the first in line", 1, || {
        let world = World::new(1, 2);
        let limited = world.beside(|world| {
            let call = world.bulkhead.call().timeout(SECOND);
            call.run(|| world.task())
        });
        let patient = world.beside(World::call);
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
        });
        assert!(here.is_success());
        let limited = limited.join().unwrap();
        assert!(limited.is_success() || is_expired(&limited));
        assert!(patient.join().unwrap().is_success());
        assert_eq!(world.ran(), 2 + u64::from(limited.is_success()));
        world.assert_whole();
        assert!(world.call().is_success(), "the seat was lost");
    });
}

/// G2, G5, G8: the deadline of a caller in line against the shutdown that cancels it: one of the two ends the call.
#[test]
fn deadline_in_line_against_shutdown_now() {
    explore("deadline in line against shutdown_now", 3, || {
        let world = World::new(1, 1);
        let beside = world.beside(World::brief_call);
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
            drop(world.bulkhead.shutdown_now());
        });
        let here = met(&here);
        let there = met(&beside.join().unwrap());
        assert!(here == Met::Ran);
        assert_eq!(world.ran(), 1 + u64::from(there == Met::Ran));
        assert!(world.bulkhead.shutdown().is_clean());
        let stats = world.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0);
        assert_eq!(
            stats.cancelled_executions,
            u64::from(there == Met::Cancelled)
        );
        assert_eq!(stats.timed_out_executions, u64::from(there == Met::Expired));
    });
}
