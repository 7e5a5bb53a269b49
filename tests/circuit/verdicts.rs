//! What an error counts as: a failure, a success, or nothing.

use std::time::Duration;

use crate::support::{config, wait};
use bulkman::{
    Bulkhead, CircuitBreaker, CircuitBreakerConfig, CircuitError, CircuitState, FailureClassifier,
    ManualClock, SemaphoreBulkhead, Verdict,
};

const ISOLATION: Duration = Duration::from_secs(30);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(1)
        .isolation_duration(ISOLATION)
}

/// The error is what it counts as.
fn fail(bulkhead: &Bulkhead, verdict: Verdict) {
    let handle = bulkhead
        .call()
        .classify(|verdict: &Verdict| *verdict)
        .execute(move || Err::<(), _>(verdict));
    assert!(wait(handle).error().is_some());
}

fn build() -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(2, 2).circuit_breaker(rules()))
        .clock(clock.clone())
        .build()
        .unwrap();
    (bulkhead, clock)
}

fn state(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().unwrap().state()
}

#[test]
fn an_ignored_error_does_not_end_a_run_of_failures() {
    let (bulkhead, _) = build();
    fail(&bulkhead, Verdict::Failure);
    fail(&bulkhead, Verdict::Ignored);
    assert_eq!(state(&bulkhead), CircuitState::Closed);
    fail(&bulkhead, Verdict::Failure);
    assert_eq!(state(&bulkhead), CircuitState::Open);
    assert_eq!(
        bulkhead.stats().failed_executions,
        3,
        "the ledger counts all"
    );
}

#[test]
fn an_error_that_counts_as_a_success_does() {
    let (bulkhead, clock) = build();
    for _ in 0..3 {
        fail(&bulkhead, Verdict::Failure);
        fail(&bulkhead, Verdict::Success);
    }
    assert_eq!(state(&bulkhead), CircuitState::Closed);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    fail(&bulkhead, Verdict::Success);
    assert_eq!(state(&bulkhead), CircuitState::Closed, "also as a probe");
}

#[test]
fn an_ignored_error_gives_a_probes_turn_back_and_does_not_close() {
    let (bulkhead, clock) = build();
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    for _ in 0..10 {
        fail(&bulkhead, Verdict::Ignored);
        assert_eq!(state(&bulkhead), CircuitState::HalfOpen);
    }
    assert_eq!(
        bulkhead.circuit_breaker().unwrap().stats().probes_in_flight,
        0
    );
    fail(&bulkhead, Verdict::Failure);
    assert_eq!(state(&bulkhead), CircuitState::Open);
}

#[test]
fn failure_if_saying_no_means_ignored() {
    let (bulkhead, clock) = build();
    let not_found = || {
        let handle = bulkhead
            .call()
            .failure_if(|code: &u16| *code >= 500)
            .execute(|| Err::<(), _>(404));
        assert!(wait(handle).error().is_some());
    };
    fail(&bulkhead, Verdict::Failure);
    not_found();
    fail(&bulkhead, Verdict::Failure);
    assert_eq!(state(&bulkhead), CircuitState::Open);
    clock.advance(ISOLATION);
    not_found();
    assert_eq!(state(&bulkhead), CircuitState::HalfOpen);
}

#[test]
fn in_its_callers_thread_the_same() {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .build()
        .unwrap();
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    let seen = std::cell::Cell::new(0);
    for (verdict, state) in [
        (Verdict::Ignored, CircuitState::HalfOpen),
        (Verdict::Success, CircuitState::Closed),
        (Verdict::Failure, CircuitState::Closed),
        (Verdict::Ignored, CircuitState::Closed),
        (Verdict::Failure, CircuitState::Open),
    ] {
        let result = bulkhead
            .call()
            .classify(|verdict: &Verdict| {
                seen.set(seen.get() + 1);
                *verdict
            })
            .execute(|| Err::<(), _>(verdict));
        assert!(result.error().is_some());
        assert_eq!(breaker.state(), state);
    }
    assert_eq!(seen.get(), 5);
}

#[test]
fn a_classifier_that_panics_means_failure() {
    let (bulkhead, _) = build();
    for _ in 0..2 {
        let handle = bulkhead
            .call()
            .classify(|_: &()| panic!("no opinion"))
            .execute(|| Err::<(), _>(()));
        assert!(wait(handle).error().is_some());
    }
    assert_eq!(state(&bulkhead), CircuitState::Open);
}

#[test]
fn a_breaker_alone_has_the_three_answers_too() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("dependency", rules())
        .clock(clock.clone())
        .build()
        .unwrap();
    let call = |verdict| {
        let result = breaker.call_classified(|verdict| *verdict, || Err::<(), _>(verdict));
        assert_eq!(result, Err(CircuitError::Failed(verdict)));
    };
    call(Verdict::Failure);
    call(Verdict::Success);
    call(Verdict::Failure);
    call(Verdict::Ignored);
    assert!(breaker.is_closed());
    call(Verdict::Failure);
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    call(Verdict::Ignored);
    assert!(breaker.is_half_open());
    let not_found = breaker.call_if(|code| *code >= 500, || Err::<(), _>(404));
    assert_eq!(not_found, Err(CircuitError::Failed(404)));
    assert!(breaker.is_half_open());
    breaker
        .try_acquire()
        .expect("a probe")
        .record(Verdict::Success);
    assert!(breaker.is_closed());
}

#[test]
fn a_classifier_of_ones_own() {
    struct Http;

    impl FailureClassifier<u16> for Http {
        fn classify(&self, status: &u16) -> Verdict {
            match status {
                499 => Verdict::Ignored,
                500.. => Verdict::Failure,
                _ => Verdict::Success,
            }
        }
    }
    let verdicts = [404, 499, 503].map(|status| Http.classify(&status));
    assert_eq!(
        verdicts,
        [Verdict::Success, Verdict::Ignored, Verdict::Failure]
    );
}

#[test]
fn a_bulkhead_has_a_classifier_for_each_type_of_error_and_a_calls_own_goes_first() {
    let bulkhead = Bulkhead::builder(config(1, 2).circuit_breaker(rules().failure_threshold(1)))
        .failure_if(|_: &u16| unreachable!("the later one for this type holds"))
        .failure_if(|code: &u16| *code >= 500)
        .classify(|_: &String| Verdict::Ignored)
        .build()
        .unwrap();
    let breaker = bulkhead.circuit_breaker().unwrap();
    let opens = |handle: bulkman::ExecutionHandle<(), u16>| {
        assert!(wait(handle).error().is_some());
        let is_open = breaker.is_open();
        breaker.reset();
        is_open
    };
    assert!(!opens(bulkhead.execute(|| Err(404))));
    assert!(opens(bulkhead.execute(|| Err(503))));
    assert!(!opens(
        bulkhead.call().operation("named").execute(|| Err(404))
    ));
    let strict = || bulkhead.call().failure_if(|_: &u16| true);
    assert!(opens(strict().execute(|| Err(404))), "its own");
    let wrapped = bulkhead.wrap(Err::<(), u16>);
    assert!(wrapped(404).error().is_some() && breaker.is_closed());
    assert!(wrapped(503).error().is_some() && breaker.is_open());
    breaker.reset();
    let wrapped = strict().wrap(Err::<(), u16>);
    assert!(
        wrapped(404).error().is_some() && breaker.is_open(),
        "its own"
    );
    breaker.reset();

    let text = bulkhead.execute(|| Err::<(), _>(String::new()));
    assert!(wait(text).error().is_some() && breaker.is_closed());
    let other = bulkhead.execute(|| Err::<(), _>(404_u32));
    assert!(
        wait(other).error().is_some() && breaker.is_open(),
        "no classifier, so a failure"
    );
}

#[test]
fn a_bulkheads_classifier_that_panics_is_contained_and_the_error_is_a_failure() {
    let bulkhead = Bulkhead::builder(config(1, 2).circuit_breaker(rules().failure_threshold(1)))
        .classify(|_: &u16| panic!("no idea"))
        .build()
        .unwrap();
    let result = wait(bulkhead.execute(|| Err::<(), _>(404_u16)));
    assert_eq!(result.error().unwrap().failed(), Some(&404));
    assert_eq!(state(&bulkhead), CircuitState::Open);
}
