//! A database that cannot hold every name.

use std::time::Duration;

use crate::support::postgres::Server;
use crate::support::{PATIENCE, eventually};
use bulkman::{
    BuildError, CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage,
    PostgresStorage, PostgresStorageBuilder,
};

const UNFIT: &str = "\u{540d}\u{524d}";
const FIT: &str = "caf\u{e9}";

struct Latin1 {
    server: Server,
}

impl Latin1 {
    fn start() -> Self {
        let server = Server::start();
        server.sql("create database latin1 encoding 'LATIN1' locale 'C' template template0");
        let latin1 = Self { server };
        latin1.builder().build().unwrap().ensure_schema().unwrap();
        latin1
    }

    fn builder(&self) -> PostgresStorageBuilder {
        PostgresStorage::builder(self.server.dsn_with(&[("dbname", "latin1")]))
            .refresh_interval(Duration::from_millis(5))
            .deadline(PATIENCE)
    }
}

fn build(storage: &PostgresStorage, name: &str) -> Result<CircuitBreaker, BuildError> {
    let rules = CircuitBreakerConfig::default().failure_threshold(1);
    CircuitBreaker::builder(name, rules)
        .storage(storage.clone())
        .build()
}

#[test]
fn a_strict_storage_refuses_a_name_that_the_database_cannot_hold() {
    let latin1 = Latin1::start();
    let storage = latin1.builder().strict(true).build().unwrap();
    let error = build(&storage, UNFIT).expect_err("refused");
    let source = std::error::Error::source(&error).expect("the reason");
    let text = format!("{error}: {source}");
    assert!(text.contains(UNFIT) && text.contains("LATIN1"), "{text}");
    build(&storage, FIT).unwrap();
    build(&storage, "plain").unwrap();
    for (namespace, is_fit) in [(FIT, true), (UNFIT, false)] {
        let built = latin1.builder().namespace(namespace).strict(true).build();
        assert_eq!(built.is_ok(), is_fit, "{namespace}");
        latin1
            .builder()
            .namespace(namespace)
            .build()
            .expect("nothing is asked");
    }
}

#[test]
fn otherwise_the_other_circuits_stay_in_step() {
    let latin1 = Latin1::start();
    let (storage, peers) = (
        latin1.builder().build().unwrap(),
        latin1.builder().build().unwrap(),
    );
    let plain = build(&storage, "plain").unwrap();
    let unfit = build(&storage, UNFIT).unwrap();
    let fit = build(&storage, FIT).unwrap();
    let peer = build(&peers, FIT).unwrap();
    let trouble = storage.sync().trouble_of(UNFIT).expect("it is known");
    assert!(
        trouble.contains(UNFIT) && trouble.contains("LATIN1"),
        "{trouble}"
    );
    assert_eq!(storage.sync().trouble(), None);

    peer.record_failure();
    eventually("news", || fit.is_open());
    plain.record_failure();
    assert!(plain.flush(PATIENCE));
    let row = peers.load("plain").unwrap().expect("stored");
    assert_eq!(row.record.state, CircuitState::Open);
    unfit.record_failure();
    assert!(unfit.is_open());
    assert!(!unfit.flush(PATIENCE), "it says so at once");
    // By hand, too, the error names it.
    for error in [
        storage.load(UNFIT).map(drop).unwrap_err(),
        storage.update(UNFIT, |_| None).map(drop).unwrap_err(),
        storage.remove(UNFIT).map(drop).unwrap_err(),
    ] {
        assert!(error.is_of_circuit());
        assert!(error.to_string().contains(UNFIT), "{error}");
    }
    assert_eq!(storage.sync().trouble(), None);
}

#[test]
fn a_constraint_that_a_row_violates_concerns_its_circuit_only() {
    let server = Server::start();
    server.create_table();
    server.sql(
        "alter table rc_circuit_breakers add check (resource_key <> 'bad' or state <> 'OPEN')",
    );
    let storage = PostgresStorage::builder(server.dsn())
        .refresh_interval(Duration::from_millis(5))
        .deadline(PATIENCE)
        .build()
        .unwrap();
    let (bad, good) = (
        build(&storage, "bad").unwrap(),
        build(&storage, "good").unwrap(),
    );
    bad.record_failure();
    eventually("it is known", || storage.sync().trouble_of("bad").is_some());
    good.record_failure();
    assert!(good.flush(PATIENCE));
    assert_eq!(storage.sync().trouble(), None);
    bad.reset();
    eventually("it can be stored", || bad.flush(PATIENCE));
    eventually("no trouble", || storage.sync().trouble_of("bad").is_none());
}
