//! `call` and `call_if`: functions that go through a breaker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use bulkman::CircuitError;

use super::helpers::breaker;
use crate::helpers::{ISOLATION, rules};

#[test]
fn call_gives_the_value_or_the_functions_own_error() {
    let (breaker, _clock) = breaker(rules());
    assert_eq!(breaker.call(|| Ok::<_, &str>(7)), Ok(7));
    let failed = breaker.call(|| Err::<(), _>("down"));
    assert_eq!(failed, Err(CircuitError::Failed("down")));
    let _ = breaker.call(|| Err::<(), _>("down"));
    let ran = AtomicBool::new(false);
    let refused = breaker.call(|| {
        ran.store(true, Ordering::Relaxed);
        Ok::<_, std::fmt::Error>(())
    });
    let error = refused.unwrap_err();
    assert!(matches!(&error, CircuitError::Open(open) if open.retry_after == ISOLATION));
    assert_eq!(
        error.to_string(),
        "circuit `dependency` is open: retry in 30.0s"
    );
    assert!(!ran.load(Ordering::Relaxed));
}

#[test]
fn a_function_may_borrow() {
    let (breaker, _clock) = breaker(rules());
    let mut seen = Vec::new();
    let text = String::from("borrowed");
    let length = breaker.call(|| {
        seen.push(&text);
        Ok::<_, ()>(text.len())
    });
    assert_eq!(length, Ok(8));
    assert_eq!(seen, [&text]);
}

#[test]
fn call_if_says_which_errors_count() {
    let (breaker, _clock) = breaker(rules());
    let call = |error: u16| {
        let result = breaker.call_if(|code| *code >= 500, || Err::<(), _>(error));
        assert_eq!(result, Err(CircuitError::Failed(error)));
    };
    for error in [404, 404, 404, 503, 404] {
        call(error);
    }
    assert!(breaker.is_closed());
    call(503);
    assert!(breaker.is_open());
}

#[test]
fn a_panic_in_a_call_counts_as_a_failure_and_goes_on() {
    let (breaker, clock) = breaker(rules());
    let panics = || {
        let call = || breaker.call(|| -> Result<(), ()> { panic!("down") });
        let payload = catch_unwind(AssertUnwindSafe(call)).expect_err("it goes on");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"down"));
    };
    panics();
    assert!(breaker.is_closed());
    panics();
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    panics();
    assert!(breaker.is_open(), "also as a probe");
}

#[test]
fn a_panic_in_the_judge_counts_as_a_failure_and_goes_on() {
    let (breaker, _clock) = breaker(rules().failure_threshold(1));
    let call = || breaker.call_if(|_: &()| panic!("no opinion"), || Err::<(), ()>(()));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert!(breaker.is_open());
}

#[test]
fn calls_may_nest() {
    let (breaker, _clock) = breaker(rules().failure_threshold(1));
    let result = breaker.call(|| {
        let inner = breaker.call(|| Err::<(), _>("inner"));
        assert_eq!(inner, Err(CircuitError::Failed("inner")));
        assert!(breaker.is_open());
        Ok::<_, &str>("outer")
    });
    assert_eq!(result, Ok("outer"));
    assert!(breaker.is_open(), "the outer one is of an earlier time");
}
