//! A PgBouncer in transaction mode before a server of the tests.

use std::process::Command;

use super::lines::Lines;
use super::server::Server;
use crate::support::PATIENCE;

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
        // Longer than usual: it may have to be installed.
        let Some(dsn) = script.next(5 * PATIENCE) else {
            panic!("no PgBouncer; {SCRIPT} has said on stderr why");
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
