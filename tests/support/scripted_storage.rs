//! A storage that does what a test says. Two shelves over the same rows are two processes with one database.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bulkman::{
    CircuitRecord, CircuitState, CircuitStorage, CircuitSync, StorageError, StoredCircuit,
    WriteGuard, WriteOutcome,
};

use super::eventually;

/// Stands for "soon".
pub const SOON: Duration = Duration::from_millis(1);

/// One process' way to the rows. Clones are the same storage.
#[derive(Clone)]
pub struct ScriptedStorage {
    sync: CircuitSync,
    rows: Arc<Mutex<Rows>>,
    own: Arc<Mutex<Own>>,
}

#[derive(Default)]
struct Rows {
    by_name: HashMap<String, StoredCircuit>,
    version: u64,
    /// The storage's own clock, if it has one.
    clock: Option<SystemTime>,
}

#[derive(Default)]
struct Own {
    is_down: bool,
    unfit: HashSet<String>,
    unwritable: HashSet<String>,
    /// The clock of the storage as it was with the last load.
    clock: Option<SystemTime>,
    loads: Vec<Instant>,
    failed_loads: Vec<Instant>,
    stores: Vec<(String, CircuitState)>,
}

impl ScriptedStorage {
    pub fn new() -> Self {
        Self::with(CircuitSync::with_refresh_interval(SOON))
    }

    pub fn with(sync: CircuitSync) -> Self {
        Self {
            sync,
            rows: Arc::default(),
            own: Arc::default(),
        }
    }

    /// Another process.
    pub fn peer(&self) -> Self {
        self.peer_with(CircuitSync::with_refresh_interval(SOON))
    }

    pub fn peer_with(&self, sync: CircuitSync) -> Self {
        Self {
            sync,
            rows: Arc::clone(&self.rows),
            own: Arc::default(),
        }
    }

    /// A write of a peer, without a guard.
    pub fn put(&self, name: &str, record: CircuitRecord) {
        let mut rows = self.rows.lock().unwrap();
        rows.version += 1;
        let row = StoredCircuit::new(record, rows.version);
        rows.by_name.insert(name.to_owned(), row);
    }

    /// Puts a row there as it is, as a server that was restored.
    pub fn restore(&self, name: &str, row: StoredCircuit) {
        let mut rows = self.rows.lock().unwrap();
        rows.by_name.insert(name.to_owned(), row);
    }

    /// The same, and its clock shows another time from then on.
    pub fn restore_at(&self, name: &str, row: StoredCircuit, clock: SystemTime) {
        let mut rows = self.rows.lock().unwrap();
        rows.by_name.insert(name.to_owned(), row);
        rows.clock = Some(clock);
    }

    pub fn row(&self, name: &str) -> Option<StoredCircuit> {
        self.rows.lock().unwrap().by_name.get(name).cloned()
    }

    pub fn state(&self, name: &str) -> Option<CircuitState> {
        self.row(name).map(|row| row.record.state)
    }

    /// Waits until no synchronizer serves this storage any more. The caller has the last handle to it.
    pub fn wait_until_unused(&self) {
        eventually("nobody serves it", || Arc::strong_count(&self.own) == 1);
    }

    pub fn set_clock(&self, clock: SystemTime) {
        self.rows.lock().unwrap().clock = Some(clock);
    }

    pub fn set_down(&self, is_down: bool) {
        self.own.lock().unwrap().is_down = is_down;
    }

    /// Makes a circuit one that this storage cannot hold, or holds again.
    pub fn set_unfit(&self, name: &str, is_unfit: bool) {
        let unfit = &mut self.own.lock().unwrap().unfit;
        if is_unfit {
            unfit.insert(name.to_owned());
        } else {
            unfit.remove(name);
        }
    }

    /// Makes a circuit one that can be read but not written, or written again.
    pub fn set_unwritable(&self, name: &str, is_unwritable: bool) {
        let unwritable = &mut self.own.lock().unwrap().unwritable;
        if is_unwritable {
            unwritable.insert(name.to_owned());
        } else {
            unwritable.remove(name);
        }
    }

    pub fn loads(&self) -> Vec<Instant> {
        self.own.lock().unwrap().loads.clone()
    }

    /// Those while it was down.
    pub fn failed_loads(&self) -> Vec<Instant> {
        self.own.lock().unwrap().failed_loads.clone()
    }

    pub fn stores(&self) -> Vec<(String, CircuitState)> {
        self.own.lock().unwrap().stores.clone()
    }

    /// Lets the synchronizer come round twice, so that it has seen all that there is.
    pub fn let_it_look(&self) {
        let before = self.loads().len();
        eventually("two refreshes", || self.loads().len() >= before + 2);
    }

    fn answer_for(&self, circuit: &str) -> Result<(), StorageError> {
        let own = self.own.lock().unwrap();
        if own.is_down {
            return Err(StorageError::new("the shelf is down"));
        }
        if own.unfit.contains(circuit) {
            return Err(StorageError::of_circuit(format!(
                "the shelf is too small for `{circuit}`"
            )));
        }
        Ok(())
    }
}

impl CircuitStorage for ScriptedStorage {
    fn sync(&self) -> &CircuitSync {
        &self.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.answer_for(circuit)?;
        let rows = self.rows.lock().unwrap();
        self.own.lock().unwrap().clock = rows.clock;
        Ok(rows.by_name.get(circuit).cloned())
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        let store = (circuit.to_owned(), record.state);
        self.own.lock().unwrap().stores.push(store);
        self.answer_for(circuit)?;
        if self.own.lock().unwrap().unwritable.contains(circuit) {
            return Err(StorageError::of_circuit(format!(
                "`{circuit}` is glued to the shelf"
            )));
        }
        let mut rows = self.rows.lock().unwrap();
        let stored = rows.by_name.get(circuit);
        if stored.is_some_and(|stored| guard.refuses(stored)) {
            return Ok(WriteOutcome::Refused);
        }
        rows.version += 1;
        let version = rows.version;
        let row = StoredCircuit::new(record.clone(), version);
        rows.by_name.insert(circuit.to_owned(), row);
        Ok(WriteOutcome::Applied { version })
    }

    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        let mut own = self.own.lock().unwrap();
        own.loads.push(Instant::now());
        if own.is_down {
            own.failed_loads.push(Instant::now());
            return Err(StorageError::new("the shelf is down"));
        }
        drop(own);
        circuits.iter().map(|circuit| self.load(circuit)).collect()
    }

    fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        Ok(self.rows.lock().unwrap().by_name.remove(circuit).is_some())
    }

    fn clock(&self) -> Option<SystemTime> {
        self.own.lock().unwrap().clock
    }
}

/// A record in a state, with an end if it is open.
pub fn record(state: CircuitState, open_until: Option<SystemTime>) -> CircuitRecord {
    let mut record = CircuitRecord::closed();
    record.state = state;
    record.open_until = open_until;
    record
}
