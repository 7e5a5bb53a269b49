//! What a closed circuit remembers: failures in a row, the last calls, the calls of a period. The window of calls is
//! compared with a plain model of what resilience4j describes.

use std::collections::VecDeque;
use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitChangeReason, ManualClock, Verdict};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("dependency", rules)
        .clock(clock.clone())
        .build()
        .unwrap();
    (breaker, clock)
}

fn record(breaker: &CircuitBreaker, verdict: Verdict) {
    breaker.try_acquire().expect("closed").record(verdict);
}

fn record_all(breaker: &CircuitBreaker, outcomes: &str) {
    for outcome in outcomes.chars() {
        match outcome {
            'S' => breaker.record_success(),
            _ => breaker.record_failure(),
        }
    }
}

// ---- the last calls

#[test]
fn a_success_that_fills_the_window_judges_too() {
    let (breaker, _) = breaker(CircuitBreakerConfig::default().failure_rate(0.5, 5));
    record_all(&breaker, "FFFS");
    assert!(breaker.is_closed(), "four of five");
    record_all(&breaker, "S");
    assert!(breaker.is_open(), "60 %");
}

#[test]
fn a_success_that_opens_the_circuit_isolates_from_its_own_end() {
    let (breaker, clock) = breaker(CircuitBreakerConfig::default().failure_rate(0.5, 4));
    clock.advance(DAY);
    record_all(&breaker, "FFF");
    record(&breaker, Verdict::Success);
    assert!(breaker.is_open(), "75 %");
    let isolation = breaker.try_acquire().expect_err("open").retry_after;
    assert_eq!(isolation, Duration::from_secs(30));
}

/// The circuit as resilience4j describes its count-based window: the last `size` calls; "the failure rate is calculated"
/// from `minimum` calls on; "when the failure rate is equal or greater than the threshold" it opens. Slow calls alike.
struct Reference {
    size: usize,
    minimum: usize,
    failure_rate: f64,
    slow_call_rate: Option<f64>,
    calls: VecDeque<(bool, bool)>,
}

impl Reference {
    fn opens(&mut self, failed: bool, slow: bool) -> bool {
        self.calls.push_back((failed, slow));
        if self.calls.len() > self.size {
            self.calls.pop_front();
        }
        let share = |is: fn(&(bool, bool)) -> bool| {
            self.calls.iter().filter(|call| is(call)).count() as f64 / self.calls.len() as f64
        };
        self.calls.len() >= self.minimum
            && (share(|call| call.0) >= self.failure_rate
                || self
                    .slow_call_rate
                    .is_some_and(|rate| share(|call| call.1) >= rate))
    }
}

#[derive(Clone, Copy, Debug)]
struct Call {
    verdict: Verdict,
    slow: bool,
}

fn call() -> impl Strategy<Value = Call> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Success),
        4 => Just(Verdict::Failure),
        1 => Just(Verdict::Ignored),
    ];
    (verdict, prop::bool::weighted(0.3)).prop_map(|(verdict, slow)| Call { verdict, slow })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn the_window_of_calls_does_what_resilience4j_describes(
        (size, minimum) in (1_usize..=8).prop_flat_map(|size| (Just(size), prop::option::of(1..=size))),
        failure_rate in 1_u32..=20,
        slow_call_rate in prop::option::of(1_u32..=20),
        script in prop::collection::vec(call(), 1..60),
    ) {
        let rate = |twentieths: u32| f64::from(twentieths) / 20.0;
        let mut rules = CircuitBreakerConfig::default().failure_rate(rate(failure_rate), size);
        rules.minimum_calls = minimum;
        rules.slow_call_rate = slow_call_rate.map(rate);
        rules.slow_call_duration = slow_call_rate.map(|_| SECOND);
        let mut reference = Reference {
            size,
            minimum: minimum.unwrap_or(size),
            failure_rate: rate(failure_rate),
            slow_call_rate: slow_call_rate.map(rate),
            calls: VecDeque::new(),
        };
        let (breaker, clock) = breaker(rules);
        for Call { verdict, slow } in script {
            let permit = breaker.try_acquire().expect("closed");
            if slow {
                clock.advance(2 * SECOND);
            }
            permit.record(verdict);
            let opens = verdict != Verdict::Ignored
                && reference.opens(verdict == Verdict::Failure, slow);
            prop_assert_eq!(breaker.is_open(), opens);
            if opens {
                break;
            }
            let stats = breaker.stats();
            let failures = reference.calls.iter().filter(|call| call.0).count();
            prop_assert_eq!((stats.calls, stats.failures), (reference.calls.len(), failures));
        }
    }

    /// The window in time against one that remembers each call: what is at least a period old is gone, what is at most
    /// nine tenths old is there.
    #[test]
    fn the_window_in_time_forgets_within_a_tenth(
        steps in prop::collection::vec((0_u64..4_000, any::<bool>()), 1..60),
    ) {
        let period = 10 * SECOND;
        // It never opens, so that it can be looked at.
        let rules = CircuitBreakerConfig::default()
            .failure_rate_over(1.0, period)
            .minimum_calls(usize::MAX);
        let (breaker, clock) = breaker(rules);
        let mut calls: Vec<(Duration, bool)> = Vec::new();
        let mut now = Duration::ZERO;
        for (millis, failed) in steps {
            let step = Duration::from_millis(millis);
            clock.advance(step);
            now += step;
            record(&breaker, if failed { Verdict::Failure } else { Verdict::Success });
            calls.push((now, failed));
            let younger = |age: Duration| {
                let young = calls.iter().filter(|call| now - call.0 < age);
                let failures = young.clone().filter(|call| call.1);
                (young.count(), failures.count())
            };
            let stats = breaker.stats();
            let (least, most) = (younger(period * 9 / 10), younger(period));
            prop_assert!((least.0..=most.0).contains(&stats.calls), "{least:?} {most:?} {stats:?}");
            prop_assert!((least.1..=most.1).contains(&stats.failures), "{least:?} {most:?} {stats:?}");
        }
    }
}

// ---- the calls of a period

#[test]
fn failures_days_apart_do_not_add_up_in_a_period() {
    let rules = CircuitBreakerConfig::default()
        .failure_rate_over(0.5, 60 * SECOND)
        .minimum_calls(3);
    let (breaker, clock) = breaker(rules);
    for _ in 0..20 {
        record_all(&breaker, "FF");
        clock.advance(DAY);
    }
    assert!(breaker.is_closed());
    record_all(&breaker, "FF");
    clock.advance(30 * SECOND);
    record_all(&breaker, "S");
    assert!(breaker.is_open(), "three calls within a minute");
}

#[test]
fn a_period_wants_twenty_calls_unless_told_otherwise() {
    let (breaker, _) = breaker(CircuitBreakerConfig::default().failure_rate_over(0.5, SECOND));
    record_all(&breaker, &"F".repeat(19));
    assert!(breaker.is_closed());
    record_all(&breaker, "S");
    assert!(breaker.is_open());
}

#[test]
fn the_counts_fade_while_nothing_happens() {
    let (breaker, clock) =
        breaker(CircuitBreakerConfig::default().failure_rate_over(0.5, 10 * SECOND));
    record_all(&breaker, "FFS");
    assert_eq!(breaker.stats().failure_rate, Some(2.0 / 3.0));
    clock.advance(10 * SECOND);
    let stats = breaker.stats();
    assert_eq!(
        (stats.calls, stats.failures, stats.failure_rate),
        (0, 0, None)
    );
}

// ---- failures in a row

#[test]
fn failures_days_apart_are_no_run() {
    let (breaker, clock) = breaker(CircuitBreakerConfig::default().failure_threshold(3));
    for _ in 0..10 {
        record_all(&breaker, "FF");
        clock.advance(DAY);
    }
    assert!(breaker.is_closed());
    record_all(&breaker, "FFF");
    assert!(breaker.is_open());
}

#[test]
fn the_longest_gap_can_be_set() {
    let rules = CircuitBreakerConfig::default().failure_threshold(3);
    let (within, clock) = breaker(rules.clone().max_failure_gap(10 * SECOND));
    for _ in 0..3 {
        assert!(within.is_closed());
        within.record_failure();
        clock.advance(10 * SECOND);
    }
    assert!(within.is_open());
    let (beyond, clock) = breaker(rules.clone().max_failure_gap(10 * SECOND));
    for _ in 0..10 {
        beyond.record_failure();
        clock.advance(10 * SECOND + Duration::from_nanos(1));
    }
    assert!(beyond.is_closed());
    let (however, clock) = breaker(rules.max_failure_gap(Duration::MAX));
    for _ in 0..3 {
        however.record_failure();
        clock.advance(1_000 * DAY);
    }
    assert_eq!(however.stats().times_opened, 1);
}

#[test]
fn each_rule_says_that_it_was_the_one() {
    use std::sync::{Arc, Mutex};

    let base = CircuitBreakerConfig::default;
    for (rules, reason) in [
        (
            base().failure_threshold(4),
            CircuitChangeReason::FailuresInARow,
        ),
        (
            base().failure_rate(0.5, 4),
            CircuitChangeReason::FailureRate,
        ),
        (
            base().failure_rate_over(0.5, SECOND).minimum_calls(4),
            CircuitChangeReason::FailureRate,
        ),
    ] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let breaker = CircuitBreaker::builder("dependency", rules)
            .clock(ManualClock::new())
            .on_change(move |change| heard.lock().unwrap().push(change.reason))
            .build()
            .unwrap();
        record_all(&breaker, "FFFF");
        assert_eq!(*told.lock().unwrap(), [reason]);
    }
}
