//! A refusal is counted, gives the closure back, and takes no lock that user code can hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadError, BulkheadEvent, CircuitBreakerConfig, ManualClock, RejectReason,
    Rejected,
};

use crate::support::{
    Gate, OpenOnDrop, SlowDrop, assert_balanced, bulkhead, config, in_time, occupy, wait,
    with_clock,
};

/// Asserts that the bulkhead is full, and says so in all forms.
fn assert_full(bulkhead: &Arc<Bulkhead>) {
    let bulkhead = Arc::clone(bulkhead);
    in_time(move || {
        for _ in 0..10 {
            let rejected = bulkhead.try_execute(|| Ok::<_, ()>(5)).unwrap_err();
            assert!(rejected.reason.is_full());
            assert_eq!((rejected.task)(), Ok(5));
            let handle = bulkhead.run(|| ());
            assert!(handle.is_finished());
            assert!(!handle.cancel());
            assert!(matches!(
                handle.wait().error(),
                Some(BulkheadError::Full { .. })
            ));
            assert_eq!(bulkhead.available_capacity(), 0);
            assert_balanced(&bulkhead.stats());
        }
    });
}

// ---- it is counted

#[test]
fn who_was_refused_finds_it_counted() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    for i in 1..=1_000 {
        assert!(bulkhead.try_execute(|| Ok::<_, ()>(())).is_err());
        let stats = bulkhead.stats();
        assert_eq!((stats.rejected_full, stats.in_flight), (i, 1));
    }
    busy.finish();
}

// ---- the closure comes back

/// A value that cannot be cloned, so that this very value must come back.
#[derive(Debug, PartialEq)]
struct Precious(Box<u32>);

/// Has it refused, and asserts that it comes back untouched and callable.
fn assert_given_back(bulkhead: &Bulkhead) -> RejectReason {
    let precious = Precious(Box::new(42));
    let address = std::ptr::from_ref(&*precious.0).addr();
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    let task = move || {
        drop(held);
        Ok::<_, ()>(precious)
    };
    let before = bulkhead.stats().rejected_executions;
    let Rejected { reason, task, .. } = bulkhead.try_execute(task).expect_err("refused");
    assert_eq!(bulkhead.stats().rejected_executions, before + 1);
    assert_eq!(Arc::strong_count(&dropped), 2, "nothing of it was dropped");
    let precious = task().unwrap();
    assert_eq!(precious, Precious(Box::new(42)));
    assert_eq!(std::ptr::from_ref(&*precious.0).addr(), address);
    assert_eq!(Arc::strong_count(&dropped), 1);
    reason
}

#[test]
fn a_full_bulkhead_gives_the_closure_back() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    assert_eq!(
        assert_given_back(&bulkhead),
        RejectReason::Full {
            bulkhead: "test".into(),
            max_concurrent_calls: 1,
            max_queue_size: 1,
            waited: None,
        }
    );
    busy.finish();
    assert!(wait(queued).is_success());
}

#[test]
fn an_open_circuit_gives_the_closure_back() {
    let config = config(1, 1).circuit_breaker(CircuitBreakerConfig::default());
    let bulkhead = Bulkhead::new(config).unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    assert!(assert_given_back(&bulkhead).is_circuit_open());
    assert_eq!(bulkhead.available_capacity(), 2, "it took no place");
}

#[test]
fn a_bulkhead_that_is_shut_down_gives_the_closure_back() {
    let bulkhead = bulkhead(1, 1);
    let _ = bulkhead.shutdown();
    assert!(assert_given_back(&bulkhead).is_shut_down());
}

#[test]
fn a_call_that_waited_in_vain_gives_the_closure_back() {
    let bulkhead = Bulkhead::builder(config(1, 0))
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    let zero = bulkhead.call().wait_for_capacity(Duration::ZERO);
    let rejected = zero.try_execute(|| Ok::<_, ()>("mine")).unwrap_err();
    assert!(matches!(
        rejected.reason,
        RejectReason::Full {
            waited: Some(Duration::ZERO),
            ..
        }
    ));
    assert_eq!((rejected.task)(), Ok("mine"));
    busy.finish();
}

#[test]
fn a_refused_closure_can_be_submitted_again() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let text = String::from("twice");
    let rejected = bulkhead.try_execute(move || Ok::<_, ()>(text)).unwrap_err();
    busy.finish();
    let handle = bulkhead.try_execute(rejected.task).expect("there is room");
    assert_eq!(wait(handle).value().map(String::as_str), Some("twice"));
}

#[test]
fn a_rejection_is_an_error_whatever_the_closure_is() {
    fn as_error(error: impl std::error::Error) -> (String, String) {
        (error.to_string(), format!("{error:?}"))
    }

    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    // Neither `Debug` nor `Clone` nor `Sync`.
    let odd = std::cell::Cell::new(0);
    let rejected = bulkhead.try_execute(move || Ok::<_, ()>(odd)).unwrap_err();
    let (text, debug) = as_error(rejected);
    assert!(text.starts_with("bulkhead `test` is full"), "{text}");
    assert!(debug.starts_with("Rejected { reason: Full"), "{debug}");
    busy.finish();
}

#[test]
fn execute_drops_the_refused_closure_in_the_callers_thread() {
    struct Tells(mpsc::Sender<thread::ThreadId>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let (tells, told) = mpsc::channel();
    let tells = Tells(tells);
    let handle = bulkhead.run(move || drop(tells));
    assert_eq!(told.try_recv(), Ok(thread::current().id()));
    assert!(wait(handle).error().is_some());
    busy.finish();
}

// ---- no lock that a task can hold

#[test]
fn refused_while_every_worker_is_stuck_in_a_task() {
    let bulkhead = Arc::new(bulkhead(2, 0));
    let busy = occupy(&bulkhead, 2);
    assert_full(&bulkhead);
    busy.finish();
}

#[test]
fn refused_and_admitted_while_a_cancelled_closure_is_being_dropped() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let slow = SlowDrop(gate.clone());
    let handle = bulkhead.run(move || drop(slow));
    thread::scope(|scope| {
        let cancelling = scope.spawn(|| handle.cancel());
        gate.wait_for_arrivals(1);
        // Its place is free already.
        let next = bulkhead.run(|| ());
        assert!(!next.is_finished());
        assert_full(&bulkhead);
        drop(opener);
        assert!(cancelling.join().unwrap());
        busy.finish();
        assert!(wait(next).is_success());
    });
}

#[test]
fn refused_and_admitted_while_a_worker_drops_an_expired_closure() {
    let (bulkhead, clock) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let slow = SlowDrop(gate.clone());
    let second = Duration::from_secs(1);
    drop(
        bulkhead
            .call()
            .queue_timeout(second)
            .run(move || drop(slow)),
    );
    clock.advance(second);
    busy.finish();
    gate.wait_for_arrivals(1);
    // Its place is free already, and so is the other one, though the only worker is not.
    let queued = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    assert_full(&bulkhead);
    gate.open();
    for handle in queued {
        assert!(handle.wait().is_success());
    }
}

#[test]
fn refused_and_admitted_while_a_result_that_nobody_wants_is_being_dropped() {
    let bulkhead = Arc::new(bulkhead(1, 0));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let started = Gate::new();
    let handle = {
        let (slow, started) = (SlowDrop(gate.clone()), started.clone());
        bulkhead.run(move || {
            started.pass();
            slow
        })
    };
    started.wait_for_arrivals(1);
    drop(handle);
    started.open();
    gate.wait_for_arrivals(1);
    // The place is free already, though the worker is not.
    let queued = bulkhead.run(|| ());
    assert!(!queued.is_finished());
    assert_full(&bulkhead);
    gate.open();
    assert!(wait(queued).is_success());
}

/// A bulkhead whose listener stops at a gate, at the first event that `stops` picks.
fn with_slow_listener(
    n: usize,
    q: usize,
    gate: &Gate,
    stops: fn(&BulkheadEvent<'_>) -> bool,
) -> Arc<Bulkhead> {
    let gate = gate.clone();
    let stopped = AtomicBool::new(false);
    let rules = CircuitBreakerConfig::default().failure_threshold(1);
    let built = Bulkhead::builder(config(n, q).circuit_breaker(rules))
        .listener(move |event: &BulkheadEvent<'_>| {
            if stops(event) && !stopped.swap(true, Ordering::SeqCst) {
                gate.pass();
            }
        })
        .build();
    Arc::new(built.unwrap())
}

#[test]
fn refused_while_a_listener_is_told_of_a_start_or_an_end() {
    let picks: [fn(&BulkheadEvent<'_>) -> bool; 2] = [
        |event| matches!(event, BulkheadEvent::Started { .. }),
        |event| matches!(event, BulkheadEvent::Finished { .. }),
    ];
    for stops in picks {
        let gate = Gate::new();
        let bulkhead = with_slow_listener(1, 0, &gate, stops);
        let _opener = OpenOnDrop(gate.clone());
        let handle = bulkhead.run(|| ());
        gate.wait_for_arrivals(1);
        assert_full(&bulkhead);
        gate.open();
        assert!(wait(handle).is_success());
    }
}

#[test]
fn refused_while_a_listener_is_told_of_a_refusal() {
    let gate = Gate::new();
    let bulkhead = with_slow_listener(1, 0, &gate, |event| {
        matches!(event, BulkheadEvent::Rejected { .. })
    });
    let busy = occupy(&bulkhead, 1);
    let _opener = OpenOnDrop(gate.clone());
    thread::scope(|scope| {
        let first = scope.spawn(|| bulkhead.try_execute(|| Ok::<_, ()>(())).is_err());
        gate.wait_for_arrivals(1);
        assert_full(&bulkhead);
        gate.open();
        assert!(first.join().unwrap());
    });
    busy.finish();
}

#[test]
fn refused_by_the_circuit_while_a_listener_is_told_that_it_opened() {
    let gate = Gate::new();
    let bulkhead = with_slow_listener(1, 3, &gate, |event| {
        matches!(event, BulkheadEvent::CircuitChanged { .. })
    });
    let _opener = OpenOnDrop(gate.clone());
    let failing = bulkhead.execute(|| Err::<(), _>("down"));
    gate.wait_for_arrivals(1);
    let asks = Arc::clone(&bulkhead);
    in_time(move || {
        let refused = asks.run(|| ()).wait();
        assert!(matches!(
            refused.error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
    });
    gate.open();
    assert!(matches!(
        wait(failing).error(),
        Some(BulkheadError::Failed("down"))
    ));
}

#[test]
fn refused_while_a_waker_is_being_woken() {
    struct SlowWaker(Gate);
    impl std::task::Wake for SlowWaker {
        fn wake(self: Arc<Self>) {
            self.0.pass();
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 0));
    let wakes = Gate::new();
    let _opener = OpenOnDrop(wakes.clone());
    let busy = Gate::new();
    let mut handle = {
        let busy = busy.clone();
        bulkhead.run(move || busy.pass())
    };
    busy.wait_for_arrivals(1);
    let waker = Arc::new(SlowWaker(wakes.clone())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let polled = std::future::Future::poll(std::pin::Pin::new(&mut handle), &mut context);
    assert!(polled.is_pending());
    busy.open();
    wakes.wait_for_arrivals(1);
    let queued = bulkhead.run(|| ());
    assert_full(&bulkhead);
    wakes.open();
    assert!(wait(queued).is_success());
    assert!(wait(handle).is_success());
}

#[test]
fn refused_while_a_context_is_captured_by_another_caller() {
    struct SlowCapture(Gate, Mutex<bool>);
    impl bulkman::ContextPropagator for SlowCapture {
        fn capture(&self) -> bulkman::CapturedContext {
            let first = !std::mem::replace(&mut *self.1.lock().unwrap(), true);
            if first {
                self.0.pass();
            }
            bulkman::CapturedContext::new(|| Box::new(()))
        }
    }

    let gate = Gate::new();
    let built = Bulkhead::builder(config(1, 0))
        .context_propagator(SlowCapture(gate.clone(), Mutex::new(false)))
        .build();
    let bulkhead = Arc::new(built.unwrap());
    let _opener = OpenOnDrop(gate.clone());
    thread::scope(|scope| {
        let first = scope.spawn(|| bulkhead.run(|| ()));
        gate.wait_for_arrivals(1);
        // It holds the only place already.
        assert_full(&bulkhead);
        gate.open();
        assert!(wait(first.join().unwrap()).is_success());
    });
}
