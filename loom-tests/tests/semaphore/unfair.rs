//! Slots that go to whoever comes first, and callers that are woken to try.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::SemaphoreBulkhead;
use bulkman::model::{ModelSlots, advance};
use loom::sync::atomic::AtomicUsize as ModelCount;
use loom::thread;

use super::helpers::{Met, SECOND, World, is_expired, met};
use super::slots::Marked;
use crate::support::{assert_balanced, config, explore};

fn marked(seats: usize) -> Arc<Marked> {
    Marked::of(ModelSlots::unfair(seats))
}

fn world(n: usize, q: usize) -> Arc<World> {
    let builder = SemaphoreBulkhead::builder(config(n, q)).fair(false);
    World::around(builder.build().unwrap())
}

/// G2: the only slot comes back while two get into the list: each has it in the end, and no wake-up is lost.
#[test]
fn getting_into_the_list_against_the_only_slot() {
    explore("unfair: getting into the list", 2, || {
        let marked = marked(1);
        let slot = marked.try_take().expect("it is free");
        let waiting = [0, 1].map(|_| {
            let marked = Arc::clone(&marked);
            thread::spawn(move || {
                let slot = marked.take();
                thread::yield_now();
                marked.give_back(slot);
            })
        });
        marked.give_back(slot);
        for waiting in waiting {
            waiting.join().unwrap();
        }
        marked.assert_whole(1);
    });
}

/// G2, G3: two slots come back while two wait: both have one, though perhaps only one of them is woken by a slot that comes
/// back.
#[test]
fn two_slots_that_come_back_against_two_in_the_list() {
    explore("unfair: two slots, two in the list", 2, || {
        let marked = marked(2);
        let [first, second] = [0, 1].map(|_| marked.try_take().expect("it is free"));
        // Each keeps its slot until the other has one too.
        let have = Arc::new(ModelCount::new(0));
        let waiting = [0, 1].map(|_| {
            let (marked, have) = (Arc::clone(&marked), Arc::clone(&have));
            thread::spawn(move || {
                let slot = marked.take();
                have.fetch_add(1, Ordering::Relaxed);
                while have.load(Ordering::Relaxed) < 2 {
                    thread::yield_now();
                }
                marked.give_back(slot);
            })
        });
        marked.give_back(first);
        marked.give_back(second);
        for waiting in waiting {
            waiting.join().unwrap();
        }
        marked.assert_whole(2);
    });
}

/// G2: a slot is taken past a caller that waits, and comes back: the caller has it in the end.
#[test]
fn a_slot_that_is_taken_past_the_list() {
    explore("unfair: past the list", 3, || {
        let marked = marked(1);
        let slot = marked.try_take().expect("it is free");
        let other = Arc::clone(&marked);
        let waiting = thread::spawn(move || {
            let slot = other.take();
            other.give_back(slot);
        });
        marked.give_back(slot);
        for _ in 0..2 {
            if let Some(slot) = marked.try_take() {
                thread::yield_now();
                marked.give_back(slot);
            }
        }
        waiting.join().unwrap();
        marked.assert_whole(1);
    });
}

/// A waiter that was woken in vain as often as is allowed, here once, has the next slot that comes back.
#[test]
fn a_waiter_that_was_woken_in_vain_is_not_overtaken_again() {
    static IN_VAIN: AtomicUsize = AtomicUsize::new(0);
    explore("unfair: woken in vain", 3, || {
        let marked = marked(1);
        let looks = Arc::new(ModelCount::new(0));
        let has_had = Arc::new(ModelCount::new(0));
        let slot = marked.try_take().expect("it is free");
        let waiting = {
            let (marked, looks) = (Arc::clone(&marked), Arc::clone(&looks));
            let has_had = Arc::clone(&has_had);
            thread::spawn(move || {
                let looked = || {
                    looks.fetch_add(1, Ordering::AcqRel);
                };
                let slot = marked.seats.wait(None, || (), looked);
                let slot = marked.mark(slot.expect("it waits for ever"));
                has_had.fetch_add(1, Ordering::AcqRel);
                marked.give_back(slot);
            })
        };
        let mut slot = Some(slot);
        for _ in 0..2 {
            let Some(mine) = slot.take() else { break };
            // One look on the way into the list, one without a reason perhaps, and one for each wake-up.
            let in_vain = looks.load(Ordering::Acquire) >= 3;
            marked.give_back(mine);
            slot = marked.try_take();
            if in_vain {
                IN_VAIN.fetch_add(1, Ordering::Relaxed);
                let overtaken = slot.is_some() && has_had.load(Ordering::Acquire) == 0;
                assert!(!overtaken, "overtaken again");
            }
            thread::yield_now();
        }
        slot.into_iter().for_each(|slot| marked.give_back(slot));
        waiting.join().unwrap();
        marked.assert_whole(1);
    });
    assert!(IN_VAIN.load(Ordering::Relaxed) > 0, "it never was");
}

/// G2, G5: the first of two waiters leaves at its deadline when it was woken, or had asked to be handed the slot: the
/// second has it.
#[test]
fn deadline_of_the_first_in_the_list_against_the_next() {
    explore("unfair: deadline of the first", 2, || {
        let marked = marked(1);
        let slot = marked.try_take().expect("it is free");
        let brief = {
            let marked = Arc::clone(&marked);
            thread::spawn(move || {
                if let Some(slot) = marked.seats.wait(Some(SECOND), || (), || ()) {
                    let slot = marked.mark(slot);
                    marked.give_back(slot);
                }
            })
        };
        let patient = {
            let marked = Arc::clone(&marked);
            thread::spawn(move || {
                let slot = marked.take();
                marked.give_back(slot);
            })
        };
        marked.give_back(slot);
        advance(SECOND);
        if let Some(slot) = marked.try_take() {
            marked.give_back(slot);
        }
        brief.join().unwrap();
        patient.join().unwrap();
        marked.assert_whole(1);
    });
}

/// G1, G3, G4: two callers and one slot, each of them twice.
#[test]
fn two_callers_and_one_slot() {
    explore("unfair: two callers, one slot", 2, || {
        let world = world(1, 1);
        let twice = |world: &World| {
            assert!(world.call().is_success(), "a sequential caller was refused");
            world.call()
        };
        let beside = world.beside(twice);
        assert!(twice(&world).is_success());
        assert!(beside.join().unwrap().is_success());
        assert_eq!(world.ran(), 4);
        assert_eq!(world.assert_whole().successful_executions, 4);
        assert!(world.call().is_success(), "the slot was lost");
    });
}

/// G2, G5: the deadline of a caller in the list against the slot for which it is woken.
#[test]
fn deadline_against_a_wake_up() {
    explore("unfair: deadline", 3, || {
        let world = world(1, 1);
        let beside = world.beside(World::brief_call);
        let here = world.bulkhead.run(|| {
            advance(SECOND);
            world.task();
        });
        assert!(here.is_success());
        let there = beside.join().unwrap();
        assert!(there.is_success() || is_expired(&there));
        assert_eq!(world.ran(), 1 + u64::from(there.is_success()));
        world.assert_whole();
        assert!(world.call().is_success(), "the slot was lost");
    });
}

/// G8: callers that wait, or are woken, against a shutdown that cancels.
#[test]
fn shutdown_now_against_callers_in_the_list() {
    explore("unfair: shutdown_now", 2, || {
        let world = world(1, 1);
        let beside = [0, 1].map(|_| world.beside(World::call));
        drop(world.bulkhead.shutdown_now());
        let met = beside.map(|beside| met(&beside.join().unwrap()));
        let ran = met.iter().filter(|met| **met == Met::Ran).count() as u64;
        assert_eq!(world.ran(), ran);
        assert!(world.bulkhead.shutdown().is_clean());
        let stats = world.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.submitted_executions, stats.in_flight), (2, 0));
        assert_eq!(stats.successful_executions, ran);
    });
}
