//! Peers that share circuits, and a storage that answers as the test tells it.
//!
//! Two `Line`s to one `ScriptedStorage` are two processes with one database. A refresh of a millisecond stands for "soon"; one of
//! an hour shows that something needs no refresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitRecord, CircuitState, CircuitStorage,
    CircuitSync, ManualClock, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

use crate::helpers::rules;
use crate::support;
use crate::support::{Gate, OpenOnDrop, eventually};

use CircuitState::Open;

pub const SOON: Duration = Duration::from_millis(1);
/// The name of most circuits here.
pub const NAME: &str = "c";

/// How the storage answers.
#[derive(Clone, Default)]
pub enum Answer {
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
pub struct Store {
    pub circuit: String,
    pub state: CircuitState,
    pub outcomes: Vec<bool>,
    pub guard: WriteGuard,
}

/// The rows that peers share.
#[derive(Default)]
pub struct ScriptedStorage {
    pub rows: Mutex<HashMap<String, StoredCircuit>>,
    pub stores: Mutex<Vec<Store>>,
    /// The names that were asked for in one go.
    pub loads: Mutex<Vec<usize>>,
    /// Threads that did I/O and must not.
    pub strangers: Mutex<Vec<String>>,
}

/// One process' way to the shelf. Clones are the same storage.
#[derive(Clone)]
pub struct Line {
    pub sync: CircuitSync,
    pub shelf: Arc<ScriptedStorage>,
    pub answers: Arc<Mutex<(Answer, Answer)>>,
}

#[derive(Debug)]
pub struct Nasty;

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
    pub fn loads_answer(&self, answer: Answer) {
        self.answers.lock().unwrap().0 = answer;
    }

    pub fn stores_answer(&self, answer: Answer) {
        self.answers.lock().unwrap().1 = answer;
    }

    pub fn all_answer(&self, answer: Answer) {
        *self.answers.lock().unwrap() = (answer.clone(), answer);
    }

    /// Its stores answer when the gate opens.
    pub fn holds_stores(&self) -> (Gate, OpenOnDrop) {
        let gate = Gate::new();
        self.stores_answer(Answer::Late(gate.clone()));
        (gate.clone(), OpenOnDrop(gate))
    }

    pub fn is_down(&self) -> bool {
        self.sync.trouble().is_some()
    }

    /// The answer that is to be given, unless it is none.
    pub fn answer(&self, answer: Answer) -> Result<Answer, StorageError> {
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

    pub fn load_answer(&self) -> Result<Answer, StorageError> {
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
        if stored.is_some_and(|stored| guard.refuses(stored)) {
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

impl ScriptedStorage {
    /// A process with a storage of its own over these rows.
    pub fn line(self: &Arc<Self>, refresh: Duration) -> Line {
        Line {
            sync: CircuitSync::with_refresh_interval(refresh),
            shelf: Arc::clone(self),
            answers: Arc::default(),
        }
    }

    pub fn row(&self, circuit: &str) -> Option<StoredCircuit> {
        self.rows.lock().unwrap().get(circuit).cloned()
    }

    pub fn state(&self) -> Option<CircuitState> {
        self.row(NAME).map(|row| row.record.state)
    }

    /// A peer writes, without a guard.
    pub fn put(&self, record: CircuitRecord) {
        let mut rows = self.rows.lock().unwrap();
        let version = rows.get(NAME).map_or(1, |row| row.version + 1);
        rows.insert(NAME.to_owned(), StoredCircuit::new(record, version));
    }

    pub fn stores(&self) -> Vec<Store> {
        self.stores.lock().unwrap().clone()
    }

    pub fn loads(&self) -> usize {
        self.loads.lock().unwrap().len()
    }
}

impl Drop for ScriptedStorage {
    fn drop(&mut self) {
        let strangers = self.strangers.get_mut().unwrap();
        if !thread::panicking() {
            assert!(strangers.is_empty(), "I/O on {strangers:?}");
        }
    }
}

pub struct World {
    pub clock: ManualClock,
    pub shelf: Arc<ScriptedStorage>,
}

pub type Changes = Arc<Mutex<Vec<CircuitState>>>;

impl World {
    pub fn new() -> Self {
        Self {
            clock: ManualClock::new(),
            shelf: Arc::default(),
        }
    }

    pub fn builder(&self, line: &Line) -> CircuitBreakerBuilder {
        CircuitBreaker::builder(NAME, rules())
            .clock(self.clock.clone())
            .storage(line.clone())
    }

    pub fn breaker(&self, line: &Line) -> CircuitBreaker {
        self.builder(line).build().unwrap()
    }

    /// A breaker of a process of its own.
    pub fn peer(&self, refresh: Duration) -> (CircuitBreaker, Line) {
        let line = self.shelf.line(refresh);
        (self.breaker(&line), line)
    }

    /// The same, with the states that it went into.
    pub fn watched(&self, refresh: Duration) -> (CircuitBreaker, Line, Changes) {
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
    pub fn open_for(&self, left: Duration) -> CircuitRecord {
        let mut record = record(Open, &[]);
        record.open_until = Some(self.wall_now() + left);
        record
    }

    pub fn wall_now(&self) -> std::time::SystemTime {
        self.clock.wall_now()
    }
}

pub fn record(state: CircuitState, outcomes: &[bool]) -> CircuitRecord {
    let mut record = CircuitRecord::closed();
    record.state = state;
    record.outcomes = outcomes.to_vec();
    record
}

pub fn trip(breaker: &CircuitBreaker) {
    breaker.record_failure();
    breaker.record_failure();
    assert!(breaker.is_open());
}

pub fn soon(breaker: &CircuitBreaker, state: CircuitState) {
    eventually(&format!("{state}"), || breaker.state() == state);
}

pub fn flushed(breaker: &CircuitBreaker) {
    // It does not wait for an outage that is just about to be over.
    eventually("flushed", || breaker.flush(support::PATIENCE));
}

/// Lets the synchronizer of a line with a short interval come round twice, so that it has seen all that there is.
pub fn let_it_look(line: &Line) {
    let before = line.shelf.loads();
    eventually("two refreshes", || line.shelf.loads() >= before + 2);
}

pub fn trip_by_one_more(breaker: &CircuitBreaker) {
    breaker.record_failure();
    assert!(breaker.is_open());
}
