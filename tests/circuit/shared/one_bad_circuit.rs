//! A circuit that cannot be stored keeps no other circuit from it.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{
    CircuitBreaker, CircuitRecord, CircuitState, CircuitStorage, CircuitSync, MemoryStorage,
    StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

use super::helpers::SOON;
use crate::helpers::rules;
use crate::support::eventually;

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
