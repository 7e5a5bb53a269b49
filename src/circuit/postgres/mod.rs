//! Circuits in PostgreSQL, in the table that Python's resilient-circuit uses.
//!
//! All I/O happens in the thread that calls, on a runtime of the storage's own and under a deadline. For circuits that
//! is their synchronizer's thread, so nothing here is on the way of a call through a bulkhead.

mod conninfo;
mod schema;

use std::collections::HashMap;
use std::env::VarError;
use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, GenericClient, IsolationLevel, NoTls, Row, Socket};

use self::conninfo::{Conninfo, is_set};
use super::machine::CircuitState;
use super::members::CircuitSync;
use super::storage::{
    CircuitRecord, CircuitStorage, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use parking_lot::Mutex;

/// How long a server that has not answered is asked to give up.
const LAST_WORD: Duration = Duration::from_millis(500);
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
/// back by itself, with pauses that grow up to ten seconds; then a circuit that has opened meanwhile is stored, unless
/// a peer has opened it before. A storage that is not [`strict`](PostgresStorageBuilder::strict) does not even need the
/// server to start.
///
/// # Clocks
///
/// The end of an isolation is stored as a time of the wall clock of who opened it, and peers compare it with their
/// own. So the hosts ought to run NTP: a peer whose clock is ahead by more than the isolation sees none.
///
/// # In async code
///
/// Its methods block. Called within a tokio runtime they do their work in a thread of their own.
#[derive(Clone)]
pub struct PostgresStorage(Arc<Storage>);

struct Storage {
    sync: CircuitSync,
    namespace: String,
    server: String,
    deadline: Duration,
    auto_create: bool,
    /// To be tried one after the other.
    servers: Vec<Config>,
    connect: Connect,
    connection: Mutex<Connection>,
}

type Connect = Box<dyn Fn(Config) -> Connecting + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<Link, Error>>>>;
type Cancelling = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The runtime, and the connection if there is one.
struct Connection {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    link: Option<Link>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link = None;
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic in async code.
            runtime.shutdown_background();
        }
    }
}

/// A connection and the task that drives it.
struct Link {
    client: Client,
    driver: JoinHandle<()>,
    /// Tells the server to give up what it does for this connection.
    cancel: Option<Box<dyn FnOnce() -> Cancelling + Send>>,
    /// Whether the table was made, if that is to be done when connecting.
    has_table: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        // A server that hangs would keep it for ever.
        self.driver.abort();
    }
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
        &self.0.namespace
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
        self.0.judge(&problems)
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
    /// others to this circuit gets through meanwhile. What it gets is `None` if nothing is stored that makes sense.
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
        let storage = &*self.0;
        let mut connection = Connection::new()?;
        let mut change = Some(change);
        blocking(|| {
            storage.run(&mut connection, async |client| {
                let transaction = storage.locked(client, circuit).await?;
                let stored = storage
                    .read(&transaction, &[circuit])
                    .await?
                    .pop()
                    .flatten();
                let stored = stored.map(|stored| stored.record);
                // A connection of its own is not reused, so it is asked once.
                let changed = change.take().and_then(|change| change(stored.as_ref()));
                let Some(record) = changed else {
                    transaction.commit().await?;
                    return Ok(stored);
                };
                let written = storage.write(&transaction, circuit, &record, None).await?;
                transaction.commit().await?;
                // A trigger of somebody else's may have kept it out.
                Ok(if written.is_some() {
                    Some(record)
                } else {
                    stored
                })
            })
        })
    }

    /// Removes a circuit from the table, also one that is open; whether it was there. Breakers that know it keep their
    /// state.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is not known to be removed.
    pub fn remove(&self, circuit: &str) -> Result<bool, StorageError> {
        const REMOVE: &str =
            "delete from rc_circuit_breakers where resource_key = $1 and namespace = $2";
        let namespace = &self.0.namespace;
        // On a connection of its own it is sent once, so the answer is about this one.
        let mut connection = Connection::new()?;
        let remove =
            async |client: &mut Client| client.execute(REMOVE, &[&circuit, namespace]).await;
        Ok(blocking(|| self.0.run(&mut connection, remove))? > 0)
    }

    /// Performs an operation on the storage's own connection.
    fn perform<R: Send>(
        &self,
        operation: impl AsyncFnMut(&mut Client) -> Result<R, Error> + Send,
    ) -> Result<R, StorageError> {
        blocking(|| self.0.run(&mut self.0.connection.lock(), operation))
    }
}

impl CircuitStorage for PostgresStorage {
    fn sync(&self) -> &CircuitSync {
        &self.0.sync
    }

    fn load(&self, circuit: &str) -> Result<Option<StoredCircuit>, StorageError> {
        Ok(self.load_many(&[circuit])?.pop().flatten())
    }

    fn store(
        &self,
        circuit: &str,
        record: &CircuitRecord,
        guard: WriteGuard,
    ) -> Result<WriteOutcome, StorageError> {
        let storage = &*self.0;
        let version = self.perform(async |client| match guard {
            WriteGuard::UnlessOpen { now } => loop {
                match storage.write(client, circuit, record, Some(now)).await {
                    // Where the default is a stricter isolation: a peer was faster, and is seen the next time.
                    Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                    answer => break answer,
                }
            },
            WriteGuard::Always => {
                let transaction = storage.locked(client, circuit).await?;
                let version = storage.write(&transaction, circuit, record, None).await?;
                transaction.commit().await?;
                Ok(version)
            }
        })?;
        Ok(match version {
            Some(version) => WriteOutcome::Applied { version },
            None => WriteOutcome::Refused,
        })
    }

    fn load_many(&self, circuits: &[&str]) -> Result<Vec<Option<StoredCircuit>>, StorageError> {
        self.perform(async |client| self.0.read(client, circuits).await)
    }

    fn check_name(&self, circuit: &str) -> Result<(), StorageError> {
        check_length("the name of a circuit", circuit)
    }
}

// A transaction that a panic passes through is rolled back.
impl UnwindSafe for PostgresStorage {}
impl RefUnwindSafe for PostgresStorage {}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("server", &self.0.server)
            .field("namespace", &self.0.namespace)
            .field("deadline", &self.0.deadline)
            .field("sync", &self.0.sync)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// Connects if need be, and gives up at the deadline. After an error the connection is not used again: the next
    /// one may lead to another server, or to a session with other settings.
    fn run<R>(
        &self,
        connection: &mut Connection,
        mut operation: impl AsyncFnMut(&mut Client) -> Result<R, Error>,
    ) -> Result<R, StorageError> {
        let Connection { runtime, link } = connection;
        let Some(runtime) = runtime else {
            return Err(self.error("the storage is being dropped"));
        };
        let work = async {
            // The end of a connection that nobody used is only seen now, and says nothing about the server.
            let is_reused = link.is_some();
            match self.attempt(link, &mut operation).await {
                Err(error) if is_reused && is_gone(&error) => {
                    *link = None;
                    self.attempt(link, &mut operation).await
                }
                answer => answer,
            }
        };
        match runtime.block_on(async { tokio::time::timeout(self.deadline, work).await }) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                *link = None;
                Err(self.error(error))
            }
            Err(_) => {
                if let Some(cancel) = link.take().and_then(|mut link| link.cancel.take()) {
                    // Else a server that waits for a lock goes on with it, on a connection more for each attempt.
                    let limit = self.deadline.min(LAST_WORD);
                    let _ = runtime.block_on(async { tokio::time::timeout(limit, cancel()).await });
                }
                Err(self.error(format!("no answer within {:?}", self.deadline)))
            }
        }
    }

    /// Each server gets its share of the time, so that one that says nothing does not stand before the others.
    async fn connect(&self) -> Result<Link, Error> {
        let share = self.deadline / u32::try_from(self.servers.len()).unwrap_or(u32::MAX).max(1);
        let (last, others) = self.servers.split_last().expect("one host at least");
        for server in others {
            let link = tokio::time::timeout(share, (self.connect)(server.clone())).await;
            if let Ok(Ok(link)) = link {
                return Ok(link);
            }
        }
        (self.connect)(last.clone()).await
    }

    async fn attempt<R>(
        &self,
        link: &mut Option<Link>,
        operation: &mut impl AsyncFnMut(&mut Client) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let link = match link {
            Some(link) => link,
            None => link.insert(self.connect().await?),
        };
        if self.auto_create && !link.has_table {
            schema::ensure(&mut link.client).await?;
            link.has_table = true;
        }
        operation(&mut link.client).await
    }

    /// Begins a transaction that waits for every other one of this kind on the circuit, even if it has no row yet. The
    /// lock is the one that Python takes.
    async fn locked<'a>(
        &self,
        client: &'a mut Client,
        circuit: &str,
    ) -> Result<tokio_postgres::Transaction<'a>, Error> {
        const LOCK: &str =
            "select pg_advisory_xact_lock(hashtextextended($1::text || '|' || $2::text, 0))";
        const ROW: &str = "select 1 from rc_circuit_breakers
             where resource_key = $1 and namespace = $2 for update";
        // What others have written is to be seen when the lock is had, whatever the default here.
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await?;
        transaction
            .query(LOCK, &[&self.namespace, &circuit])
            .await?;
        transaction.query(ROW, &[&circuit, &self.namespace]).await?;
        Ok(transaction)
    }

    async fn read(
        &self,
        client: &impl GenericClient,
        circuits: &[&str],
    ) -> Result<Vec<Option<StoredCircuit>>, Error> {
        // The transaction that wrote a row is its version: it is another one for each write.
        const READ: &str = "select resource_key, state, failure_count,
                case when isfinite(open_until) then open_until end,
                coalesce(isfinite(open_until), true),
                execution_log, xmin::text::bigint
             from rc_circuit_breakers where namespace = $1 and resource_key = any ($2)";
        let rows = client
            .query_typed(
                READ,
                &[
                    (&self.namespace, Type::VARCHAR),
                    (&circuits, Type::VARCHAR_ARRAY),
                ],
            )
            .await?;
        let by_name: HashMap<&str, &Row> = rows
            .iter()
            .filter_map(|row| Some((row.try_get(0).ok()?, row)))
            .collect();
        Ok(circuits
            .iter()
            .map(|circuit| by_name.get(circuit).copied().and_then(stored))
            .collect())
    }

    /// The version that it is stored in; `None` if it was refused. Without `now` it is never refused.
    async fn write(
        &self,
        client: &impl GenericClient,
        circuit: &str,
        record: &CircuitRecord,
        now: Option<SystemTime>,
    ) -> Result<Option<u64>, Error> {
        const WRITE: &str = "insert into rc_circuit_breakers as stored
                (resource_key, namespace, state, failure_count, open_until, execution_log)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (resource_key, namespace) do update set
                state = excluded.state, failure_count = excluded.failure_count,
                open_until = excluded.open_until, execution_log = excluded.execution_log,
                updated_at = current_timestamp
             where $7::timestamptz is null
                or not (stored.state = 'OPEN' and coalesce(stored.open_until > $7, false))
             returning xmin::text::bigint";
        let state = state_name(record.state);
        let failure_count = i32::try_from(record.failure_count).unwrap_or(i32::MAX);
        let open_until = record
            .open_until
            .filter(|_| record.state == CircuitState::Open)
            .map(storable);
        let now = now.map(storable);
        let outcomes = Value::from(record.outcomes.clone());
        let written = client
            .query_typed(
                WRITE,
                &[
                    (&circuit, Type::VARCHAR),
                    (&self.namespace, Type::VARCHAR),
                    (&state, Type::VARCHAR),
                    (&failure_count, Type::INT4),
                    (&open_until, Type::TIMESTAMPTZ),
                    (&outcomes, Type::JSONB),
                    (&now, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        written.first().map(version).transpose()
    }

    fn judge(&self, problems: &[String]) -> Result<(), StorageError> {
        if problems.is_empty() {
            return Ok(());
        }
        Err(self.error(format!(
            "the table of circuits cannot be used: {}",
            problems.join("; ")
        )))
    }

    fn error(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StorageError {
        let error = StorageError::new(error);
        StorageError::new(format!("PostgreSQL at {}: {error}", self.server))
    }
}

impl Connection {
    fn new() -> Result<Self, StorageError> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(StorageError::new)?;
        Ok(Self {
            runtime: Some(runtime),
            link: None,
        })
    }
}

/// Builds a [`PostgresStorage`], see [`PostgresStorage::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct PostgresStorageBuilder {
    origin: Origin,
    namespace: Option<String>,
    refresh_interval: Duration,
    deadline: Duration,
    auto_create: bool,
    strict: bool,
    /// `None`: without TLS.
    connect: Option<Connect>,
}

enum Origin {
    Text(String),
    Environment(Box<Conninfo>),
}

impl PostgresStorageBuilder {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            namespace: None,
            refresh_interval: CircuitSync::new().refresh_interval(),
            deadline: Duration::from_secs(2),
            auto_create: false,
            strict: false,
            connect: None,
        }
    }

    /// Sets the namespace: circuits are shared by name within it. Default: the environment's `RC_NAMESPACE`, even if it
    /// is empty; without that, `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Sets how often the server is asked for news, see [`CircuitSync::with_refresh_interval`]. Default: one second.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// Sets how long one operation may take, connecting included. Default: two seconds. Then the server is told to give
    /// it up, which takes half a second at most.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes the table when connecting, as [`ensure_schema`](PostgresStorage::ensure_schema) does. Default: no.
    pub fn auto_create(mut self, yes: bool) -> Self {
        self.auto_create = yes;
        self
    }

    /// Makes [`build`](Self::build) fail unless the server answers and the table can be used. Default: no; then it
    /// does no I/O at all.
    pub fn strict(mut self, yes: bool) -> Self {
        self.strict = yes;
        self
    }

    /// Connects with TLS, by a connector that you bring: that of `postgres-native-tls`, `tokio-postgres-rustls` or
    /// another. Certificates and their verification are its business, whatever `sslrootcert`, `sslcert`, `sslkey` or
    /// `sslmode=verify-full` say. Whether TLS is used is for `sslmode` to say: `prefer`, which is the default, `require`
    /// and more, or `disable`.
    pub fn tls<T>(mut self, connector: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
    {
        self.connect = Some(connect_with(connector));
        self
    }

    /// The storage.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if the connection string makes no sense, wants TLS and there is no connector, or has an option
    /// that is not supported; if the namespace is too long; if the deadline is zero; and what
    /// [`strict`](Self::strict) finds. None of them repeats a part of the connection string that could be a password.
    pub fn build(self) -> Result<PostgresStorage, StorageError> {
        let conninfo = match self.origin {
            Origin::Text(text) => Conninfo::parse(&text)?,
            Origin::Environment(conninfo) => *conninfo,
        };
        if let (Some(option), None) = (&conninfo.needs_tls, &self.connect) {
            return Err(StorageError::new(format!(
                "{option} needs a TLS connector: give one to PostgresStorageBuilder::tls"
            )));
        }
        let namespace = match self.namespace {
            Some(namespace) => namespace,
            None => variable("RC_NAMESPACE")?.unwrap_or_else(|| "default".to_owned()),
        };
        check_length("the namespace", &namespace)?;
        if self.deadline.is_zero() {
            return Err(StorageError::new(
                "the deadline of the storage must be greater than zero",
            ));
        }
        let storage = PostgresStorage(Arc::new(Storage {
            sync: CircuitSync::with_refresh_interval(self.refresh_interval),
            namespace,
            server: description(&conninfo.config),
            deadline: self.deadline,
            auto_create: self.auto_create,
            connect: self.connect.unwrap_or_else(|| connect_with(NoTls)),
            servers: conninfo.servers,
            connection: Mutex::new(Connection::new()?),
        }));
        if self.strict {
            storage.check()?;
        }
        Ok(storage)
    }
}

impl fmt::Debug for PostgresStorageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorageBuilder")
            .field("namespace", &self.namespace)
            .field("refresh_interval", &self.refresh_interval)
            .field("deadline", &self.deadline)
            .field("auto_create", &self.auto_create)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

fn connect_with<T>(connector: T) -> Connect
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    <T as MakeTlsConnect<Socket>>::TlsConnect: TlsConnect<Socket>,
{
    Box::new(move |config| {
        let connector = connector.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(connector.clone()).await?;
            let token = client.cancel_token();
            let cancel =
                || -> Cancelling { Box::pin(async move { token.cancel_query(connector).await }) };
            let driver = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    log::debug!("the connection to the circuit storage ended: {error}");
                }
            });
            Ok(Link {
                client,
                driver,
                cancel: Some(Box::new(cancel)),
                has_table: false,
            })
        })
    })
}

/// Whether the connection has ended, with a word of the server's or without.
fn is_gone(error: &Error) -> bool {
    error.as_db_error().is_none_or(|error| {
        matches!(
            error.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        )
    })
}

/// Runs something that blocks on a runtime, which tokio does not allow in a thread that is in one already.
fn blocking<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if Handle::try_current().is_err() {
        return work();
    }
    let outcome = std::thread::scope(|scope| scope.spawn(work).join());
    outcome.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

fn stored(row: &Row) -> Option<StoredCircuit> {
    let state = match row.try_get(1).ok()? {
        "CLOSED" => CircuitState::Closed,
        "OPEN" => CircuitState::Open,
        "HALF_OPEN" => CircuitState::HalfOpen,
        _ => return None,
    };
    let failure_count: i32 = row.try_get(2).ok()?;
    let open_until: Option<SystemTime> = row.try_get(3).ok()?;
    let is_finite: bool = row.try_get(4).ok()?;
    if !is_finite {
        return None;
    }
    let log: Option<Value> = row.try_get(5).ok()?;
    let outcomes = log.as_ref().and_then(Value::as_array);
    let record = CircuitRecord {
        state,
        failure_count: u32::try_from(failure_count).unwrap_or_default(),
        open_until: open_until.filter(|_| state == CircuitState::Open),
        outcomes: outcomes
            .map(|outcomes| outcomes.iter().filter_map(Value::as_bool).collect())
            .unwrap_or_default(),
    };
    let version: i64 = row.try_get(6).ok()?;
    Some(StoredCircuit::new(record, version.unsigned_abs()))
}

fn version(row: &Row) -> Result<u64, Error> {
    row.try_get(0).map(i64::unsigned_abs)
}

fn state_name(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Closed => "CLOSED",
        CircuitState::Open => "OPEN",
        CircuitState::HalfOpen => "HALF_OPEN",
    }
}

/// A time that all who share the table can read: Python has none after the year 9999, in any time zone.
fn storable(time: SystemTime) -> SystemTime {
    const LAST: Duration = Duration::from_secs(253_402_128_000);
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST)
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

/// One that is set to something else than text is not as good as not set: it may be what asks for TLS.
fn variable(name: &str) -> Result<Option<String>, StorageError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(StorageError::new(format!("{name} is not Unicode"))),
    }
}

/// Host, port and database, for messages.
fn description(config: &Config) -> String {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let mut hosts: Vec<String> = names.collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    for (i, host) in hosts.iter_mut().enumerate() {
        let port = config.get_ports().get(i).or(config.get_ports().first());
        *host += &format!(":{}", port.copied().unwrap_or(5432));
    }
    let database = config.get_dbname().unwrap_or("its default database");
    format!("{}, {database}", hosts.join(","))
}
