//! Connections: secrets, TLS, hosts that say nothing, connections that end.

use std::time::Duration;

use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitState, CircuitStorage, PostgresStorage,
};

use super::helpers::{NAME, builder, fresh, is_applied, now, record, text};
use crate::support::postgres::{Link, Server, Silent};
use crate::support::{HOUR, PATIENCE, eventually};

#[test]
fn secrets_are_in_no_message() {
    let server = Server::shared();
    let password = "s3cret-s3cret";
    let wrong = server.dsn_with(&[("password", password)]);
    let storage = PostgresStorage::builder(&wrong)
        .deadline(PATIENCE)
        .build()
        .unwrap();
    let refused = text(storage.check());
    assert!(
        refused.contains("password authentication failed"),
        "{refused}"
    );
    let strict = PostgresStorage::builder(&wrong)
        .deadline(PATIENCE)
        .strict(true);
    let debugged = format!("{strict:?} {storage:?}");
    let strict = strict.build().expect_err("refused");
    for text in [refused, debugged, format!("{strict} {strict:?}")] {
        assert!(!text.contains(password), "{text}");
    }
}

#[test]
fn tls_without_a_connector_is_an_error() {
    let server = Server::shared();
    let dsn = server.dsn_with(&[("sslmode", "verify-full"), ("sslrootcert", "/ca.pem")]);
    let error = PostgresStorage::builder(&dsn)
        .build()
        .expect_err("no connector")
        .to_string();
    assert!(
        error.contains("sslmode=verify-full") && error.contains("tls"),
        "{error}"
    );
    let connector = tokio_postgres_no_tls();
    let storage = PostgresStorage::builder(&dsn)
        .deadline(PATIENCE)
        .tls(connector)
        .build()
        .unwrap();
    assert!(
        storage.check().is_err(),
        "a connector that cannot do it does not connect without"
    );
}

/// The simplest connector there is.
fn tokio_postgres_no_tls() -> postgres::NoTls {
    postgres::NoTls
}

#[test]
fn strict_asks_and_the_default_does_not() {
    let silent = Silent::start();
    let dsn = format!(
        "postgresql://app:s3cret@{}/circuits?connect_timeout=600",
        silent.address()
    );
    let builder = || PostgresStorage::builder(&dsn).deadline(Duration::from_millis(20));
    builder().build().expect("nothing is asked");
    assert_eq!(silent.connections(), 0);
    let error = builder()
        .strict(true)
        .build()
        .expect_err("no answer")
        .to_string();
    assert!(error.contains("no answer within 20ms"), "{error}");
    assert!(error.contains(&silent.address().to_string()), "{error}");
    assert!(
        PostgresStorage::builder(&dsn)
            .deadline(Duration::ZERO)
            .build()
            .is_err()
    );
}

#[test]
fn a_host_that_says_nothing_does_not_stand_before_the_others() {
    let server = Server::shared();
    let (silent, later) = (Silent::start(), Silent::start());
    let (port, last) = (silent.address().port(), later.address().port());
    let ports = format!("{port},{},{last}", server.part("port"));
    let hosts = ["127.0.0.1"; 3].join(",");
    let dsn = server.dsn_with(&[("host", &hosts), ("port", &ports)]);
    let storage = PostgresStorage::builder(dsn).deadline(Duration::from_secs(3));
    let storage = storage.build().unwrap();
    let mut before = 0;
    eventually("the second answers", || {
        before = later.connections();
        match storage.check() {
            Ok(()) => true,
            // Its share is too short for a machine that is very busy.
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("no answer within 3s"), "{error}");
                false
            }
        }
    });
    assert!(silent.connections() > 0, "the first was asked before");
    assert_eq!(later.connections(), before, "the third was not");
}

#[test]
fn a_connection_is_made_anew_only_if_it_ended_while_nobody_used_it() {
    let server = Server::start();
    server.create_table();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let storage = PostgresStorage::builder(server.dsn_with(&[("port", &port)]));
    let storage = storage.deadline(PATIENCE).build().unwrap();
    storage.check().unwrap();
    storage.check().unwrap();
    assert_eq!(link.connections(), 1);
    // With a word of the server's, and without.
    server.sql(
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity
         where application_name = 'bulkman'",
    );
    storage.check().unwrap();
    assert_eq!(link.connections(), 2);
    link.cut();
    link.resume();
    storage.check().unwrap();
    assert_eq!(link.connections(), 3);

    server.sql("drop table rc_circuit_breakers");
    let stored = storage.store(NAME, &record(CircuitState::Closed), now());
    let error = text(stored.map(drop));
    assert!(error.contains("does not exist"), "{error}");
    assert_eq!(link.connections(), 3, "nothing else would be heard");

    link.cut();
    assert!(storage.load(NAME).is_err());
    assert_eq!(link.connections(), 4, "one attempt");
}

#[test]
fn a_connection_that_is_given_up_ends() {
    let mut server = Server::start();
    server.create_table();
    let storage = PostgresStorage::builder(server.dsn()).build().unwrap();
    eventually("a connection", || storage.check().is_ok());
    server.freeze();
    assert!(storage.check().is_err());
    server.thaw();
    // Nobody uses the storage meanwhile.
    eventually("no session of its is left", || {
        let sessions =
            server.sql("select count(*) from pg_stat_activity where application_name = 'bulkman'");
        sessions[0][0].as_deref() == Some("0")
    });
}

#[test]
fn clones_are_the_same_storage() {
    let storage = PostgresStorage::builder("host=h").refresh_interval(HOUR);
    let storage = storage.build().unwrap();
    assert_eq!(storage.sync().refresh_interval(), HOUR);
    assert!(std::ptr::eq(storage.sync(), storage.clone().sync()));
}

#[test]
fn in_async_code_too() {
    let (server, storage) = fresh();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        storage.check().unwrap();
        assert!(is_applied(&storage, &record(CircuitState::Closed), now()));
        storage.update(NAME, |_| None).unwrap();
        let own = builder(server).strict(true).build().unwrap();
        let breaker = CircuitBreaker::builder(NAME, CircuitBreakerConfig::default())
            .storage(own)
            .build()
            .unwrap();
        breaker.trip();
        assert!(breaker.flush(PATIENCE));
        drop(breaker);
        drop(storage);
    });
}
