//! Circuits in PostgreSQL, in the table that Python's resilient-circuit uses.
//!
//! `builder` reads the settings, `conninfo` the connection string. `connection` runs an operation on a server, `rows` are
//! the operations, `schema` makes and checks the table.
//!
//! All I/O happens in the thread that calls, on a runtime of the storage's own and under a deadline. For circuits that
//! is their synchronizer's thread, so nothing here is on the way of a call through a bulkhead.

mod builder;
mod connection;
mod conninfo;
mod rows;
mod schema;

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

pub use self::builder::PostgresStorageBuilder;
use self::builder::{Origin, variable};
use self::connection::{Connection, Servers, blocking};
use self::conninfo::{Conninfo, is_set};
use self::rows::{Rows, ServerClock, try_text};
use super::members::CircuitSync;
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

/// The longest name and namespace that the table holds, in characters.
const LONGEST_NAME: usize = 255;

/// Keeps circuits in PostgreSQL, where a fleet shares them, Python services with
/// [resilient-circuit](https://pypi.org/project/resilient-circuit/) (0.6 or newer; 0.8.2 or newer is better) or
/// [bulkman](https://pypi.org/project/bulkman/) among them: same table, same rows, each honours the other's open
/// circuit.
///
/// ```no_run
/// use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig, PostgresStorage};
///
/// let storage = PostgresStorage::builder("postgresql://app:secret@db.example/circuits")
///     .namespace("shop")
///     .build()?;
/// let payments = Bulkhead::builder(
///     BulkheadConfig::new("payments").circuit_breaker(CircuitBreakerConfig::default()),
/// )
/// .circuit_storage(storage.clone())
/// .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clones are the same storage: one connection, one thread, one query a second for all their circuits.
///
/// # When the server does not answer
///
/// Circuits go on with what this process knows, calls at full speed, and one warning is logged. The connection comes
/// back by itself: the storage tries every one or two seconds, at random, and asks for news as soon as it gets through.
/// Then a circuit that has opened meanwhile is stored, unless a peer has opened it before. A storage that is not
/// [`strict`](PostgresStorageBuilder::strict) does not even need the server to start.
///
/// # Several servers
///
/// A connection string may name several hosts. They are tried in their order, and each gets its share of the deadline.
/// With `target_session_attrs=read-write` (or `primary`) a host that takes no writes is passed over. Without it, a host
/// that refuses a write as read-only, such as a standby, counts as an outage with that reason, and the next attempt
/// begins with the host after it.
///
/// After a failover the new server may have lost the last writes. A row that is older than what a process has seen changes
/// nothing there, and the process that has opened a circuit stores its row again while the isolation lasts.
/// The order of rows is that of `updated_at`, by the server's clock.
///
/// # Poolers
///
/// All operations work behind a pooler such as PgBouncer, also in transaction mode.
///
/// # Clocks
///
/// The end of an isolation is stored as a time of the wall clock of the process that opened the circuit, and peers compare
/// it with their own: see [`CircuitStorage`](CircuitStorage#clocks). The server's clock is read with each refresh, and a
/// host whose clock is more than five seconds off is warned once.
///
/// # What stays
///
/// Rows stay after the last breaker has gone, since peers may want them. [`remove`](CircuitStorage::remove) removes one.
///
/// # In async code
///
/// Its methods block. Called within a tokio runtime they do their work in a thread of their own.
#[derive(Clone)]
pub struct PostgresStorage(Arc<Storage>);

struct Storage {
    sync: CircuitSync,
    rows: Rows,
    servers: Servers,
    is_strict: bool,
    connection: Mutex<Connection>,
    /// As the server said with the last rows.
    clock: Mutex<Option<ServerClock>>,
}

impl PostgresStorage {
    /// For a storage on the server of a connection string, in either of libpq's forms: a URL, or `key=value` pairs.
    /// Only what stands there holds: `PGSSLMODE`, `PGPASSWORD` and the like are not read, nor are password and service
    /// files.
    pub fn builder(connection_string: impl Into<String>) -> PostgresStorageBuilder {
        PostgresStorageBuilder::new(Origin::Text(connection_string.into()))
    }

    /// For a storage on the server that the environment names; `None` if it names none. The variables are those of
    /// Python's resilient-circuit:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `RC_DB_DSN` | a connection string; wins over the others |
    /// | `RC_DB_HOST` and `RC_DB_PASSWORD` | both needed, if there is no `RC_DB_DSN` |
    /// | `RC_DB_PORT`, `RC_DB_NAME`, `RC_DB_USER` | 5432, `resilient_circuit_db`, `postgres` if not set |
    /// | `RC_DB_SSLMODE`, `RC_DB_SSLROOTCERT`, `RC_DB_SSLCERT`, `RC_DB_SSLKEY` | need a connector, see [`tls`](PostgresStorageBuilder::tls); ignored beside `RC_DB_DSN` |
    /// | `RC_DB_AUTO_CREATE` | [`auto_create`](PostgresStorageBuilder::auto_create), if `1`, `true`, `yes` or `on` |
    /// | `RC_DB_STRICT` | [`strict`](PostgresStorageBuilder::strict), in the same way |
    /// | `RC_NAMESPACE` | [`namespace`](PostgresStorageBuilder::namespace) |
    ///
    /// # Errors
    ///
    /// [`StorageError`] if they are set to something that makes no sense.
    pub fn builder_from_env() -> Result<Option<PostgresStorageBuilder>, StorageError> {
        let Some(conninfo) = Conninfo::from_env(variable)? else {
            return Ok(None);
        };
        let builder = PostgresStorageBuilder::new(Origin::Environment(Box::new(conninfo)))
            .auto_create(is_set(variable("RC_DB_AUTO_CREATE")?))
            .strict(is_set(variable("RC_DB_STRICT")?));
        Ok(Some(builder))
    }

    /// The namespace of its circuits.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.rows.namespace
    }

    /// Looks whether the server answers and the table can be used.
    ///
    /// # Errors
    ///
    /// [`StorageError`] says all that is missing: table, columns, primary key, privileges, search path; and if nothing
    /// can be written there, as on a standby.
    pub fn check(&self) -> Result<(), StorageError> {
        let problems = self.perform(async |client| {
            let mut problems = schema::problems(client).await?;
            problems.extend(schema::read_only(client).await?);
            Ok(problems)
        })?;
        if problems.is_empty() {
            return Ok(());
        }
        Err(self.0.servers.error(format!(
            "the table of circuits cannot be used: {}",
            problems.join("; ")
        )))
    }

    /// Makes the table with its indexes and its trigger, as Python's `resilient-circuit-cli pg-setup` does, if there is
    /// no usable one yet. Any number of processes may do so at the same time. It needs the right to create tables in
    /// the schema `public`.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the server does not let it, or there is a table of that name that cannot be used; it is left
    /// as it is.
    pub fn ensure_schema(&self) -> Result<(), StorageError> {
        self.perform(async |client| schema::ensure(client).await)?;
        self.check()
    }

    /// Reads a circuit, lets `change` decide, and writes what it returns, in one transaction that no other writer gets
    /// into; `None` writes nothing. Nothing guards a circuit that is open: this is for administration, not for breakers.
    /// Returns what is stored afterwards.
    ///
    /// It works on a connection of its own. `change` ought to be quick: its time counts for the deadline, and no write of
    /// others to this circuit gets through meanwhile. It gets `None` if nothing is stored that makes sense.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is not known to be written.
    pub fn update(
        &self,
        circuit: &str,
        change: impl FnOnce(Option<&CircuitRecord>) -> Option<CircuitRecord> + Send,
    ) -> Result<Option<CircuitRecord>, StorageError> {
        self.check_name(circuit)?;
        let Storage { rows, servers, .. } = &*self.0;
        let mut connection = Connection::new()?;
        let mut change = Some(change);
        let changed = blocking(|| {
            servers.run(&mut connection, async |client| {
                let transaction = rows.lock(client, circuit).await?;
                let stored = rows.read(&transaction, &[circuit]).await?.circuits.pop();
                let stored = stored.flatten().map(|stored| stored.record);
                // A connection of its own is not reused, so it is asked once.
                let changed = change.take().and_then(|change| change(stored.as_ref()));
                let Some(record) = changed else {
                    transaction.commit().await?;
                    return Ok(stored);
                };
                let written = rows
                    .write(&transaction, circuit, &record, None, None)
                    .await?;
                transaction.commit().await?;
                // A trigger of somebody else's may have kept it out.
                Ok(if written.is_some() {
                    Some(record)
                } else {
                    stored
                })
            })
        });
        changed.map_err(|error| naming(circuit, error))
    }

    /// Performs an operation on the storage's own connection.
    fn perform<R: Send>(
        &self,
        operation: impl AsyncFnMut(&mut Client) -> Result<R, Error> + Send,
    ) -> Result<R, StorageError> {
        let Storage {
            servers,
            connection,
            ..
        } = &*self.0;
        blocking(|| servers.run(&mut connection.lock(), operation))
    }

    /// Asks the server whether the database can hold a text.
    fn check_text(&self, text: &str) -> Result<(), StorageError> {
        // Every database can.
        if text.is_ascii() {
            return Ok(());
        }
        match self.perform(async |client| try_text(client, text).await) {
            Err(error) if error.is_of_circuit() => Err(naming(text, error)),
            // It is not known.
            _ => Ok(()),
        }
    }
}

impl CircuitStorage for PostgresStorage {
    fn sync(&self) -> &CircuitSync {
        &self.0.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        let mut rows = self
            .load_many(&[circuit])
            .map_err(|error| naming(circuit, error))?;
        Ok(rows.pop().flatten())
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        let rows = &self.0.rows;
        let version = self.perform(async |client| match guard {
            WriteGuard::UnlessOpen { now, except } => loop {
                match rows.write(client, circuit, record, Some(now), except).await {
                    // Where the default is a stricter isolation: a peer was faster, and is seen the next time.
                    Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                    answer => break answer,
                }
            },
            WriteGuard::Always => {
                let transaction = rows.lock(client, circuit).await?;
                let version = rows
                    .write(&transaction, circuit, record, None, None)
                    .await?;
                transaction.commit().await?;
                Ok(version)
            }
        });
        Ok(match version.map_err(|error| naming(circuit, error))? {
            Some(version) => WriteOutcome::Applied { version },
            None => WriteOutcome::Refused,
        })
    }

    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        let answer = self.perform(async |client| self.0.rows.read(client, circuits).await)?;
        *self.0.clock.lock() = Some(answer.clock);
        Ok(answer.circuits)
    }

    /// It asks the server only if the storage is [`strict`](PostgresStorageBuilder::strict) and the name is not ASCII.
    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        check_length("the name of a circuit", circuit)?;
        if self.0.is_strict {
            self.check_text(circuit)?;
        }
        Ok(())
    }

    /// It works on a connection of its own.
    fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        let Storage { rows, servers, .. } = &*self.0;
        // On a connection of its own it is sent once, so the answer is about this one.
        let mut connection = Connection::new()?;
        let remove = async |client: &mut Client| rows.remove(client, circuit).await;
        blocking(|| servers.run(&mut connection, remove)).map_err(|error| naming(circuit, error))
    }

    fn clock(&self) -> Option<SystemTime> {
        self.0.clock.lock().map(ServerClock::now)
    }
}

// A transaction that a panic passes through is rolled back.
impl UnwindSafe for PostgresStorage {}
impl RefUnwindSafe for PostgresStorage {}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("server", &self.0.servers.description())
            .field("namespace", &self.0.rows.namespace)
            .field("deadline", &self.0.servers.deadline())
            .field("sync", &self.0.sync)
            .finish_non_exhaustive()
    }
}

/// Adds the name to an error that is about one circuit.
fn naming(circuit: &str, error: StorageError) -> StorageError {
    if error.is_of_circuit() {
        StorageError::of_circuit(format!("`{circuit}`: {error}"))
    } else {
        error
    }
}

fn check_length(what: &str, text: &str) -> Result<(), StorageError> {
    let length = text.chars().count();
    if length > LONGEST_NAME {
        return Err(StorageError::new(format!(
            "{what} has {length} characters, PostgreSQL's table holds {LONGEST_NAME}"
        )));
    }
    if text.contains('\0') {
        return Err(StorageError::new(format!("{what} contains a NUL")));
    }
    Ok(())
}
