//! Calls that take too long: they count as failed, or are counted apart.

use std::time::Duration;

use crate::support::{Gate, OpenOnDrop, config, occupy, wait};
use bulkman::{
    Bulkhead, CircuitBreaker, CircuitBreakerConfig, CircuitPermit, ManualClock, SemaphoreBulkhead,
    Verdict,
};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .slow_call_duration(SECOND)
}

fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("dependency", rules)
        .clock(clock.clone())
        .build()
        .unwrap();
    (breaker, clock)
}

#[test]
fn a_slow_success_counts_as_failed() {
    let (breaker, clock) = breaker(rules());
    let take = |time| {
        let result = breaker.call(|| {
            clock.advance(time);
            Ok::<_, ()>(())
        });
        assert_eq!(result, Ok(()));
    };
    for _ in 0..3 {
        take(SECOND + NANO);
        take(SECOND); // not slow: ends the run
    }
    assert!(breaker.is_closed());
    take(SECOND + NANO);
    assert!(breaker.is_closed());
    take(2 * SECOND);
    assert!(breaker.is_open());
}

#[test]
fn also_the_first_of_a_clean_circuit_and_a_probe() {
    let (breaker, clock) = breaker(rules().failure_threshold(1));
    let slow = || {
        let permit = breaker.try_acquire().expect("it passes");
        clock.advance(2 * SECOND);
        permit.record_success();
        assert!(breaker.is_open());
    };
    slow();
    clock.advance(Duration::from_secs(30));
    slow();
    assert_eq!(breaker.stats().times_opened, 2);
}

#[test]
fn what_is_ignored_is_not_slow() {
    let (breaker, clock) = breaker(rules().failure_threshold(1));
    let slow = |settle: fn(CircuitPermit<'_>)| {
        let permit = breaker.try_acquire().expect("it passes");
        clock.advance(2 * SECOND);
        settle(permit);
        assert!(breaker.is_closed());
    };
    slow(|permit| permit.record(Verdict::Ignored));
    slow(|permit| drop(permit));
    let ignored = breaker.call_if(
        |()| false,
        || {
            clock.advance(2 * SECOND);
            Err::<(), _>(())
        },
    );
    assert!(ignored.is_err());
    assert!(breaker.is_closed());
}

#[test]
fn by_default_no_call_is_slow() {
    let (breaker, clock) = breaker(CircuitBreakerConfig::default().failure_threshold(1));
    let permit = breaker.try_acquire().expect("closed");
    clock.advance(Duration::from_secs(1 << 30));
    permit.record_success();
    assert!(breaker.is_closed());
}

#[test]
fn counted_apart_they_open_by_their_share() {
    let rules = rules().failure_rate(1.0, 4).slow_call_rate(0.5);
    let (breaker, clock) = breaker(rules);
    let take = |time, settle: fn(CircuitPermit<'_>)| {
        let permit = breaker.try_acquire().expect("it passes");
        clock.advance(time);
        settle(permit);
    };
    take(2 * SECOND, |permit| permit.record_success());
    take(2 * SECOND, |permit| permit.record_failure());
    take(NANO, |permit| permit.record_success());
    let stats = breaker.stats();
    assert_eq!((stats.calls, stats.failures, stats.slow_calls), (3, 1, 2));
    assert_eq!(stats.slow_call_rate, Some(2.0 / 3.0));
    assert_eq!(stats.failure_rate, Some(1.0 / 3.0));
    assert!(breaker.is_closed());
    take(NANO, |permit| permit.record_success());
    assert!(breaker.is_open());
    let stats = breaker.stats();
    assert_eq!((stats.calls, stats.failures, stats.slow_calls), (4, 1, 2));
}

#[test]
fn a_slow_task_counts_by_its_own_time_not_by_that_in_the_queue() {
    let clock = ManualClock::new();
    let rules = rules().failure_threshold(1);
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules))
        .clock(clock.clone())
        .build()
        .unwrap();
    let state = || bulkhead.circuit_breaker().unwrap().state();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let first = {
        let gate = gate.clone();
        // Ignored, so that its own time does not count.
        bulkhead.call().failure_if(|()| false).execute(move || {
            gate.pass();
            Err::<(), _>(())
        })
    };
    gate.wait_for_arrivals(1);
    let queued = bulkhead.run(|| ());
    clock.advance(10 * SECOND);
    drop(opener);
    assert!(wait(first).error().is_some());
    assert!(wait(queued).is_success());
    assert_eq!(state(), bulkman::CircuitState::Closed);
    let busy = occupy(&bulkhead, 1);
    clock.advance(SECOND + NANO);
    busy.finish();
    assert_eq!(state(), bulkman::CircuitState::Open);
}

#[test]
fn in_its_callers_thread_too() {
    let clock = ManualClock::new();
    let rules = rules().failure_threshold(1);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1).circuit_breaker(rules))
        .clock(clock.clone())
        .build()
        .unwrap();
    assert!(bulkhead.run(|| clock.advance(SECOND)).is_success());
    assert!(bulkhead.is_healthy());
    assert!(bulkhead.run(|| clock.advance(2 * SECOND)).is_success());
    assert!(!bulkhead.is_healthy());
}
