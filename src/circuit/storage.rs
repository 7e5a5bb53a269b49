//! Where circuits are kept for several breakers: what is stored, and the two operations on it.
//!
//! A storage is dumb on purpose. It reads rows and replaces them in one atomic step; what to make of them is decided
//! in one place for all storages (`synchronizer.rs`).

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::machine::CircuitState;
use super::members::CircuitSync;

/// Keeps the state of circuits where several breakers find it: in this process
/// ([`MemoryStorage`](crate::MemoryStorage)), in a database that a fleet shares (`PostgresStorage`, feature `postgres`), or wherever you implement it.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig, MemoryStorage};
///
/// let storage = MemoryStorage::new();
/// let config = BulkheadConfig::new("payments").circuit_breaker(CircuitBreakerConfig::default());
/// let one = Bulkhead::builder(config.clone()).circuit_storage(storage.clone()).build()?;
/// let two = Bulkhead::builder(config).circuit_storage(storage).build()?;
/// one.circuit_breaker().unwrap().trip();
/// # one.circuit_breaker().unwrap().flush(std::time::Duration::from_secs(10));
/// # while !two.circuit_breaker().unwrap().is_open() { std::thread::yield_now(); }
/// // soon, `two` is open as well
/// # Ok::<(), bulkman::BuildError>(())
/// ```
///
/// # What is shared
///
/// The state: who opens a circuit opens it for everybody with the same name in the same storage, until the same moment.
/// Failures are counted and probes limited in each process for itself.
///
/// # Who calls it
///
/// One thread for each storage, started with its first circuit and ended after its last. So the methods may block, and
/// no call through a bulkhead ever waits for one. They ought to give up after a second or two: while one blocks, news
/// of all circuits of this storage wait, and circuits whose isolation is over stay open, up to ten seconds longer. An
/// error means that circuits go on with what this process knows, and try again later. A panic counts as an error.
///
/// # Implementing one
///
/// Two operations, a field, and a [`CircuitSync`] that all clones of the storage share. The guard belongs into the same
/// atomic step as the write: a `WHERE` clause, a Lua script, a compare-and-swap.
///
/// ```
/// use bulkman::{
///     CircuitRecord, CircuitStorage, CircuitSync, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
/// };
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// #[derive(Default)]
/// struct Shelf {
///     sync: CircuitSync,
///     rows: Mutex<HashMap<String, StoredCircuit>>,
/// }
///
/// impl CircuitStorage for Shelf {
///     fn sync(&self) -> &CircuitSync {
///         &self.sync
///     }
///
///     fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
///         let rows = self.rows.lock().map_err(|_| StorageError::new("the shelf is poisoned"))?;
///         Ok(rows.get(circuit).cloned())
///     }
///
///     fn store(&self, circuit: &str, record: &CircuitRecord, guard: WriteGuard) -> Result<WriteOutcome, StorageError> {
///         let mut rows = self.rows.lock().map_err(|_| StorageError::new("the shelf is poisoned"))?;
///         let stored = rows.get(circuit);
///         if stored.is_some_and(|stored| guard.refuses(&stored.record)) {
///             return Ok(WriteOutcome::Refused);
///         }
///         let version = stored.map_or(1, |stored| stored.version + 1);
///         rows.insert(circuit.to_owned(), StoredCircuit::new(record.clone(), version));
///         Ok(WriteOutcome::Applied { version })
///     }
/// }
/// ```
pub trait CircuitStorage: Send + Sync {
    /// What ties the circuits of this storage to the thread that serves them. Clones of one storage give the same.
    fn sync(&self) -> &CircuitSync;

    /// What is stored for a circuit; `None` if nothing, or nothing that makes sense.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if that cannot be found out now.
    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError>;

    /// Replaces what is stored, or refuses to, in one atomic step: see [`WriteGuard`].
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is not known to be stored. It may be all the same.
    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError>;

    /// Loads several circuits, in the order of their names. Worth implementing where a round trip costs time; by
    /// default it loads one after the other.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        circuits.iter().map(|circuit| self.load(circuit)).collect()
    }

    /// Whether a circuit of this name can be stored at all, asked without I/O before a breaker is built. By default
    /// it can.
    ///
    /// # Errors
    ///
    /// [`StorageError`] that says what is wrong with the name.
    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        let _ = circuit;
        Ok(())
    }
}

impl<S: CircuitStorage + ?Sized> CircuitStorage for Arc<S> {
    fn sync(&self) -> &CircuitSync {
        (**self).sync()
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        (**self).load(circuit)
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        (**self).store(circuit, record, guard)
    }

    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        (**self).load_many(circuits)
    }

    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        (**self).check_name(circuit)
    }
}

/// The state of one circuit as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitRecord {
    /// The state.
    pub state: CircuitState,
    /// Failures since the last success or change of state. For people to look at; nothing is decided by it.
    pub failure_count: u32,
    /// When an open circuit lets the next probes through, by the clock of who opened it; `None` in the other states.
    pub open_until: Option<SystemTime>,
    /// The last outcomes, oldest first; true is a success. Of an open circuit: those that opened it.
    pub outcomes: Vec<bool>,
}

impl CircuitRecord {
    /// A closed circuit without outcomes; set the fields from there.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            state: CircuitState::Closed,
            failure_count: 0,
            open_until: None,
            outcomes: Vec::new(),
        }
    }

    /// Whether it is open and stays so after `now`. At `open_until` itself it is over.
    #[must_use]
    pub fn is_open_after(&self, now: SystemTime) -> bool {
        self.state == CircuitState::Open && self.open_until.is_some_and(|until| until > now)
    }
}

/// A [`CircuitRecord`] with the version that it has in its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCircuit {
    /// The state.
    pub record: CircuitRecord,
    /// Another one after each write that was applied, whoever made it. It tells news from what is known already.
    pub version: u64,
}

impl StoredCircuit {
    /// A record in a version.
    #[must_use]
    pub fn new(record: CircuitRecord, version: u64) -> Self {
        Self { record, version }
    }
}

/// What a write must not replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteGuard {
    /// A circuit that is open after `now`, the writer's own time: who opens first wins, and only the end of the
    /// isolation, or a reset by hand, undoes it.
    UnlessOpen {
        /// The writer's wall clock.
        now: SystemTime,
    },
    /// Nothing: what was done by hand ([`reset`](crate::CircuitBreaker::reset),
    /// [`force_open`](crate::CircuitBreaker::force_open)) is always applied.
    Always,
}

impl WriteGuard {
    /// Whether a write under this guard must leave `stored` alone.
    #[must_use]
    pub fn refuses(&self, stored: &CircuitRecord) -> bool {
        match self {
            Self::UnlessOpen { now } => stored.is_open_after(*now),
            Self::Always => false,
        }
    }
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused write has changed nothing"]
#[non_exhaustive]
pub enum WriteOutcome {
    /// It is stored.
    Applied {
        /// The version that it has now.
        version: u64,
    },
    /// The guard held: nothing was touched.
    Refused,
}

/// Why a storage could not do what it was asked for.
#[derive(Debug)]
pub struct StorageError(Box<dyn Error + Send + Sync>);

impl StorageError {
    /// From an error of a client library, or from a text.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for StorageError {
    /// With the whole chain of causes, since it ends up in one line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for StorageError {}
