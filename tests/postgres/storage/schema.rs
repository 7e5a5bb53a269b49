//! The table: `check` names all that is missing, and `ensure_schema` makes it.

use std::sync::Barrier;
use std::thread;

use bulkman::{CircuitState, CircuitStorage, PostgresStorage};

use super::helpers::{NAME, builder, is_applied, now, record, text};
use crate::support::postgres::Server;

#[test]
fn check_says_what_is_missing_and_ensure_schema_makes_it() {
    let server = Server::start();
    let storage = builder(&server).build().unwrap();
    let missing = text(storage.check());
    assert!(
        missing.contains("no table public.rc_circuit_breakers"),
        "{missing}"
    );
    assert!(missing.contains(&server.address().to_string()), "{missing}");
    assert!(storage.load(NAME).is_err());

    storage.ensure_schema().unwrap();
    storage.check().unwrap();
    storage.ensure_schema().expect("it may be asked again");
    assert_eq!(storage.load(NAME).unwrap(), None);
    let indexes =
        server.sql("select count(*) from pg_indexes where tablename = 'rc_circuit_breakers'");
    assert_eq!(
        indexes[0][0].as_deref(),
        Some("7"),
        "six and the primary key"
    );

    assert!(is_applied(&storage, &record(CircuitState::Closed), now()));
    let before = server.row(NAME, "default").unwrap();
    server.sql(
        "update rc_circuit_breakers set failure_count = 9, updated_at = now() - interval '1 day'",
    );
    assert!(
        server.row(NAME, "default").unwrap().updated_at >= before.updated_at,
        "the trigger sets it"
    );
}

#[test]
fn check_names_each_defect_and_ensure_schema_leaves_the_table_alone() {
    let server = Server::start();
    server.sql(
        "create table rc_circuit_breakers (
            resource_key varchar(255) primary key, namespace varchar(255), state text,
            failure_count integer, execution_log jsonb, open_until timestamp)",
    );
    let storage = builder(&server).build().unwrap();
    let defects = text(storage.check());
    for defect in [
        "column state is text, not character varying",
        "column open_until is timestamp without time zone, not timestamp with time zone",
        "column updated_at is missing",
        "the primary key is (resource_key), not (resource_key, namespace)",
    ] {
        assert!(defects.contains(defect), "{defect}: {defects}");
    }
    assert!(storage.ensure_schema().is_err());
    let columns = server.sql(
        "select count(*) from information_schema.columns where table_name = 'rc_circuit_breakers'",
    );
    assert_eq!(columns[0][0].as_deref(), Some("6"));
}

#[test]
fn a_role_with_few_rights() {
    let server = Server::start();
    server.create_table();
    server.sql("create role app login password 'app-secret'; grant select, insert on rc_circuit_breakers to app");
    let dsn = server.dsn_with(&[("user", "app"), ("password", "app-secret")]);
    let storage = PostgresStorage::builder(&dsn).build().unwrap();
    let problem = text(storage.check());
    assert!(problem.contains("role app may not UPDATE"), "{problem}");
    assert!(!problem.contains("app-secret"), "{problem}");

    server.sql("grant update on rc_circuit_breakers to app");
    storage.check().unwrap();
    storage.ensure_schema().expect("there is nothing to make");
    assert!(is_applied(&storage, &record(CircuitState::Closed), now()));

    for (setting, problem) in [
        (
            "default_transaction_read_only = on",
            "let nothing be written",
        ),
        ("search_path = elsewhere", "the search_path of role app"),
    ] {
        server.sql(&format!("alter role app set {setting}"));
        let other = PostgresStorage::builder(&dsn).build().unwrap();
        let said = text(other.check());
        assert!(said.contains(problem), "{setting}: {said}");
    }
}

#[test]
fn many_may_make_the_table_at_once() {
    let server = Server::start();
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for number in 0..8 {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                let by_itself = number % 2 == 0;
                let storage = builder(server).auto_create(by_itself).build().unwrap();
                barrier.wait();
                if by_itself {
                    storage.load(NAME).unwrap();
                } else {
                    storage.ensure_schema().unwrap();
                }
            });
        }
    });
    builder(&server).strict(true).build().expect("it is there");
}

#[test]
fn a_connection_makes_the_table_if_told_to() {
    let server = Server::start();
    let storage = builder(&server).auto_create(true).build().unwrap();
    assert_eq!(storage.load(NAME).unwrap(), None);
    server.sql("drop table rc_circuit_breakers");
    assert!(storage.load(NAME).is_err(), "it does not look each time");
    assert_eq!(
        storage.load(NAME).unwrap(),
        None,
        "the next connection does"
    );
}
