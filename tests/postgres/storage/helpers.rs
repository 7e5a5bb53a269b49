//! Storages on a real server, and rows for them.

use std::time::SystemTime;

use bulkman::{
    CircuitRecord, CircuitState, CircuitStorage, PostgresStorage, PostgresStorageBuilder,
    StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};

use crate::support::PATIENCE;
use crate::support::postgres::Server;

pub const NAME: &str = "payments";

pub fn builder(server: &Server) -> PostgresStorageBuilder {
    PostgresStorage::builder(server.dsn()).deadline(PATIENCE)
}

/// A storage in a namespace of its own, with the table.
pub fn fresh() -> (&'static Server, PostgresStorage) {
    let server = Server::shared();
    let storage = builder(server).namespace(server.fresh_namespace());
    (server, storage.build().expect("a valid connection string"))
}

pub fn record(state: CircuitState) -> CircuitRecord {
    let mut record = CircuitRecord::closed();
    record.state = state;
    record
}

pub fn open_until(until: SystemTime) -> CircuitRecord {
    let mut record = record(CircuitState::Open);
    record.open_until = Some(until);
    record
}

pub fn now() -> WriteGuard {
    WriteGuard::unless_open(SystemTime::now())
}

pub fn is_applied(storage: &PostgresStorage, record: &CircuitRecord, guard: WriteGuard) -> bool {
    match storage.store(NAME, record, guard).expect("an answer") {
        WriteOutcome::Applied { version } => {
            assert_eq!(loaded(storage).version, version);
            true
        }
        WriteOutcome::Refused => false,
        other => panic!("{other:?}"),
    }
}

pub fn loaded(storage: &PostgresStorage) -> StoredCircuit {
    storage.load(NAME).expect("an answer").expect("a row")
}

pub fn text(error: Result<(), StorageError>) -> String {
    error.expect_err("an error").to_string()
}
