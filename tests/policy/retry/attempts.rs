//! How often a call is made.

use bulkman::policy::{Retry, RetryStop, attempt};

use crate::helpers::{failing_until, over, retry};

#[test]
fn a_call_is_made_until_it_succeeds_and_at_most_so_often() {
    for (max, succeeds_at, expected) in [
        (1, 1, Ok(1)),
        (3, 1, Ok(1)),
        (3, 2, Ok(2)),
        (3, 3, Ok(3)),
        (3, 4, Err(3)),
        (1, 2, Err(1)),
        (0, 2, Err(1)), // the first attempt is always made
    ] {
        let (retry, _, told) = retry(max);
        let outcome = retry.call(failing_until(succeeds_at));
        let outcome = outcome.map_err(|error| {
            assert_eq!(error.stop, RetryStop::AttemptsUsedUp);
            assert_eq!(error.last, format!("call {}", error.attempts));
            error.attempts
        });
        assert_eq!(outcome, expected, "{max} attempts, good at {succeeds_at}");
        let made = expected.unwrap_or_else(|attempts| attempts);
        assert_eq!(
            told.pauses().len(),
            made as usize - 1,
            "none after the last"
        );
    }
}

#[test]
fn without_a_bound_it_goes_on_until_it_succeeds() {
    let (retry, _, _) = over(Retry::forever());
    assert_eq!(retry.call(failing_until(1_000)), Ok(1_000));
}

#[test]
fn code_that_is_no_closure_makes_its_attempts_itself() {
    let (retry, _, _) = retry(5);
    let mut call = failing_until(3);
    let attempts = retry.attempts();
    let value = loop {
        match call() {
            Ok(value) => break value,
            Err(error) => attempts.failed(error).unwrap(),
        }
    };
    assert_eq!((value, attempts.made()), (3, 3));
}

#[test]
fn the_iterator_counts_the_attempts() {
    let (retry, _, _) = retry(3);
    let attempts = retry.attempts();
    let mut seen = Vec::new();
    let mut gave_up = None;
    for attempt in &attempts {
        seen.push(attempt);
        if let Err(error) = attempts.failed(format!("call {attempt}")) {
            gave_up = Some(error);
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    let error = gave_up.unwrap();
    assert_eq!((error.last.as_str(), error.attempts), ("call 3", 3));
}

#[test]
fn the_iterator_ends_after_an_attempt_that_did_not_fail() {
    let (retry, _, _) = retry(5);
    let attempts = retry.attempts();
    assert_eq!((&attempts).into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_retry_is_used_by_many_threads_at_once() {
    let (retry, _, _) = retry(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(retry.call(failing_until(3)), Ok(3)));
        }
    });
}

#[test]
fn retries_inside_each_other_multiply() {
    let (outer, _, _) = retry(3);
    let (inner, _, _) = retry(2);
    let outer = outer.retry_if(|_: &bulkman::policy::RetryError<String>| true);
    let mut calls = 0;
    let outcome = outer.call(|| {
        inner.call(|| {
            calls += 1;
            Err::<(), _>(String::from("down"))
        })
    });
    assert!(outcome.is_err());
    assert_eq!(calls, 6);
}

#[test]
fn code_can_ask_which_attempt_it_is() {
    let (outer, _, _) = retry(3);
    let (inner, _, _) = retry(2);
    let outer = outer.retry_if(|_: &bulkman::policy::RetryError<String>| true);
    let mut seen = Vec::new();
    assert_eq!(attempt(), 1);
    let outcome = outer.call(|| {
        let before = attempt();
        let result = inner.call(|| {
            seen.push((before, attempt()));
            Err::<(), _>(String::from("down"))
        });
        assert_eq!(attempt(), before);
        result
    });
    assert!(outcome.is_err());
    assert_eq!(seen, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]);
    assert_eq!(attempt(), 1);
}
