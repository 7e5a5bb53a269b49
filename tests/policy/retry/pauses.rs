//! How long it waits between attempts.

use std::time::Duration;

use bulkman::policy::{Jitter, Retry, RetryIf, RetryStop};

use crate::helpers::{failing_until, millis, retry};
use crate::support::{HOUR, seconds};

type OfDelay = Retry<RetryIf<Option<Duration>>>;

#[test]
fn pauses_grow_up_to_the_cap() {
    let (retry, _, told) = retry(6);
    let retry = retry.first_delay(millis(100)).max_delay(millis(500));
    let _ = retry.call(failing_until(9));
    assert_eq!(told.pauses(), [100, 200, 400, 500, 500]);
}

#[test]
fn factors_below_one_and_no_numbers_count_as_one() {
    for factor in [0.0, -3.0, f64::NAN, 1.0, f64::NEG_INFINITY] {
        let (retry, _, told) = retry(4);
        let _ = retry
            .first_delay(millis(30))
            .factor(factor)
            .call(failing_until(9));
        assert_eq!(told.pauses(), [30, 30, 30], "{factor}");
    }
}

#[test]
fn a_seed_repeats_the_jitter() {
    let pauses = |seed| {
        let (retry, _, told) = retry(8);
        let retry = retry.jitter(Jitter::Full).seed(seed);
        let _ = retry.call(failing_until(9));
        told.pauses()
    };
    assert_eq!(pauses(5), pauses(5));
    assert_ne!(pauses(5), pauses(6));
    let whole = [100, 200, 400, 800, 1_600, 3_200, 6_400];
    assert!(
        pauses(7)
            .iter()
            .zip(whole)
            .all(|(pause, whole)| *pause <= whole)
    );
}

fn of_delay() -> (OfDelay, crate::helpers::Told) {
    let (retry, _, told) = retry(3);
    let retry = retry
        .retry_if(|_: &Option<Duration>| true)
        .delay_of(|named| *named);
    (retry, told)
}

#[test]
fn the_error_can_ask_for_a_longer_pause() {
    for (named, expected) in [
        (None, [100, 200]),
        (Some(millis(1)), [100, 200]), // it cannot ask for a shorter one
        (Some(millis(150)), [150, 200]),
        (Some(seconds(60)), [60_000, 60_000]), // the longest, also beyond the cap
    ] {
        let (retry, told) = of_delay();
        let _ = retry.call(|| Err::<(), _>(named));
        assert_eq!(told.pauses(), expected, "{named:?}");
    }
}

#[test]
fn an_error_that_asks_for_too_much_is_the_last() {
    for named in [seconds(61), HOUR, Duration::MAX] {
        let (retry, told) = of_delay();
        let error = retry.call(|| Err::<(), _>(Some(named))).unwrap_err();
        assert_eq!((error.stop, error.attempts), (RetryStop::DelayTooLong, 1));
        assert!(told.pauses().is_empty());
    }
    let (retry, told) = of_delay();
    let retry = retry.max_named_delay(Duration::MAX);
    let error = retry
        .call(|| Err::<(), _>(Some(Duration::MAX)))
        .unwrap_err();
    assert_eq!(
        error.stop,
        RetryStop::DelayTooLong,
        "no clock shows the end"
    );
    assert!(told.pauses().is_empty());
}

#[test]
fn what_was_waited_is_known() {
    let (retry, _, _) = retry(4);
    let attempts = retry.attempts();
    attempts.failed("once").unwrap();
    attempts.failed("twice").unwrap();
    // The listener has moved the clock, before the wait began.
    assert_eq!(attempts.made(), 3);
    assert!(attempts.waited() <= millis(300));
}
