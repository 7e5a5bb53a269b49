//! A PostgreSQL server that the tests start, and treat badly.
//!
//! The `connect_timeout` of this client limits only the TCP connection. A test that connects to a frozen server, or
//! through a paused link, would wait for ever.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use postgres::{Client, NoTls, SimpleQueryMessage};

use super::lines::{Lines, SETUP};
use crate::support::PATIENCE;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/server");

/// The least that a peer accepts: the columns and the key, without the indexes and the trigger.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS public.rc_circuit_breakers (
        namespace      varchar(255) NOT NULL DEFAULT 'default',
        resource_key   varchar(255) NOT NULL,
        state          varchar(50)  NOT NULL,
        failure_count  integer      NOT NULL DEFAULT 0,
        open_until     timestamptz,
        execution_log  jsonb,
        created_at     timestamptz  DEFAULT now(),
        updated_at     timestamptz  DEFAULT now(),
        PRIMARY KEY (resource_key, namespace)
    )";

/// A server with a data folder of its own, both gone when it is dropped or when the test process ends.
///
/// A test may stop its own server. The shared one runs as long as the process does.
pub struct Server {
    script: Lines,
    parts: Vec<(String, String)>,
    client: Mutex<Option<Client>>,
    frozen: bool,
}

/// A row, each column as text; times in UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub state: String,
    pub failure_count: i32,
    pub open_until: Option<String>,
    pub execution_log: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    /// `open_until` again, in seconds since 1970.
    pub open_until_epoch: Option<f64>,
}

impl Row {
    /// The four columns that a peer reads, the time as whether there is one.
    pub fn read(&self) -> (&str, i32, bool, Option<&str>) {
        (
            &self.state,
            self.failure_count,
            self.open_until.is_some(),
            self.execution_log.as_deref(),
        )
    }
}

impl Server {
    /// A new one, without the table.
    pub fn start() -> Self {
        Self::begin(Command::new("bash").arg(SCRIPT).arg("run"))
    }

    /// A standby of this server, which follows it until `select pg_promote()`.
    pub fn standby(&self) -> Self {
        let dsn = self.dsn();
        Self::begin(Command::new("bash").args([SCRIPT, "standby", &dsn]))
    }

    fn begin(command: &mut Command) -> Self {
        let script = Lines::start(SCRIPT, command);
        let Some(dsn) = script.next(SETUP) else {
            panic!("no PostgreSQL server: {}", script.last_words());
        };
        let parts = dsn
            .split(' ')
            .map(|part| part.split_once('=').expect("key=value"))
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Self {
            script,
            parts,
            client: Mutex::new(None),
            frozen: false,
        }
    }

    /// The one that all tests of this process share, with the table. Each uses namespaces of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            let server = Self::start();
            server.create_table();
            server
        })
    }

    pub fn dsn(&self) -> String {
        self.dsn_with(&[])
    }

    /// The connection string with other values for some of its keys: another port, say, or a key that it has not.
    pub fn dsn_with(&self, other: &[(&str, &str)]) -> String {
        let replaced = |key: &str| other.iter().any(|(k, _)| *k == key);
        let kept = self.parts.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        kept.filter(|(key, _)| !replaced(key))
            .chain(other.iter().copied())
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// One value of the connection string: `host`, `port`, `user`, `password` or `dbname`.
    pub fn part(&self, key: &str) -> &str {
        let found = self.parts.iter().find(|(k, _)| k == key);
        &found.unwrap_or_else(|| panic!("no {key}")).1
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        let address = format!("{}:{}", self.part("host"), self.part("port"));
        address.parse().expect("a numeric address")
    }

    /// Ends the server at once, with all its connections. The port then refuses.
    pub fn stop(&mut self) {
        self.tell("stop");
        self.frozen = false;
    }

    /// Starts it again after `stop` or `kill`, on the same port with the same data.
    pub fn restart(&mut self) {
        self.tell("start");
    }

    /// SIGKILL for the server and all its processes.
    pub fn kill(&mut self) {
        self.tell("kill");
        self.frozen = false;
    }

    /// SIGSTOP for the server and all its processes. Connections are still accepted, by the kernel; nothing answers.
    pub fn freeze(&mut self) {
        self.tell("freeze");
        self.frozen = true;
    }

    /// SIGCONT for them.
    pub fn thaw(&mut self) {
        self.tell("thaw");
        self.frozen = false;
    }

    fn tell(&mut self, word: &str) {
        assert_eq!(self.script.ask(word), "ok", "{word}");
    }

    /// The rows that statements return, every value as text, times in UTC.
    pub fn sql(&self, statements: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error:?}"))
    }

    /// The same, for statements that may fail. The connection is kept until it breaks.
    pub fn try_sql(&self, statements: &str) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
        assert!(!self.frozen, "a frozen server does not answer");
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.as_mut().is_none_or(is_broken) {
            let mut new = Client::connect(&self.dsn(), NoTls)?;
            new.simple_query("SET TIME ZONE 'UTC'")?;
            *client = Some(new);
        }
        let client = client.as_mut().expect("there is one now");
        let messages = client.simple_query(statements)?;
        Ok(messages.iter().filter_map(texts).collect())
    }

    /// Makes the table, if it is not there.
    pub fn create_table(&self) {
        self.sql(TABLE);
    }

    pub fn row(&self, name: &str, namespace: &str) -> Option<Row> {
        let rows = self.sql(&format!(
            "SELECT state, failure_count, open_until, execution_log, created_at, updated_at,
                extract(epoch FROM open_until)
            FROM public.rc_circuit_breakers WHERE resource_key = {} AND namespace = {}",
            quoted(name),
            quoted(namespace)
        ));
        let mut columns = rows.into_iter().next()?.into_iter();
        let mut next = move || columns.next().expect("seven columns");
        Some(Row {
            state: next().expect("never null"),
            failure_count: number(&next().expect("never null")),
            open_until: next(),
            execution_log: next(),
            created_at: next().expect("the default is now"),
            updated_at: next().expect("the default is now"),
            open_until_epoch: next().as_deref().map(number),
        })
    }

    /// Puts a row there, whatever was there. The last two are SQL: `now() + interval '1 s'`, `'[true]'`, `NULL`.
    pub fn set_row(
        &self,
        name: &str,
        namespace: &str,
        state: &str,
        failure_count: i32,
        open_until: &str,
        execution_log: &str,
    ) {
        let (name, namespace, state) = (quoted(name), quoted(namespace), quoted(state));
        self.sql(&format!(
            "INSERT INTO public.rc_circuit_breakers
                (resource_key, namespace, state, failure_count, open_until, execution_log)
            VALUES ({name}, {namespace}, {state}, {failure_count}, {open_until}, {execution_log})
            ON CONFLICT (resource_key, namespace) DO UPDATE SET state = excluded.state,
                failure_count = excluded.failure_count, open_until = excluded.open_until,
                execution_log = excluded.execution_log, updated_at = now()"
        ));
    }

    /// A namespace that no other test of this server uses.
    pub fn fresh_namespace(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// Also asks, since the end of a connection is only seen by using it.
fn is_broken(client: &mut Client) -> bool {
    client.is_valid(PATIENCE).is_err()
}

fn texts(message: &SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    let SimpleQueryMessage::Row(row) = message else {
        return None;
    };
    Some((0..row.len()).map(|i| row.get(i).map(Into::into)).collect())
}

/// A string as SQL writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("not a number: {text}"))
}
