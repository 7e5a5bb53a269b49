//! A call that runs beyond its caller's limit is a failure: at that moment, once, and whatever it returns later.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{Gate, OpenOnDrop, assert_balanced, config, eventually, wait};
use bulkman::{
    Bulkhead, BulkheadError, BulkheadState, CircuitBreakerConfig, CircuitState, ExecutionHandle,
    ManualClock, SemaphoreBulkhead,
};

const LIMIT: Duration = Duration::from_secs(1);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(30))
}

fn build(rules: CircuitBreakerConfig) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let built = Bulkhead::builder(config(4, 4).circuit_breaker(rules))
        .clock(clock.clone())
        .build();
    (built.unwrap(), clock)
}

fn circuit(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().unwrap().state()
}

/// A call that runs until the gate is opened, and then ends as it is told.
fn hang(
    bulkhead: &Bulkhead,
    gate: &Gate,
    end: Result<(), &'static str>,
) -> ExecutionHandle<(), &'static str> {
    let at_gate = gate.clone();
    let handle = bulkhead.call().timeout(LIMIT).execute(move || {
        at_gate.pass();
        end
    });
    gate.wait_for_arrivals(1);
    handle
}

fn assert_timed_out(result: &bulkman::ExecutionResult<(), &'static str>) {
    assert!(
        matches!(
            result.error(),
            Some(BulkheadError::Timeout { started: true, .. })
        ),
        "{result:?}"
    );
}

#[test]
fn calls_that_hang_open_the_circuit_before_their_callers_are_gone() {
    let (bulkhead, clock) = build(rules());
    let gates = [Gate::new(), Gate::new()];
    let _openers = gates.clone().map(OpenOnDrop);
    let handles = gates.each_ref().map(|gate| hang(&bulkhead, gate, Ok(())));
    clock.advance(LIMIT);
    let [first, second] = handles;
    assert_timed_out(&first.wait());
    assert_eq!(circuit(&bulkhead), CircuitState::Closed);
    assert_timed_out(&second.wait());
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
    assert_eq!(bulkhead.state(), BulkheadState::Isolated);
}

#[test]
fn a_late_outcome_counts_no_more() {
    for end in [Ok(()), Err("late")] {
        let (bulkhead, clock) = build(rules());
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let handle = hang(&bulkhead, &gate, end);
        clock.advance(LIMIT);
        assert_timed_out(&handle.wait());
        drop(opener);
        eventually("it has ended", || bulkhead.stats().in_flight == 0);
        // Neither did it end the run of failures, nor did it count as another.
        assert_eq!(circuit(&bulkhead), CircuitState::Closed, "{end:?}");
        let _ = wait(bulkhead.execute(|| Err::<(), _>("down")));
        assert_eq!(circuit(&bulkhead), CircuitState::Open, "{end:?}");
        assert_balanced(&bulkhead.stats());
    }
}

#[test]
fn an_awaited_call_fails_when_it_is_polled_beyond_its_limit() {
    let (bulkhead, clock) = build(rules().failure_threshold(1));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let mut handle = pin!(hang(&bulkhead, &gate, Ok(())));
    let mut context = Context::from_waker(Waker::noop());
    assert!(handle.as_mut().poll(&mut context).is_pending());
    assert_eq!(circuit(&bulkhead), CircuitState::Closed);
    clock.advance(LIMIT);
    let Poll::Ready(result) = handle.as_mut().poll(&mut context) else {
        panic!("the limit has passed");
    };
    assert_timed_out(&result);
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn without_a_waiter_it_counts_when_the_task_ends() {
    let (bulkhead, clock) = build(rules().failure_threshold(1));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    drop(hang(&bulkhead, &gate, Ok(())));
    clock.advance(LIMIT);
    assert_eq!(circuit(&bulkhead), CircuitState::Closed);
    drop(opener);
    eventually("it has ended", || bulkhead.stats().in_flight == 0);
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn a_task_that_ends_in_time_counts_by_what_it_returns() {
    let (bulkhead, clock) = build(rules().failure_threshold(1));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = hang(&bulkhead, &gate, Ok(()));
    clock.advance(LIMIT - Duration::from_nanos(1));
    drop(opener);
    assert!(wait(handle).is_success());
    clock.advance(LIMIT);
    assert_eq!(circuit(&bulkhead), CircuitState::Closed);
}

#[test]
fn a_probe_that_hangs_opens_the_circuit_again_at_its_limit() {
    let (bulkhead, clock) = build(rules());
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(Duration::from_secs(30));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let probe = hang(&bulkhead, &gate, Ok(()));
    assert_eq!(circuit(&bulkhead), CircuitState::HalfOpen);
    clock.advance(LIMIT);
    assert_timed_out(&probe.wait());
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
    drop(opener);
    eventually("it has ended", || bulkhead.stats().in_flight == 0);
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}

#[test]
fn a_call_that_expires_in_the_queue_is_no_failure() {
    let (bulkhead, clock) = build(rules().failure_threshold(1));
    let busy = crate::support::occupy(&bulkhead, 4);
    let queued = bulkhead.call().timeout(LIMIT).execute(|| Ok::<_, &str>(()));
    clock.advance(LIMIT);
    assert!(matches!(
        queued.wait().error(),
        Some(BulkheadError::Timeout { started: false, .. })
    ));
    assert_eq!(circuit(&bulkhead), CircuitState::Closed);
    busy.finish();
}

#[test]
fn in_its_callers_thread_it_counts_when_the_task_ends() {
    let clock = ManualClock::new();
    let at_limit = clock.clone();
    let bulkhead =
        SemaphoreBulkhead::builder(config(1, 0).circuit_breaker(rules().failure_threshold(1)))
            .clock(clock)
            .build()
            .unwrap();
    let result = bulkhead.execute_with_timeout(LIMIT, move || {
        at_limit.advance(LIMIT);
        Ok::<_, &str>("late")
    });
    assert_eq!(result.value(), Some(&"late"));
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert_eq!(breaker.state(), CircuitState::Open);
}

#[test]
fn it_can_be_turned_off() {
    let (bulkhead, clock) = build(rules().failure_threshold(1).timeouts_are_failures(false));
    for end in [Ok(()), Err("late")] {
        assert_eq!(circuit(&bulkhead), CircuitState::Closed);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let handle = hang(&bulkhead, &gate, end);
        clock.advance(LIMIT);
        assert_timed_out(&handle.wait());
        assert_eq!(circuit(&bulkhead), CircuitState::Closed);
        drop(opener);
        eventually("it has ended", || bulkhead.stats().in_flight == 0);
    }
    assert_eq!(circuit(&bulkhead), CircuitState::Open);
}
