//! Other rules while the circuit works: the state stays, and from then on the new rules hold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use bulkman::{
    AnyBulkhead, BuildError, Bulkhead, BulkheadConfig, BulkheadError, CircuitBreaker,
    CircuitBreakerConfig, CircuitChangeReason, CircuitMode, CircuitPermit, CircuitState,
    CommonBulkhead, ManualClock, MemoryStorage, SemaphoreBulkhead,
};

use crate::helpers::{ISOLATION, retry_after, rules};
use crate::support::{
    Gate, OpenOnDrop, SECOND, assert_balanced, config, eventually, in_time, occupy, wait,
};

fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let built = CircuitBreaker::builder("dependency", rules).clock(clock.clone());
    (built.build().unwrap(), clock)
}

fn fail(breaker: &CircuitBreaker) {
    breaker.try_acquire().expect("it passes").record_failure();
}

fn succeed(breaker: &CircuitBreaker) {
    breaker.try_acquire().expect("it passes").record_success();
}

/// A breaker that is half-open, with so many probes to close it.
fn half_open(successes: usize) -> (CircuitBreaker, ManualClock) {
    let (breaker, clock) = breaker(rules().success_threshold(successes));
    breaker.trip();
    clock.advance(ISOLATION);
    (breaker, clock)
}

fn probes(breaker: &CircuitBreaker, n: usize) -> Vec<CircuitPermit<'_>> {
    (0..n)
        .map(|_| breaker.try_acquire().expect("a probe"))
        .collect()
}

// ---- what is given and what holds

#[test]
fn the_config_is_the_one_that_was_given_last() {
    let (breaker, _) = breaker(rules());
    assert_eq!(breaker.config(), rules());
    let other = rules().failure_threshold(9).isolation_duration(SECOND);
    breaker.set_config(other.clone()).unwrap();
    assert_eq!(breaker.config(), other);
}

#[test]
fn an_invalid_one_changes_nothing() {
    let (breaker, _) = breaker(rules());
    fail(&breaker);
    for (invalid, field) in [
        (rules().failure_threshold(0), "failure_threshold"),
        (rules().failure_rate(1.5, 10), "failure_rate"),
        (rules().slow_call_rate(0.5), "slow_call_rate"),
        (rules().probe_timeout(Duration::ZERO), "probe_timeout"),
        (rules().isolation_backoff(2.0, SECOND), "isolation_backoff"),
    ] {
        match breaker.set_config(invalid) {
            Err(BuildError::InvalidValue { name, field: f, .. }) => {
                assert_eq!((name.as_deref(), f), (Some("dependency"), field));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(breaker.config(), rules());
    assert_eq!(breaker.stats().failures, 1);
    fail(&breaker);
    assert!(breaker.is_open());
}

#[test]
fn no_change_is_told_and_no_state_moves() {
    let changes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&changes);
    let built = CircuitBreaker::builder("dependency", rules().failure_threshold(9))
        .on_change(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    let breaker = built.unwrap();
    for _ in 0..5 {
        fail(&breaker);
    }
    breaker.set_config(rules().failure_threshold(3)).unwrap();
    assert!(breaker.is_closed());
    assert_eq!(changes.load(Ordering::SeqCst), 0);
    fail(&breaker);
    assert!(breaker.is_open());
    assert_eq!(changes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_callback_may_change_the_rules() {
    in_time(|| {
        let own: Arc<OnceLock<CircuitBreaker>> = Arc::default();
        let inside = Arc::clone(&own);
        let built = CircuitBreaker::builder("dependency", rules()).on_change(move |change| {
            if change.to == CircuitState::Open {
                let breaker = inside.get().expect("built");
                let longer = rules().isolation_duration(2 * ISOLATION);
                breaker.set_config(longer).unwrap();
            }
        });
        let breaker = own.get_or_init(|| built.build().unwrap());
        fail(breaker);
        fail(breaker);
        assert_eq!(breaker.config().isolation_duration, 2 * ISOLATION);
    });
}

#[test]
fn the_operators_mode_stays_and_the_initial_one_is_for_the_start() {
    let (breaker, clock) = breaker(rules());
    breaker
        .set_config(rules().initial_mode(CircuitMode::ForcedOpen))
        .unwrap();
    assert!(breaker.is_closed());
    breaker.set_mode(CircuitMode::ObserveOnly);
    breaker.set_config(rules().failure_threshold(1)).unwrap();
    assert_eq!(breaker.mode(), CircuitMode::ObserveOnly);
    fail(&breaker);
    assert!(breaker.is_open());
    assert!(breaker.try_acquire().is_ok());
    breaker.force_open();
    breaker
        .set_config(rules().isolation_duration(SECOND))
        .unwrap();
    clock.advance(2 * SECOND);
    assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
    assert_eq!(retry_after(&breaker), Duration::MAX);
    breaker.set_mode(CircuitMode::Disabled);
    breaker.set_config(rules()).unwrap();
    assert_eq!(breaker.mode(), CircuitMode::Disabled);
}

// ---- a closed circuit

#[test]
fn failures_that_were_counted_go_on_counting() {
    let (breaker, _) = breaker(rules().failure_threshold(5));
    fail(&breaker);
    fail(&breaker);
    breaker.set_config(rules().failure_threshold(3)).unwrap();
    assert_eq!(breaker.stats().failures, 2);
    fail(&breaker);
    assert!(breaker.is_open());
}

#[test]
fn a_smaller_window_keeps_its_last_calls() {
    let rate = |window| rules().failure_rate(0.5, window);
    let (breaker, _) = breaker(rate(10));
    for _ in 0..4 {
        fail(&breaker);
    }
    for _ in 0..3 {
        succeed(&breaker);
    }
    breaker.set_config(rate(4)).unwrap();
    let stats = breaker.stats();
    assert_eq!((stats.calls, stats.failures), (4, 1));
    assert_eq!(stats.failure_rate, Some(0.25));
    succeed(&breaker);
    assert_eq!(breaker.stats().failures, 0);
    fail(&breaker);
    assert_eq!(breaker.stats().calls, 4);
    fail(&breaker);
    assert!(breaker.is_open(), "2 of 4");
}

#[test]
fn another_kind_of_rule_begins_anew() {
    let (breaker, _) = breaker(rules());
    fail(&breaker);
    breaker.set_config(rules().failure_rate(1.0, 2)).unwrap();
    assert_eq!(breaker.stats().calls, 0);
    fail(&breaker);
    assert!(breaker.is_closed());
    // Each success is looked at from now on, also of a circuit without a failure so far.
    succeed(&breaker);
    assert_eq!(breaker.stats().calls, 2);
    breaker.set_config(rules()).unwrap();
    assert_eq!(breaker.stats().calls, 0);
    assert_eq!(breaker.stats().failure_rate, None);
}

#[test]
fn slow_calls_that_are_no_longer_counted_apart_are_none_in_the_numbers() {
    for windowed in [
        rules().failure_rate(1.0, 10),
        rules().failure_rate_over(1.0, 60 * SECOND),
    ] {
        let windowed = windowed.slow_call_duration(SECOND);
        let apart = windowed.clone().slow_call_rate(1.0);
        let (breaker, clock) = breaker(apart.clone());
        for time in [2 * SECOND, Duration::ZERO] {
            let permit = breaker.try_acquire().unwrap();
            clock.advance(time);
            permit.record_success();
        }
        assert_eq!(breaker.stats().slow_calls, 1);
        breaker.set_config(windowed).unwrap();
        let stats = breaker.stats();
        assert_eq!((stats.calls, stats.failures, stats.slow_calls), (2, 0, 0));
        assert_eq!(stats.slow_call_rate, None);
        breaker.set_config(apart).unwrap();
        assert_eq!(breaker.stats().slow_call_rate, Some(0.0));
    }
}

#[test]
fn a_limit_for_slow_calls_is_for_those_that_end_later() {
    let limited = rules().failure_threshold(1).slow_call_duration(SECOND);
    let (breaker, clock) = breaker(rules().failure_threshold(1));
    let before = breaker.try_acquire().unwrap();
    breaker.set_config(limited.clone()).unwrap();
    let after = breaker.try_acquire().unwrap();
    clock.advance(2 * SECOND);
    before.record_success();
    assert!(breaker.is_closed(), "nobody knows how long it took");
    after.record_success();
    assert!(breaker.is_open());

    breaker.reset();
    let before = breaker.try_acquire().unwrap();
    clock.advance(2 * SECOND);
    breaker
        .set_config(limited.slow_call_duration(3 * SECOND))
        .unwrap();
    before.record_success();
    assert!(breaker.is_closed());
    let before = breaker.try_acquire().unwrap();
    clock.advance(4 * SECOND);
    breaker.set_config(rules().failure_threshold(1)).unwrap();
    before.record_success();
    assert!(breaker.is_closed());
}

// ---- an open one

#[test]
fn the_isolation_ends_when_it_was_to_end() {
    for isolation in [Duration::ZERO, SECOND, 100 * ISOLATION, Duration::MAX] {
        let (breaker, clock) = breaker(rules());
        breaker.trip();
        clock.advance(SECOND);
        breaker
            .set_config(rules().isolation_duration(isolation))
            .unwrap();
        assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
        assert_eq!(breaker.stats().retry_after, Some(ISOLATION - SECOND));
        clock.advance(ISOLATION - SECOND);
        assert!(breaker.is_half_open());
        fail(&breaker);
        if isolation > Duration::ZERO {
            assert_eq!(retry_after(&breaker), isolation, "by the new rules");
        } else {
            assert!(breaker.is_half_open());
        }
    }
}

#[test]
fn the_next_isolation_grows_from_the_last_one_within_the_new_limits() {
    for (first, max, expected) in [(10, 900, 60), (10, 45, 45), (100, 900, 100)] {
        let (breaker, clock) = breaker(rules());
        breaker.trip();
        clock.advance(ISOLATION);
        let grows = rules()
            .isolation_duration(first * SECOND)
            .isolation_backoff(2.0, max * SECOND);
        breaker.set_config(grows).unwrap();
        fail(&breaker);
        assert_eq!(retry_after(&breaker), expected * SECOND);
    }
}

#[test]
fn a_verdict_from_before_the_opening_counts_no_more() {
    let (breaker, clock) = breaker(rules());
    let late = [0; 3].map(|_| breaker.try_acquire().unwrap());
    breaker.trip();
    breaker.set_config(rules().success_threshold(1)).unwrap();
    clock.advance(ISOLATION);
    let probe = breaker.try_acquire().expect("a probe");
    for late in late {
        late.record_success();
    }
    assert!(breaker.is_half_open());
    assert!(breaker.try_acquire().is_err(), "the probe is still out");
    probe.record_success();
    assert!(breaker.is_closed());
}

// ---- a half-open one

#[test]
fn fewer_probes_go_out_once_there_are_fewer() {
    let (breaker, _) = half_open(3);
    let mut out = probes(&breaker, 3);
    breaker.set_config(rules().success_threshold(2)).unwrap();
    drop(out.pop());
    assert!(breaker.try_acquire().is_err(), "two are out");
    assert_eq!(breaker.stats().probes_in_flight, 2);
    drop(out.pop());
    out.extend(probes(&breaker, 1));
    assert!(breaker.try_acquire().is_err(), "two are out");
    for probe in out {
        probe.record_success();
    }
    assert!(breaker.is_closed());
}

#[test]
fn more_probes_go_out_at_once() {
    let (breaker, _) = half_open(1);
    let mut out = probes(&breaker, 1);
    assert!(breaker.try_acquire().is_err());
    breaker.set_config(rules().success_threshold(3)).unwrap();
    out.extend(probes(&breaker, 2));
    assert!(breaker.try_acquire().is_err());
    for probe in out {
        assert!(breaker.is_half_open());
        probe.record_success();
    }
    assert!(breaker.is_closed());
}

#[test]
fn a_probe_that_is_out_has_the_new_limit() {
    let (breaker, clock) = half_open(1);
    let probe = probes(&breaker, 1);
    breaker
        .set_config(rules().success_threshold(1).probe_timeout(10 * SECOND))
        .unwrap();
    // Refused without the lock, and not for longer than the new limit.
    assert_eq!(retry_after(&breaker), 10 * SECOND);
    clock.advance(10 * SECOND);
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION);
    drop(probe);
    assert!(breaker.is_open());
}

#[test]
fn a_probe_that_was_beyond_its_limit_has_failed_whatever_the_new_one_is() {
    let short = rules().probe_timeout(SECOND);
    let (breaker, clock) = breaker(short.clone());
    breaker.trip();
    clock.advance(ISOLATION);
    let late = breaker.try_acquire().expect("a probe");
    clock.advance(2 * SECOND);
    assert!(breaker.is_open());
    breaker
        .set_config(short.probe_timeout(100 * SECOND))
        .unwrap();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
    late.record_success();
    assert!(breaker.is_open());
}

#[test]
fn a_probe_that_is_beyond_its_new_limit_fails_at_the_change() {
    let reasons: Arc<Mutex<Vec<CircuitChangeReason>>> = Arc::default();
    let seen = Arc::clone(&reasons);
    let clock = ManualClock::new();
    let endless = rules().probe_timeout(Duration::MAX);
    let breaker = CircuitBreaker::builder("dependency", endless)
        .clock(clock.clone())
        .on_change(move |change| seen.lock().unwrap().push(change.reason))
        .build()
        .unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    let hanging = probes(&breaker, 1);
    clock.advance(100 * ISOLATION);
    assert!(breaker.is_half_open());
    breaker.set_config(rules().probe_timeout(SECOND)).unwrap();
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), ISOLATION, "from the change on");
    assert_eq!(
        reasons.lock().unwrap().last(),
        Some(&CircuitChangeReason::ProbeTimedOut)
    );
    for probe in hanging {
        probe.record_success();
    }
    assert!(breaker.is_open());
}

// ---- in a bulkhead

/// The two kinds of bulkhead, and what they have in common here.
trait Kind: Sized {
    fn build(config: BulkheadConfig, clock: &ManualClock) -> Self;
    fn set(&self, rules: CircuitBreakerConfig) -> Result<(), BuildError>;
    fn breaker(&self) -> &CircuitBreaker;
    fn run_for(&self, time: Duration, clock: &ManualClock);
    fn close(&self);
}

impl Kind for Bulkhead {
    fn build(config: BulkheadConfig, clock: &ManualClock) -> Self {
        Self::builder(config).clock(clock.clone()).build().unwrap()
    }

    fn set(&self, rules: CircuitBreakerConfig) -> Result<(), BuildError> {
        self.set_circuit_breaker(rules)
    }

    fn breaker(&self) -> &CircuitBreaker {
        self.circuit_breaker().expect("configured")
    }

    fn run_for(&self, time: Duration, clock: &ManualClock) {
        let clock = clock.clone();
        assert!(wait(self.run(move || clock.advance(time))).is_success());
    }

    fn close(&self) {
        self.shutdown();
    }
}

impl Kind for SemaphoreBulkhead {
    fn build(config: BulkheadConfig, clock: &ManualClock) -> Self {
        Self::builder(config).clock(clock.clone()).build().unwrap()
    }

    fn set(&self, rules: CircuitBreakerConfig) -> Result<(), BuildError> {
        self.set_circuit_breaker(rules)
    }

    fn breaker(&self) -> &CircuitBreaker {
        self.circuit_breaker().expect("configured")
    }

    fn run_for(&self, time: Duration, clock: &ManualClock) {
        assert!(self.run(|| clock.advance(time)).is_success());
    }

    fn close(&self) {
        self.shutdown();
    }
}

fn the_new_rules_hold<K: Kind>() {
    let clock = ManualClock::new();
    let bulkhead = K::build(config(1, 1).circuit_breaker(rules()), &clock);
    bulkhead.run_for(10 * SECOND, &clock);
    assert!(bulkhead.breaker().is_closed());
    let other = rules().failure_threshold(1).slow_call_duration(SECOND);
    bulkhead.set(other.clone()).unwrap();
    assert_eq!(bulkhead.breaker().config(), other);
    bulkhead.run_for(SECOND, &clock);
    assert!(bulkhead.breaker().is_closed());
    bulkhead.run_for(2 * SECOND, &clock);
    assert!(bulkhead.breaker().is_open(), "it was slow");
}

fn a_wrong_change_is_refused<K: Kind>() {
    let clock = ManualClock::new();
    let bulkhead = K::build(config(1, 1).circuit_breaker(rules()), &clock);
    let invalid = bulkhead.set(rules().success_threshold(0));
    assert!(
        matches!(
            invalid,
            Err(BuildError::InvalidValue {
                field: "success_threshold",
                ..
            })
        ),
        "{invalid:?}"
    );
    assert_eq!(bulkhead.breaker().config(), rules());
    bulkhead.close();
    let late = bulkhead.set(rules().failure_threshold(9));
    assert!(matches!(late, Err(BuildError::ShutDown { .. })), "{late:?}");
    assert_eq!(bulkhead.breaker().config(), rules());

    let without = K::build(config(1, 1), &clock);
    let error = without.set(rules()).expect_err("it has no breaker");
    assert!(matches!(error, BuildError::NoCircuitBreaker { .. }));
    let text = error.to_string();
    assert!(text.contains("without a circuit breaker"), "{text}");
    assert!(text.contains("build it anew"), "{text}");
}

#[test]
fn the_new_rules_hold_in_both_kinds_of_bulkhead() {
    the_new_rules_hold::<Bulkhead>();
    the_new_rules_hold::<SemaphoreBulkhead>();
}

#[test]
fn a_change_that_cannot_be_says_why_and_changes_nothing() {
    a_wrong_change_is_refused::<Bulkhead>();
    a_wrong_change_is_refused::<SemaphoreBulkhead>();
}

#[test]
fn code_that_takes_any_bulkhead_can_change_the_rules() {
    fn set(bulkhead: &impl CommonBulkhead, rules: CircuitBreakerConfig) {
        bulkhead.set_circuit_breaker(rules.clone()).unwrap();
        let breaker = bulkhead.circuit_breaker().expect("configured");
        assert_eq!(breaker.config(), rules);
    }
    let config = config(1, 1).circuit_breaker(rules());
    set(
        &Bulkhead::new(config.clone()).unwrap(),
        rules().failure_threshold(7),
    );
    let semaphore = SemaphoreBulkhead::new(config).unwrap();
    set(
        &AnyBulkhead::from(Arc::new(semaphore)),
        rules().failure_threshold(8),
    );
}

#[test]
fn calls_in_the_queue_are_refused_if_the_rules_say_so_when_it_opens() {
    for refuses in [true, false] {
        let rules = |refuses| rules().refuse_queued_when_open(refuses);
        let clock = ManualClock::new();
        let bulkhead = Bulkhead::build(config(1, 4).circuit_breaker(rules(!refuses)), &clock);
        let busy = occupy(&bulkhead, 1);
        let queued: Vec<_> = (0..4).map(|_| bulkhead.run(|| ())).collect();
        bulkhead.set_circuit_breaker(rules(refuses)).unwrap();
        bulkhead.breaker().trip();
        assert!(queued.iter().all(|call| call.is_finished() == refuses));
        busy.finish();
        for call in queued {
            let result = wait(call);
            let is_refused = matches!(result.error(), Some(BulkheadError::CircuitOpen { .. }));
            assert_eq!((is_refused, result.is_success()), (refuses, !refuses));
        }
        assert_balanced(&bulkhead.stats());
    }
}

#[test]
fn callers_in_line_are_refused_if_the_rules_say_so_when_it_opens() {
    let clock = ManualClock::new();
    let keeps = rules().refuse_queued_when_open(false);
    let bulkhead = SemaphoreBulkhead::build(config(1, 2).circuit_breaker(keeps), &clock);
    let gate = Gate::new();
    thread::scope(|scope| {
        let opener = OpenOnDrop(gate.clone());
        let busy = scope.spawn(|| bulkhead.run(|| gate.pass()));
        gate.wait_for_arrivals(1);
        let in_line = [0; 2].map(|_| scope.spawn(|| bulkhead.run(|| ())));
        eventually("both wait", || bulkhead.stats().queued_tasks == 2);
        bulkhead.set_circuit_breaker(rules()).unwrap();
        bulkhead.breaker().trip();
        for caller in in_line {
            let result = caller.join().unwrap();
            assert!(matches!(
                result.error(),
                Some(BulkheadError::CircuitOpen { .. })
            ));
        }
        drop(opener);
        assert!(busy.join().unwrap().is_success());
    });
    assert_balanced(&bulkhead.stats());
}

#[test]
fn calls_in_the_queue_of_an_open_circuit_hear_of_the_change_at_their_turn() {
    let clock = ManualClock::new();
    let keeps = rules().refuse_queued_when_open(false);
    let bulkhead = Bulkhead::build(config(1, 1).circuit_breaker(keeps), &clock);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    bulkhead.breaker().trip();
    bulkhead.set_circuit_breaker(rules()).unwrap();
    assert!(!queued.is_finished());
    busy.finish();
    let result = wait(queued);
    assert!(matches!(
        result.error(),
        Some(BulkheadError::CircuitOpen { .. })
    ));
}

const LIMIT: Duration = Duration::from_secs(1);

/// A caller that leaves at its limit counts a failure, or not, by the rules of that moment. The task ends by others.
#[test]
fn a_call_beyond_its_limit_counts_once_whatever_the_rules_were_and_are() {
    for (counts_at_the_limit, end) in [
        (true, Ok(())),
        (true, Err("late")),
        (false, Ok(())),
        (false, Err("late")),
    ] {
        let rules = |counts| {
            rules()
                .cancelled_calls_are_neutral(false)
                .timeouts_are_failures(counts)
        };
        let clock = ManualClock::new();
        let of = rules(counts_at_the_limit);
        let bulkhead = Bulkhead::build(config(1, 1).circuit_breaker(of), &clock);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let call = bulkhead.call().timeout(LIMIT).execute(move || {
            at_gate.pass();
            end
        });
        gate.wait_for_arrivals(1);
        clock.advance(LIMIT);
        assert!(wait(call).error().is_some_and(BulkheadError::is_timeout));
        let failures = bulkhead.breaker().stats().failures;
        assert_eq!(failures, usize::from(counts_at_the_limit));
        bulkhead
            .set_circuit_breaker(rules(!counts_at_the_limit))
            .unwrap();
        drop(opener);
        eventually("it has ended", || bulkhead.stats().in_flight == 0);
        assert!(bulkhead.breaker().is_closed(), "counted twice");
        let failures = bulkhead.breaker().stats().failures;
        assert_eq!(failures, 1, "{counts_at_the_limit} {end:?}");
    }
}

#[test]
fn a_cancelled_call_is_judged_by_the_rules_at_its_end() {
    for is_neutral in [true, false] {
        let rules = |is_neutral| {
            rules()
                .failure_threshold(1)
                .cancelled_calls_are_neutral(is_neutral)
        };
        let clock = ManualClock::new();
        let bulkhead = Bulkhead::build(config(1, 1).circuit_breaker(rules(!is_neutral)), &clock);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let call = bulkhead.execute(move || {
            at_gate.pass();
            Err::<(), _>("cancelled")
        });
        gate.wait_for_arrivals(1);
        assert!(!call.cancel());
        bulkhead.set_circuit_breaker(rules(is_neutral)).unwrap();
        drop(opener);
        assert!(wait(call).error().is_some());
        assert_eq!(bulkhead.breaker().is_closed(), is_neutral);
    }
}

// ---- in a storage

#[test]
fn peers_keep_their_own_rules() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::new();
    let peer = || {
        CircuitBreaker::builder("dependency", rules())
            .clock(clock.clone())
            .storage(storage.clone())
            .build()
            .unwrap()
    };
    let (one, two) = (peer(), peer());
    one.set_config(rules().failure_threshold(1).isolation_duration(SECOND))
        .unwrap();
    assert_eq!(two.config(), rules());
    fail(&two);
    assert!(two.is_closed());
    fail(&one);
    eventually("the peer hears of it", || two.is_open());
    assert_eq!(retry_after(&two), SECOND, "as long as the peer says");
    assert!(one.flush(Duration::MAX));
}

/// The synchronizer looks when the new limit of a probe says so.
#[test]
fn a_probe_of_a_shared_circuit_has_the_new_limit() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("dependency", rules().probe_timeout(Duration::MAX))
        .clock(clock.clone())
        .storage(storage)
        .build()
        .unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    eventually("the isolation is over", || breaker.is_half_open());
    let hanging = probes(&breaker, 1);
    clock.advance(10 * ISOLATION);
    let short = rules().probe_timeout(SECOND).isolation_duration(ISOLATION);
    breaker.set_config(short).unwrap();
    eventually("it is announced", || breaker.stats().times_opened == 2);
    drop(hanging);
}

// ---- many at once

/// Calls, trips, resets and changes by several threads: no turn is lost, and the rules in the end are whole.
#[test]
fn a_storm_of_changes_loses_nothing() {
    let all = [
        rules(),
        rules().success_threshold(5).slow_call_duration(SECOND),
        rules().failure_rate(0.5, 8).slow_call_duration(SECOND),
        rules().failure_rate(0.1, 2).refuse_queued_when_open(false),
        rules().failure_rate_over(0.5, SECOND).minimum_calls(3),
        rules().timeouts_are_failures(false),
    ]
    .map(|rules| rules.isolation_duration(Duration::ZERO));
    let built = Bulkhead::new(config(2, 8).circuit_breaker(all[0].clone()));
    let bulkhead = built.unwrap();
    let callers = AtomicUsize::new(2);
    thread::scope(|scope| {
        for _ in 0..callers.load(Ordering::Relaxed) {
            let (bulkhead, callers) = (&bulkhead, &callers);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let fails = round % 3 == 0;
                    let call = bulkhead.execute(move || if fails { Err(()) } else { Ok(()) });
                    if round % 5 == 0 {
                        call.cancel();
                    }
                    let _ = wait(call);
                }
                callers.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut round = 0;
        while callers.load(Ordering::Relaxed) > 0 {
            round += 1;
            let rules = all[round % all.len()].clone();
            bulkhead.set_circuit_breaker(rules).unwrap();
            if round % 50 == 0 {
                bulkhead.breaker().trip();
            }
        }
    });
    let breaker = bulkhead.breaker();
    breaker.set_config(all[1].clone()).unwrap();
    breaker.trip();
    assert_eq!(breaker.stats().probes_in_flight, 0);
    drop(probes(breaker, 5));
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.in_flight, 0);
}
