//! The connection to the server: made when it is needed, given up at a deadline, and made anew after an error.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, Socket};

use super::super::storage::StorageError;
use super::schema;

/// How long a server that has not answered is asked to give up.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How to get to the servers.
pub(super) struct Servers {
    /// Host, port and database, for messages.
    description: String,
    deadline: Duration,
    auto_create: bool,
    /// One host each.
    configs: Vec<Config>,
    /// The host that is tried first, the others after it in their order. It moves on from a host that takes no writes.
    first: AtomicUsize,
    connect: Connect,
}

pub(super) type Connect = Box<dyn Fn(Config) -> Connecting + Send + Sync>;
type Connecting = Pin<Box<dyn Future<Output = Result<Link, Error>>>>;
type Cancelling = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The runtime, and the connection if there is one.
pub(super) struct Connection {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    link: Option<Link>,
}

impl Connection {
    pub(super) fn new() -> Result<Self, StorageError> {
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
pub(super) struct Link {
    client: Client,
    driver: JoinHandle<()>,
    /// Tells the server to give up what it does for this connection.
    cancel: Option<Box<dyn FnOnce() -> Cancelling + Send>>,
    /// The table was made, if that is to be done when connecting.
    has_table: bool,
    /// The place of its host in the list.
    host: usize,
}

impl Drop for Link {
    fn drop(&mut self) {
        // A server that hangs would keep it for ever.
        self.driver.abort();
    }
}

impl Servers {
    /// `configs` has one host each, and one at least; `config` has all of them.
    pub(super) fn new(
        config: &Config,
        configs: Vec<Config>,
        connect: Connect,
        deadline: Duration,
        auto_create: bool,
    ) -> Self {
        Self {
            description: description(config),
            deadline,
            auto_create,
            configs,
            first: AtomicUsize::new(0),
            connect,
        }
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Connects if need be, and gives up at the deadline. After an error the connection is not used again, unless the
    /// error is about the row: the next connection may lead to another server, or to a session with other settings.
    pub(super) fn run<R>(
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
            Ok(Err(error)) if is_about_the_row(&error) => {
                Err(StorageError::of_circuit(self.error(error)))
            }
            Ok(Err(error)) => {
                let left = link.take();
                if let (Some(link), Some(&SqlState::READ_ONLY_SQL_TRANSACTION)) =
                    (left, error.code())
                {
                    let next = (link.host + 1) % self.configs.len();
                    self.first.store(next, Ordering::Relaxed);
                }
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

    /// Each host gets its share of the time, so that one that says nothing does not stand before the others.
    async fn connect(&self) -> Result<Link, Error> {
        let hosts = self.configs.len();
        let share = self.deadline / u32::try_from(hosts).unwrap_or(u32::MAX).max(1);
        let first = self.first.load(Ordering::Relaxed);
        for turn in 0..hosts - 1 {
            let link = tokio::time::timeout(share, self.connect_to((first + turn) % hosts)).await;
            if let Ok(Ok(link)) = link {
                return Ok(link);
            }
        }
        self.connect_to((first + hosts - 1) % hosts).await
    }

    async fn connect_to(&self, host: usize) -> Result<Link, Error> {
        let mut link = (self.connect)(self.configs[host].clone()).await?;
        link.host = host;
        Ok(link)
    }

    pub(super) fn error(
        &self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StorageError {
        let error = StorageError::new(error);
        StorageError::new(format!("PostgreSQL at {}: {error}", self.description))
    }
}

pub(super) fn connect_with<T>(connector: T) -> Connect
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
                    let error = error.to_string();
                    let error = error.escape_debug();
                    log::debug!(target: "bulkman::circuit", "the connection to the circuit storage ended: {error}");
                }
            });
            Ok(Link {
                client,
                driver,
                cancel: Some(Box::new(cancel)),
                has_table: false,
                host: 0,
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

/// Whether the error concerns the one row of an operation: a text that the database cannot hold, or a constraint.
fn is_about_the_row(error: &Error) -> bool {
    // The classes "data exception" and "integrity constraint violation".
    let code = error.code().map(SqlState::code);
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}

/// Runs something that blocks on a runtime, which tokio does not allow in a thread that is in one already.
pub(super) fn blocking<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if Handle::try_current().is_err() {
        return work();
    }
    let outcome = std::thread::scope(|scope| scope.spawn(work).join());
    outcome.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
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
