//! A bulkhead that stays open can be waited for until it has nothing to do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bulkman::{
    AnyBulkhead, Bulkhead, BulkheadEvent, CapturedContext, ContextPropagator, SemaphoreBulkhead,
};

use crate::support::{
    Gate, OpenOnDrop, Over, PATIENCE, bulkhead, config, eventually, in_time, occupy, wait,
};

#[test]
fn a_bulkhead_without_calls_is_idle() {
    for any in [
        AnyBulkhead::from(Arc::new(bulkhead(1, 1))),
        AnyBulkhead::from(Arc::new(SemaphoreBulkhead::new(config(1, 1)).unwrap())),
    ] {
        assert!(any.wait_idle(Duration::ZERO));
        assert!(wait(any.execute(|| Ok::<_, ()>(()))).is_success());
        assert!(any.wait_idle(Duration::ZERO), "its place is free again");
        any.close();
        assert!(any.wait_idle(Duration::MAX), "closed or not");
    }
}

#[test]
fn a_running_and_a_queued_call_are_waited_for() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    assert!(!bulkhead.wait_idle(Duration::ZERO));
    assert!(!bulkhead.wait_idle(Duration::from_millis(1)));
    let bulkhead = &bulkhead;
    thread::scope(|scope| {
        let waiting = [PATIENCE, PATIENCE, Duration::MAX]
            .map(|limit| scope.spawn(move || bulkhead.wait_idle(limit)));
        assert!(
            !bulkhead.wait_idle(Duration::from_millis(1)),
            "beside others"
        );
        busy.finish();
        for waiting in waiting {
            assert!(waiting.join().unwrap());
        }
    });
    assert!(queued.is_finished() || wait(queued).is_success());
    assert!(wait(bulkhead.run(|| ())).is_success(), "still open");
}

#[test]
fn what_the_tasks_did_can_be_seen() {
    let bulkhead = bulkhead(4, 400);
    let done = Arc::new(AtomicU64::new(0));
    for round in 1..=50 {
        for _ in 0..100 {
            let done = Arc::clone(&done);
            drop(bulkhead.run(move || done.fetch_add(1, Ordering::Relaxed)));
        }
        assert!(bulkhead.wait_idle(PATIENCE));
        assert_eq!(done.load(Ordering::Relaxed), round * 100);
        assert_eq!(bulkhead.stats().in_flight, 0);
    }
}

#[test]
fn cancelled_and_expired_calls_are_not_waited_for() {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let cancelled = bulkhead.run(|| ());
    let expires = bulkhead.call().queue_timeout(Duration::ZERO).run(|| ());
    assert!(cancelled.cancel());
    assert!(!wait(expires).is_success());
    busy.finish();
    assert!(bulkhead.wait_idle(PATIENCE));
}

#[test]
fn a_moment_without_calls_counts_although_others_follow() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // One caller at a time: between two calls there is nothing to do.
                while !over.load(Ordering::Relaxed) {
                    assert!(wait(bulkhead.run(thread::yield_now)).is_success());
                }
            });
            let _over = Over(&over);
            for _ in 0..100 {
                assert!(bulkhead.wait_idle(Duration::MAX));
            }
        });
    });
}

#[test]
fn under_constant_traffic_it_gives_up_at_its_limit() {
    in_time(|| {
        let bulkhead = bulkhead(1, 2);
        let gates = [Gate::new(), Gate::new(), Gate::new()];
        let openers = gates.clone().map(OpenOnDrop);
        let [first, second, third] = gates.clone().map(|gate| bulkhead.run(move || gate.pass()));
        for (gate, handle) in gates.iter().zip([first, second]) {
            gate.open();
            assert!(wait(handle).is_success());
            assert!(!bulkhead.wait_idle(Duration::from_millis(1)));
        }
        drop(openers);
        assert!(wait(third).is_success());
        assert!(bulkhead.wait_idle(PATIENCE));
    });
}

#[test]
fn a_task_that_waits_for_its_own_bulkhead_only_looks() {
    in_time(|| {
        let pool = Arc::new(bulkhead(1, 1));
        let of_task = Arc::clone(&pool);
        let answer = pool.run(move || of_task.wait_idle(Duration::MAX));
        assert_eq!(wait(answer).value(), Some(&false));

        let semaphore = SemaphoreBulkhead::new(config(1, 1)).unwrap();
        let answer = semaphore.run(|| semaphore.wait_idle(Duration::MAX));
        assert_eq!(answer.value(), Some(&false));
        let answer = semaphore.run(|| semaphore.wait_closed(Duration::MAX));
        assert_eq!(answer.value(), Some(&false));
    });
}

#[test]
fn a_task_may_wait_for_another_bulkhead() {
    in_time(|| {
        let other = Arc::new(bulkhead(1, 1));
        let busy = occupy(&other, 1);
        let asked = Gate::new();
        let waiting = bulkhead(1, 0);
        let answer = {
            let (other, asked) = (Arc::clone(&other), asked.clone());
            waiting.run(move || {
                asked.pass();
                other.wait_idle(Duration::MAX)
            })
        };
        asked.open();
        busy.finish();
        assert_eq!(wait(answer).value(), Some(&true));
    });
}

/// Asks its bulkhead in the thread of each caller, which holds a place at that moment.
struct Asks(Arc<OnceLock<Weak<Bulkhead>>>, Arc<AtomicBool>);

impl ContextPropagator for Asks {
    fn capture(&self) -> CapturedContext {
        let bulkhead = self.0.get().and_then(Weak::upgrade).unwrap();
        let is_idle = bulkhead.wait_idle(Duration::MAX);
        self.1.fetch_or(is_idle, Ordering::Relaxed);
        CapturedContext::new(|| Box::new(()))
    }
}

#[test]
fn a_thread_that_holds_a_place_only_looks() {
    in_time(|| {
        let (itself, was_idle) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let asks = Asks(Arc::clone(&itself), Arc::clone(&was_idle));
        let heard: Arc<OnceLock<Weak<Bulkhead>>> = Arc::clone(&itself);
        let bulkhead = Bulkhead::builder(config(1, 1))
            .context_propagator(asks)
            .listener(move |event: &BulkheadEvent<'_>| {
                if matches!(event, BulkheadEvent::Finished { .. }) {
                    let bulkhead = heard.get().and_then(Weak::upgrade).unwrap();
                    assert!(!bulkhead.wait_idle(Duration::MAX));
                }
            })
            .build()
            .unwrap();
        let bulkhead = Arc::new(bulkhead);
        itself.set(Arc::downgrade(&bulkhead)).unwrap();
        assert!(wait(bulkhead.run(|| ())).is_success());
        assert!(!was_idle.load(Ordering::Relaxed));
        assert!(bulkhead.wait_idle(PATIENCE));
    });
}

#[test]
fn callers_in_line_for_a_slot_are_waited_for() {
    in_time(|| {
        let semaphore = SemaphoreBulkhead::new(config(1, 1)).unwrap();
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        thread::scope(|scope| {
            scope.spawn(|| semaphore.run(|| gate.pass()));
            gate.wait_for_arrivals(1);
            let in_line = scope.spawn(|| semaphore.run(|| "ran"));
            eventually("one waits", || semaphore.available_capacity() == 0);
            let waiting = scope.spawn(|| semaphore.wait_idle(Duration::MAX));
            assert!(!semaphore.wait_idle(Duration::from_millis(1)));
            drop(opener);
            assert!(waiting.join().unwrap());
            assert_eq!(in_line.join().unwrap().value(), Some(&"ran"));
        });
    });
}
