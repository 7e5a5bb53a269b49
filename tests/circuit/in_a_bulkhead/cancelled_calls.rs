//! A call that is cancelled while it runs says nothing about the dependency, and its task can tell why it is to stop.

use std::time::Duration;

use crate::support::{Gate, OpenOnDrop, config, eventually, wait};
use bulkman::{
    Bulkhead, CancelReason, CircuitBreakerConfig, CircuitState, ExecutionHandle, ManualClock,
};

const LIMIT: Duration = Duration::from_secs(1);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(30))
}

fn build(rules: CircuitBreakerConfig) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let built = Bulkhead::builder(config(1, 1).circuit_breaker(rules))
        .clock(clock.clone())
        .build();
    (built.unwrap(), clock)
}

fn circuit(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().unwrap().state()
}

/// A call whose task waits at the gate, and then returns as an error why it is to stop.
fn stoppable(bulkhead: &Bulkhead, gate: &Gate) -> ExecutionHandle<(), Option<CancelReason>> {
    let at_gate = gate.clone();
    let handle = bulkhead.call().timeout(LIMIT).execute(move || {
        at_gate.pass();
        let call = bulkman::current().expect("this is a task");
        assert_eq!(call.is_cancelled(), call.cancel_reason().is_some());
        Err(call.cancel_reason())
    });
    gate.wait_for_arrivals(1);
    handle
}

#[test]
fn clients_that_disconnect_do_not_open_the_circuit() {
    let (bulkhead, _clock) = build(rules());
    for _ in 0..3 {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        drop(stoppable(&bulkhead, &gate).cancel_on_drop());
        drop(opener);
        eventually("it has ended", || bulkhead.stats().in_flight == 0);
        assert_eq!(circuit(&bulkhead), CircuitState::Closed);
    }
    assert_eq!(bulkhead.stats().failed_executions, 3);
}

#[test]
fn a_cancelled_probe_gives_its_turn_back() {
    let (bulkhead, clock) = build(rules());
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(Duration::from_secs(30));
    for _ in 0..2 {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let probe = stoppable(&bulkhead, &gate);
        assert!(!probe.cancel());
        drop(opener);
        let stopped = wait(probe);
        let reason = stopped.error().and_then(|error| error.failed());
        assert_eq!(reason, Some(&Some(CancelReason::Cancelled)));
        assert_eq!(circuit(&bulkhead), CircuitState::HalfOpen);
    }
}

#[test]
fn a_cancelled_call_that_succeeds_or_panics_counts_as_any_other() {
    let (bulkhead, _clock) = build(rules().failure_threshold(2));
    let cancelled = |end: fn() -> Result<(), &'static str>| {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead.execute(move || {
            at_gate.pass();
            end()
        });
        gate.wait_for_arrivals(1);
        handle.cancel();
        drop(opener);
        drop(wait(handle));
    };
    cancelled(|| panic!("down"));
    cancelled(|| Ok(()));
    cancelled(|| panic!("down"));
    assert_eq!(
        circuit(&bulkhead),
        CircuitState::Closed,
        "the success was in between"
    );
    cancelled(|| panic!("down"));
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn beyond_its_limit_it_is_a_failure_all_the_same() {
    let (bulkhead, clock) = build(rules());
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = stoppable(&bulkhead, &gate);
    handle.cancel();
    clock.advance(LIMIT);
    drop(opener);
    eventually("it has ended", || handle.is_finished());
    let ended = wait(handle);
    let reason = ended.error().and_then(|error| error.failed());
    assert_eq!(reason, Some(&Some(CancelReason::DeadlinePassed)));
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn a_task_that_nobody_stops_has_no_reason_to() {
    let (bulkhead, _clock) = build(rules().failure_threshold(9));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = stoppable(&bulkhead, &gate);
    drop(opener);
    let ended = wait(handle);
    assert_eq!(ended.error().and_then(|error| error.failed()), Some(&None));
}

#[test]
fn it_goes_before_the_classifier_unless_it_is_turned_off() {
    for (neutral, expected) in [(true, CircuitState::Closed), (false, CircuitState::Open)] {
        let (bulkhead, _clock) = build(rules().cancelled_calls_are_neutral(neutral));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let handle = bulkhead
            .call()
            .failure_if(|_: &&str| true)
            .execute(move || {
                at_gate.pass();
                Err::<(), _>("stopped")
            });
        gate.wait_for_arrivals(1);
        handle.cancel();
        drop(opener);
        drop(wait(handle));
        assert_eq!(circuit(&bulkhead), expected);
    }
}
