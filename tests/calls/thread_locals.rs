//! Bulkheads and calls in the destructors of thread-local values: the last code that a thread runs.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, CircuitBreakerConfig, CircuitState};

use crate::support::{Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, config, wait};

/// Runs a closure when it is dropped.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

thread_local!(static AT_END: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) });

/// Runs `last` when this thread is at its end.
fn at_end(last: impl FnOnce() + 'static) {
    AT_END.with(|end| end.borrow_mut().0 = Some(Box::new(last)));
}

/// How many tasks of a bulkhead with one worker run at the same time, if this thread waits for one.
fn most_at_once(bulkhead: &Bulkhead) -> usize {
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let running = Arc::new(AtomicUsize::new(0));
    let busy = {
        let (gate, running) = (gate.clone(), Arc::clone(&running));
        bulkhead.run(move || {
            running.fetch_add(1, Ordering::SeqCst);
            gate.pass();
            running.fetch_sub(1, Ordering::SeqCst);
        })
    };
    gate.wait_for_arrivals(1);
    let at_once = bulkhead.run(move || running.load(Ordering::SeqCst) + 1);
    // On a worker of that bulkhead this would run the task.
    let early = at_once.wait_timeout(Duration::from_millis(1));
    gate.open();
    let at_once = early.unwrap_or_else(wait).into_result().unwrap();
    wait(busy).into_result().unwrap();
    at_once
}

#[test]
fn a_worker_that_has_left_is_a_worker_no_more() {
    let idle_timeout = Duration::from_millis(1);
    let bulkhead = Arc::new(Bulkhead::new(config(1, 3).idle_timeout(idle_timeout)).unwrap());
    let (tell, told) = mpsc::channel();
    let own = Arc::downgrade(&bulkhead);
    let handle = bulkhead.run(move || {
        at_end(move || {
            let own = own.upgrade().expect("the test holds it");
            tell.send(most_at_once(&own)).unwrap();
        });
    });
    wait(handle).into_result().unwrap();
    // Another thread has its index by now.
    let at_once = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(at_once, 1, "N = 1, and two tasks ran at once");
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (3, 0));
    assert_balanced(&stats);
}

#[test]
fn a_thread_that_was_a_worker_is_none_of_another_bulkhead() {
    let (over, is_over) = mpsc::channel::<()>();
    let (give, given) = mpsc::channel::<Arc<Bulkhead>>();
    let (tell, told) = mpsc::channel();
    let first = Arc::new(bulkhead(1, 3));
    let own = Arc::clone(&first);
    let last_owner = Gate::new();
    let opener = OpenOnDrop(last_owner.clone());
    let handle = first.run(move || {
        at_end(move || {
            // The worker has let go of its bulkhead, whose memory may serve the next one.
            drop(over);
            for next in given {
                tell.send(most_at_once(&next)).unwrap();
            }
        });
        // Otherwise the test would be the last owner, and wait for this thread.
        last_owner.pass();
        drop(own);
    });
    drop(first);
    drop(opener);
    wait(handle).into_result().unwrap();
    assert!(is_over.recv().is_err());
    let kept: Vec<_> = (0..50).map(|_| Arc::new(bulkhead(1, 3))).collect();
    for next in &kept {
        give.send(Arc::clone(next)).unwrap();
        assert_eq!(told.recv().unwrap(), 1, "N = 1, and two tasks ran at once");
    }
}

#[test]
fn a_bulkhead_in_a_thread_local_runs_its_queue_before_its_thread_is_gone() {
    thread_local!(static OWN: RefCell<Option<Bulkhead>> = const { RefCell::new(None) });
    let done = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&done);
    let gate = Gate::new();
    let opener = gate.clone();
    let owner = thread::spawn(move || {
        OWN.with_borrow_mut(|own| {
            let bulkhead = own.insert(bulkhead(1, 10));
            wait(bulkhead.run(|| ())).into_result().unwrap();
            drop(bulkhead.run(move || gate.pass()));
            for _ in 0..5 {
                let done = Arc::clone(&counter);
                drop(bulkhead.run(move || done.fetch_add(1, Ordering::SeqCst)));
            }
        });
    });
    opener.wait_for_arrivals(1);
    opener.open();
    owner.join().unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 5);
}

#[test]
fn a_call_in_a_destructor_is_a_call_like_any_other() {
    let probing = CircuitBreakerConfig::default()
        .success_threshold(1)
        .isolation_duration(Duration::ZERO);
    let bulkhead = Arc::new(Bulkhead::new(config(1, 1).circuit_breaker(probing)).unwrap());
    let (tell, told) = mpsc::channel();
    let used = Arc::clone(&bulkhead);
    thread::spawn(move || {
        let last = Arc::clone(&used);
        at_end(move || {
            last.circuit_breaker().unwrap().trip();
            tell.send(wait(last.run(|| 1)).into_result().unwrap())
                .unwrap();
        });
        // The crate makes its thread-local values after ours, so that they are dropped before it.
        wait(used.run(|| ())).into_result().unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(told.recv().unwrap(), 1);
    let stats = bulkhead.stats();
    assert_eq!(stats.in_flight, 0);
    assert_eq!(stats.circuit_state, Some(CircuitState::Closed));
}

#[test]
fn handles_that_go_with_their_thread_detach_or_cancel_or_are_waited_for() {
    let bulkhead = Arc::new(bulkhead(1, 3));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let token = Arc::new(());
    let keep_busy = |gate: Gate| move || gate.pass();
    let busy = bulkhead.run(keep_busy(gate.clone()));
    gate.wait_for_arrivals(1);
    let leave = |last: Box<dyn FnOnce() + Send>| {
        thread::spawn(move || at_end(last)).join().unwrap();
    };

    let (inside, detached) = (Arc::clone(&token), bulkhead.run(|| ()));
    leave(Box::new(move || drop((detached, inside))));
    assert_eq!(bulkhead.stats().queued_tasks, 1, "it is still to run");

    let inside = Arc::clone(&token);
    let guard = bulkhead.run(move || drop(inside)).cancel_on_drop();
    leave(Box::new(move || drop(guard)));
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    assert_eq!(Arc::strong_count(&token), 1, "the closure is gone");

    let (tell, told) = mpsc::channel();
    let waited = bulkhead.run(|| 3);
    leave(Box::new(move || {
        opener.0.open();
        tell.send(wait(waited).into_result().unwrap()).unwrap();
    }));
    assert_eq!(told.recv().unwrap(), 3);
    wait(busy).into_result().unwrap();
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (3, 0));
}
