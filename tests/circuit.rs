//! The circuit breaker of a bulkhead: it opens on failures of the dependency and on nothing else.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, BulkheadState, CircuitBreakerConfig,
    CircuitState, ExecutionHandle, ManualClock, RejectReason,
};
use support::{Gate, OpenOnDrop, assert_balanced, config, occupy, wait};

const SECOND: Duration = Duration::from_secs(1);
/// How long the circuits of these tests stay open.
const ISOLATION: Duration = Duration::from_secs(30);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(3)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

fn build(config: BulkheadConfig) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let built = Bulkhead::builder(config.circuit_breaker(rules()))
        .clock(clock.clone())
        .build();
    (built.unwrap(), clock)
}

fn circuit_of(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().expect("configured").state()
}

fn succeed(bulkhead: &Bulkhead) {
    assert!(wait(bulkhead.run(|| ())).is_success());
}

fn fail(bulkhead: &Bulkhead) {
    let result = wait(bulkhead.execute(|| Err::<(), _>("down")));
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Failed("down"))
    ));
}

/// Opens the circuit by failures.
fn open(bulkhead: &Bulkhead) {
    for _ in 0..3 {
        fail(bulkhead);
    }
    assert_eq!(circuit_of(bulkhead), CircuitState::Open);
}

/// Whether the circuit refuses a call.
fn is_refused(bulkhead: &Bulkhead) -> bool {
    match bulkhead.try_execute(|| Ok::<_, ()>(())) {
        Ok(handle) => {
            assert!(wait(handle).is_success());
            false
        }
        Err(rejected) => {
            assert!(rejected.reason.is_circuit_open(), "{rejected}");
            true
        }
    }
}

/// A probe that stays out until the gate is opened.
fn probe(bulkhead: &Bulkhead, gate: &Gate) -> ExecutionHandle<(), &'static str> {
    let gate = gate.clone();
    bulkhead.execute(move || {
        gate.pass();
        Ok(())
    })
}

fn assert_probe_turns(bulkhead: &Bulkhead, free: usize) {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let probes: Vec<_> = (0..free).map(|_| probe(bulkhead, &gate)).collect();
    assert!(probes.iter().all(|probe| !probe.is_finished()));
    assert!(is_refused(bulkhead), "{free} turns and no more");
    for probe in &probes {
        // Back in the queue's order: those that have not started are cancelled.
        let _ = probe.cancel();
    }
    drop(opener);
    for probe in probes {
        let _ = wait(probe);
    }
}

// ---- opening

#[test]
fn it_opens_after_the_threshold_of_failures_in_a_row() {
    let (bulkhead, _clock) = build(config(2, 4));
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    succeed(&bulkhead);
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed, "not in a row");
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn while_open_no_body_runs_and_the_refusal_says_for_how_long() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(10 * SECOND);
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..5 {
        let ran = Arc::clone(&ran);
        let result = wait(bulkhead.run(move || ran.fetch_add(1, Ordering::Relaxed)));
        match result.error() {
            Some(BulkheadError::CircuitOpen {
                bulkhead,
                retry_after,
                ..
            }) => {
                assert_eq!(&**bulkhead, "test");
                assert_eq!(*retry_after, 20 * SECOND);
            }
            other => panic!("not refused by the circuit: {other:?}"),
        }
    }
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert_eq!(
        bulkhead.available_capacity(),
        6,
        "refused calls take no place"
    );
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.rejected_circuit_open, 5);
    assert_eq!(stats.total_executions, 3);
}

#[test]
fn try_execute_gives_the_closure_back() {
    let (bulkhead, _clock) = build(config(2, 4));
    open(&bulkhead);
    let text = String::from("still mine");
    let rejected = bulkhead.try_execute(move || Ok::<_, ()>(text)).unwrap_err();
    assert_eq!(
        rejected.reason,
        RejectReason::CircuitOpen {
            bulkhead: "test".into(),
            retry_after: ISOLATION,
        }
    );
    assert_eq!((rejected.task)().unwrap(), "still mine");
}

#[test]
fn a_panic_is_a_failure() {
    let (bulkhead, _clock) = build(config(2, 4));
    for _ in 0..3 {
        let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("down")));
        assert!(!result.is_success());
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn refusals_cancels_and_queue_timeouts_are_no_failures() {
    let (bulkhead, clock) = build(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    for _ in 0..10 {
        assert!(bulkhead.run(|| ()).cancel());
        let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
        clock.advance(SECOND);
        assert!(matches!(
            expired.wait().error(),
            Some(BulkheadError::QueueTimeout { .. })
        ));
        let out_of_time = bulkhead.call().timeout(SECOND).run(|| ());
        clock.advance(SECOND);
        assert!(matches!(
            out_of_time.wait().error(),
            Some(BulkheadError::Timeout { started: false, .. })
        ));
    }
    busy.finish();
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn they_do_not_end_a_run_of_failures_either() {
    let (bulkhead, clock) = build(config(1, 1));
    fail(&bulkhead);
    fail(&bulkhead);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let third = {
        let gate = gate.clone();
        bulkhead.execute(move || {
            gate.pass();
            Err::<(), _>("down")
        })
    };
    gate.wait_for_arrivals(1);
    assert!(bulkhead.run(|| ()).cancel());
    let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
    assert!(wait(bulkhead.run(|| ())).error().unwrap().is_rejected());
    clock.advance(SECOND);
    assert!(expired.wait().error().unwrap().is_timeout());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    drop(opener);
    assert!(third.wait().error().is_some());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn a_task_whose_caller_ran_out_of_time_is_judged_by_its_own_end() {
    let (bulkhead, clock) = build(config(1, 1));
    for round in 0..3 {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead.call().timeout(SECOND).execute(move || {
            at_gate.pass();
            Err::<(), _>("down")
        });
        gate.wait_for_arrivals(1);
        clock.advance(SECOND);
        assert!(matches!(
            handle.wait().error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ));
        assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
        drop(opener);
        support::eventually("it has ended", || {
            bulkhead.stats().failed_executions == round + 1
        });
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn failure_if_says_which_errors_count() {
    let (bulkhead, _clock) = build(config(1, 1));
    let call = |error: u16| {
        let handle = bulkhead
            .call()
            .failure_if(|code: &u16| *code >= 500)
            .execute(move || Err::<(), _>(error));
        assert!(wait(handle).error().is_some());
    };
    for _ in 0..10 {
        call(404);
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    call(503);
    call(404); // neutral: it does not end the run
    call(503);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    call(503);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    assert_eq!(
        bulkhead.stats().failed_executions,
        14,
        "the ledger counts all"
    );
}

#[test]
fn an_error_whose_judge_panics_is_a_failure_and_reaches_the_caller() {
    let (bulkhead, _clock) = build(config(1, 1));
    for _ in 0..3 {
        let handle = bulkhead
            .call()
            .failure_if(|_: &&str| panic!("no opinion"))
            .execute(|| Err::<(), _>("own"));
        let result = wait(handle);
        assert!(matches!(result.error(), Some(BulkheadError::Failed("own"))));
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    assert_eq!(bulkhead.stats().panicked_executions, 0);
}

#[test]
fn by_share_of_failures() {
    let rules = rules().failure_rate(0.5, 4);
    let bulkhead = Bulkhead::new(config(1, 1).circuit_breaker(rules)).unwrap();
    fail(&bulkhead);
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::Closed,
        "too few to judge"
    );
    succeed(&bulkhead);
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::Open,
        "the success fills the window, and three of four have failed"
    );
}

// ---- half-open and closing

#[test]
fn after_the_isolation_the_next_calls_are_probes_and_close_it() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(ISOLATION - Duration::from_nanos(1));
    assert!(is_refused(&bulkhead));
    clock.advance(Duration::from_nanos(1));
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    // The run of failures begins anew.
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn a_failed_probe_opens_it_again_for_the_whole_isolation() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    clock.advance(ISOLATION - Duration::from_nanos(1));
    assert!(is_refused(&bulkhead));
    clock.advance(Duration::from_nanos(1));
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
}

#[test]
fn half_open_lets_no_more_probes_out_than_the_success_threshold() {
    let (bulkhead, clock) = build(config(4, 4));
    open(&bulkhead);
    clock.advance(ISOLATION);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let probes = [probe(&bulkhead, &gate), probe(&bulkhead, &gate)];
    gate.wait_for_arrivals(2);
    for _ in 0..5 {
        let result = wait(bulkhead.run(|| ()));
        assert!(matches!(
            result.error(),
            Some(BulkheadError::CircuitOpen {
                retry_after: ISOLATION, // the limit of a probe
                ..
            })
        ));
    }
    drop(opener);
    for probe in probes {
        assert!(wait(probe).is_success());
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn many_callers_never_get_more_probes_through_than_allowed() {
    for _ in 0..20 {
        let (bulkhead, clock) = build(config(4, 12));
        open(&bulkhead);
        clock.advance(ISOLATION);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let probes: Vec<_> = thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..4)
                            .map(|_| probe(&bulkhead, &gate))
                            .filter(|probe| !probe.is_finished())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        });
        assert_eq!(probes.len(), 2);
        drop(opener);
        for probe in probes {
            assert!(wait(probe).is_success());
        }
    }
}

// ---- probes that come to nothing

/// Half-open, with one worker that is busy with a call from before, so that probes queue.
fn half_open_with_probes_queued(
    end: impl FnOnce(&Bulkhead, &ManualClock, [ExecutionHandle<(), &'static str>; 2]),
) {
    let (bulkhead, clock) = build(config(1, 4));
    for _ in 0..2 {
        fail(&bulkhead);
    }
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let probes = [(); 2].map(|()| {
        bulkhead
            .call()
            .queue_timeout(SECOND)
            .execute(|| Ok::<_, &'static str>(()))
    });
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    assert!(is_refused(&bulkhead), "both turns are taken");
    end(&bulkhead, &clock, probes);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen, "no verdict");
    assert_probe_turns(&bulkhead, 2);
    drop(busy.handles);
}

#[test]
fn a_cancelled_probe_gives_its_turn_back() {
    half_open_with_probes_queued(|_, _, probes| {
        for probe in probes {
            assert!(probe.cancel());
        }
    });
}

#[test]
fn an_expired_probe_gives_its_turn_back() {
    half_open_with_probes_queued(|_, clock, probes| {
        clock.advance(SECOND);
        for probe in probes {
            assert!(matches!(
                probe.wait().error(),
                Some(BulkheadError::QueueTimeout { .. })
            ));
        }
    });
}

#[test]
fn a_detached_probe_that_is_cancelled_on_drop_gives_its_turn_back() {
    half_open_with_probes_queued(|_, _, probes| {
        for probe in probes {
            drop(probe.cancel_on_drop());
        }
    });
}

#[test]
fn a_call_refused_as_full_never_uses_up_a_probe() {
    let (bulkhead, clock) = build(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    for _ in 0..10 {
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
    }
    let stats = bulkhead.circuit_breaker().unwrap().stats();
    assert_eq!(stats.probes_in_flight, 0, "it was not even asked");
    busy.finish();
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn full_is_said_before_the_circuit_is_asked() {
    let (bulkhead, _clock) = build(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    assert!(matches!(
        wait(bulkhead.run(|| ())).error(),
        Some(BulkheadError::Full { .. })
    ));
    busy.finish();
    assert!(is_refused(&bulkhead));
}

#[test]
fn shut_down_is_said_before_anything_else() {
    let (bulkhead, _clock) = build(config(1, 0));
    bulkhead.circuit_breaker().unwrap().trip();
    let _ = bulkhead.shutdown();
    assert!(matches!(
        wait(bulkhead.run(|| ())).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn a_probe_that_panics_opens_it_again() {
    let (bulkhead, clock) = build(config(1, 1));
    open(&bulkhead);
    clock.advance(ISOLATION);
    let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("down")));
    assert!(!result.is_success());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

// ---- outcomes of another time

#[test]
fn outcomes_of_calls_from_before_a_transition_do_not_count() {
    let (bulkhead, clock) = build(config(4, 4));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let old: Vec<_> = (0..3)
        .map(|i| {
            let gate = gate.clone();
            bulkhead.execute(move || {
                gate.pass();
                if i == 0 { Ok(()) } else { Err("old") }
            })
        })
        .collect();
    gate.wait_for_arrivals(3);
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    drop(opener);
    for handle in old {
        let _ = wait(handle);
    }
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::HalfOpen,
        "neither closed by the old success nor opened by an old failure"
    );
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

// ---- what others see

#[test]
fn state_health_and_stats_follow_the_circuit() {
    let (bulkhead, clock) = build(config(1, 1));
    let look = || {
        let stats = bulkhead.stats();
        assert!(stats.circuit_breaker_enabled);
        assert_eq!(stats.state, bulkhead.state());
        (bulkhead.state(), bulkhead.is_healthy(), stats.circuit_state)
    };
    let closed = Some(CircuitState::Closed);
    assert_eq!(look(), (BulkheadState::Healthy, true, closed));
    open(&bulkhead);
    let open = Some(CircuitState::Open);
    assert_eq!(look(), (BulkheadState::Isolated, false, open));
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    let half_open = Some(CircuitState::HalfOpen);
    assert_eq!(look(), (BulkheadState::Degraded, true, half_open));
    succeed(&bulkhead);
    assert_eq!(look(), (BulkheadState::Healthy, true, closed));
}

#[test]
fn without_a_breaker_failures_change_nothing() {
    let bulkhead = support::bulkhead(1, 1);
    assert!(bulkhead.circuit_breaker().is_none());
    for _ in 0..20 {
        fail(&bulkhead);
    }
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
    assert_eq!(bulkhead.stats().circuit_state, None);
}

#[test]
fn without_a_breaker_no_error_is_judged() {
    let bulkhead = support::bulkhead(1, 1);
    let judged = Arc::new(AtomicBool::new(false));
    let handle = bulkhead
        .call()
        .failure_if({
            let judged = Arc::clone(&judged);
            move |_: &&str| judged.swap(true, Ordering::Relaxed)
        })
        .execute(|| Err::<(), _>("own"));
    assert!(wait(handle).error().is_some());
    assert!(!judged.load(Ordering::Relaxed));
}

#[test]
fn the_breaker_can_be_reset_and_opened_by_hand() {
    let (bulkhead, _clock) = build(config(1, 1));
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert_eq!(breaker.name(), "test");
    breaker.trip();
    assert!(is_refused(&bulkhead));
    breaker.reset();
    assert!(!is_refused(&bulkhead));
}

#[test]
fn listeners_are_told_of_each_change_before_the_outcome_can_be_seen() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .listener({
            let changes = Arc::clone(&changes);
            move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::CircuitChanged { change, .. } = event {
                    assert_eq!(&*change.name, "test");
                    let change = (change.from, change.to, change.sequence);
                    changes.lock().unwrap().push(change);
                }
            }
        })
        .build()
        .unwrap();
    let seen = || changes.lock().unwrap().clone();
    open(&bulkhead);
    assert_eq!(seen(), [(CircuitState::Closed, CircuitState::Open, 1)]);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(
        seen()[1..],
        [
            (CircuitState::Open, CircuitState::HalfOpen, 2),
            (CircuitState::HalfOpen, CircuitState::Closed, 3),
        ]
    );
}

#[test]
fn a_listener_that_panics_does_not_disturb_the_circuit() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .listener(|event: &BulkheadEvent<'_>| {
            if matches!(event, BulkheadEvent::CircuitChanged { .. }) {
                panic!("a listener that panics");
            }
        })
        .build()
        .unwrap();
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    assert_eq!(bulkhead.available_capacity(), 2);
}

#[test]
fn a_shutdown_gives_queued_probes_turns_back_and_counts_no_failure() {
    let (bulkhead, clock) = build(config(1, 4));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let probes = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    assert_eq!(bulkhead.shutdown_now().cancelled, 2);
    for probe in probes {
        assert!(!wait(probe).is_success());
    }
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(5)
        .collect();
    assert_eq!(permits.len(), 2, "both turns are free again");
    drop(permits);
    busy.finish();
}
