//! The storage behind a real PgBouncer in transaction mode, where each transaction may run in another session.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::postgres::{Pooler, Server};
use crate::support::{PATIENCE, eventually};
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage,
    PostgresStorage, PostgresStorageBuilder, StorageError, WriteGuard, WriteOutcome,
};

const CLIENTS: usize = 6;
const HOUR: Duration = Duration::from_secs(3600);

fn builder(pooler: &Pooler, client: usize) -> PostgresStorageBuilder {
    PostgresStorage::builder(pooler.dsn())
        .namespace(format!("client {client}"))
        .deadline(PATIENCE)
}

/// Runs something in as many threads as there are clients, at the same moment.
fn at_once(work: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (work, barrier) = (&work, &barrier);
            scope.spawn(move || {
                barrier.wait();
                work(client);
            });
        }
    });
}

#[test]
fn every_operation_of_six_clients_at_once() {
    let server = Server::start();
    let pooler = Pooler::start(&server);
    // The first of them make the table.
    at_once(|client| {
        for _ in 0..10 {
            let storage = builder(&pooler, client).auto_create(true).strict(true);
            storage.build().expect("a strict build");
        }
    });
    at_once(|client| {
        let storage = builder(&pooler, client).strict(true).build().unwrap();
        for round in 0..5 {
            let name = format!("circuit {round}");
            every_operation(&storage, &name).unwrap_or_else(|error| panic!("{round}: {error}"));
        }
    });
}

fn every_operation(storage: &PostgresStorage, name: &str) -> Result<(), StorageError> {
    storage.check()?;
    storage.ensure_schema()?;
    storage.check_name("\u{e4}\u{540d}")?;
    assert_eq!(storage.load(name)?, None);
    let now = SystemTime::now();
    let mut open = CircuitRecord::closed();
    open.state = CircuitState::Open;
    open.open_until = Some(now + HOUR);
    let guard = WriteGuard::unless_open(now);
    let WriteOutcome::Applied { version } = storage.store(name, &open, guard)? else {
        panic!("nothing is there yet");
    };
    assert_eq!(storage.store(name, &open, guard)?, WriteOutcome::Refused);
    let rows = storage.load_many(&["absent", name])?;
    assert_eq!(rows[0], None);
    assert_eq!(rows[1].as_ref().map(|row| row.version), Some(version));
    let closed = CircuitRecord::closed();
    let forced = storage.store(name, &closed, WriteGuard::Always)?;
    assert!(matches!(forced, WriteOutcome::Applied { .. }));
    let updated = storage.update(name, |stored| {
        assert_eq!(stored, Some(&closed));
        let mut half_open = closed.clone();
        half_open.state = CircuitState::HalfOpen;
        Some(half_open)
    })?;
    assert_eq!(
        updated.map(|record| record.state),
        Some(CircuitState::HalfOpen)
    );
    assert!(storage.remove(name)?);
    assert!(!storage.remove(name)?);
    assert!(storage.clock().is_some());
    Ok(())
}

#[test]
fn circuits_of_six_clients() {
    let server = Server::start();
    server.create_table();
    let pooler = Pooler::start(&server);
    let breakers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let storage = PostgresStorage::builder(pooler.dsn())
                .refresh_interval(Duration::from_millis(5))
                .deadline(PATIENCE)
                .build()
                .unwrap();
            let config = CircuitBreakerConfig::default().failure_threshold(1);
            let breaker = CircuitBreaker::builder("shared", config)
                .storage(storage.clone())
                .build()
                .unwrap();
            (breaker, storage)
        })
        .collect();
    for (breaker, _) in &breakers {
        breaker.record_failure();
        assert!(breaker.flush(PATIENCE));
        eventually("all are open", || {
            breakers.iter().all(|(breaker, _)| breaker.is_open())
        });
        breaker.reset();
        assert!(breaker.flush(PATIENCE));
        eventually("all are closed", || {
            breakers.iter().all(|(breaker, _)| breaker.is_closed())
        });
    }
    for (_, storage) in &breakers {
        assert_eq!(storage.sync().trouble(), None);
    }
}
