//! The circuit breaker alone, around calls that need no thread pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use bulkman::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerConfig, CircuitChange, CircuitError,
    CircuitState, ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);
const ISOLATION: Duration = Duration::from_secs(30);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

fn builder(rules: CircuitBreakerConfig) -> (CircuitBreakerBuilder, ManualClock) {
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder("dependency", rules).clock(clock.clone());
    (builder, clock)
}

fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let (builder, clock) = builder(rules);
    (builder.build().unwrap(), clock)
}

fn half_open() -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(ISOLATION);
    drop(breaker.try_acquire().expect("a probe"));
    assert!(breaker.is_half_open());
    (breaker, clock)
}

fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}

/// How many permits it gives out at the same time, up to 100.
fn turns(breaker: &CircuitBreaker) -> usize {
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(100)
        .collect();
    permits.len()
}

// ---- permits

#[test]
fn failures_in_a_row_open_it() {
    let (breaker, _clock) = breaker(rules());
    assert!(breaker.is_closed());
    breaker.try_acquire().unwrap().record_failure();
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_closed());
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    assert_eq!(breaker.state(), CircuitState::Open);
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!(&*refused.name, "dependency");
    assert_eq!(refused.retry_after, ISOLATION);
    assert_eq!(
        refused.to_string(),
        "circuit `dependency` is open: retry in 30.0s"
    );
}

#[test]
fn retry_after_counts_down() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    assert_eq!(retry_after(&breaker), ISOLATION);
    clock.advance(29 * SECOND);
    assert_eq!(retry_after(&breaker), SECOND);
    clock.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(retry_after(&breaker), Duration::from_nanos(1));
    clock.advance(Duration::from_nanos(1));
    assert!(breaker.is_half_open(), "by the clock");
    let probe = breaker.try_acquire().expect("a probe");
    assert!(breaker.is_half_open());
    drop(probe);
}

#[test]
fn probes_close_it_or_open_it_again() {
    let (breaker, _clock) = half_open();
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_half_open());
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed());

    let (breaker, clock) = half_open();
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION);
    clock.advance(ISOLATION);
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_half_open(), "successes of earlier are forgotten");
}

#[test]
fn no_more_probes_are_out_than_successes_are_needed() {
    let (breaker, _clock) = half_open();
    let first = breaker.try_acquire().unwrap();
    let second = breaker.try_acquire().unwrap();
    assert_eq!(retry_after(&breaker), ISOLATION, "the limit of a probe");
    first.record_success();
    let third = breaker.try_acquire().expect("a turn is free");
    assert!(breaker.try_acquire().is_err());
    second.record_success();
    assert!(breaker.is_closed());
    drop(third);
    assert_eq!(turns(&breaker), 100);
}

#[test]
fn a_permit_that_is_dropped_gives_its_turn_back() {
    let (breaker, _clock) = half_open();
    for _ in 0..10 {
        assert_eq!(turns(&breaker), 2);
    }
    assert!(breaker.is_half_open());
    let (breaker, _clock) = self::breaker(rules());
    breaker.try_acquire().unwrap().record_failure();
    drop(breaker.try_acquire().unwrap());
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open(), "it is no success either");
}

#[test]
fn a_permit_from_before_a_transition_does_not_count() {
    let (breaker, clock) = breaker(rules());
    let old: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
    let [a, b, c, d] = <[_; 4]>::try_from(old).unwrap();
    breaker.trip();
    a.record_success();
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    let probe = breaker.try_acquire().unwrap();
    b.record_failure();
    assert!(breaker.is_half_open());
    c.record_success();
    drop(d);
    assert_eq!(turns(&breaker), 1, "the one probe is still out");
    probe.record_success();
    assert!(breaker.is_half_open(), "one of two");
}

#[test]
fn outcomes_seen_elsewhere_count_without_a_permit() {
    let (breaker, clock) = breaker(rules());
    breaker.record_failure();
    breaker.record_success();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    breaker.record_success();
    breaker.record_failure();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION, "not prolonged");
    clock.advance(ISOLATION);
    drop(breaker.try_acquire().unwrap());
    breaker.record_success();
    breaker.record_success();
    assert!(breaker.is_closed());
}

// ---- call

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

// ---- by hand

#[test]
fn reset_closes_it_and_forgets() {
    let (breaker, _clock) = breaker(rules());
    breaker.record_failure();
    breaker.reset();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    breaker.reset();
    assert!(breaker.is_closed());
    let (breaker, _clock) = half_open();
    breaker.reset();
    assert!(breaker.is_closed());
}

#[test]
fn trip_begins_the_isolation_anew() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(20 * SECOND);
    assert_eq!(retry_after(&breaker), 10 * SECOND);
    breaker.trip();
    assert_eq!(retry_after(&breaker), ISOLATION);
}

// ---- failure rate

#[test]
fn a_failure_rate_looks_at_the_last_outcomes() {
    let (breaker, _clock) = breaker(rules().failure_rate(0.5, 4));
    let record = |outcomes: &str| {
        for outcome in outcomes.chars() {
            match outcome {
                '+' => breaker.record_success(),
                _ => breaker.record_failure(),
            }
        }
    };
    record("---");
    assert!(breaker.is_closed(), "three of four are there");
    breaker.reset();
    record("+++-");
    assert!(breaker.is_closed(), "a quarter");
    record("+++++++");
    record("-++-");
    assert!(breaker.is_open(), "half of the last four");
    breaker.reset();
    record("-+++-+++-+++-");
    assert!(breaker.is_closed(), "never two in four");
    record("-");
    assert!(breaker.is_open());
}

#[test]
fn a_failure_rate_judges_from_the_minimum_on() {
    let (breaker, _clock) = breaker(rules().failure_rate(1.0, 10).minimum_calls(3));
    breaker.record_failure();
    breaker.record_failure();
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
}

#[test]
fn the_failure_threshold_is_not_used_beside_a_failure_rate() {
    let (breaker, _clock) = breaker(rules().failure_rate(1.0, 10));
    for _ in 0..9 {
        breaker.record_failure();
    }
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
}

// ---- isolations at the edges

#[test]
fn long_after_the_isolation_a_call_probes_too() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(10 * ISOLATION);
    assert!(breaker.try_acquire().is_ok());
    assert!(breaker.is_half_open());
}

#[test]
fn an_isolation_of_zero_lets_the_next_call_probe() {
    let (breaker, _clock) = breaker(rules().isolation_duration(Duration::ZERO));
    breaker.trip();
    assert!(breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_success();
    assert!(breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_failure();
    assert!(breaker.is_half_open());
    assert_eq!(breaker.stats().times_opened, 2);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_isolation_that_no_clock_can_hold_ends_with_a_reset_only() {
    let (breaker, clock) = breaker(rules().isolation_duration(Duration::MAX));
    breaker.trip();
    assert_eq!(retry_after(&breaker), Duration::MAX);
    clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    assert_eq!(retry_after(&breaker), Duration::MAX);
    breaker.reset();
    assert!(breaker.try_acquire().is_ok());
}

// ---- callbacks

fn pair(change: &CircuitChange) -> (CircuitState, CircuitState) {
    (change.from, change.to)
}

#[test]
fn callbacks_hear_of_each_change_in_order() {
    use CircuitState::{Closed, HalfOpen, Open};

    let heard = Arc::new(Mutex::new(Vec::new()));
    let (builder, clock) = builder(rules());
    let listener = |number: u32| {
        let heard = Arc::clone(&heard);
        move |change: &CircuitChange| heard.lock().unwrap().push((number, change.clone()))
    };
    let breaker = builder
        .on_change(listener(1))
        .on_change(listener(2))
        .build()
        .unwrap();
    breaker.record_failure();
    breaker.record_failure();
    clock.advance(ISOLATION);
    let _ = breaker.call(|| Ok::<_, ()>(()));
    let _ = breaker.call(|| Ok::<_, ()>(()));
    breaker.trip();
    breaker.reset();
    let heard = heard.lock().unwrap();
    let numbers: Vec<_> = heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2].repeat(5));
    let changes: Vec<_> = heard.iter().step_by(2).map(|(_, c)| c.clone()).collect();
    assert_eq!(
        changes.iter().map(pair).collect::<Vec<_>>(),
        [
            (Closed, Open),
            (Open, HalfOpen),
            (HalfOpen, Closed),
            (Closed, Open),
            (Open, Closed)
        ]
    );
    let sequence: Vec<_> = changes.iter().map(|change| change.sequence).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5]);
    assert!(changes.iter().all(|change| &*change.name == "dependency"));
}

#[test]
fn the_sequence_counts_changes_only() {
    let sequence = Arc::new(Mutex::new(Vec::new()));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let sequence = Arc::clone(&sequence);
            move |change| sequence.lock().unwrap().push(change.sequence)
        })
        .build()
        .unwrap();
    breaker.reset();
    breaker.trip();
    breaker.trip();
    breaker.reset();
    assert_eq!(*sequence.lock().unwrap(), [1, 2]);
}

#[test]
fn what_changes_nothing_is_told_to_nobody() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let heard = Arc::clone(&heard);
            move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    breaker.reset();
    breaker.record_success();
    breaker.record_failure();
    drop(breaker.try_acquire());
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    breaker.trip();
    breaker.trip();
    assert!(breaker.try_acquire().is_err());
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}

#[test]
fn a_callback_may_use_the_breaker() {
    let slot: Arc<OnceLock<Arc<CircuitBreaker>>> = Arc::default();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let (slot, heard) = (Arc::clone(&slot), Arc::clone(&heard));
            move |change| {
                let breaker = slot.get().unwrap();
                assert_eq!(breaker.state(), change.to);
                heard.lock().unwrap().push(pair(change));
                // Whoever sees it open closes it at once.
                if change.to == CircuitState::Open {
                    assert!(breaker.try_acquire().is_err());
                    breaker.record_failure();
                    breaker.reset();
                    assert!(breaker.try_acquire().is_ok());
                }
            }
        })
        .build()
        .unwrap();
    let breaker = slot.get_or_init(|| Arc::new(breaker));
    breaker.trip();
    assert!(breaker.is_closed());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            (CircuitState::Closed, CircuitState::Open),
            (CircuitState::Open, CircuitState::Closed)
        ]
    );
}

#[test]
fn a_callback_that_panics_is_contained_and_the_others_are_told() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (builder, clock) = builder(rules());
    let breaker = builder
        .on_change(|_| panic!("a callback that panics"))
        .on_change({
            let heard = Arc::clone(&heard);
            move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().record_failure();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed());
    assert_eq!(heard.load(Ordering::Relaxed), 3);
}

// ---- many threads

#[test]
fn never_more_probes_are_in_flight_than_allowed() {
    const PROBES: usize = 3;

    let in_flight = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    for _ in 0..200 {
        let (breaker, clock) = breaker(rules().success_threshold(PROBES));
        breaker.trip();
        clock.advance(ISOLATION);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(permit) = breaker.try_acquire() else {
                            thread::yield_now();
                            continue;
                        };
                        // Not told apart from calls that a closed circuit lets pass, so nobody
                        // ever says success: it stays half-open.
                        let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(breaker.is_half_open());
        assert_eq!(turns(&breaker), PROBES, "no turn was lost");
    }
    assert!(most.load(Ordering::SeqCst) <= PROBES);
}

#[test]
fn changes_seen_by_many_threads_are_one_chain() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let (builder, clock) = builder(rules().failure_threshold(1).success_threshold(1));
    let breaker = builder
        .on_change({
            let changes = Arc::clone(&changes);
            move |change| changes.lock().unwrap().push(change.clone())
        })
        .build()
        .unwrap();
    thread::scope(|scope| {
        for t in 0..4 {
            let (breaker, clock) = (&breaker, &clock);
            scope.spawn(move || {
                for i in 0..500 {
                    clock.advance(ISOLATION);
                    let _ = breaker.call(|| if (i + t) % 2 == 0 { Ok(()) } else { Err(()) });
                }
            });
        }
    });
    let mut changes = changes.lock().unwrap();
    changes.sort_by_key(|change| change.sequence);
    assert!(changes.len() > 4);
    assert_eq!(changes[0].from, CircuitState::Closed);
    for (i, change) in changes.iter().enumerate() {
        assert_eq!(change.sequence, i as u64 + 1);
        if i > 0 {
            assert_eq!(change.from, changes[i - 1].to);
        }
    }
    assert_eq!(changes.last().unwrap().to, breaker.state());
}

/// Compiles only if it can be shared.
#[test]
fn it_can_be_shared_and_shown() {
    fn crosses<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let (breaker, _clock) = breaker(rules());
    crosses(&breaker);
    assert!(format!("{breaker:?}").contains("dependency"));
    assert_eq!(breaker.name(), "dependency");
    let is = |breaker: &CircuitBreaker| {
        [
            breaker.is_closed(),
            breaker.is_open(),
            breaker.is_half_open(),
        ]
    };
    assert_eq!(is(&breaker), [true, false, false]);
    breaker.trip();
    assert_eq!(is(&breaker), [false, true, false]);
    assert_eq!(is(&half_open().0), [false, false, true]);
    assert_eq!(CircuitState::HalfOpen.to_string(), "half-open");
}
