//! An outage of a circuit's storage logs one line when it begins and one when it is over, whatever the error's text is.
//!
//! The file is a binary of its own, since a process has one logger.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitStorage, CircuitSync,
    MemoryStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use log::{Level, LevelFilter};
use support::{eventually, logged};

#[derive(Clone)]
struct Shaky {
    sync: CircuitSync,
    rows: MemoryStorage,
    is_down: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
}

impl Shaky {
    fn attempt(&self) -> Result<(), StorageError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            let cause = std::io::Error::other("no\nroute");
            return Err(StorageError::new(cause));
        }
        Ok(())
    }
}

impl CircuitStorage for Shaky {
    fn sync(&self) -> &CircuitSync {
        &self.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        self.attempt()?;
        self.rows.load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        self.attempt()?;
        self.rows.store(circuit, record, guard)
    }
}

/// The new lines that speak of a storage.
fn lines() -> Vec<(Level, String)> {
    logged::take()
        .into_iter()
        .filter(|line| line.text.contains("storage"))
        .map(|line| (line.level, line.text))
        .collect()
}

#[test]
fn one_line_for_each_change_of_health() {
    logged::collect(LevelFilter::Trace);
    let shaky = Shaky {
        sync: CircuitSync::with_refresh_interval(Duration::from_millis(1)),
        rows: MemoryStorage::new(),
        is_down: Arc::default(),
        attempts: Arc::default(),
    };
    let breakers: Vec<_> = (0..3)
        .map(|number| {
            CircuitBreaker::builder(format!("c{number}"), CircuitBreakerConfig::default())
                .storage(shaky.clone())
                .build()
                .unwrap()
        })
        .collect();
    assert!(lines().is_empty());
    for outage in 1..=2 {
        let before = shaky.attempts.load(Ordering::SeqCst);
        shaky.is_down.store(true, Ordering::SeqCst);
        for breaker in &breakers {
            breaker.trip();
            assert!(!breaker.flush(Duration::MAX));
            assert!(breaker.try_acquire().is_err());
        }
        eventually("several attempts", || {
            shaky.attempts.load(Ordering::SeqCst) >= before + 4
        });
        assert!(
            shaky
                .sync
                .trouble()
                .is_some_and(|text| text == r"no\nroute")
        );
        shaky.is_down.store(false, Ordering::SeqCst);
        eventually("it is back", || shaky.sync.trouble().is_none());
        for breaker in &breakers {
            assert!(breaker.flush(support::PATIENCE));
            breaker.reset();
            assert!(breaker.flush(support::PATIENCE));
        }
        let lines = lines();
        let levels: Vec<_> = lines.iter().map(|line| line.0).collect();
        assert_eq!(levels, [Level::Warn, Level::Info], "{outage}: {lines:?}");
        assert!(lines[0].1.ends_with(r": no\nroute"), "{lines:?}");
    }
}
