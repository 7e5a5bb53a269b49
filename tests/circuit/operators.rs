//! What operators do with a circuit: hold it open, switch it off, only watch it, read it, and let isolations grow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{config, eventually, wait};
use bulkman::{
    Bulkhead, BulkheadState, CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerConfig,
    CircuitChangeReason, CircuitMode, CircuitRecord, CircuitState, CircuitStorage, CircuitSync,
    ManualClock, MemoryStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

const SECOND: Duration = Duration::from_secs(1);
const ISOLATION: Duration = Duration::from_secs(30);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(ISOLATION)
}

fn breaker(rules: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = builder(rules, &clock).build().unwrap();
    (breaker, clock)
}

fn builder(rules: CircuitBreakerConfig, clock: &ManualClock) -> CircuitBreakerBuilder {
    CircuitBreaker::builder("dependency", rules).clock(clock.clone())
}

fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}

// ---- forced open

#[test]
fn forced_open_it_stays_open_until_a_reset() {
    let (breaker, clock) = breaker(rules());
    let before = breaker.try_acquire().unwrap();
    breaker.force_open();
    assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
    before.record_success();
    for _ in 0..3 {
        assert!(breaker.is_open());
        assert_eq!(retry_after(&breaker), Duration::MAX);
        breaker.record_success();
        breaker.record_failure();
        clock.advance(10 * YEAR);
    }
    breaker.reset();
    assert!(breaker.is_closed());
    assert_eq!(breaker.mode(), CircuitMode::Normal);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn back_to_normal_is_a_reset() {
    let (breaker, _) = breaker(rules());
    breaker.set_mode(CircuitMode::ForcedOpen);
    assert!(breaker.try_acquire().is_err());
    breaker.set_mode(CircuitMode::Normal);
    assert!(breaker.is_closed());
}

#[test]
fn a_trip_does_not_lift_it() {
    let (breaker, clock) = breaker(rules());
    breaker.force_open();
    breaker.trip();
    assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
    clock.advance(ISOLATION);
    assert_eq!(retry_after(&breaker), Duration::MAX);
}

#[test]
fn a_bulkhead_that_is_held_open_is_isolated() {
    let bulkhead = Bulkhead::new(config(1, 1).circuit_breaker(rules())).unwrap();
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.force_open();
    assert_eq!(bulkhead.state(), BulkheadState::Isolated);
    let refused = wait(bulkhead.run(|| ()));
    assert_eq!(
        refused.error().expect("refused").to_string(),
        "bulkhead `test` has an open circuit: held open until it is reset"
    );
    breaker.reset();
    assert!(wait(bulkhead.run(|| ())).is_success());
}

/// A storage that is asked for news every millisecond.
struct ScriptedStorage(CircuitSync, MemoryStorage);

impl CircuitStorage for ScriptedStorage {
    fn sync(&self) -> &CircuitSync {
        &self.0
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.1.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        self.1.store(circuit, record, guard)
    }
}

/// Breakers of several processes, on the same rows.
struct Fleet {
    clock: ManualClock,
    rows: MemoryStorage,
}

impl Fleet {
    fn new() -> Self {
        let clock = ManualClock::new();
        let rows = MemoryStorage::new();
        Self { clock, rows }
    }

    fn peer(&self, rules: CircuitBreakerConfig) -> CircuitBreaker {
        let sync = CircuitSync::with_refresh_interval(Duration::from_millis(1));
        let storage = ScriptedStorage(sync, self.rows.clone());
        builder(rules, &self.clock)
            .storage(storage)
            .build()
            .unwrap()
    }

    fn state(&self) -> Option<CircuitState> {
        let row = self.rows.load("dependency").unwrap();
        row.map(|row| row.record.state)
    }
}

#[test]
fn forced_open_for_the_whole_fleet() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.peer(rules()), fleet.peer(rules()));
    one.force_open();
    eventually("the peer has it", || two.mode() == CircuitMode::ForcedOpen);
    assert_eq!(retry_after(&two), Duration::MAX);
    fleet.clock.advance(10 * YEAR);
    assert!(one.is_open() && two.is_open());
    // One that starts now finds it so.
    let three = fleet.peer(rules());
    assert!(three.is_open());
    // Anybody ends it.
    two.reset();
    eventually("closed for all", || one.is_closed() && three.is_closed());
}

#[test]
fn forced_open_also_where_a_peer_has_opened_it() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.peer(rules()), fleet.peer(rules()));
    one.trip();
    eventually("the peer has it", || two.is_open());
    two.force_open();
    assert!(two.flush(crate::support::PATIENCE));
    eventually("for the first one too", || {
        one.mode() == CircuitMode::ForcedOpen
    });
    assert_eq!(two.mode(), CircuitMode::ForcedOpen);
    fleet.clock.advance(ISOLATION);
    assert_eq!(
        (retry_after(&one), retry_after(&two)),
        (Duration::MAX, Duration::MAX)
    );
}

// ---- observe-only

#[test]
fn an_observer_judges_and_tells_and_refuses_nothing() {
    let clock = ManualClock::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let breaker = builder(rules(), &clock)
        .on_change(move |change| heard.lock().unwrap().push((change.to, change.reason)))
        .build()
        .unwrap();
    breaker.set_mode(CircuitMode::ObserveOnly);
    assert_eq!(breaker.mode(), CircuitMode::ObserveOnly);
    breaker.record_failure();
    assert!(breaker.is_open());
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.retry_after), (CircuitState::Open, None));
    for _ in 0..100 {
        breaker.try_acquire().expect("it passes").record_failure();
    }
    clock.advance(ISOLATION);
    let probe = breaker.try_acquire().expect("the probe");
    breaker.try_acquire().expect("beside it").record_failure();
    assert!(breaker.is_half_open(), "only the probe is judged");
    probe.record_success();
    assert!(breaker.is_closed());
    assert_eq!(
        *told.lock().unwrap(),
        [
            (CircuitState::Open, CircuitChangeReason::FailuresInARow),
            (CircuitState::HalfOpen, CircuitChangeReason::IsolationOver),
            (CircuitState::Closed, CircuitChangeReason::ProbesSucceeded),
        ]
    );
}

#[test]
fn an_observer_that_goes_back_to_work_refuses_at_once() {
    let (breaker, _) = breaker(rules().initial_mode(CircuitMode::ObserveOnly));
    breaker.record_failure();
    assert!(breaker.try_acquire().is_ok());
    breaker.set_mode(CircuitMode::Normal);
    assert_eq!(retry_after(&breaker), ISOLATION);
    breaker.set_mode(CircuitMode::ObserveOnly);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn a_bulkhead_whose_circuit_only_observes_is_healthy() {
    for mode in [CircuitMode::ObserveOnly, CircuitMode::Disabled] {
        let bulkhead = Bulkhead::new(config(1, 1).circuit_breaker(rules())).unwrap();
        let breaker = bulkhead.circuit_breaker().unwrap();
        breaker.trip();
        breaker.set_mode(mode);
        assert_eq!(bulkhead.state(), BulkheadState::Healthy);
        assert_eq!(bulkhead.stats().circuit_state, Some(CircuitState::Open));
        assert!(wait(bulkhead.run(|| ())).is_success());
        breaker.set_mode(CircuitMode::Normal);
        assert_eq!(bulkhead.state(), BulkheadState::Isolated);
        assert!(wait(bulkhead.run(|| ())).error().is_some());
    }
}

#[test]
fn what_an_observer_decides_stays_with_it() {
    let fleet = Fleet::new();
    let observer = fleet.peer(rules().initial_mode(CircuitMode::ObserveOnly));
    let peer = fleet.peer(rules());
    observer.record_failure();
    assert!(observer.is_open());
    assert!(observer.flush(crate::support::PATIENCE));
    assert_eq!(fleet.state(), None);
    fleet.clock.advance(ISOLATION);
    observer.try_acquire().unwrap().record_success();
    assert!(observer.is_closed());
    assert!(observer.flush(crate::support::PATIENCE));
    assert_eq!(fleet.state(), None);
    // But it sees what a peer decides, and still refuses nothing.
    peer.trip();
    eventually("news", || observer.is_open());
    assert!(observer.try_acquire().is_ok());
    // Once it is at work again, its own word counts for everybody.
    peer.reset();
    eventually("news", || observer.is_closed());
    observer.set_mode(CircuitMode::Normal);
    observer.record_failure();
    eventually("told", || peer.is_open());
}

// ---- disabled

#[test]
fn disabled_it_passes_everything_and_judges_nothing() {
    let (breaker, clock) = breaker(rules());
    breaker.set_mode(CircuitMode::Disabled);
    assert_eq!(breaker.mode(), CircuitMode::Disabled);
    for _ in 0..10 {
        breaker.try_acquire().expect("it passes").record_failure();
        breaker.record_failure();
    }
    assert!(breaker.is_closed());
    let begun = breaker.try_acquire().expect("it passes");
    breaker.set_mode(CircuitMode::Normal);
    begun.record_failure();
    assert!(breaker.is_closed(), "begun while it was disabled");
    // An open one goes on where it was.
    breaker.trip();
    breaker.set_mode(CircuitMode::Disabled);
    assert!(breaker.try_acquire().is_ok());
    clock.advance(SECOND);
    breaker.set_mode(CircuitMode::Normal);
    assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
}

#[test]
fn a_probe_that_comes_back_while_it_is_disabled_gives_its_turn_back() {
    let (breaker, clock) = breaker(rules());
    breaker.trip();
    clock.advance(ISOLATION);
    let probe = breaker.try_acquire().unwrap();
    breaker.set_mode(CircuitMode::Disabled);
    probe.record_failure();
    breaker.set_mode(CircuitMode::Normal);
    assert!(breaker.is_half_open(), "not judged");
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn forced_open_ends_the_other_modes() {
    for mode in [CircuitMode::ObserveOnly, CircuitMode::Disabled] {
        let (breaker, _) = breaker(rules().initial_mode(mode));
        assert!(breaker.try_acquire().is_ok());
        breaker.force_open();
        assert_eq!(breaker.mode(), CircuitMode::ForcedOpen);
        assert!(breaker.try_acquire().is_err());
    }
}

/// The synchronizer of a shared circuit has nothing to do for it while it is disabled, and looks again at once.
#[test]
fn back_to_normal_a_shared_circuit_goes_on_by_itself() {
    let clock = ManualClock::new();
    let sync = CircuitSync::with_refresh_interval(Duration::from_secs(3600));
    let breaker = builder(rules().initial_mode(CircuitMode::Disabled), &clock)
        .storage(ScriptedStorage(sync, MemoryStorage::new()))
        .build()
        .unwrap();
    breaker.trip();
    assert!(breaker.flush(crate::support::PATIENCE));
    clock.advance(ISOLATION);
    breaker.set_mode(CircuitMode::Normal);
    eventually("half-open", || breaker.is_half_open());
}

// ---- the mode at the start

#[test]
fn each_mode_may_be_the_first() {
    let told = Arc::new(Mutex::new(Vec::new()));
    for mode in [
        CircuitMode::Normal,
        CircuitMode::ObserveOnly,
        CircuitMode::Disabled,
        CircuitMode::ForcedOpen,
    ] {
        let heard = Arc::clone(&told);
        let breaker = builder(rules().initial_mode(mode), &ManualClock::new())
            .on_change(move |change| heard.lock().unwrap().push(change.sequence))
            .build()
            .unwrap();
        assert_eq!(breaker.mode(), mode);
        let is_forced = mode == CircuitMode::ForcedOpen;
        assert_eq!(breaker.is_open(), is_forced);
        assert_eq!(breaker.try_acquire().is_err(), is_forced);
        assert!(told.lock().unwrap().is_empty(), "the start is no change");
        breaker.reset();
        assert!(breaker.try_acquire().is_ok());
    }
    assert_eq!(*told.lock().unwrap(), [1]);
}

#[test]
fn a_start_that_is_forced_open_holds_for_the_fleet() {
    let fleet = Fleet::new();
    let peer = fleet.peer(rules());
    peer.trip();
    assert!(peer.flush(crate::support::PATIENCE));
    let late = fleet.peer(rules().initial_mode(CircuitMode::ForcedOpen));
    eventually("the peer has it", || peer.mode() == CircuitMode::ForcedOpen);
    assert_eq!(late.mode(), CircuitMode::ForcedOpen);
    peer.reset();
    eventually("over", || late.is_closed());
}

// ---- numbers

#[test]
fn the_numbers_of_failures_in_a_row() {
    let (breaker, clock) = breaker(rules().failure_threshold(3));
    clock.advance(SECOND);
    breaker.record_failure();
    breaker.record_failure();
    let stats = breaker.stats();
    assert_eq!(&*stats.name, "dependency");
    assert_eq!(
        (stats.state, stats.mode),
        (CircuitState::Closed, CircuitMode::Normal)
    );
    assert_eq!((stats.calls, stats.failures), (2, 2));
    assert_eq!((stats.failure_rate, stats.slow_call_rate), (None, None));
    assert_eq!(stats.since_last_change, SECOND);
    assert_eq!(stats.retry_after, None);
    assert_eq!((stats.times_opened, stats.probes_in_flight), (0, 0));
    assert_eq!(stats.next_isolation, ISOLATION);
    assert_eq!(
        stats.to_string(),
        "circuit `dependency` is closed: 2 of 2 calls failed, 0 were slow"
    );
    breaker.record_failure();
    clock.advance(SECOND);
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.times_opened), (CircuitState::Open, 1));
    assert_eq!(
        (stats.calls, stats.failures),
        (3, 3),
        "those that opened it"
    );
    assert_eq!(stats.retry_after, Some(ISOLATION - SECOND));
    assert_eq!(stats.since_last_change, SECOND);
    clock.advance(ISOLATION);
    let _probe = breaker.try_acquire().unwrap();
    let stats = breaker.stats();
    assert_eq!(
        (stats.state, stats.probes_in_flight),
        (CircuitState::HalfOpen, 1)
    );
    assert_eq!(stats.retry_after, Some(ISOLATION), "the probe's limit");
}

#[test]
fn the_numbers_of_a_window() {
    let bulkhead =
        Bulkhead::new(config(1, 1).circuit_breaker(rules().failure_rate(0.9, 10))).unwrap();
    for failed in [true, false, false, true] {
        let _ = wait(bulkhead.execute(move || if failed { Err("down") } else { Ok(()) }));
    }
    let stats = bulkhead.circuit_breaker().unwrap().stats();
    assert_eq!((stats.calls, stats.failures), (4, 2));
    assert_eq!(
        (stats.failure_rate, stats.slow_call_rate),
        (Some(0.5), None)
    );
}

// ---- isolations that grow

#[test]
fn the_isolation_grows_and_goes_back() {
    let (breaker, clock) = breaker(rules().isolation_backoff(2.0, 100 * SECOND));
    breaker.record_failure();
    for seconds in [30, 60, 100, 100] {
        assert_eq!(retry_after(&breaker), seconds * SECOND);
        clock.advance(seconds * SECOND);
        breaker.try_acquire().expect("a probe").record_failure();
    }
    // A recovery that does not last counts as a trip.
    clock.advance(100 * SECOND);
    breaker.try_acquire().expect("a probe").record_success();
    clock.advance(99 * SECOND);
    assert_eq!(breaker.stats().next_isolation, 100 * SECOND);
    breaker.record_failure();
    assert_eq!(retry_after(&breaker), 100 * SECOND);
    // One that lasts as long as the isolation was does not.
    clock.advance(100 * SECOND);
    breaker.try_acquire().expect("a probe").record_success();
    clock.advance(100 * SECOND);
    assert_eq!(breaker.stats().next_isolation, ISOLATION);
    breaker.record_failure();
    assert_eq!(retry_after(&breaker), ISOLATION);
}

#[test]
fn a_reset_goes_back_to_the_first_isolation() {
    let (breaker, clock) = breaker(rules().isolation_backoff(10.0, 10_000 * SECOND));
    breaker.record_failure();
    clock.advance(ISOLATION);
    breaker.try_acquire().expect("a probe").record_failure();
    assert_eq!(retry_after(&breaker), 10 * ISOLATION);
    breaker.reset();
    breaker.record_failure();
    assert_eq!(retry_after(&breaker), ISOLATION);
}
