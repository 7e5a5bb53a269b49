//! Servers that answer, but not as usual: locks, ended connections, read-only, stricter isolation.

use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitState, CircuitStorage, PostgresStorage};

use super::helpers::{
    ISOLATION, NAME, NAMESPACE, breaker, in_step, in_trouble, rules, server, state, storage, trip,
};
use crate::support::postgres::{Link, Server};
use crate::support::{PATIENCE, eventually};

/// How many sessions of all storages wait for a lock at the moment, as the server sees it.
fn waiting_for_a_lock(server: &Server) -> String {
    let rows = server.sql(
        "select count(*) from pg_stat_activity
         where application_name = 'bulkman' and wait_event_type = 'Lock'",
    );
    rows[0][0].clone().expect("a number")
}

#[test]
fn a_row_that_somebody_locks() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let storage = storage(
        &server.dsn_with(&[("port", &port)]),
        // Time enough to connect on a machine that is very busy.
        Duration::from_millis(600),
    );
    let (locked, _clock) = breaker(&storage);
    let others: Vec<CircuitBreaker> = ["one", "two"]
        .iter()
        .map(|name| {
            let builder = CircuitBreaker::builder(*name, rules()).storage(storage.clone());
            builder.build().unwrap()
        })
        .collect();
    server.set_row(NAME, NAMESPACE, "CLOSED", 0, "null", "'[]'");
    let mut session = postgres::Client::connect(&server.dsn(), postgres::NoTls).unwrap();
    let mut lock = session.transaction().unwrap();
    lock.query("select 1 from rc_circuit_breakers for update", &[])
        .unwrap();

    trip(&locked);
    in_trouble(&storage);
    let before = link.connections();
    eventually("it goes on trying", || link.connections() > before + 12);
    eventually("the server is not left waiting for the lock", || {
        waiting_for_a_lock(&server).parse::<usize>().unwrap() <= 1
    });
    // Meanwhile the others are in step: with a peer, and with a change of their own.
    server.set_row(
        "one",
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    eventually("news of another circuit", || others[0].is_open());
    trip(&others[1]);
    eventually("a change of another circuit", || {
        server
            .row("two", NAMESPACE)
            .is_some_and(|row| row.state == "OPEN")
    });
    assert!(locked.is_open() && storage.sync().trouble().is_some());

    lock.commit().unwrap();
    in_step(&storage, &locked);
    assert_eq!(state(&server).as_deref(), Some("OPEN"));
}

#[test]
fn a_connection_that_ended_while_nobody_used_it_is_no_outage() {
    let mut server = server();
    let storage = PostgresStorage::builder(server.dsn())
        .namespace(NAMESPACE)
        .refresh_interval(ISOLATION)
        .deadline(PATIENCE)
        .build()
        .unwrap();
    let (breaker, _clock) = breaker(&storage);
    for end in ["terminate", "stop", "kill"] {
        breaker.reset();
        assert!(breaker.flush(PATIENCE), "{end}");
        match end {
            "terminate" => {
                server.sql(
                    "select pg_terminate_backend(pid, 60000) from pg_stat_activity
                     where application_name = 'bulkman'",
                );
            }
            "stop" => server.stop(),
            _ => server.kill(),
        }
        if end != "terminate" {
            server.restart();
        }
        trip(&breaker);
        // Not when the next refresh comes.
        assert!(
            breaker.flush(PATIENCE),
            "{end}: {:?}",
            storage.sync().trouble()
        );
        assert_eq!(state(&server).as_deref(), Some("OPEN"), "{end}");
    }
}

#[test]
fn a_server_that_takes_no_writes_for_a_while() {
    let server = server();
    server.sql("create role app login password 'app'; grant all on rc_circuit_breakers to app");
    server.sql("alter role app set default_transaction_read_only = on");
    let dsn = server.dsn_with(&[("user", "app"), ("password", "app")]);
    let storage = storage(&dsn, PATIENCE);
    let said = storage.check().expect_err("nothing can be written");
    assert!(said.to_string().contains("nothing be written"), "{said}");
    let (breaker, _clock) = breaker(&storage);
    server.set_row(
        NAME,
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    eventually("it can still be read", || breaker.is_open());
    breaker.reset();
    in_trouble(&storage);
    // A session that is there already does not see it.
    server.sql("alter role app reset default_transaction_read_only");
    in_step(&storage, &breaker);
    assert_eq!(state(&server).as_deref(), Some("CLOSED"));
    storage.check().unwrap();
}

#[test]
fn a_stricter_isolation_by_default() {
    let server = server();
    for level in ["repeatable read", "serializable"] {
        server.sql(&format!(
            "alter role bulkman set default_transaction_isolation = '{level}'"
        ));
        let storages: Vec<_> = (0..6).map(|_| storage(&server.dsn(), PATIENCE)).collect();
        for round in 0..10 {
            let circuit = format!("{level} {round}");
            let barrier = std::sync::Barrier::new(storages.len());
            let applied: usize = std::thread::scope(|scope| {
                let openers: Vec<_> = storages
                    .iter()
                    .map(|storage| {
                        let (barrier, circuit) = (&barrier, &circuit);
                        scope.spawn(move || {
                            storage.check().unwrap();
                            let mut open = bulkman::CircuitRecord::closed();
                            open.state = CircuitState::Open;
                            let now = std::time::SystemTime::now();
                            open.open_until = Some(now + ISOLATION);
                            barrier.wait();
                            let guard = bulkman::WriteGuard::unless_open(now);
                            let outcome = storage.store(circuit, &open, guard);
                            let count = |stored: Option<&bulkman::CircuitRecord>| {
                                let mut stored = stored.cloned()?;
                                stored.failure_count += 1;
                                Some(stored)
                            };
                            storage.update(circuit, count).expect("an answer");
                            let outcome = outcome.expect("an answer");
                            usize::from(outcome != bulkman::WriteOutcome::Refused)
                        })
                    })
                    .collect();
                openers.into_iter().map(|o| o.join().unwrap()).sum()
            });
            assert_eq!(applied, 1, "{level}");
            let row = server.row(&circuit, NAMESPACE).unwrap();
            assert_eq!(row.failure_count, 6, "{level}: none is lost");
        }
    }
}
