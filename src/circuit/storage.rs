//! What is stored for a circuit, and what a storage can do with it.
//!
//! A storage decides nothing. It reads rows and replaces them in one atomic step; `synchronizer.rs` decides for all
//! storages what a row means.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::members::CircuitSync;
use super::state::CircuitState;

/// Keeps the state of circuits where several breakers find it: in this process ([`MemoryStorage`](crate::MemoryStorage)),
/// in a database that a fleet shares (`PostgresStorage`, feature `postgres`), or wherever you implement it.
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
/// The state: a process that opens a circuit opens it for all circuits with the same name in the same storage, until the
/// same moment. Each process counts failures and limits probes for itself.
///
/// # Clocks
///
/// A row holds the end of an isolation as a time of the opener's wall clock. A peer compares it with its own wall clock
/// once, when it reads the row, and then goes by its monotonic clock. So a wall clock that is set ahead or back later
/// changes nothing for a circuit that is open already.
///
/// * **The clock of an opener is ahead** by more than the isolation, say by a day: its peers would stay isolated for a
///   day. So an end that a peer has stored is capped, see [`CircuitSync::with_max_adopted_isolation`].
/// * **The clock of an opener is behind**: its isolation ends that much earlier for its peers, or is over when they read
///   it. Nothing can make up for that.
///
/// Hosts ought to run NTP. A storage with a clock of its own (see [`clock`](Self::clock)) lets each host find out how
/// far its clock is off: a difference of more than five seconds is logged as a warning, once, and
/// [`CircuitSync::clock_skew`] has both clocks.
///
/// # Rows that go back in time, or away
///
/// After a failover to a lagging standby, or from a backup, a storage may hold an older row than a breaker has seen.
/// Such a row changes no breaker that knows better, and a breaker that has opened the circuit stores its row again while
/// its isolation lasts. It does the same when its row is gone.
///
/// # Who calls it
///
/// One thread for each storage, started with its first circuit and ended after its last. So the methods may block, and
/// no call through a bulkhead ever waits for one. They ought to give up after a second or two: while one blocks, news
/// of all circuits of this storage wait, and circuits whose isolation is over stay open, up to ten seconds longer.
///
/// An error means that circuits go on with what this process knows. The thread tries again after the refresh interval,
/// then after pauses that double up to two seconds; each pause is shortened at random by up to a half, so that the
/// processes of a fleet do not come back at the same moment. A panic counts as an error. An error
/// [of one circuit](StorageError::of_circuit) concerns that circuit only.
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
/// struct ScriptedStorage {
///     sync: CircuitSync,
///     rows: Mutex<HashMap<String, StoredCircuit>>,
/// }
///
/// impl CircuitStorage for ScriptedStorage {
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
///         if stored.is_some_and(|stored| guard.refuses(stored)) {
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
    /// [`StorageError`] if it is not known to be stored. It may be stored all the same.
    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError>;

    /// Loads several circuits, and answers in the order of `circuits`. Worth implementing where a round trip costs time;
    /// by default it loads one after the other.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). After an error [of one circuit](StorageError::of_circuit) each circuit is loaded by itself.
    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        circuits.iter().map(|circuit| self.load(circuit)).collect()
    }

    /// Whether a circuit of this name can be stored at all, asked in the thread that builds a breaker. By default
    /// it can.
    ///
    /// # Errors
    ///
    /// [`StorageError`] that says what is wrong with the name. The breaker is not built.
    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        let _ = circuit;
        Ok(())
    }

    /// Removes what is stored for a circuit, also for one that is open, and tells whether there was anything. No breaker
    /// calls this: it is for administration.
    ///
    /// A breaker that lives keeps its state. If it has opened the circuit, it stores its row again with its next refresh,
    /// while its isolation lasts: [`reset`](crate::CircuitBreaker::reset) it first, or drop it.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is not known to be removed. By default, that this storage cannot do it.
    fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        let _ = circuit;
        Err(StorageError::new("this storage cannot remove circuits"))
    }

    /// Tells the storage that the last breaker of a circuit has left its [`CircuitSync`], after its last change was
    /// written or could not be. [`MemoryStorage`](crate::MemoryStorage) forgets a closed circuit here. By default nothing
    /// happens, since a peer in another process may still want the row.
    fn release(&self, circuit: &str) {
        let _ = circuit;
    }

    /// The time by the storage's own clock, if it has one; `None` by default. It is asked after each successful load,
    /// and ought to do no I/O: a storage reads its clock along with the rows and adds what has passed since.
    fn clock(&self) -> Option<SystemTime> {
        None
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

    fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        (**self).remove(circuit)
    }

    fn release(&self, circuit: &str) {
        (**self).release(circuit);
    }

    fn clock(&self) -> Option<SystemTime> {
        (**self).clock()
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
    /// When an open circuit lets the next probes through, by the opener's wall clock; `None` in the other states. An end
    /// that is more than 50 years ahead means until [`reset`](crate::CircuitBreaker::reset).
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
    /// Greater after each write that was applied, also by a peer, and also after the row was removed in between. An
    /// equal version is no news; a smaller one is an older row.
    ///
    /// A storage that has a [`clock`](CircuitStorage::clock) may use its times: microseconds since 1970.
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
    /// A circuit that is open after `now`: the first opener wins, and only the end of the isolation, or a reset by hand,
    /// undoes it.
    UnlessOpen {
        /// The writer's wall clock.
        now: SystemTime,
        /// The version of a row that may be replaced although it is open after `now`, since the writer knows better: it
        /// has waited for the end of that isolation by its monotonic clock, or the row is an older one.
        except: Option<u64>,
    },
    /// Nothing: what was done by hand ([`reset`](crate::CircuitBreaker::reset),
    /// [`force_open`](crate::CircuitBreaker::force_open)) is always applied.
    Always,
}

impl WriteGuard {
    /// [`UnlessOpen`](Self::UnlessOpen) at `now` without an exception.
    #[must_use]
    pub fn unless_open(now: SystemTime) -> Self {
        Self::UnlessOpen { now, except: None }
    }

    /// Whether a write under this guard must leave `stored` alone.
    #[must_use]
    pub fn refuses(&self, stored: &StoredCircuit) -> bool {
        match self {
            Self::UnlessOpen { now, except } => {
                stored.record.is_open_after(*now) && *except != Some(stored.version)
            }
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
pub struct StorageError {
    cause: Box<dyn Error + Send + Sync>,
    is_of_circuit: bool,
}

impl StorageError {
    /// From an error of a client library, or from a text. It says that the storage fails.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: error.into(),
            is_of_circuit: false,
        }
    }

    /// The same for an error that concerns the one circuit of the operation, such as a name that the storage cannot hold.
    /// Other circuits stay in step with the storage.
    #[must_use]
    pub fn of_circuit(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            cause: error.into(),
            is_of_circuit: true,
        }
    }

    /// Whether it was made by [`of_circuit`](Self::of_circuit).
    #[must_use]
    pub fn is_of_circuit(&self) -> bool {
        self.is_of_circuit
    }
}

impl fmt::Display for StorageError {
    /// With the whole chain of causes, since it ends up in one line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut cause = self.cause.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for StorageError {}
