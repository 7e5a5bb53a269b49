//! What the circuit hears of a call: each ticket once, whoever is first; and calls in the queue of a circuit that opens.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, CircuitBreakerConfig, CircuitState, SemaphoreBulkhead,
};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use support::{assert_balanced, config, explore};

const LIMIT: Duration = Duration::from_secs(1);
const ISOLATION: Duration = Duration::from_secs(60);

fn with_circuit(n: usize, q: usize, failures: usize) -> BulkheadConfig {
    config(n, q).circuit_breaker(
        CircuitBreakerConfig::default()
            .failure_threshold(failures)
            .success_threshold(1)
            .isolation_duration(ISOLATION),
    )
}

fn state(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().unwrap().state()
}

/// The caller whose limit passes against the worker whose task fails: together they count one failure.
#[test]
fn a_limit_against_the_end_of_the_task() {
    explore("one failure for one call", 2, || {
        let bulkhead = Bulkhead::new(with_circuit(1, 0, 2)).unwrap();
        let handle = bulkhead.call().timeout(LIMIT).execute(|| {
            bulkman::model::advance(LIMIT);
            Err::<(), _>(())
        });
        match handle.wait().error() {
            Some(BulkheadError::Failed(())) => {}
            Some(BulkheadError::Timeout { started: true, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(bulkhead.shutdown().is_clean());
        assert_eq!(
            state(&bulkhead),
            CircuitState::Closed,
            "it was counted twice"
        );
        bulkhead.circuit_breaker().unwrap().record_failure();
        assert_eq!(state(&bulkhead), CircuitState::Open, "it was not counted");
    });
}

/// The caller or the worker tells: when both are done, the circuit has heard of a limit that passed, whatever was returned.
#[test]
fn a_limit_against_a_late_success() {
    explore("a limit against a late success", 2, || {
        let bulkhead = Bulkhead::new(with_circuit(1, 0, 1)).unwrap();
        let handle = bulkhead.call().timeout(LIMIT).execute(|| {
            bulkman::model::advance(LIMIT);
            Ok::<_, ()>(())
        });
        drop(handle.wait());
        bulkhead.shutdown();
        assert_eq!(state(&bulkhead), CircuitState::Open);
    });
}

/// A probe that is cancelled while it runs, or just before or after: its turn comes back, once.
#[test]
fn a_cancelled_probe_against_its_end() {
    explore("a cancelled probe", 2, || {
        let bulkhead = Bulkhead::new(with_circuit(1, 0, 1)).unwrap();
        bulkhead.circuit_breaker().unwrap().trip();
        bulkman::model::advance(ISOLATION);
        let probe = bulkhead.execute(|| Err::<(), _>(bulkman::current().unwrap().is_cancelled()));
        let queued = probe.cancel();
        let result = probe.wait();
        let expected = match result.error() {
            Some(BulkheadError::Cancelled { .. }) => {
                assert!(queued);
                [CircuitState::HalfOpen; 2]
            }
            Some(BulkheadError::Failed(true)) => [CircuitState::HalfOpen; 2],
            // The task did not see the cancel, which may have come before its end or after.
            Some(BulkheadError::Failed(false)) => [CircuitState::HalfOpen, CircuitState::Open],
            other => panic!("{other:?}"),
        };
        let state = state(&bulkhead);
        assert!(expected.contains(&state), "{state}");
        if state == CircuitState::HalfOpen {
            let turn = bulkhead.circuit_breaker().unwrap().try_acquire();
            assert!(turn.is_ok(), "a turn was lost");
        }
        bulkhead.shutdown();
    });
}

/// A call that is admitted while the circuit opens is refused at once, although its worker hangs.
#[test]
fn a_submit_against_the_opening() {
    explore("a submit against the opening", 2, || {
        let bulkhead = Arc::new(Bulkhead::new(with_circuit(1, 1, 1)).unwrap());
        let hangs = Arc::new(AtomicBool::new(true));
        let has_begun = Arc::new(AtomicBool::new(false));
        let busy = {
            let (hangs, has_begun) = (Arc::clone(&hangs), Arc::clone(&has_begun));
            bulkhead.run(move || {
                has_begun.store(true, Ordering::Release);
                while hangs.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            })
        };
        while !has_begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let submitting = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.run(|| ()))
        };
        bulkhead.circuit_breaker().unwrap().trip();
        let handle = submitting.join().unwrap();
        assert!(handle.is_finished(), "it waits for a worker that hangs");
        hangs.store(false, Ordering::Release);
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
        drop(busy.wait());
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0);
        bulkhead.shutdown();
    });
}

/// A circuit opens that has just been told to refuse what is queued: a call that is admitted meanwhile is refused at once.
#[test]
fn a_submit_against_other_rules_and_the_opening() {
    explore("a submit against other rules", 2, || {
        let rules = CircuitBreakerConfig::default().isolation_duration(ISOLATION);
        let keeps = rules.clone().refuse_queued_when_open(false);
        let bulkhead = Arc::new(Bulkhead::new(config(1, 1).circuit_breaker(keeps)).unwrap());
        let hangs = Arc::new(AtomicBool::new(true));
        let has_begun = Arc::new(AtomicBool::new(false));
        let busy = {
            let (hangs, has_begun) = (Arc::clone(&hangs), Arc::clone(&has_begun));
            bulkhead.run(move || {
                has_begun.store(true, Ordering::Release);
                while hangs.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            })
        };
        while !has_begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let submitting = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.run(|| ()))
        };
        bulkhead.set_circuit_breaker(rules).unwrap();
        bulkhead.circuit_breaker().unwrap().trip();
        let handle = submitting.join().unwrap();
        assert!(handle.is_finished(), "it waits for a worker that hangs");
        hangs.store(false, Ordering::Release);
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
        drop(busy.wait());
        assert_balanced(&bulkhead.stats());
        bulkhead.shutdown();
    });
}

/// The rules change whether a limit that passes is a failure, while the caller leaves and the task ends: the circuit hears
/// of the call once.
#[test]
fn a_limit_against_other_rules() {
    explore("a limit against other rules", 2, || {
        let rules = CircuitBreakerConfig::default().cancelled_calls_are_neutral(false);
        let bulkhead = Arc::new(Bulkhead::new(config(1, 0).circuit_breaker(rules)).unwrap());
        let handle = bulkhead.call().timeout(LIMIT).execute(|| {
            bulkman::model::advance(LIMIT);
            Err::<(), _>(())
        });
        let changing = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                let rules = bulkhead.circuit_breaker().unwrap().config();
                bulkhead.set_circuit_breaker(rules.timeouts_are_failures(false))
            })
        };
        drop(handle.wait());
        changing.join().unwrap().unwrap();
        bulkhead.shutdown();
        let stats = bulkhead.circuit_breaker().unwrap().stats();
        assert_eq!(stats.failures, 1, "{stats:?}");
    });
}

/// The opener, the handle and the worker all want to end the same queued call: one does.
#[test]
fn the_opening_against_a_cancel_and_the_worker() {
    explore("the opening against a cancel", 1, || {
        let bulkhead = Arc::new(Bulkhead::new(with_circuit(1, 1, 1)).unwrap());
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let handle = bulkhead.run(move || counter.fetch_add(1, Ordering::Relaxed));
        let opener = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.circuit_breaker().unwrap().trip())
        };
        let cancelled = handle.cancel();
        let result = handle.wait();
        opener.join().unwrap();
        let runs = ran.load(Ordering::Relaxed);
        match result.error() {
            None => assert_eq!((cancelled, runs), (false, 1)),
            Some(BulkheadError::Cancelled { .. }) => assert_eq!((cancelled, runs), (true, 0)),
            Some(BulkheadError::CircuitOpen { .. }) => assert_eq!((cancelled, runs), (false, 0)),
            other => panic!("{other:?}"),
        }
        assert_eq!(bulkhead.available_capacity(), 2);
        assert_balanced(&bulkhead.stats());
        bulkhead.shutdown();
    });
}

/// A call becomes a probe when its turn comes, and is cancelled at that moment: the probe's turn comes back.
#[test]
fn a_renewed_ticket_against_a_cancel() {
    explore("a renewed ticket against a cancel", 2, || {
        let rules = CircuitBreakerConfig::default()
            .success_threshold(1)
            .isolation_duration(Duration::ZERO);
        let bulkhead = Bulkhead::new(config(1, 0).circuit_breaker(rules)).unwrap();
        let handle = bulkhead.execute(|| Err::<(), _>(()));
        let breaker = bulkhead.circuit_breaker().unwrap();
        breaker.trip();
        let cancelled = handle.cancel();
        let result = handle.wait();
        assert_eq!(
            cancelled,
            matches!(result.error(), Some(BulkheadError::Cancelled { .. }))
        );
        assert!(bulkhead.shutdown().finished <= 1);
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

/// A caller that joins the line while the circuit opens is told: it does not wait for a turn that is not for it.
#[test]
fn a_caller_in_line_against_the_opening() {
    explore("a caller in line against the opening", 2, || {
        let bulkhead = Arc::new(SemaphoreBulkhead::new(with_circuit(1, 1, 1)).unwrap());
        let inside = Arc::clone(&bulkhead);
        // The one slot is taken for as long as the other caller waits.
        let outer = bulkhead.run(move || {
            let caller = {
                let bulkhead = Arc::clone(&inside);
                thread::spawn(move || bulkhead.run(|| ()))
            };
            inside.circuit_breaker().unwrap().trip();
            caller.join().unwrap()
        });
        let inner = outer.into_result().unwrap();
        assert!(matches!(
            inner.error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(
            stats.refused_in_queue_executions + stats.rejected_circuit_open,
            1
        );
        assert_eq!(bulkhead.available_capacity(), 2);
    });
}

/// G10: refusals with a place and without one are never counted twice, nor missed, in any snapshot.
#[test]
fn refusals_against_a_snapshot() {
    explore("refusals against a snapshot", 2, || {
        let bulkhead = Arc::new(SemaphoreBulkhead::new(with_circuit(1, 0, 1)).unwrap());
        let calling = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                drop(bulkhead.run(|| ()));
                drop(bulkhead.run(|| ()));
            })
        };
        bulkhead.circuit_breaker().unwrap().trip();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert!(stats.submitted_executions <= 2);
        calling.join().unwrap();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!((stats.submitted_executions, stats.in_flight), (2, 0));
    });
}
