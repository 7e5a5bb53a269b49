//! A storage in this process.

use std::collections::HashMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::members::CircuitSync;
use super::state::CircuitState;
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use crate::sync::Mutex;

/// A [`CircuitStorage`] in this process: bulkheads with the same name, built with clones of it, share their circuit.
///
/// Clones are the same storage. A change reaches the other breakers as soon as the storage's thread runs.
///
/// A closed circuit is forgotten, with its outcomes, after its last breaker is dropped. An open or half-open one stays,
/// so that a breaker which comes back finds it; [`remove`](CircuitStorage::remove) takes it away.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Memory>);

#[derive(Default)]
struct Memory {
    sync: CircuitSync,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    by_name: HashMap<String, StoredCircuit>,
    /// The version of the last write to any row, so that versions also grow over a row that was removed.
    version: u64,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl CircuitStorage for MemoryStorage {
    fn sync(&self) -> &CircuitSync {
        &self.0.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        Ok(self.0.rows.lock().by_name.get(circuit).cloned())
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        let mut rows = self.0.rows.lock();
        let stored = rows.by_name.get(circuit);
        if stored.is_some_and(|stored| guard.refuses(stored)) {
            return Ok(WriteOutcome::Refused);
        }
        rows.version += 1;
        let version = rows.version;
        rows.by_name.insert(
            circuit.to_owned(),
            StoredCircuit::new(record.clone(), version),
        );
        Ok(WriteOutcome::Applied { version })
    }

    fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        Ok(self.0.rows.lock().by_name.remove(circuit).is_some())
    }

    fn release(&self, circuit: &str) {
        let mut rows = self.0.rows.lock();
        let stored = rows.by_name.get(circuit);
        if stored.is_some_and(|stored| stored.record.state == CircuitState::Closed) {
            rows.by_name.remove(circuit);
        }
    }
}

// Nothing that can panic happens under the lock.
impl UnwindSafe for MemoryStorage {}
impl RefUnwindSafe for MemoryStorage {}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("circuits", &self.0.rows.lock().by_name.len())
            .finish_non_exhaustive()
    }
}
