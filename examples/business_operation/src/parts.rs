//! The dependencies themselves, and their clients. Each client gives up when its caller does, and gives the worker back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, io, process};

use bulkman::policy::remaining;
use postgres::{Client, NoTls};
use rusqlite::Connection;

use crate::Fault;

/// What is left to the call, in milliseconds: at least one, since zero would mean for ever.
fn millis_left() -> u64 {
    let left = remaining().unwrap_or(Duration::from_secs(5));
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The server of the tax API.
pub fn tax_server(server: &tiny_http::Server) {
    while let Ok(request) = server.recv() {
        // A client that has given up is gone.
        let _: io::Result<()> = request.respond(tiny_http::Response::from_string("19"));
    }
}

pub struct TaxApi {
    url: String,
    agent: ureq::Agent,
}

impl TaxApi {
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder().proxy(None);
        Self {
            url: url.into(),
            agent: config.build().into(),
        }
    }

    /// In percent.
    pub fn rate(&self) -> Result<u32, Fault> {
        let request = self.agent.get(&self.url).config();
        let request = request
            .timeout_global(Some(Duration::from_millis(millis_left())))
            .build();
        Ok(request
            .call()?
            .body_mut()
            .read_to_string()?
            .trim()
            .parse()?)
    }
}

/// The orders in PostgreSQL, with a connection for each worker that needs one.
pub struct Orders {
    dsn: String,
    idle: Mutex<Vec<Client>>,
}

impl Orders {
    pub fn connect(dsn: &str) -> Result<Self, Fault> {
        let orders = Self {
            dsn: dsn.into(),
            idle: Mutex::default(),
        };
        orders.with(|client| {
            client.batch_execute("create table if not exists orders (number bigint primary key, total bigint not null)")
        })?;
        Ok(orders)
    }

    fn with<R>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<R, postgres::Error>,
    ) -> Result<R, Fault> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let known = idle().pop();
        let mut client = match known {
            Some(client) => client,
            None => Client::connect(&self.dsn, NoTls)?,
        };
        let done = work(&mut client)?;
        // One that has failed is closed.
        idle().push(client);
        Ok(done)
    }

    /// Stores an order, once, however often it is called.
    pub fn store(&self, number: u64, total: u32) -> Result<(), Fault> {
        let number = i64::try_from(number)?;
        self.with(|client| {
            client.batch_execute(&format!(
                "set statement_timeout = {}",
                millis_left().min(60_000)
            ))?;
            client.execute(
                "insert into orders values ($1, $2) on conflict do nothing",
                &[&number, &i64::from(total)],
            )
        })?;
        Ok(())
    }

    pub fn count(&self) -> Result<u64, Fault> {
        let count: i64 =
            self.with(|client| Ok(client.query_one("select count(*) from orders", &[])?.get(0)))?;
        Ok(u64::try_from(count)?)
    }
}

/// SQLite: prices, and orders that wait for PostgreSQL. A folder of its own, which goes in the end.
#[derive(Clone)]
pub struct Files(Arc<Folder>);

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

impl Files {
    pub fn create() -> Result<Self, Fault> {
        let folder = env::temp_dir().join(format!("bulkman-business-operation-{}", process::id()));
        fs::create_dir_all(&folder)?;
        let files = Self(Arc::new(Folder(folder)));
        files.open()?.execute_batch(
            "pragma journal_mode = wal;
             create table prices (price integer not null);
             insert into prices values (100);
             create table kept (number integer primary key, total integer not null)",
        )?;
        Ok(files)
    }

    fn open(&self) -> Result<Connection, Fault> {
        let connection = Connection::open(self.0.0.join("shop.sqlite"))?;
        connection.busy_timeout(Duration::from_millis(millis_left()))?;
        Ok(connection)
    }

    pub fn price(&self) -> Result<u32, Fault> {
        let price = self
            .open()?
            .query_row("select price from prices", [], |row| row.get(0));
        Ok(price?)
    }

    /// Keeps an order, once, however often it is called.
    pub fn keep(&self, number: u64, total: u32) -> Result<(), Fault> {
        let number = i64::try_from(number)?;
        self.open()?.execute(
            "insert or ignore into kept values (?1, ?2)",
            (number, total),
        )?;
        Ok(())
    }

    pub fn kept(&self) -> Result<Vec<(u64, u32)>, Fault> {
        let connection = self.open()?;
        let mut select = connection.prepare("select number, total from kept order by number")?;
        let rows = select.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        let mut kept = Vec::new();
        for row in rows {
            let (number, total) = row?;
            kept.push((u64::try_from(number)?, total));
        }
        Ok(kept)
    }
}
