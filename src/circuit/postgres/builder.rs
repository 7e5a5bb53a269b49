//! What a storage is made of: where the server is, the namespace, the limits.

use std::env::VarError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{NoTls, Socket};

use super::super::members::CircuitSync;
use super::super::storage::StorageError;
use super::connection::{Connect, Connection, Servers, connect_with};
use super::conninfo::Conninfo;
use super::rows::Rows;
use super::{PostgresStorage, Storage, check_length};

/// Builds a [`PostgresStorage`], see [`PostgresStorage::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct PostgresStorageBuilder {
    origin: Origin,
    namespace: Option<String>,
    refresh_interval: Duration,
    max_adopted_isolation: Option<Duration>,
    deadline: Duration,
    auto_create: bool,
    strict: bool,
    /// `None`: without TLS.
    connect: Option<Connect>,
}

pub(super) enum Origin {
    Text(String),
    Environment(Box<Conninfo>),
}

impl PostgresStorageBuilder {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            namespace: None,
            refresh_interval: CircuitSync::new().refresh_interval(),
            max_adopted_isolation: None,
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

    /// Caps an isolation that a peer has stored, see [`CircuitSync::with_max_adopted_isolation`]. Default: twice the
    /// isolation duration of the circuit, and at least five minutes.
    pub fn max_adopted_isolation(mut self, limit: Duration) -> Self {
        self.max_adopted_isolation = Some(limit);
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

    /// Makes [`build`](Self::build) fail unless the server answers, the table can be used and the database can hold the
    /// namespace. Default: no; then `build` does no I/O at all.
    ///
    /// A strict storage also asks the server, when a breaker is built, whether the database can hold a name that is not
    /// ASCII. A database in LATIN1, say, cannot hold every name. Otherwise such a circuit goes on alone, and
    /// [`CircuitSync::trouble_of`] says why.
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
    /// [`StorageError`] if the connection string makes no sense, wants TLS and there is no connector, wants a server that
    /// takes no writes, or has an option that is not supported; if the namespace is too long or contains a NUL; if the
    /// deadline is zero; and what
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
        let mut sync = CircuitSync::with_refresh_interval(self.refresh_interval);
        if let Some(limit) = self.max_adopted_isolation {
            sync = sync.with_max_adopted_isolation(limit);
        }
        let servers = Servers::new(
            &conninfo.config,
            conninfo.servers,
            self.connect.unwrap_or_else(|| connect_with(NoTls)),
            self.deadline,
            self.auto_create,
        );
        let storage = PostgresStorage(Arc::new(Storage {
            sync,
            rows: Rows { namespace },
            servers,
            is_strict: self.strict,
            connection: Mutex::new(Connection::new()?),
            clock: Mutex::new(None),
        }));
        if self.strict {
            storage.check()?;
            storage.check_text(storage.namespace())?;
        }
        Ok(storage)
    }
}

impl fmt::Debug for PostgresStorageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorageBuilder")
            .field("namespace", &self.namespace)
            .field("refresh_interval", &self.refresh_interval)
            .field("max_adopted_isolation", &self.max_adopted_isolation)
            .field("deadline", &self.deadline)
            .field("auto_create", &self.auto_create)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

/// One that is set to something else than text is not as good as not set: it may be what asks for TLS.
pub(super) fn variable(name: &str) -> Result<Option<String>, StorageError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(StorageError::new(format!("{name} is not Unicode"))),
    }
}
