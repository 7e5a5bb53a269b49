//! Calls that are queued when the circuit opens: they are refused at once, never start, and are counted apart.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use crate::support::{
    Gate, OpenOnDrop, assert_balanced, config, eventually, in_time, occupy, wait,
};
use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, CircuitBreakerConfig, CircuitMode,
    CircuitState, ExecutionHandle, ManualClock, SemaphoreBulkhead,
};

const ISOLATION: Duration = Duration::from_secs(30);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

fn with_circuit(n: usize, q: usize) -> BulkheadConfig {
    config(n, q).circuit_breaker(rules())
}

fn build(config: BulkheadConfig) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let built = Bulkhead::builder(config).clock(clock.clone()).build();
    (built.unwrap(), clock)
}

fn circuit(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().unwrap().state()
}

/// Counts how often it runs.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn submit(&self, bulkhead: &Bulkhead) -> ExecutionHandle<(), &'static str> {
        let runs = self.clone();
        bulkhead.execute(move || {
            runs.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// How many closures there are that hold it.
    fn holders(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

fn assert_refused<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: &bulkman::ExecutionResult<T, E>,
    expected: Duration,
) {
    match result.error() {
        Some(error @ BulkheadError::CircuitOpen { retry_after, .. }) => {
            assert_eq!(*retry_after, expected);
            assert!(error.never_started() && error.is_rejected());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn they_are_refused_while_their_worker_is_still_busy() {
    let (bulkhead, clock) = build(with_circuit(1, 10));
    let busy = occupy(&bulkhead, 1);
    let runs = Runs::default();
    let handles: Vec<_> = (0..10).map(|_| runs.submit(&bulkhead)).collect();
    clock.advance(Duration::from_secs(1));
    bulkhead.circuit_breaker().unwrap().trip();
    assert_eq!(runs.holders(), 0, "their closures are gone");
    assert_eq!(bulkhead.available_capacity(), 10, "their places are free");
    for handle in handles {
        assert!(handle.is_finished());
        let result = wait(handle);
        assert_eq!(result.queued_time, Duration::from_secs(1));
        assert_refused(&result, ISOLATION);
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.refused_in_queue_executions, 10);
    assert_eq!((stats.rejected_executions, stats.queued_tasks), (0, 0));
    busy.finish();
    assert_eq!(runs.count(), 0);
    bulkhead.reset_stats();
    assert_eq!(bulkhead.stats().refused_in_queue_executions, 0);
}

#[test]
fn a_failure_refuses_those_behind_it() {
    let (bulkhead, _clock) = build(with_circuit(1, 10));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let failing = bulkhead.execute(move || {
        at_gate.pass();
        Err::<(), _>("down")
    });
    gate.wait_for_arrivals(1);
    let runs = Runs::default();
    let handles: Vec<_> = (0..10).map(|_| runs.submit(&bulkhead)).collect();
    drop(opener);
    for handle in handles {
        assert_refused(&wait(handle), ISOLATION);
    }
    assert!(matches!(
        wait(failing).error(),
        Some(BulkheadError::Failed("down"))
    ));
    assert_eq!(runs.count(), 0);
    assert_balanced(&bulkhead.stats());
}

#[test]
fn a_waiter_is_woken_at_once() {
    let (bulkhead, _clock) = build(with_circuit(1, 1));
    let busy = occupy(&bulkhead, 1);
    let handle = Runs::default().submit(&bulkhead);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(handle));
        bulkhead.circuit_breaker().unwrap().trip();
        assert_refused(&waiter.join().unwrap(), ISOLATION);
    });
    busy.finish();
}

#[test]
fn listeners_are_told_and_the_log_of_events_adds_up() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let told = Arc::clone(&told);
        move |event: &BulkheadEvent<'_>| {
            if let BulkheadEvent::RefusedInQueue {
                call,
                queued_time,
                retry_after,
                ..
            } = event
            {
                let call = (call.execution_id, *queued_time, *retry_after);
                told.lock().unwrap().push(call);
            }
        }
    };
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(with_circuit(1, 2))
        .listener(listener)
        .clock(clock.clone())
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    let runs = Runs::default();
    let ids = [0, 0].map(|_| runs.submit(&bulkhead).execution_id());
    clock.advance(Duration::from_secs(3));
    bulkhead.circuit_breaker().unwrap().trip();
    let expected = ids.map(|id| (id, Duration::from_secs(3), ISOLATION));
    assert_eq!(*told.lock().unwrap(), expected);
    busy.finish();
}

#[test]
fn queued_probes_keep_their_turns() {
    let (bulkhead, clock) = build(with_circuit(1, 3));
    let early = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let runs = Runs::default();
    let probes = [0, 0].map(|_| runs.submit(&bulkhead));
    assert_eq!(circuit(&bulkhead), CircuitState::HalfOpen);
    early.finish();
    for probe in probes {
        assert!(wait(probe).is_success());
    }
    assert_eq!(
        (runs.count(), circuit(&bulkhead)),
        (2, CircuitState::Closed)
    );
}

#[test]
fn a_failed_probe_refuses_the_probes_behind_it() {
    let (bulkhead, clock) = build(with_circuit(1, 3));
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let failing = bulkhead.execute(move || {
        at_gate.pass();
        Err::<(), _>("down")
    });
    gate.wait_for_arrivals(1);
    let runs = Runs::default();
    let probe = runs.submit(&bulkhead);
    drop(opener);
    assert_refused(&wait(probe), ISOLATION);
    drop(wait(failing));
    assert_eq!(runs.count(), 0);
}

/// An isolation that is over when the turn comes, and calls that were admitted before it began.
#[test]
fn after_any_other_change_a_call_asks_again() {
    let rules = rules().refuse_queued_when_open(true);
    let (bulkhead, clock) = build(config(2, 9).circuit_breaker(rules));
    // Opened with nothing in the queue, and half-open with one of two probes out.
    let early = occupy(&bulkhead, 2);
    let runs = Runs::default();
    let breaker = bulkhead.circuit_breaker().unwrap();
    let queued = [0, 0].map(|_| runs.submit(&bulkhead));
    breaker.reset();
    early.finish();
    for call in queued {
        assert!(
            wait(call).is_success(),
            "the circuit was closed all the time"
        );
    }
    assert_eq!(runs.count(), 2);
    // The new ticket counts in the present.
    let busy = occupy(&bulkhead, 2);
    let failing = bulkhead.execute(|| Err::<(), _>("down"));
    breaker.reset();
    busy.finish();
    drop(wait(failing));
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
    clock.advance(ISOLATION);
    assert!(wait(runs.submit(&bulkhead)).is_success());
}

#[test]
fn cancelled_entries_in_between_are_only_cleared_away() {
    let (bulkhead, _clock) = build(with_circuit(1, 10));
    let busy = occupy(&bulkhead, 1);
    let runs = Runs::default();
    let handles: Vec<_> = (0..10).map(|_| runs.submit(&bulkhead)).collect();
    for handle in handles.iter().step_by(2) {
        assert!(handle.cancel());
    }
    bulkhead.circuit_breaker().unwrap().trip();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.cancelled_executions, 5);
    assert_eq!(stats.refused_in_queue_executions, 5);
    busy.finish();
    for (index, handle) in handles.into_iter().enumerate() {
        let result = wait(handle);
        if index % 2 == 0 {
            assert!(matches!(
                result.error(),
                Some(BulkheadError::Cancelled { .. })
            ));
        } else {
            assert_refused(&result, ISOLATION);
        }
    }
    // The bulkhead is whole: N + Q calls fit again.
    bulkhead.circuit_breaker().unwrap().reset();
    let busy = occupy(&bulkhead, 1);
    let handles: Vec<_> = (0..10).map(|_| runs.submit(&bulkhead)).collect();
    busy.finish();
    for handle in handles {
        assert!(wait(handle).is_success());
    }
}

/// Shuts its bulkhead down when it is dropped.
struct ShutsDown(Arc<Bulkhead>);

impl Drop for ShutsDown {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

#[test]
fn the_drop_of_a_refused_closure_may_shut_the_bulkhead_down_or_panic() {
    let (bulkhead, _clock) = build(with_circuit(1, 4));
    let bulkhead = Arc::new(bulkhead);
    let busy = occupy(&bulkhead, 1);
    let runs = Runs::default();
    let before = runs.submit(&bulkhead);
    let bomb = crate::support::Bomb;
    let bombed = bulkhead.run(move || drop(bomb));
    let shuts_down = ShutsDown(Arc::clone(&bulkhead));
    let shutting = bulkhead.run(move || drop(shuts_down));
    let after = runs.submit(&bulkhead);
    thread::scope(|scope| {
        scope.spawn(|| bulkhead.circuit_breaker().unwrap().trip());
        // The shutdown waits for the busy one, and for the call behind it in the queue.
        eventually("the drop has shut it down", || {
            !bulkhead.is_healthy() && bulkhead.available_capacity() == 0
        });
        busy.finish();
    });
    assert_refused(&wait(before), ISOLATION);
    assert_refused(&wait(bombed), ISOLATION);
    assert_refused(&wait(shutting), ISOLATION);
    assert_refused(&wait(after), ISOLATION);
    assert_eq!(runs.count(), 0);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.refused_in_queue_executions, stats.in_flight), (4, 0));
}

#[test]
fn a_task_that_waits_for_a_call_on_its_own_bulkhead_hears_it_too() {
    let (bulkhead, _clock) = build(with_circuit(1, 1));
    let bulkhead = Arc::new(bulkhead);
    let inside = Arc::clone(&bulkhead);
    let outer = bulkhead.run(move || {
        let inner = inside.run(|| ());
        inside.circuit_breaker().unwrap().trip();
        inner.wait()
    });
    let inner = wait(outer).into_result().unwrap();
    assert_refused(&inner, ISOLATION);
}

#[test]
fn it_can_be_turned_off() {
    let rules = rules().refuse_queued_when_open(false);
    let (bulkhead, _clock) = build(config(1, 10).circuit_breaker(rules));
    let busy = occupy(&bulkhead, 1);
    let runs = Runs::default();
    let handles: Vec<_> = (0..10).map(|_| runs.submit(&bulkhead)).collect();
    bulkhead.circuit_breaker().unwrap().trip();
    busy.finish();
    for handle in handles {
        assert!(wait(handle).is_success());
    }
    assert_eq!(runs.count(), 10);
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn callers_in_line_for_a_turn_are_refused_too() {
    let admitted = Runs::default();
    let counted = admitted.clone();
    let bulkhead = SemaphoreBulkhead::builder(with_circuit(1, 3))
        .clock(ManualClock::new())
        .on_event(move |event| {
            if let BulkheadEvent::Admitted { .. } = event {
                counted.0.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let runs = Runs::default();
    thread::scope(|scope| {
        let busy = scope.spawn(|| bulkhead.run(|| gate.pass()));
        gate.wait_for_arrivals(1);
        let in_line: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| bulkhead.run(|| runs.0.fetch_add(1, Ordering::SeqCst))))
            .collect();
        // A call that is counted as queued may have yet to ask the circuit.
        eventually("the circuit has let all in", || admitted.count() == 4);
        bulkhead.circuit_breaker().unwrap().trip();
        for caller in in_line {
            assert_refused(&caller.join().unwrap(), ISOLATION);
        }
        assert_eq!(bulkhead.available_capacity(), 3);
        drop(opener);
        assert!(busy.join().unwrap().is_success());
    });
    assert_eq!(runs.count(), 0);
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.refused_in_queue_executions, 3);
}

#[test]
fn callers_who_come_and_go_while_it_opens_and_closes_lose_nothing() {
    let bulkhead = Bulkhead::new(with_circuit(2, 6)).unwrap();
    let semaphore = SemaphoreBulkhead::new(with_circuit(2, 6)).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let handles = [bulkhead.run(|| ()), bulkhead.run(|| ())];
                    let _ = semaphore.run(|| ());
                    handles.into_iter().for_each(|handle| drop(wait(handle)));
                }
            });
        }
        for _ in 0..2_000 {
            for breaker in [bulkhead.circuit_breaker(), semaphore.circuit_breaker()] {
                breaker.unwrap().trip();
                breaker.unwrap().reset();
            }
            assert_balanced(&bulkhead.stats());
            assert_balanced(&semaphore.stats());
        }
    });
    for stats in [bulkhead.stats(), semaphore.stats()] {
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0);
    }
    assert_eq!(bulkhead.available_capacity(), 8);
    assert_eq!(semaphore.available_capacity(), 8);
}

/// A queued probe is cancelled when the running one is overdue: the circuit opens, and its listener shuts the bulkhead
/// down while the cancelled call still has its place.
#[test]
fn a_listener_may_shut_down_while_a_queued_probe_is_given_back() {
    let clock = ManualClock::new();
    let own: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
    let seen = Arc::clone(&own);
    let opened = Gate::new();
    let opens = opened.clone();
    let built = Bulkhead::builder(with_circuit(1, 4))
        .clock(clock.clone())
        .listener(move |event: &BulkheadEvent<'_>| {
            let BulkheadEvent::CircuitChanged { change, .. } = event else {
                return;
            };
            if (change.from, change.to) == (CircuitState::HalfOpen, CircuitState::Open) {
                let bulkhead = seen.get().and_then(Weak::upgrade).unwrap();
                opens.open();
                let _ = bulkhead.shutdown();
            }
        })
        .build();
    let bulkhead = Arc::new(built.unwrap());
    own.set(Arc::downgrade(&bulkhead)).unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let running = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    clock.advance(ISOLATION);
    let cancelled = thread::spawn(move || queued.cancel());
    opened.pass();
    running.finish();
    assert!(in_time(|| cancelled.join().unwrap()));
    assert_eq!(bulkhead.stats().in_flight, 0);
    assert_balanced(&bulkhead.stats());
}

/// The caller has its slot already when the circuit lets it through as a probe, and the listener needs another one.
#[test]
fn a_listener_may_call_while_a_semaphores_caller_becomes_a_probe() {
    let clock = ManualClock::new();
    let own: Arc<OnceLock<Weak<SemaphoreBulkhead>>> = Arc::default();
    let seen = Arc::clone(&own);
    let recorded = Runs::default();
    let runs = recorded.clone();
    let observing = rules().initial_mode(CircuitMode::ObserveOnly);
    let built = SemaphoreBulkhead::builder(config(1, 4).circuit_breaker(observing))
        .clock(clock.clone())
        .listener(move |event: &BulkheadEvent<'_>| {
            let BulkheadEvent::CircuitChanged { change, .. } = event else {
                return;
            };
            if change.to == CircuitState::HalfOpen {
                let bulkhead = seen.get().and_then(Weak::upgrade).unwrap();
                let runs = runs.clone();
                assert!(
                    bulkhead
                        .run(move || runs.0.fetch_add(1, Ordering::Relaxed))
                        .is_success()
                );
            }
        })
        .build();
    let bulkhead = Arc::new(built.unwrap());
    own.set(Arc::downgrade(&bulkhead)).unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    let gate = Gate::new();
    let call = |gate: Option<Gate>| {
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || {
            bulkhead
                .run(|| gate.iter().for_each(Gate::pass))
                .is_success()
        })
    };
    let first = call(Some(gate.clone()));
    gate.wait_for_arrivals(1);
    let second = call(None);
    eventually("the second call waits", || {
        bulkhead.stats().longest_queued.is_some()
    });
    clock.advance(ISOLATION);
    bulkhead
        .circuit_breaker()
        .unwrap()
        .set_mode(CircuitMode::Normal);
    gate.open();
    assert!(in_time(|| first.join().unwrap() && second.join().unwrap()));
    assert_eq!(recorded.count(), 1);
    assert_balanced(&bulkhead.stats());
}
