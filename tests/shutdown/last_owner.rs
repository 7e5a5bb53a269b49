//! The last owner of a bulkhead may go anywhere, also on one of its own workers.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, ManualClock};

use super::helpers::{Owner, eventually_no_threads_of, named};
use crate::support::{Gate, OpenOnDrop, in_time, occupy, wait, with_clock};

#[test]
fn the_last_owner_may_go_inside_a_task() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("intsk", 2, 4)).unwrap());
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let busy = occupy(&bulkhead, 1);
        let last = {
            let bulkhead = Arc::clone(&bulkhead);
            let gate = gate.clone();
            bulkhead.clone().run(move || {
                gate.pass();
                assert_eq!(Arc::strong_count(&bulkhead), 1);
                drop(bulkhead);
                "alive"
            })
        };
        gate.wait_for_arrivals(1);
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        drop(opener);
        assert_eq!(wait(last).value(), Some(&"alive"));
        busy.finish();
        assert_eq!(wait(queued).value(), Some(&"ran"));
        eventually_no_threads_of("intsk");
    });
}

#[test]
fn the_last_owner_may_be_a_result_that_nobody_waits_for() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("inres", 2, 4)).unwrap());
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        {
            let bulkhead = Arc::clone(&bulkhead);
            drop(bulkhead.clone().run(move || {
                gate.pass();
                Owner(bulkhead)
            }));
        }
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        drop(opener);
        assert_eq!(wait(queued).value(), Some(&"ran"));
        eventually_no_threads_of("inres");
    });
}

#[test]
fn the_last_owner_may_be_a_closure_that_a_worker_throws_away() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(named("incls", 1, 4));
        let busy = occupy(&bulkhead, 1);
        let owner = Owner(Arc::clone(&bulkhead));
        let expiring = bulkhead.call().queue_timeout(Duration::from_secs(1));
        drop(expiring.run(move || drop(owner)));
        let queued = bulkhead.run(|| "ran");
        drop(bulkhead);
        clock.advance(Duration::from_secs(1));
        busy.finish();
        assert_eq!(queued.wait().value(), Some(&"ran"));
        eventually_no_threads_of("incls");
    });
}

/// A bulkhead with one worker, which is busy until the bulkhead is shut down.
fn busy_until_it_ends(name: &str, clock: &ManualClock) -> Arc<Bulkhead> {
    let gate = Gate::new();
    let bulkhead = Bulkhead::builder(named(name, 1, 4))
        .clock(clock.clone())
        .listener({
            let gate = gate.clone();
            move |event: &BulkheadEvent<'_>| {
                if matches!(event, BulkheadEvent::ShuttingDown { .. }) {
                    gate.open();
                }
            }
        })
        .build()
        .unwrap();
    let at_gate = gate.clone();
    drop(bulkhead.run(move || at_gate.pass()));
    gate.wait_for_arrivals(1);
    Arc::new(bulkhead)
}

#[test]
fn the_last_owner_may_be_a_closure_that_its_caller_cancels() {
    in_time(|| {
        let bulkhead = busy_until_it_ends("cancl", &ManualClock::new());
        let owner = Owner(Arc::clone(&bulkhead));
        let handle = bulkhead.run(move || drop(owner));
        drop(bulkhead);
        assert!(handle.cancel());
        eventually_no_threads_of("cancl");
    });
}

#[test]
fn the_last_owner_may_be_a_closure_that_expires_in_its_waiters_hands() {
    in_time(|| {
        let clock = ManualClock::new();
        let bulkhead = busy_until_it_ends("expir", &clock);
        let owner = Owner(Arc::clone(&bulkhead));
        let expiring = bulkhead.call().queue_timeout(Duration::from_secs(1));
        let handle = expiring.run(move || drop(owner));
        drop(bulkhead);
        clock.advance(Duration::from_secs(1));
        let result = handle.wait();
        assert!(matches!(
            result.error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        eventually_no_threads_of("expir");
    });
}

/// Where callbacks find the bulkhead that they belong to.
type Slot = Arc<Mutex<Option<Bulkhead>>>;

/// Drops the bulkhead in the slot, outside the slot's lock.
fn drop_from(slot: &Slot) {
    let bulkhead = slot.lock().unwrap().take();
    drop(bulkhead);
}

#[test]
fn the_last_owner_may_be_a_listener_on_a_worker() {
    for at_the_start in [true, false] {
        in_time(move || {
            let slot = Slot::default();
            let in_listener = Arc::clone(&slot);
            let bulkhead = Bulkhead::builder(named("inlsn", 1, 4))
                .listener(move |event: &BulkheadEvent<'_>| match event {
                    BulkheadEvent::Started { .. } if at_the_start => drop_from(&in_listener),
                    BulkheadEvent::Finished { .. } => drop_from(&in_listener),
                    _ => {}
                })
                .build()
                .unwrap();
            let handle;
            {
                let mut slot = slot.lock().unwrap();
                handle = bulkhead.run(|| "ran");
                *slot = Some(bulkhead);
            }
            assert_eq!(wait(handle).value(), Some(&"ran"));
            assert!(slot.lock().unwrap().is_none());
            eventually_no_threads_of("inlsn");
        });
    }
}

thread_local!(static LAST_OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) });

#[test]
fn the_last_owner_may_be_a_thread_local_value_of_a_worker() {
    in_time(|| {
        let bulkhead = Arc::new(Bulkhead::new(named("tls", 2, 4)).unwrap());
        let handle = {
            let bulkhead = Arc::clone(&bulkhead);
            bulkhead
                .clone()
                .run(move || LAST_OWNER.set(Some(Owner(bulkhead))))
        };
        assert!(wait(handle).is_success());
        // The workers end, and one of them takes the last owner with it.
        let report = bulkhead.shutdown_timeout(Duration::MAX);
        assert!(report.is_clean());
        drop(bulkhead);
        eventually_no_threads_of("tls");
    });
}

thread_local!(static BEFORE_ALL: RefCell<Option<Owner>> = const { RefCell::new(None) });

#[test]
fn the_last_owner_may_be_a_thread_local_value_that_is_older_than_the_workers_own() {
    in_time(|| {
        // The hook is the first of the user's code on the thread, so its value is destroyed at
        // another moment than those of tasks.
        let slot: Arc<OnceLock<Arc<Bulkhead>>> = Arc::default();
        let built = Gate::new();
        let bulkhead = Bulkhead::builder(named("tls2", 1, 4))
            .on_worker_start({
                let (slot, built) = (Arc::downgrade(&slot), built.clone());
                move |_| {
                    built.pass();
                    let slot = slot.upgrade().unwrap();
                    BEFORE_ALL.set(Some(Owner(Arc::clone(slot.get().unwrap()))));
                }
            })
            .build()
            .unwrap();
        let bulkhead = Arc::clone(slot.get_or_init(|| Arc::new(bulkhead)));
        built.open();
        assert!(wait(bulkhead.run(|| ())).is_success());
        drop(slot);
        let report = bulkhead.shutdown_timeout(Duration::MAX);
        assert!(report.is_clean());
        drop(bulkhead);
        eventually_no_threads_of("tls2");
    });
}
