//! What listeners are told.

use bulkman::policy::{AttemptEnd, RetryStop};

use crate::helpers::{Told, failing_until, retry};

#[test]
fn each_attempt_is_told_with_what_comes_next() {
    let (retry, _, told) = retry(3);
    retry.call(failing_until(2)).unwrap();
    let all = told.all();
    assert!(matches!(
        all[..],
        [(1, AttemptEnd::Retrying { .. }), (2, AttemptEnd::Succeeded)]
    ));
}

#[test]
fn giving_up_is_told_with_its_reason() {
    let (retry, _, told) = retry(2);
    retry.call(failing_until(9)).unwrap_err();
    let gave_up = AttemptEnd::GaveUp(RetryStop::AttemptsUsedUp);
    assert_eq!(told.all().last(), Some(&(2, gave_up)));
}

#[test]
fn a_listener_that_panics_changes_nothing() {
    let (retry, _, _) = retry(3);
    let after = Told::default();
    let retry = retry
        .listener(|_| panic!("a listener"))
        .listener(after.listener());
    assert_eq!(retry.call(failing_until(3)), Ok(3));
    assert_eq!(after.all().len(), 3);
}

#[test]
fn an_event_knows_the_name_and_the_time() {
    let (retry, _, _) = retry(3);
    let retry = retry.name("users").listener(|event| {
        assert_eq!(event.name, "users");
        let before = [0, 0, 100, 300][event.attempt as usize];
        assert!(event.elapsed.as_millis() >= before, "{event:?}");
    });
    retry.call(failing_until(3)).unwrap();
}
