//! A probe that hangs: it has a limit, after which the circuit is open again, and its late outcome counts for nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Gate, OpenOnDrop, config, eventually, wait};
use bulkman::{
    Bulkhead, BulkheadError, CircuitBreaker, CircuitBreakerConfig, CircuitChange,
    CircuitChangeReason, CircuitPermit, CircuitState, CircuitStorage, CircuitSync, ManualClock,
    MemoryStorage,
};

const SECOND: Duration = Duration::from_secs(1);
const ISOLATION: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(5);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
        .probe_timeout(LIMIT)
}

/// A breaker with its isolation behind it, and what it announces.
fn half_open(
    rules: CircuitBreakerConfig,
) -> (CircuitBreaker, ManualClock, Arc<Mutex<Vec<CircuitChange>>>) {
    let clock = ManualClock::new();
    let changes = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&changes);
    let breaker = CircuitBreaker::builder("dependency", rules)
        .clock(clock.clone())
        .on_change(move |change| heard.lock().unwrap().push(change.clone()))
        .build()
        .unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    (breaker, clock, changes)
}

fn probe(breaker: &CircuitBreaker) -> CircuitPermit<'_> {
    breaker.try_acquire().expect("a probe")
}

fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}

#[test]
fn beyond_its_limit_a_probe_has_failed() {
    let (breaker, clock, changes) = half_open(rules());
    let hanging = [probe(&breaker), probe(&breaker)];
    assert_eq!(retry_after(&breaker), LIMIT);
    clock.advance(LIMIT - Duration::from_nanos(1));
    assert_eq!(retry_after(&breaker), Duration::from_nanos(1));
    assert!(breaker.is_half_open());
    clock.advance(Duration::from_nanos(1));
    assert!(breaker.is_open(), "by the clock");
    assert_eq!(retry_after(&breaker), ISOLATION);
    let last = changes.lock().unwrap().last().cloned().expect("told");
    assert_eq!(
        (last.from, last.to),
        (CircuitState::HalfOpen, CircuitState::Open)
    );
    assert_eq!(last.reason, CircuitChangeReason::ProbeTimedOut);
    // What they come to in the end is of no account.
    clock.advance(ISOLATION);
    let next = probe(&breaker);
    for hanging in hanging {
        hanging.record_success();
    }
    assert!(breaker.is_half_open());
    next.record_success();
    assert!(breaker.is_half_open(), "one of two");
    probe(&breaker).record_success();
    assert!(breaker.is_closed());
}

#[test]
fn one_that_hangs_is_enough() {
    let (breaker, clock, _) = half_open(rules());
    let hanging = probe(&breaker);
    clock.advance(SECOND);
    probe(&breaker).record_success();
    clock.advance(LIMIT - SECOND);
    assert_eq!(retry_after(&breaker), ISOLATION);
    drop(hanging);
    assert!(breaker.is_open());
}

#[test]
fn each_probe_has_a_limit_of_its_own() {
    let (breaker, clock, _) = half_open(rules());
    let first = probe(&breaker);
    clock.advance(SECOND);
    let second = probe(&breaker);
    assert_eq!(
        retry_after(&breaker),
        LIMIT - SECOND,
        "the first is the oldest"
    );
    drop(first);
    clock.advance(SECOND);
    let third = probe(&breaker);
    assert_eq!(retry_after(&breaker), LIMIT - SECOND, "the second");
    drop(second);
    clock.advance(SECOND);
    let _fourth = probe(&breaker);
    assert_eq!(retry_after(&breaker), LIMIT - SECOND, "the third");
    drop(third);
}

#[test]
fn a_late_outcome_opens_the_circuit_itself_if_nobody_asked() {
    let settles: [fn(CircuitPermit<'_>); 3] = [
        |permit| permit.record_success(),
        |permit| permit.record_failure(),
        |permit| drop(permit),
    ];
    for settle in settles {
        let (breaker, clock, changes) = half_open(rules().success_threshold(1));
        let hanging = probe(&breaker);
        clock.advance(LIMIT + SECOND);
        settle(hanging);
        assert!(breaker.is_open());
        assert_eq!(retry_after(&breaker), ISOLATION - SECOND, "since its limit");
        let last = changes.lock().unwrap().last().cloned().expect("told");
        assert_eq!(last.reason, CircuitChangeReason::ProbeTimedOut);
    }
}

#[test]
fn in_time_by_a_nanosecond() {
    let (breaker, clock, _) = half_open(rules().success_threshold(1));
    let slow = probe(&breaker);
    clock.advance(LIMIT - Duration::from_nanos(1));
    slow.record_success();
    assert!(breaker.is_closed());
}

#[test]
fn long_after_the_limit_a_call_may_probe_again() {
    let (breaker, clock, changes) = half_open(rules().success_threshold(1));
    let _hanging = probe(&breaker);
    clock.advance(LIMIT + ISOLATION);
    assert!(breaker.is_half_open(), "by the clock");
    assert_eq!(changes.lock().unwrap().len(), 2, "to ask announces nothing");
    probe(&breaker).record_success();
    assert!(breaker.is_closed());
    let changes: Vec<_> = changes
        .lock()
        .unwrap()
        .iter()
        .map(|c| (c.to, c.sequence))
        .collect();
    assert_eq!(
        changes,
        [
            (CircuitState::Open, 1),
            (CircuitState::HalfOpen, 2),
            (CircuitState::Open, 3),
            (CircuitState::HalfOpen, 4),
            (CircuitState::Closed, 5),
        ]
    );
}

#[test]
fn the_default_limit_is_the_isolation_but_at_least_a_second() {
    for (isolation, limit) in [
        (ISOLATION, ISOLATION),
        (Duration::from_millis(10), SECOND),
        (Duration::ZERO, SECOND),
    ] {
        let mut rules = rules().success_threshold(1).isolation_duration(isolation);
        rules.probe_timeout = None;
        let (breaker, clock, _) = half_open(rules);
        let _hanging = probe(&breaker);
        assert_eq!(retry_after(&breaker), limit);
        clock.advance(limit - Duration::from_nanos(1));
        assert!(breaker.try_acquire().is_err());
        assert_eq!(breaker.stats().times_opened, 1);
        clock.advance(Duration::from_nanos(1));
        drop(breaker.try_acquire());
        assert_eq!(breaker.stats().times_opened, 2);
    }
}

#[test]
fn without_a_limit_a_refused_caller_is_still_told_to_wait() {
    let (breaker, clock, _) = half_open(rules().probe_timeout(Duration::MAX));
    let _hanging = [probe(&breaker), probe(&breaker)];
    clock.advance(1_000 * ISOLATION);
    assert!(breaker.is_half_open());
    let retry_after = retry_after(&breaker);
    assert!(
        retry_after > Duration::ZERO && retry_after < ISOLATION,
        "{retry_after:?}"
    );
}

#[test]
fn what_is_observed_without_a_permit_comes_after_the_limit_too() {
    let (breaker, clock, _) = half_open(rules().success_threshold(1));
    let _hanging = probe(&breaker);
    clock.advance(LIMIT);
    breaker.record_success();
    assert!(breaker.is_open());
}

#[test]
fn hanging_probes_do_not_keep_idle_workers_from_being_used_again() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(5, 0).circuit_breaker(rules()))
        .clock(clock.clone())
        .build()
        .unwrap();
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let hanging = [(); 2].map(|()| {
        let gate = gate.clone();
        bulkhead.run(move || gate.pass())
    });
    gate.wait_for_arrivals(2);
    for _ in 0..100 {
        let refused = wait(bulkhead.run(|| ()));
        let Some(BulkheadError::CircuitOpen { retry_after, .. }) = refused.error() else {
            panic!("{refused:?}");
        };
        assert_eq!(*retry_after, LIMIT);
    }
    clock.advance(LIMIT);
    assert!(!bulkhead.is_healthy(), "open by the clock");
    assert!(wait(bulkhead.run(|| ())).error().is_some());
    clock.advance(ISOLATION);
    assert!(bulkhead.is_healthy());
    for _ in 0..2 {
        assert!(wait(bulkhead.run(|| ())).is_success());
    }
    assert!(breaker.is_closed());
    drop(opener);
    for hanging in hanging {
        assert!(wait(hanging).is_success());
    }
    assert!(breaker.is_closed());
}

/// A storage that is asked for news every millisecond.
struct ScriptedStorage(CircuitSync, MemoryStorage);

impl CircuitStorage for ScriptedStorage {
    fn sync(&self) -> &CircuitSync {
        &self.0
    }

    fn load(&self, circuit: &str) -> Result<Option<bulkman::StoredCircuit>, bulkman::StorageError> {
        self.1.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &bulkman::CircuitRecord,
        guard: bulkman::WriteGuard,
    ) -> Result<bulkman::WriteOutcome, bulkman::StorageError> {
        self.1.store(circuit, record, guard)
    }
}

/// In a storage nobody has to ask: the synchronizer looks when the limit is over, and peers hear of it.
#[test]
fn a_shared_circuit_is_open_again_for_everybody() {
    let clock = ManualClock::new();
    let rows = MemoryStorage::new();
    let build = || {
        let sync = CircuitSync::with_refresh_interval(Duration::from_millis(1));
        CircuitBreaker::builder("dependency", rules())
            .clock(clock.clone())
            .storage(ScriptedStorage(sync, rows.clone()))
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    one.trip();
    eventually("the peer has it", || two.is_open());
    clock.advance(ISOLATION);
    eventually("half-open", || one.is_half_open() && two.is_half_open());
    let hanging = [probe(&one), probe(&one)];
    assert_eq!(retry_after(&one), LIMIT);
    clock.advance(LIMIT);
    eventually("the peer has it again", || two.is_open());
    assert!(one.is_open());
    let row = rows.load("dependency").unwrap().expect("stored");
    assert_eq!(row.record.state, CircuitState::Open);
    drop(hanging);
}
