//! A circuit that is kept in a storage: what peers tell each other, and what happens when the storage fails.
//!
//! Two `Line`s to one `Shelf` are two processes with one database. A refresh of a millisecond stands for "soon"; one of
//! an hour shows that something needs no refresh.

mod support;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{
    BuildError, Bulkhead, BulkheadError, BulkheadState, CircuitBreaker, CircuitBreakerBuilder,
    CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage, CircuitSync, Clock,
    ManualClock, MemoryStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use support::{Gate, OpenOnDrop, config, eventually, wait};

use CircuitState::{Closed, HalfOpen, Open};

const SECOND: Duration = Duration::from_secs(1);
const ISOLATION: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The name of most circuits here.
const NAME: &str = "c";

// ---- a storage that does what it is told

/// How the storage answers.
#[derive(Clone, Default)]
enum Answer {
    #[default]
    Right,
    Error,
    /// An error whose `Display` and `Drop` panic.
    NastyError,
    Panic,
    /// Right, but when the gate opens.
    Late(Gate),
    /// Only for stores: refused, whatever is there.
    Refuse,
    /// Only for stores: it is stored, but the answer is lost.
    Lost,
    /// Only for loads: a row too few.
    WrongCount,
    /// Only for loads: nothing that makes sense.
    Nothing,
}

#[derive(Clone, Debug)]
struct Store {
    circuit: String,
    state: CircuitState,
    outcomes: Vec<bool>,
    guard: WriteGuard,
}

/// What peers share.
#[derive(Default)]
struct Shelf {
    rows: Mutex<HashMap<String, StoredCircuit>>,
    stores: Mutex<Vec<Store>>,
    /// The names that were asked for in one go.
    loads: Mutex<Vec<usize>>,
    /// Threads that did I/O and must not.
    strangers: Mutex<Vec<String>>,
}

/// One process' way to the shelf. Clones are the same storage.
#[derive(Clone)]
struct Line {
    sync: CircuitSync,
    shelf: Arc<Shelf>,
    answers: Arc<Mutex<(Answer, Answer)>>,
}

#[derive(Debug)]
struct Nasty;

impl fmt::Display for Nasty {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("the error's own panic")
    }
}

impl std::error::Error for Nasty {}

impl Drop for Nasty {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("the error's panic when it is dropped");
        }
    }
}

impl Line {
    fn loads_answer(&self, answer: Answer) {
        self.answers.lock().unwrap().0 = answer;
    }

    fn stores_answer(&self, answer: Answer) {
        self.answers.lock().unwrap().1 = answer;
    }

    fn all_answer(&self, answer: Answer) {
        *self.answers.lock().unwrap() = (answer.clone(), answer);
    }

    fn is_down(&self) -> bool {
        self.sync.trouble().is_some()
    }

    /// The answer that is to be given, unless it is none.
    fn answer(&self, answer: Answer) -> Result<Answer, StorageError> {
        let thread = thread::current();
        let name = thread.name().unwrap_or("?");
        if name != "bulkman-circuits" {
            self.shelf.strangers.lock().unwrap().push(name.to_owned());
        }
        match &answer {
            Answer::Error => return Err(StorageError::new("the line is dead")),
            Answer::NastyError => return Err(StorageError::new(Nasty)),
            Answer::Panic => panic!("the storage's own panic"),
            Answer::Late(gate) => gate.pass(),
            _ => {}
        }
        Ok(answer)
    }

    fn load_answer(&self) -> Result<Answer, StorageError> {
        let answer = self.answers.lock().unwrap().0.clone();
        self.answer(answer)
    }
}

impl CircuitStorage for Line {
    fn sync(&self) -> &CircuitSync {
        &self.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.shelf.loads.lock().unwrap().push(1);
        match self.load_answer()? {
            Answer::Nothing => Ok(None),
            _ => Ok(self.shelf.row(circuit)),
        }
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        self.shelf.stores.lock().unwrap().push(Store {
            circuit: circuit.to_owned(),
            state: record.state,
            outcomes: record.outcomes.clone(),
            guard,
        });
        let answer = self.answers.lock().unwrap().1.clone();
        let answer = self.answer(answer)?;
        if matches!(answer, Answer::Refuse) {
            return Ok(WriteOutcome::Refused);
        }
        let mut rows = self.shelf.rows.lock().unwrap();
        let stored = rows.get(circuit);
        if stored.is_some_and(|stored| guard.refuses(&stored.record)) {
            return Ok(WriteOutcome::Refused);
        }
        let version = stored.map_or(1, |stored| stored.version + 1);
        rows.insert(
            circuit.to_owned(),
            StoredCircuit::new(record.clone(), version),
        );
        if matches!(answer, Answer::Lost) {
            return Err(StorageError::new("the answer is lost"));
        }
        Ok(WriteOutcome::Applied { version })
    }

    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        self.shelf.loads.lock().unwrap().push(circuits.len());
        let answer = self.load_answer()?;
        let rows = circuits.iter().map(|circuit| match answer {
            Answer::Nothing => None,
            _ => self.shelf.row(circuit),
        });
        let surplus = usize::from(matches!(answer, Answer::WrongCount));
        Ok(rows.skip(surplus).collect())
    }

    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        if circuit.contains('/') {
            return Err(StorageError::new("a name must not contain a slash"));
        }
        Ok(())
    }
}

impl Shelf {
    /// A process with a storage of its own over these rows.
    fn line(self: &Arc<Self>, refresh: Duration) -> Line {
        Line {
            sync: CircuitSync::with_refresh_interval(refresh),
            shelf: Arc::clone(self),
            answers: Arc::default(),
        }
    }

    fn row(&self, circuit: &str) -> Option<StoredCircuit> {
        self.rows.lock().unwrap().get(circuit).cloned()
    }

    fn state(&self) -> Option<CircuitState> {
        self.row(NAME).map(|row| row.record.state)
    }

    /// A peer writes, without a guard.
    fn put(&self, record: CircuitRecord) {
        let mut rows = self.rows.lock().unwrap();
        let version = rows.get(NAME).map_or(1, |row| row.version + 1);
        rows.insert(NAME.to_owned(), StoredCircuit::new(record, version));
    }

    fn stores(&self) -> Vec<Store> {
        self.stores.lock().unwrap().clone()
    }

    fn loads(&self) -> usize {
        self.loads.lock().unwrap().len()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let strangers = self.strangers.get_mut().unwrap();
        if !thread::panicking() {
            assert!(strangers.is_empty(), "I/O on {strangers:?}");
        }
    }
}

// ---- helpers

struct World {
    clock: ManualClock,
    shelf: Arc<Shelf>,
}

type Changes = Arc<Mutex<Vec<CircuitState>>>;

impl World {
    fn new() -> Self {
        Self {
            clock: ManualClock::new(),
            shelf: Arc::default(),
        }
    }

    fn builder(&self, line: &Line) -> CircuitBreakerBuilder {
        CircuitBreaker::builder(NAME, rules())
            .clock(self.clock.clone())
            .storage(line.clone())
    }

    fn breaker(&self, line: &Line) -> CircuitBreaker {
        self.builder(line).build().unwrap()
    }

    /// A breaker of a process of its own.
    fn peer(&self, refresh: Duration) -> (CircuitBreaker, Line) {
        let line = self.shelf.line(refresh);
        (self.breaker(&line), line)
    }

    /// The same, with the states that it went into.
    fn watched(&self, refresh: Duration) -> (CircuitBreaker, Line, Changes) {
        let line = self.shelf.line(refresh);
        let changes = Changes::default();
        let log = Arc::clone(&changes);
        let breaker = self
            .builder(&line)
            .on_change(move |change| log.lock().unwrap().push(change.to))
            .build()
            .unwrap();
        (breaker, line, changes)
    }

    /// A row that is open for that long.
    fn open_for(&self, left: Duration) -> CircuitRecord {
        let mut record = record(Open, &[]);
        record.open_until = Some(self.wall_now() + left);
        record
    }

    fn wall_now(&self) -> std::time::SystemTime {
        // What a manual clock shows beside its time is not to be had from outside, but a row of it is.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("clock {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let storage = MemoryStorage::new();
        let breaker = CircuitBreaker::builder(name.clone(), rules())
            .clock(self.clock.clone())
            .storage(storage.clone())
            .build()
            .unwrap();
        breaker.trip();
        assert!(breaker.flush(support::PATIENCE));
        let row = storage.load(&name).unwrap().expect("flushed");
        row.record.open_until.expect("open") - ISOLATION
    }
}

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(2)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

fn record(state: CircuitState, outcomes: &[bool]) -> CircuitRecord {
    let mut record = CircuitRecord::closed();
    record.state = state;
    record.outcomes = outcomes.to_vec();
    record
}

fn trip(breaker: &CircuitBreaker) {
    breaker.record_failure();
    breaker.record_failure();
    assert!(breaker.is_open());
}

fn soon(breaker: &CircuitBreaker, state: CircuitState) {
    eventually(&format!("{state}"), || breaker.state() == state);
}

fn flushed(breaker: &CircuitBreaker) {
    // It does not wait for an outage that is just about to be over.
    eventually("flushed", || breaker.flush(support::PATIENCE));
}

fn retry_after(breaker: &CircuitBreaker) -> Duration {
    breaker.try_acquire().expect_err("refused").retry_after
}

/// Lets the keeper of a line with a short interval come round twice, so that it has seen all that there is.
fn let_it_look(line: &Line) {
    let before = line.shelf.loads();
    eventually("two refreshes", || line.shelf.loads() >= before + 2);
}

// ---- what is shared

#[test]
fn two_bulkheads_share_what_one_finds_out() {
    let storage = MemoryStorage::new();
    let clock = ManualClock::new();
    let build = || {
        Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
            .clock(clock.clone())
            .circuit_storage(storage.clone())
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    for _ in 0..2 {
        let failed = wait(one.execute(|| Err::<(), _>("down")));
        assert!(failed.error().is_some());
    }
    let breaker = two.circuit_breaker().unwrap();
    soon(breaker, Open);
    assert_eq!(two.state(), BulkheadState::Isolated);
    clock.advance(10 * SECOND);
    match wait(two.run(|| ())).into_result() {
        Err(BulkheadError::CircuitOpen { retry_after, .. }) => {
            assert_eq!(retry_after, 20 * SECOND);
        }
        other => panic!("{other:?}"),
    }

    // By hand, over the live OPEN of the other.
    breaker.reset();
    soon(one.circuit_breaker().unwrap(), Closed);
    assert!(wait(one.run(|| ())).is_success());
    assert!(wait(two.run(|| ())).is_success());
}

#[test]
fn a_trip_is_written_at_once_and_honoured_by_a_peer_until_the_same_moment() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(SOON);
    trip(&one);
    flushed(&one);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!((row.state, row.failure_count), (Open, 2));
    assert_eq!(row.outcomes, [false, false]);
    world.clock.advance(SECOND);
    soon(&two, Open);
    assert_eq!(retry_after(&one), ISOLATION - SECOND);
    assert_eq!(retry_after(&two), ISOLATION - SECOND);
    let guard = world.shelf.stores()[0].guard;
    assert!(matches!(guard, WriteGuard::UnlessOpen { .. }), "{guard:?}");
}

#[test]
fn opened_by_hand_for_everybody() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(SOON);
    one.trip();
    soon(&two, Open);
    assert_eq!(retry_after(&two), ISOLATION);
}

#[test]
fn the_keeper_ends_the_isolation_and_probes_close_the_circuit() {
    let world = World::new();
    let (one, _, changes) = world.watched(HOUR);
    let (two, _) = world.peer(SOON);
    trip(&one);
    soon(&two, Open);
    world.clock.advance(ISOLATION - Duration::from_nanos(1));
    assert_eq!(retry_after(&one), Duration::from_nanos(1));
    world.clock.advance(Duration::from_nanos(1));
    // No call asks, and yet:
    soon(&one, HalfOpen);
    soon(&two, HalfOpen);
    flushed(&one);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!((row.state, row.open_until), (HalfOpen, None));
    // The probes are each process' own.
    let probes = [one.try_acquire().unwrap(), one.try_acquire().unwrap()];
    assert_eq!(retry_after(&one), ISOLATION, "the limit of a probe");
    let others = [two.try_acquire().unwrap(), two.try_acquire().unwrap()];
    for probe in probes {
        probe.record_success();
    }
    assert!(one.is_closed());
    soon(&two, Closed);
    assert_eq!(world.shelf.state(), Some(Closed));
    // What comes late says nothing any more.
    for probe in others {
        probe.record_failure();
    }
    assert!(two.is_closed());
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen, Closed]);
}

#[test]
fn a_failed_probe_opens_it_for_everybody() {
    let world = World::new();
    let (one, _) = world.peer(SOON);
    let (two, _) = world.peer(SOON);
    trip(&one);
    soon(&two, Open);
    world.clock.advance(ISOLATION);
    soon(&one, HalfOpen);
    soon(&two, HalfOpen);
    two.try_acquire().unwrap().record_success();
    two.try_acquire().unwrap().record_failure();
    soon(&one, Open);
    assert_eq!(retry_after(&one), ISOLATION);
    assert_eq!(
        world.shelf.row(NAME).unwrap().record.outcomes,
        [true, false]
    );
}

#[test]
fn calls_are_refused_while_the_keeper_asks_for_the_end_of_the_isolation() {
    let world = World::new();
    let (one, line) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.stores_answer(Answer::Late(gate.clone()));
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    assert_eq!(retry_after(&one), Duration::from_millis(50), "in a moment");
    assert!(one.is_open());
    gate.open();
    soon(&one, HalfOpen);
}

#[test]
fn a_peer_that_opened_again_holds_the_circuit_open() {
    let world = World::new();
    let (one, line, changes) = world.watched(HOUR);
    trip(&one);
    flushed(&one);
    // One looks for news before it writes: let the peer come between the two.
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.stores_answer(Answer::Late(gate.clone()));
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    world.shelf.put(world.open_for(7 * SECOND));
    gate.open();
    eventually("the peer's end", || retry_after(&one) == 7 * SECOND);
    world.clock.advance(7 * SECOND);
    soon(&one, HalfOpen);
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen]);
}

#[test]
fn what_a_peer_has_stored_comes_before_the_end_of_the_isolation() {
    let world = World::new();
    let (one, _, changes) = world.watched(HOUR);
    trip(&one);
    flushed(&one);
    world.shelf.put(record(Closed, &[true]));
    world.clock.advance(ISOLATION);
    soon(&one, Closed);
    flushed(&one);
    assert_eq!(*changes.lock().unwrap(), [Open, Closed]);
    assert_eq!(
        world.shelf.row(NAME).unwrap().record,
        record(Closed, &[true])
    );
}

#[test]
fn first_opener_wins() {
    let world = World::new();
    let (one, _) = world.peer(HOUR);
    let (two, _) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    world.clock.advance(10 * SECOND);
    assert!(two.is_closed(), "an hour has not passed");
    trip(&two);
    flushed(&two);
    assert_eq!(retry_after(&two), 20 * SECOND);
    // Also over its own: opened again by hand, the first end stays.
    one.trip();
    flushed(&one);
    assert_eq!(retry_after(&one), 20 * SECOND);
    assert_eq!(world.shelf.row(NAME).unwrap().version, 1);
}

#[test]
fn a_reset_is_for_everybody_also_by_who_has_not_seen_the_open_circuit() {
    let world = World::new();
    let (one, _) = world.peer(SOON);
    let (two, _) = world.peer(HOUR);
    trip(&one);
    flushed(&one);
    assert!(two.is_closed(), "an hour has not passed");
    two.reset();
    flushed(&two);
    assert_eq!(world.shelf.state(), Some(Closed));
    soon(&one, Closed);
    assert_eq!(
        world.shelf.stores().last().unwrap().guard,
        WriteGuard::Always
    );
}

#[test]
fn only_the_reset_itself_goes_past_the_guard() {
    let world = World::new();
    let (one, line) = world.peer(SOON);
    one.reset();
    flushed(&one);
    one.record_failure();
    eventually("the outcome", || world.shelf.stores().len() == 2);
    assert!(matches!(
        world.shelf.stores()[1].guard,
        WriteGuard::UnlessOpen { .. }
    ));
    trip_by_one_more(&one);
    flushed(&one);
    assert!(matches!(
        world.shelf.stores()[2].guard,
        WriteGuard::UnlessOpen { .. }
    ));
    drop(line);
}

fn trip_by_one_more(breaker: &CircuitBreaker) {
    breaker.record_failure();
    assert!(breaker.is_open());
}

#[test]
fn the_guard() {
    let storages: [Box<dyn CircuitStorage>; 2] = [
        Box::new(MemoryStorage::new()),
        Box::new(Arc::new(MemoryStorage::new())),
    ];
    let now = std::time::SystemTime::now();
    let open_until = |until| {
        let mut open = record(Open, &[false]);
        open.open_until = until;
        open
    };
    let mut late_closed = record(Closed, &[]);
    late_closed.open_until = Some(now + HOUR);
    let mut late_half_open = record(HalfOpen, &[]);
    late_half_open.open_until = Some(now + HOUR);
    let tick = Duration::from_micros(1);
    let stored = [
        (open_until(Some(now + HOUR)), true),
        (open_until(Some(now + tick)), true),
        (open_until(Some(now)), false),
        (open_until(Some(now - tick)), false),
        (open_until(None), false),
        (record(Closed, &[true]), false),
        (record(HalfOpen, &[true]), false),
        (late_closed, false),
        (late_half_open, false),
    ];
    let written = [
        record(Closed, &[]),
        record(HalfOpen, &[]),
        open_until(Some(now + SECOND)),
        open_until(Some(now + 2 * HOUR)),
    ];
    for storage in storages {
        assert!(storage.load("absent").unwrap().is_none());
        for (number, (stored, is_live)) in stored.iter().enumerate() {
            for (index, record) in written.iter().enumerate() {
                let name = format!("{number} {index}");
                let guard = WriteGuard::UnlessOpen { now };
                let WriteOutcome::Applied { version: first } =
                    storage.store(&name, stored, guard).unwrap()
                else {
                    panic!("a first write was refused");
                };
                let second = storage.store(&name, record, guard).unwrap();
                let row = storage.load(&name).unwrap().unwrap();
                match second {
                    WriteOutcome::Refused => {
                        assert!(is_live, "{stored:?} <- {record:?}");
                        assert_eq!(row, StoredCircuit::new(stored.clone(), first));
                    }
                    WriteOutcome::Applied { version } => {
                        assert!(!is_live, "{stored:?} <- {record:?}");
                        assert_ne!(version, first);
                        assert_eq!(row, StoredCircuit::new(record.clone(), version));
                    }
                    other => panic!("{other:?}"),
                }
                let third = storage.store(&name, record, WriteGuard::Always).unwrap();
                assert!(matches!(third, WriteOutcome::Applied { .. }));
                assert_eq!(storage.load(&name).unwrap().unwrap().record, *record);
            }
        }
        let rows = storage.load_many(&["0 1", "absent", "0 0"]).unwrap();
        let states: Vec<_> = rows
            .iter()
            .map(|row| Some(row.as_ref()?.record.state))
            .collect();
        assert_eq!(states, [Some(HalfOpen), None, Some(Closed)]);
    }
}

// ---- what a new process finds

#[test]
fn started_with_nothing_stored() {
    let world = World::new();
    let (breaker, _) = world.peer(HOUR);
    assert!(breaker.is_closed());
    flushed(&breaker);
    assert!(world.shelf.stores().is_empty());
    trip(&breaker);
}

#[test]
fn started_with_a_closed_row() {
    for (outcomes, events, opens) in [
        (&[false][..], "f", true),
        (&[false, true], "f", false),
        (&[false; 5], "", false),
        (&[false; 5], "f", true),
        (&[false; 5], "sf", false),
        (&[], "f", false),
    ] {
        let world = World::new();
        world.shelf.put(record(Closed, outcomes));
        let (breaker, _) = world.peer(HOUR);
        assert!(breaker.is_closed());
        for event in events.chars() {
            match event {
                'f' => breaker.record_failure(),
                _ => breaker.record_success(),
            }
        }
        assert_eq!(breaker.is_open(), opens, "{outcomes:?} {events}");
    }
}

#[test]
fn started_with_a_live_open_row() {
    let world = World::new();
    world.shelf.put(world.open_for(5 * SECOND));
    let (breaker, _) = world.peer(HOUR);
    assert!(breaker.is_open());
    assert_eq!(retry_after(&breaker), 5 * SECOND);
    world.clock.advance(5 * SECOND);
    soon(&breaker, HalfOpen);
    flushed(&breaker);
    assert_eq!(world.shelf.state(), Some(HalfOpen));
}

#[test]
fn started_with_an_open_row_that_is_over() {
    let world = World::new();
    let row = world.open_for(Duration::ZERO);
    world.clock.advance(SECOND);
    world.shelf.put(row);
    let (breaker, _) = world.peer(HOUR);
    soon(&breaker, HalfOpen);
    eventually("written", || world.shelf.state() == Some(HalfOpen));
}

#[test]
fn started_with_an_open_row_without_an_end() {
    let world = World::new();
    world.shelf.put(record(Open, &[]));
    let (breaker, line) = world.peer(SOON);
    assert_eq!(retry_after(&breaker), ISOLATION);
    world.clock.advance(20 * SECOND);
    let_it_look(&line);
    assert_eq!(
        retry_after(&breaker),
        10 * SECOND,
        "it began again with each refresh"
    );
    world.clock.advance(10 * SECOND);
    soon(&breaker, HalfOpen);
    assert_eq!(world.shelf.state(), Some(HalfOpen));
}

#[test]
fn started_with_a_half_open_row() {
    for (outcomes, needed) in [(&[][..], 2), (&[true], 1), (&[true, true, true], 1)] {
        let world = World::new();
        world.shelf.put(record(HalfOpen, outcomes));
        let (breaker, _) = world.peer(HOUR);
        for _ in 0..needed {
            assert!(breaker.is_half_open(), "{outcomes:?}");
            breaker.try_acquire().unwrap().record_success();
        }
        assert!(breaker.is_closed(), "{outcomes:?}");
    }
}

#[test]
fn started_when_the_storage_fails() {
    for answer in [
        Answer::Error,
        Answer::NastyError,
        Answer::Panic,
        Answer::WrongCount,
    ] {
        let world = World::new();
        world.shelf.put(world.open_for(5 * SECOND));
        let line = world.shelf.line(SOON);
        line.loads_answer(answer);
        let breaker = world.breaker(&line);
        assert!(breaker.is_closed());
        assert!(line.is_down());
        assert!(!breaker.flush(Duration::MAX), "it waited for an outage");
        line.all_answer(Answer::Right);
        soon(&breaker, Open);
        eventually("no trouble", || !line.is_down());
        assert_eq!(retry_after(&breaker), 5 * SECOND);
    }
}

#[test]
fn started_when_the_storage_hangs() {
    let world = World::new();
    world.shelf.put(world.open_for(5 * SECOND));
    let line = world.shelf.line(SOON);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    line.all_answer(Answer::Late(gate.clone()));
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(world.clock)
        .circuit_storage(line.clone())
        .build()
        .unwrap();
    gate.wait_for_arrivals(1);
    // The whole life of a bulkhead while nothing comes from the storage.
    assert!(wait(bulkhead.run(|| ())).is_success());
    for _ in 0..2 {
        assert!(!wait(bulkhead.execute(|| Err::<(), _>(()))).is_success());
    }
    assert!(matches!(
        wait(bulkhead.run(|| ())).into_result(),
        Err(BulkheadError::CircuitOpen { .. })
    ));
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert!(!breaker.flush(SOON));
    breaker.reset();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(bulkhead.shutdown().is_clean());
    drop(bulkhead);
    assert!(!line.is_down(), "it hangs, it does not fail");
    drop(opener);
}

#[test]
fn names() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let error = CircuitBreaker::builder("a/b", rules())
        .storage(line.clone())
        .build()
        .unwrap_err();
    assert!(matches!(&error, BuildError::CircuitStorage { circuit, .. } if circuit == "a/b"));
    let text = format!("{error:?}");
    assert!(text.contains("slash"), "{text}");
    assert_eq!(world.shelf.loads(), 0, "no I/O for a name that is refused");

    for name in ["ä ö 雪", "'; drop table x; --", " ", "a|b", "%s\n"] {
        let build = || {
            CircuitBreaker::builder(name, rules())
                .storage(line.clone())
                .build()
                .unwrap()
        };
        let (one, two) = (build(), build());
        trip(&one);
        soon(&two, Open);
        assert_eq!(world.shelf.row(name).unwrap().record.state, Open);
    }
}

#[test]
fn a_storage_without_a_breaker_is_an_error() {
    let error = Bulkhead::builder(config(1, 1))
        .circuit_storage(MemoryStorage::new())
        .build()
        .unwrap_err();
    assert!(format!("{error}").contains("circuit_breaker"), "{error}");
}

// ---- news

#[test]
fn a_peers_state_is_taken_over() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    let seven = world.open_for(7 * SECOND);
    let nine = world.open_for(9 * SECOND);
    world.shelf.put(seven);
    soon(&breaker, Open);
    assert_eq!(retry_after(&breaker), 7 * SECOND);
    world.shelf.put(nine);
    eventually("the new end", || retry_after(&breaker) == 9 * SECOND);
    world.shelf.put(record(HalfOpen, &[true]));
    soon(&breaker, HalfOpen);
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed(), "the peer's success counts");
    flushed(&breaker);
    world.shelf.put(record(Open, &[false]));
    soon(&breaker, Open);
    world.shelf.put(record(Closed, &[]));
    soon(&breaker, Closed);
    let_it_look(&line);
    assert_eq!(
        *changes.lock().unwrap(),
        [Open, HalfOpen, Closed, Open, Closed]
    );
}

#[test]
fn a_row_that_is_gone_or_makes_no_sense_changes_nothing() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    trip(&breaker);
    flushed(&breaker);
    world.shelf.rows.lock().unwrap().clear();
    let_it_look(&line);
    assert_eq!(retry_after(&breaker), ISOLATION);
    world.clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
    eventually("written", || world.shelf.state() == Some(HalfOpen));
}

#[test]
fn refused_by_a_row_that_makes_no_sense() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.stores_answer(Answer::Refuse);
    line.loads_answer(Answer::Nothing);
    trip(&breaker);
    let_it_look(&line);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert!(!breaker.flush(SOON));
    world.clock.advance(ISOLATION);
    // Nothing sensible can be found out, so it goes on with what is known here.
    soon(&breaker, HalfOpen);
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record_success();
    }
    assert!(breaker.is_closed());
    line.all_answer(Answer::Right);
    eventually("written", || world.shelf.state() == Some(Closed));
    flushed(&breaker);
}

#[test]
fn a_storage_that_goes_by_another_clock_is_not_asked_without_a_pause() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    trip(&breaker);
    flushed(&breaker);
    // For the storage it is not over yet.
    line.stores_answer(Answer::Refuse);
    let before = world.shelf.stores().len();
    let start = Instant::now();
    world.clock.advance(ISOLATION);
    eventually("ten attempts", || world.shelf.stores().len() >= before + 10);
    // However slow the machine: there are nine pauses between ten attempts.
    assert!(start.elapsed() >= 9 * Duration::from_millis(50));
    assert!(breaker.is_open());
    line.stores_answer(Answer::Right);
    soon(&breaker, HalfOpen);
}

#[test]
fn an_own_change_that_is_not_stored_yet_is_not_undone_by_news() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    world.shelf.put(record(Closed, &[true]));
    let_it_look(&line);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    world.shelf.put(record(Closed, &[true, true]));
    assert!(!breaker.flush(Duration::MAX));
    line.stores_answer(Answer::Right);
    eventually("the trip is stored", || world.shelf.state() == Some(Open));
    flushed(&breaker);
    assert_eq!(*changes.lock().unwrap(), [Open]);
}

#[test]
fn a_reset_against_a_trip_ends_in_one_state_for_both() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let breaker = world.breaker(&line);
    for _ in 0..300 {
        thread::scope(|scope| {
            scope.spawn(|| breaker.trip());
            scope.spawn(|| breaker.reset());
        });
        flushed(&breaker);
        assert_eq!(world.shelf.state(), Some(breaker.state()));
    }
}

// ---- outages

#[test]
fn an_open_circuit_recovers_by_itself_during_an_outage() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    trip(&breaker);
    flushed(&breaker);
    line.all_answer(Answer::Error);
    eventually("the outage", || line.is_down());
    world.clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
    for _ in 0..2 {
        breaker.try_acquire().unwrap().record_success();
    }
    assert!(breaker.is_closed());
    assert_eq!(world.shelf.state(), Some(Open));
    line.all_answer(Answer::Right);
    eventually("the storage knows", || world.shelf.state() == Some(Closed));
    flushed(&breaker);
    assert_eq!(*changes.lock().unwrap(), [Open, HalfOpen, Closed]);
}

#[test]
fn the_storage_fails_when_it_is_asked_for_the_end_of_the_isolation() {
    for answer in [Answer::Error, Answer::Panic, Answer::NastyError] {
        let world = World::new();
        let (breaker, line) = world.peer(HOUR);
        trip(&breaker);
        flushed(&breaker);
        line.stores_answer(answer);
        world.clock.advance(ISOLATION);
        soon(&breaker, HalfOpen);
        eventually("the outage", || line.is_down());
    }
}

#[test]
fn a_trip_during_an_outage_is_written_later() {
    for answer in [Answer::Error, Answer::Panic, Answer::NastyError] {
        let world = World::new();
        let (breaker, line) = world.peer(SOON);
        let (peer, _) = world.peer(SOON);
        line.all_answer(answer);
        eventually("the outage", || line.is_down());
        trip(&breaker);
        world.clock.advance(SECOND);
        assert!(!breaker.flush(Duration::MAX));
        assert!(peer.is_closed());
        line.all_answer(Answer::Right);
        soon(&peer, Open);
        assert_eq!(retry_after(&peer), ISOLATION - SECOND);
        assert_eq!(retry_after(&breaker), ISOLATION - SECOND);
    }
}

#[test]
fn in_the_pause_of_an_outage_nothing_is_asked() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    let asked = || (world.shelf.stores().len(), world.shelf.loads());
    let before = asked();
    // The keeper is called, twice at least, and goes on alone.
    breaker.trip();
    world.clock.advance(ISOLATION);
    soon(&breaker, HalfOpen);
    assert_eq!(asked(), before);
}

#[test]
fn the_pauses_of_an_outage_grow() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.all_answer(Answer::Error);
    let before = world.shelf.loads();
    let start = Instant::now();
    eventually("nine attempts", || world.shelf.loads() >= before + 9);
    // However slow the machine: 1, 2, 4, ... 128 milliseconds.
    assert!(start.elapsed() >= Duration::from_millis(255));
    assert!(breaker.is_closed());
}

#[test]
fn while_one_circuit_cannot_be_stored_the_pauses_do_not_grow() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.stores_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    let before = world.shelf.loads();
    // With pauses that grow these would take minutes.
    eventually("news", || world.shelf.loads() >= before + 40);
    assert!(line.is_down());
}

#[test]
fn a_peer_opened_during_the_outage() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let (tripped, other_line) = world.peer(SOON);
    line.all_answer(Answer::Error);
    other_line.all_answer(Answer::Error);
    eventually("the outage", || line.is_down() && other_line.is_down());
    world.shelf.put(world.open_for(7 * SECOND));
    trip(&tripped);
    line.all_answer(Answer::Right);
    other_line.all_answer(Answer::Right);
    soon(&breaker, Open);
    eventually("the peer's end", || retry_after(&tripped) == 7 * SECOND);
    assert_eq!(retry_after(&breaker), 7 * SECOND);
    assert_eq!(world.shelf.row(NAME).unwrap().version, 1);
}

#[test]
fn a_write_whose_answer_is_lost() {
    let world = World::new();
    let (breaker, line, changes) = world.watched(SOON);
    line.stores_answer(Answer::Lost);
    trip(&breaker);
    eventually("stored", || world.shelf.state() == Some(Open));
    line.stores_answer(Answer::Right);
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert_eq!(world.shelf.row(NAME).unwrap().version, 1);
    assert_eq!(*changes.lock().unwrap(), [Open]);
}

#[test]
fn a_refresh_that_never_comes() {
    let world = World::new();
    let (breaker, line) = world.peer(Duration::MAX);
    trip(&breaker);
    flushed(&breaker);
    line.stores_answer(Answer::Error);
    breaker.reset();
    eventually("the outage", || line.is_down());
    let (peer, _) = world.peer(SOON);
    assert!(peer.is_open());
    world.clock.advance(ISOLATION);
    soon(&peer, HalfOpen);
    // Its thread still lives.
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    assert!(other.is_closed());
}

// ---- a storage that hangs

#[test]
fn calls_go_on_while_the_storage_hangs() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let bulkhead = Bulkhead::builder(config(2, 8).circuit_breaker(rules()))
        .clock(world.clock.clone())
        .circuit_storage(line.clone())
        .build()
        .unwrap();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.all_answer(Answer::Late(gate.clone()));
    gate.wait_for_arrivals(1);
    let breaker = bulkhead.circuit_breaker().unwrap();
    for _ in 0..20 {
        assert!(wait(bulkhead.run(|| ())).is_success());
        trip(breaker);
        assert!(!wait(bulkhead.run(|| ())).is_success());
        breaker.reset();
        assert!(wait(bulkhead.execute(|| Ok::<_, ()>(()))).is_success());
    }
    trip(breaker);
    drop(bulkhead.shutdown_timeout(SOON));
    gate.open();
    eventually("stored", || {
        world
            .shelf
            .row("test")
            .is_some_and(|row| row.record.state == Open)
    });
}

#[test]
fn a_storage_that_hangs_does_not_hold_a_circuit_open_for_ever() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    trip(&breaker);
    flushed(&breaker);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.stores_answer(Answer::Late(gate.clone()));
    world.clock.advance(ISOLATION);
    gate.wait_for_arrivals(1);
    world.clock.advance(10 * SECOND - Duration::from_nanos(1));
    assert_eq!(retry_after(&breaker), Duration::from_nanos(1));
    world.clock.advance(Duration::from_nanos(1));
    breaker.try_acquire().expect("a probe").record_success();
    breaker.try_acquire().expect("a probe").record_failure();
    assert!(breaker.is_open());
    // The end of the isolation that was asked for long ago does not undo that.
    gate.open();
    flushed(&breaker);
    assert_eq!(retry_after(&breaker), ISOLATION);
    assert_eq!(world.shelf.state(), Some(Open));
}

#[test]
fn dropped_while_the_storage_hangs() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.stores_answer(Answer::Late(gate.clone()));
    trip(&breaker);
    gate.wait_for_arrivals(1);
    // The last change is unwritten, and another one comes.
    breaker.reset();
    drop(breaker);
    gate.open();
    eventually("the last change", || world.shelf.state() == Some(Closed));
}

// ---- coming and going

#[test]
fn the_last_change_is_written_after_the_drop() {
    let world = World::new();
    for _ in 0..100 {
        let (breaker, _) = world.peer(HOUR);
        breaker.reset();
        trip(&breaker);
        drop(breaker);
        eventually("stored", || world.shelf.state() == Some(Open));
        let (breaker, _) = world.peer(HOUR);
        breaker.reset();
        drop(breaker);
        eventually("stored", || world.shelf.state() == Some(Closed));
    }
}

#[test]
fn the_storage_is_dropped_with_its_last_circuit_and_can_come_again() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let storage = Arc::new(line.clone());
    let weak: Weak<Line> = Arc::downgrade(&storage);
    let build = |name: &str, storage: Arc<Line>| {
        CircuitBreaker::builder(name, rules())
            .storage(storage)
            .build()
            .unwrap()
    };
    let one = build("one", Arc::clone(&storage));
    let two = build("two", storage);
    drop(one);
    trip(&two);
    flushed(&two);
    assert!(weak.upgrade().is_some());
    drop(two);
    eventually("the storage is dropped", || weak.upgrade().is_none());
    for _ in 0..50 {
        let again = build("two", Arc::new(line.clone()));
        assert!(again.is_open(), "it was told at the first answer");
    }
}

#[test]
fn a_storage_that_panics_when_it_is_dropped() {
    struct Fragile(Line);
    impl Drop for Fragile {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("the storage's panic when it is dropped");
            }
        }
    }
    impl CircuitStorage for Fragile {
        fn sync(&self) -> &CircuitSync {
            self.0.sync()
        }
        fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
            self.0.load(circuit)
        }
        fn store(
            &self,
            circuit: &str,
            record: &CircuitRecord,
            guard: WriteGuard,
        ) -> Result<WriteOutcome, StorageError> {
            self.0.store(circuit, record, guard)
        }
    }
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let build = || {
        CircuitBreaker::builder(NAME, rules())
            .storage(Fragile(line.clone()))
            .build()
            .unwrap()
    };
    drop(build());
    // The storage of the first is the keeper's, that of the second nobody's.
    let first = build();
    drop(build());
    trip(&first);
    flushed(&first);
}

#[test]
fn callbacks_of_circuits_that_are_dropped_by_the_keeper() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let bomb = support::Bomb;
    let breaker = world
        .builder(&line)
        .on_change(move |_| {
            let _keep = &bomb;
        })
        .build()
        .unwrap();
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    drop(breaker);
    trip(&other);
    flushed(&other);
}

#[test]
fn who_goes_asks_for_nothing() {
    let world = World::new();
    let line = world.shelf.line(HOUR);
    let told = Arc::new(());
    let keep = Arc::clone(&told);
    let going = world
        .builder(&line)
        .on_change(move |_| {
            let _keep = &keep;
        })
        .build()
        .unwrap();
    let staying = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    let before = world.shelf.loads();
    drop(going);
    eventually("the keeper has let it go", || Arc::strong_count(&told) == 1);
    assert_eq!(world.shelf.loads(), before);
    assert!(staying.is_closed());
}

// ---- callbacks in the keeper's thread

#[test]
fn a_callback_that_drops_the_bulkhead() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let cell: Arc<Mutex<Option<Bulkhead>>> = Arc::default();
    let dropped = Gate::new();
    let (cell_of_callback, gate) = (Arc::clone(&cell), dropped.clone());
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(world.clock.clone())
        .circuit_storage(line)
        .listener(move |event: &bulkman::BulkheadEvent<'_>| {
            if matches!(event, bulkman::BulkheadEvent::CircuitChanged { .. }) {
                let bulkhead = cell_of_callback.lock().unwrap().take();
                drop(bulkhead);
                gate.open();
            }
        })
        .build()
        .unwrap();
    *cell.lock().unwrap() = Some(bulkhead);
    let mut rows = world.shelf.rows.lock().unwrap();
    let mut open = record(Open, &[]);
    open.open_until = None;
    rows.insert("test".to_owned(), StoredCircuit::new(open, 1));
    drop(rows);
    dropped.pass();
    // The keeper has ended, and another one serves who comes next.
    let (breaker, _) = world.peer(SOON);
    trip(&breaker);
    flushed(&breaker);
}

#[test]
fn a_callback_that_builds_a_breaker_and_calls_all_methods() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let made: Arc<Mutex<Vec<CircuitBreaker>>> = Arc::default();
    let myself: Arc<OnceLock<CircuitBreaker>> = Arc::default();
    let (keep, me, other_line) = (Arc::clone(&made), Arc::downgrade(&myself), line.clone());
    let breaker = world
        .builder(&line)
        .on_change(move |change| {
            if thread::current().name() != Some("bulkman-circuits") {
                return;
            }
            let build = |name: &str| {
                CircuitBreaker::builder(name, rules())
                    .storage(other_line.clone())
                    .build()
                    .unwrap()
            };
            // One that goes at once, one that stays, and one in a storage of its own.
            drop(build("short"));
            let long = build("long");
            trip(&long);
            assert!(!long.flush(Duration::MAX), "it waited for itself");
            keep.lock().unwrap().push(long);
            let own = CircuitBreaker::builder("own", rules())
                .storage(MemoryStorage::new())
                .build()
                .unwrap();
            trip(&own);
            let _ = own.flush(Duration::MAX);
            if let (Open, Some(me)) = (change.to, me.upgrade()) {
                let _ = me.get().map(CircuitBreaker::reset);
            }
            panic!("the callback's own panic");
        })
        .build()
        .unwrap();
    assert!(myself.set(breaker).is_ok());
    let breaker = myself.get().unwrap();
    world.shelf.put(world.open_for(7 * SECOND));
    eventually("it was reset by its callback", || {
        world.shelf.state() == Some(Closed)
    });
    eventually("the new one is stored", || {
        world
            .shelf
            .row("long")
            .is_some_and(|row| row.record.state == Open)
    });
    flushed(breaker);
    assert!(breaker.is_closed());
    let kept = std::mem::take(&mut *made.lock().unwrap());
    drop(kept);
}

// ---- flush

#[test]
fn flush_without_a_storage_has_nothing_to_wait_for() {
    let breaker = CircuitBreaker::new(NAME, rules()).unwrap();
    trip(&breaker);
    assert!(breaker.flush(Duration::ZERO));
}

#[test]
fn flush_has_a_limit() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    assert!(breaker.flush(Duration::ZERO));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    line.stores_answer(Answer::Late(gate.clone()));
    trip(&breaker);
    assert!(!breaker.flush(Duration::ZERO));
    assert!(!breaker.flush(SOON));
    gate.open();
    assert!(breaker.flush(Duration::MAX));
    // Settled, whatever the storage does then.
    line.all_answer(Answer::Error);
    assert!(breaker.flush(Duration::ZERO));
}

#[test]
fn a_shutdown_stores_the_last_change() {
    let world = World::new();
    for end in ["shutdown", "timeout", "drop"] {
        let line = world.shelf.line(HOUR);
        let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
            .circuit_storage(line)
            .build()
            .unwrap();
        bulkhead.circuit_breaker().unwrap().reset();
        for _ in 0..2 {
            let _ = bulkhead.execute(|| Err::<(), _>(())).wait();
        }
        match end {
            "shutdown" => drop(bulkhead.shutdown()),
            "timeout" => drop(bulkhead.shutdown_timeout(support::PATIENCE)),
            _ => drop(bulkhead),
        }
        assert_eq!(world.shelf.row("test").unwrap().record.state, Open, "{end}");
    }
}

// ---- outcomes

#[test]
fn outcomes_are_stored_with_the_refresh_and_restored_after_a_restart() {
    let world = World::new();
    let (breaker, _) = world.peer(SOON);
    breaker.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!(
        (row.state, row.failure_count, &row.outcomes[..]),
        (Closed, 1, &[false][..])
    );
    drop(breaker);
    let (again, _) = world.peer(SOON);
    trip_by_one_more(&again);
}

#[test]
fn a_share_of_failures_goes_on_after_a_restart() {
    let world = World::new();
    let build = || {
        CircuitBreaker::builder(NAME, rules().failure_rate(0.5, 4).minimum_calls(4))
            .storage(world.shelf.line(SOON))
            .build()
            .unwrap()
    };
    let first = build();
    first.record_failure();
    first.record_success();
    first.record_success();
    eventually("stored", || {
        world
            .shelf
            .row(NAME)
            .is_some_and(|row| row.record.outcomes == [false, true, true])
    });
    drop(first);
    let second = build();
    second.record_failure();
    assert!(second.is_open());
}

#[test]
fn outcomes_of_a_half_open_circuit_are_stored() {
    let world = World::new();
    world.shelf.put(record(HalfOpen, &[]));
    let (breaker, _) = world.peer(SOON);
    breaker.try_acquire().unwrap().record_success();
    eventually("stored", || {
        world
            .shelf
            .row(NAME)
            .is_some_and(|row| row.record.outcomes == [true])
    });
    assert!(breaker.is_half_open());
}

#[test]
fn outcomes_wait_for_the_refresh() {
    let world = World::new();
    let (breaker, line) = world.peer(HOUR);
    breaker.record_failure();
    for _ in 0..100 {
        breaker.record_success();
        breaker.record_failure();
    }
    // Something else makes the keeper look.
    let other = CircuitBreaker::builder("another", rules())
        .storage(line)
        .build()
        .unwrap();
    trip(&other);
    flushed(&other);
    assert!(world.shelf.row(NAME).is_none(), "written before its time");
}

#[test]
fn outcomes_that_stay_the_same_are_written_once() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    breaker.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let_it_look(&line);
    let_it_look(&line);
    assert_eq!(world.shelf.stores().len(), 1);
    breaker.record_success();
    eventually("stored", || world.shelf.stores().len() == 2);
    let_it_look(&line);
    let stores = world.shelf.stores();
    assert_eq!(stores.len(), 2);
    assert!(stores[1].outcomes.is_empty());
    assert_eq!((&*stores[1].circuit, stores[1].state), (NAME, Closed));
}

#[test]
fn outcomes_that_were_found_are_not_written_again() {
    for row in [record(Closed, &[false]), record(HalfOpen, &[true])] {
        let world = World::new();
        world.shelf.put(row);
        let (breaker, line) = world.peer(SOON);
        let_it_look(&line);
        let_it_look(&line);
        assert!(world.shelf.stores().is_empty());
        drop(breaker);
    }
}

#[test]
fn a_peers_outcomes_are_not_taken_for_own_ones_later() {
    let world = World::new();
    let (breaker, _) = world.peer(SOON);
    trip(&breaker);
    flushed(&breaker);
    world.shelf.put(record(Closed, &[false]));
    soon(&breaker, Closed);
    flushed(&breaker);
    breaker.record_failure();
    assert!(breaker.is_closed(), "the peer's failure counts here");
}

#[test]
fn outcomes_are_not_written_over_another_state() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    let_it_look(&line);
    let half_open = record(HalfOpen, &[true]);
    // Half-open since an instant ago, which the breaker learns with the same look as it writes its outcomes.
    for _ in 0..20 {
        breaker.reset();
        flushed(&breaker);
        let before = world.shelf.stores().len();
        world.shelf.put(half_open.clone());
        breaker.record_failure();
        soon(&breaker, HalfOpen);
        let later: Vec<_> = world.shelf.stores().split_off(before);
        assert!(
            later.iter().all(|store| store.state != Closed) || world.shelf.state() != Some(Closed),
            "{later:?}"
        );
    }
}

#[test]
fn who_is_idle_overwrites_nothing() {
    let world = World::new();
    let (idle, line) = world.peer(SOON);
    // It has a history.
    idle.record_failure();
    eventually("stored", || world.shelf.row(NAME).is_some());
    let before = world.shelf.stores().len();
    let states = [
        record(Closed, &[true, false]),
        world.open_for(7 * SECOND),
        record(Closed, &[true, true]),
        record(HalfOpen, &[true]),
        record(Closed, &[false]),
        world.open_for(8 * SECOND),
    ];
    for row in states {
        world.shelf.put(row.clone());
        soon(&idle, row.state);
        let_it_look(&line);
        assert_eq!(world.shelf.row(NAME).unwrap().record, row);
    }
    let stores = world.shelf.stores();
    assert_eq!(stores.len(), before, "{stores:?}");
}

// ---- extremes

#[test]
fn an_isolation_without_an_end() {
    let world = World::new();
    let build = |line: Line| {
        CircuitBreaker::builder(NAME, rules().isolation_duration(Duration::MAX))
            .clock(world.clock.clone())
            .storage(line)
            .build()
            .unwrap()
    };
    let line = world.shelf.line(SOON);
    let one = build(line.clone());
    let two = build(world.shelf.line(SOON));
    trip(&one);
    flushed(&one);
    soon(&two, Open);
    let_it_look(&line);
    // Its own row is no news.
    assert_eq!(retry_after(&one), Duration::MAX);
    let years = |n: u64| Duration::from_secs(n * 365 * 86_400);
    assert!(retry_after(&two) > years(99));
    world.clock.advance(years(50));
    assert!(two.is_open() && one.is_open());
    assert!(world.shelf.row(NAME).unwrap().record.open_until.is_some());
    two.reset();
    flushed(&two);
    assert_eq!(world.shelf.state(), Some(Closed));
}

#[test]
fn no_isolation() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let breaker = CircuitBreaker::builder(NAME, rules().isolation_duration(Duration::ZERO))
        .storage(line)
        .build()
        .unwrap();
    for _ in 0..20 {
        breaker.trip();
        soon(&breaker, HalfOpen);
        for _ in 0..2 {
            breaker.try_acquire().unwrap().record_success();
        }
        assert!(breaker.is_closed());
        flushed(&breaker);
        assert_eq!(world.shelf.state(), Some(Closed));
    }
}

#[test]
fn a_huge_window() {
    let world = World::new();
    let rules = rules().failure_rate(1.0, 1 << 20).minimum_calls(5_000);
    let breaker = CircuitBreaker::builder(NAME, rules)
        .storage(world.shelf.line(SOON))
        .build()
        .unwrap();
    for _ in 0..4_999 {
        breaker.record_failure();
    }
    assert!(breaker.is_closed());
    breaker.record_failure();
    assert!(breaker.is_open());
    flushed(&breaker);
    let row = world.shelf.row(NAME).unwrap().record;
    assert_eq!(row.outcomes.len(), 1_000);
    assert_eq!(row.failure_count, 1_000);
}

#[test]
fn a_thousand_circuits_are_loaded_in_one_go() {
    let world = World::new();
    let line = world.shelf.line(SOON);
    let build = |index: usize| {
        CircuitBreaker::builder(format!("c{index}"), rules())
            .storage(line.clone())
            .build()
            .unwrap()
    };
    let breakers: Vec<_> = (0..1_000).map(build).collect();
    eventually("one load for all", || {
        world.shelf.loads.lock().unwrap().last() == Some(&1_000)
    });
    let_it_look(&line);
    {
        let loads = world.shelf.loads.lock().unwrap();
        assert_eq!(loads[loads.len() - 2..], [1_000, 1_000]);
    }
    for breaker in &breakers {
        breaker.trip();
    }
    for breaker in &breakers {
        flushed(breaker);
    }
    assert_eq!(world.shelf.stores().len(), 1_000);
    drop(breakers);
}

#[test]
fn the_default_clock_takes_an_end_from_the_wall_clock() {
    let shelf = Arc::<Shelf>::default();
    let mut row = record(Open, &[]);
    row.open_until = Some(std::time::SystemTime::now() + HOUR);
    shelf.put(row);
    let breaker = CircuitBreaker::builder(NAME, rules())
        .clock(Clock::system())
        .storage(shelf.line(HOUR))
        .build()
        .unwrap();
    let left = retry_after(&breaker);
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
}

// ---- one bad circuit

/// Fails, or panics, to store one circuit.
struct Picky {
    rows: MemoryStorage,
    sync: CircuitSync,
    panics: bool,
}

impl CircuitStorage for Picky {
    fn sync(&self) -> &CircuitSync {
        &self.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.rows.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        match circuit {
            "locked" if self.panics => panic!("its row is locked"),
            "locked" => Err(StorageError::new("its row is locked")),
            _ => self.rows.store(circuit, record, guard),
        }
    }
}

#[test]
fn a_circuit_that_cannot_be_stored_keeps_no_other_from_it() {
    for panics in [false, true] {
        let rows = MemoryStorage::new();
        let storage = Arc::new(Picky {
            rows: rows.clone(),
            sync: CircuitSync::with_refresh_interval(SOON),
            panics,
        });
        let breaker = |name: &str| {
            CircuitBreaker::builder(name, rules())
                .storage(Arc::clone(&storage))
                .build()
                .unwrap()
        };
        let (locked, one, two, three) = (
            breaker("locked"),
            breaker("one"),
            breaker("two"),
            breaker("three"),
        );
        for breaker in [&locked, &one, &two] {
            breaker.trip();
        }
        let state = |name: &str| rows.load(name).unwrap().map(|row| row.record.state);
        eventually("the others are stored", || {
            [state("one"), state("two")] == [Some(CircuitState::Open); 2]
        });
        assert!(
            storage
                .sync()
                .trouble()
                .is_some_and(|said| said.contains("its row is locked"))
        );
        let mut news = CircuitRecord::closed();
        news.state = CircuitState::Open;
        news.open_until = Some(std::time::SystemTime::now() + Duration::from_secs(600));
        let _ = rows.store("three", &news, WriteGuard::Always).unwrap();
        eventually("news come in", || three.is_open());
        assert!(locked.is_open());
    }
}
