//! A PgBouncer in transaction mode before a server of the tests.

use std::process::Command;

use super::lines::{Lines, SETUP};
use super::server::Server;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/pooler");

/// It ends when it is dropped, or when the test process ends.
#[derive(Debug)]
pub struct Pooler {
    dsn: String,
    _script: Lines,
}

impl Pooler {
    /// One with two sessions on the server for all its clients.
    pub fn start(server: &Server) -> Self {
        let script = Lines::start(
            SCRIPT,
            Command::new("bash").args([SCRIPT, "run", &server.dsn()]),
        );
        let Some(dsn) = script.next(SETUP) else {
            panic!("no PgBouncer: {}", script.last_words());
        };
        Self {
            dsn,
            _script: script,
        }
    }

    /// The connection string that leads through it.
    pub fn dsn(&self) -> &str {
        &self.dsn
    }
}
