//! So many calls in a time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bulkman::policy::{Deadline, Failure, FailureKind, RateLimit, RetryableError};
use bulkman::{BuildError, Bulkhead, BulkheadConfig, ManualClock};

use crate::helpers::millis;
use crate::support::{Gate, HOUR, SECOND, eventually, in_time, wait};

/// Ten a second, with a burst.
fn ten(burst: u32) -> (RateLimit, ManualClock) {
    let clock = ManualClock::new();
    let limit = RateLimit::new(10, SECOND).unwrap();
    (limit.burst(burst).clock(clock.clone()), clock)
}

#[test]
fn a_burst_passes_and_then_an_even_stream() {
    for burst in [1, 3, 10, 0] {
        let (limit, clock) = ten(burst);
        for _ in 0..burst.max(1) {
            limit.try_acquire().unwrap();
        }
        for _ in 0..20 {
            let refused = limit.try_acquire().unwrap_err();
            assert_eq!(refused.retry_after, millis(100));
            clock.advance(millis(99));
            assert_eq!(limit.try_acquire().unwrap_err().retry_after, millis(1));
            clock.advance(millis(1));
            limit.try_acquire().unwrap();
        }
    }
}

#[test]
fn a_pace_between_two_nanoseconds_is_rounded_to_the_slower() {
    for (calls, period, promised) in [
        (3, Duration::from_nanos(5), 601),
        (700_000_000, SECOND, 701),
        (150_000_000, SECOND, 151),
    ] {
        let clock = ManualClock::new();
        let limit = RateLimit::new(calls, period).unwrap();
        let limit = limit.burst(1).clock(clock.clone());
        let mut passed = 0;
        for _ in 0..=1_000 {
            while limit.try_acquire().is_ok() {
                passed += 1;
            }
            clock.advance(Duration::from_nanos(1));
        }
        assert!(passed <= promised, "{calls} in {period:?}: {passed}");
    }
}

#[test]
fn a_quiet_time_brings_the_burst_back_and_no_more() {
    let (limit, clock) = ten(3);
    for _ in 0..5 {
        clock.advance(HOUR);
        let passed = (0..10).filter(|_| limit.try_acquire().is_ok()).count();
        assert_eq!(passed, 3);
    }
}

#[test]
fn a_refusal_takes_no_turn() {
    let (limit, clock) = ten(1);
    limit.try_acquire().unwrap();
    for _ in 0..1_000 {
        limit.try_acquire().unwrap_err();
    }
    clock.advance(millis(100));
    limit.try_acquire().unwrap();
}

#[test]
fn many_threads_get_no_more_than_the_burst() {
    let (limit, _) = ten(7);
    let passed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let ok = limit.clone().try_acquire().is_ok();
                    passed.fetch_add(u32::from(ok), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 7);
}

#[test]
fn a_caller_can_wait_for_its_turn() {
    let (limit, clock) = ten(1);
    let limit = limit.wait_up_to(millis(250));
    limit.acquire().unwrap();
    let waiting = limit.clone();
    let waiter = std::thread::spawn(move || waiting.acquire());
    // Its turn is taken while it waits.
    eventually("the waiter has a turn", || {
        limit.try_acquire().unwrap_err().retry_after == millis(200)
    });
    clock.advance(millis(100));
    let waited = in_time(move || waiter.join().unwrap());
    assert_eq!(waited.unwrap(), millis(100));
}

#[test]
fn a_turn_that_comes_too_late_is_not_waited_for() {
    let (limit, _) = ten(1);
    limit.try_acquire().unwrap();
    for longest in [Duration::ZERO, millis(99)] {
        let limit = limit.clone().wait_up_to(longest);
        assert_eq!(limit.acquire().unwrap_err().retry_after, millis(100));
    }
}

#[test]
fn nor_is_one_after_the_deadline() {
    let (limit, clock) = ten(1);
    limit.try_acquire().unwrap();
    let limit = limit.wait_up_to(HOUR);
    let deadline = Deadline::after_on(clock, millis(99));
    let refused = deadline.with(|| limit.acquire()).unwrap_err();
    assert_eq!(refused.retry_after, millis(100));
}

#[test]
fn a_cancelled_call_stops_waiting() {
    let (limit, _) = ten(1);
    limit.try_acquire().unwrap();
    let limit = limit.wait_up_to(HOUR);
    let bulkhead = Bulkhead::new(BulkheadConfig::new("cancelled")).unwrap();
    let gate = Gate::new();
    let started = gate.clone();
    let handle = bulkhead.execute(move || {
        started.open();
        limit.acquire()
    });
    gate.pass();
    assert!(!handle.cancel());
    let error = wait(handle).into_result().unwrap_err();
    assert!(error.failed().is_some());
}

#[test]
fn each_key_has_turns_of_its_own() {
    let (limit, clock) = ten(2);
    let limit = limit.by_key();
    for key in ["ada", "grace"] {
        limit.try_acquire(key).unwrap();
        limit.acquire(key).unwrap();
        assert_eq!(limit.try_acquire(key).unwrap_err().retry_after, millis(100));
    }
    clock.advance(millis(100));
    for key in ["ada", "grace"] {
        limit.try_acquire(key).unwrap();
    }
}

#[test]
fn keys_that_are_idle_are_forgotten() {
    let (limit, clock) = ten(1);
    let limit = limit.by_key();
    assert!(limit.is_empty());
    for n in 0..10_000 {
        limit.try_acquire(&format!("key {n}")).unwrap();
        clock.advance(millis(10));
    }
    assert!(limit.len() <= 64, "{}", limit.len());
}

#[test]
fn the_keys_of_a_busy_hour_are_forgotten_by_the_calls_after_it() {
    let (limit, clock) = ten(1);
    let limit = limit.by_key();
    for n in 0..10_000 {
        limit.try_acquire(&format!("key {n}")).unwrap();
    }
    assert_eq!(limit.len(), 10_000);
    // From here on there is never a new key.
    for _ in 0..10_000 {
        clock.advance(SECOND);
        limit.try_acquire("key 7").unwrap();
    }
    assert!(limit.len() <= 64, "{}", limit.len());
}

#[test]
fn a_burst_of_centuries_is_bounded_too() {
    const DAY: Duration = Duration::from_secs(86_400);
    let century = 36_525 * DAY;
    for (period, burst, at_once, after_a_century) in [
        (Duration::MAX, 2, 1, 0),
        (3 * century, 10, 1, 0),
        (century, u32::MAX, 3, 1),
        (century, 2, 2, 1),
    ] {
        let clock = ManualClock::new();
        let limit = RateLimit::new(1, period).unwrap();
        let limit = limit.burst(burst).clock(clock.clone());
        clock.advance(SECOND);
        let passed = || (0..100).filter(|_| limit.try_acquire().is_ok()).count();
        assert_eq!(passed(), at_once, "{period:?}, burst {burst}");
        clock.advance(century);
        assert_eq!(passed(), after_a_century, "{period:?}, burst {burst}");
    }
}

#[test]
fn keys_in_use_are_kept() {
    let (limit, _) = ten(1);
    let limit = limit.by_key();
    for round in 0..2 {
        for n in 0..1_000 {
            let passed = limit.try_acquire(&format!("key {n}")).is_ok();
            assert_eq!(passed, round == 0);
        }
    }
    assert_eq!(limit.len(), 1_000);
}

#[test]
fn settings_out_of_range_are_errors() {
    for (calls, period) in [
        (0, SECOND),
        (1, Duration::ZERO),
        (u32::MAX, Duration::from_nanos(1)),
    ] {
        let error = RateLimit::new(calls, period).unwrap_err();
        assert!(matches!(error, BuildError::InvalidValue { .. }), "{error}");
    }
    let limit = RateLimit::new(1, Duration::MAX).unwrap().burst(u32::MAX);
    assert!(limit.try_acquire().is_ok());
}

#[test]
fn the_error_says_who_and_when() {
    let (limit, _) = ten(1);
    let limit = limit.name("geocoder");
    limit.try_acquire().unwrap();
    let refused = limit.try_acquire().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rate limit `geocoder` is used up: retry in 100.0ms"
    );
    assert_eq!(refused.failure_kind(), FailureKind::RateLimited);
    assert_eq!(refused.retry_after(), Some(millis(100)));
    assert!(refused.is_retryable());
}
