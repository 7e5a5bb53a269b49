//! A storage in this process.

use std::collections::HashMap;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::members::CircuitSync;
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use crate::sync::Mutex;

/// A [`CircuitStorage`] in this process: bulkheads with the same name, built with clones of it, share their circuit.
///
/// Clones are the same storage. A change reaches the other breakers as soon as the storage's thread runs.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Memory>);

#[derive(Default)]
struct Memory {
    sync: CircuitSync,
    rows: Mutex<HashMap<String, StoredCircuit>>,
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
        Ok(self.0.rows.lock().get(circuit).cloned())
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        let mut rows = self.0.rows.lock();
        let stored = rows.get(circuit);
        if stored.is_some_and(|stored| guard.refuses(&stored.record)) {
            return Ok(WriteOutcome::Refused);
        }
        let version = stored.map_or(1, |stored| stored.version + 1);
        rows.insert(
            circuit.to_owned(),
            StoredCircuit::new(record.clone(), version),
        );
        Ok(WriteOutcome::Applied { version })
    }
}

// Nothing that can panic happens under the lock.
impl UnwindSafe for MemoryStorage {}
impl RefUnwindSafe for MemoryStorage {}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("circuits", &self.0.rows.lock().len())
            .finish_non_exhaustive()
    }
}
