//! Servers and networks that fail, and how circuits get back in step with them.

use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, CircuitStorage};

use super::helpers::{
    ISOLATION, NAME, NAMESPACE, breaker, comes_back_open, in_step, in_trouble, lives_alone, rules,
    server, state, storage, trip,
};
use crate::support::postgres::{Link, Silent};
use crate::support::{PATIENCE, eventually, wait};

#[test]
fn a_server_that_is_not_there_at_the_start() {
    let mut server = server();
    server.stop();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    server.restart();
    comes_back_open(&server, &storage, &breaker);
}

#[test]
fn a_server_that_is_killed() {
    let mut server = server();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    server.kill();
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    server.restart();
    comes_back_open(&server, &storage, &breaker);
}

#[test]
fn a_server_that_hangs() {
    let mut server = server();
    let storage = storage(&server.dsn(), Duration::from_millis(300));
    let (breaker, clock) = breaker(&storage);
    server.freeze();
    in_trouble(&storage);
    assert!(
        storage
            .sync()
            .trouble()
            .is_none_or(|said| said.contains("no answer within 300ms"))
    );
    lives_alone(&breaker, &clock);
    server.thaw();
    comes_back_open(&server, &storage, &breaker);
}

#[test]
fn a_socket_that_never_says_a_word() {
    let silent = Silent::start();
    let dsn = format!("postgresql://app:s3cret@{}/circuits", silent.address());
    let storage = storage(&dsn, Duration::from_millis(20));
    let (breaker, clock) = breaker(&storage);
    in_trouble(&storage);
    lives_alone(&breaker, &clock);
    let before = silent.connections();
    eventually("it goes on trying", || silent.connections() > before);
}

#[test]
fn a_network_that_pauses_or_breaks() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let dsn = server.dsn_with(&[("port", &port)]);
    let storage = storage(&dsn, Duration::from_millis(300));
    let (breaker, clock) = breaker(&storage);
    for disturb in [Link::pause, Link::cut] {
        in_step(&storage, &breaker);
        disturb(&link);
        in_trouble(&storage);
        lives_alone(&breaker, &clock);
        link.resume();
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("OPEN"));
        breaker.reset();
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("CLOSED"));
    }
}

#[test]
fn a_peer_opens_it_during_the_outage() {
    let server = server();
    let link = Link::to(server.address());
    let port = link.address().port().to_string();
    let cut_off = storage(&server.dsn_with(&[("port", &port)]), PATIENCE);
    let (breaker, _clock) = breaker(&cut_off);
    link.cut();
    in_trouble(&cut_off);
    server.set_row(
        NAME,
        NAMESPACE,
        "OPEN",
        2,
        "now() + interval '1 hour'",
        "'[]'",
    );
    trip(&breaker);
    let row = server.row(NAME, NAMESPACE);
    link.resume();
    in_step(&cut_off, &breaker);
    assert_eq!(server.row(NAME, NAMESPACE), row, "who opens first wins");
    let retry_after = breaker.try_acquire().expect_err("open").retry_after;
    assert!(retry_after > ISOLATION, "{retry_after:?}");
}

#[test]
fn a_table_that_goes_and_a_right_that_is_taken() {
    let server = server();
    server.sql("create role app login password 'app'; grant select, insert, update on rc_circuit_breakers to app");
    let dsn = server.dsn_with(&[("user", "app"), ("password", "app")]);
    let storage = storage(&dsn, PATIENCE);
    let (breaker, clock) = breaker(&storage);
    for (disturb, said, mend) in [
        ("drop table rc_circuit_breakers", "does not exist", None),
        (
            "revoke all on rc_circuit_breakers from app",
            "permission denied",
            Some("grant select, insert, update on rc_circuit_breakers to app"),
        ),
    ] {
        server.sql(disturb);
        in_trouble(&storage);
        let trouble = storage.sync().trouble().expect("trouble");
        assert!(trouble.contains(said), "{trouble}");
        lives_alone(&breaker, &clock);
        match mend {
            Some(sql) => {
                server.sql(sql);
            }
            None => {
                server.create_table();
                server.sql("grant select, insert, update on rc_circuit_breakers to app");
            }
        }
        in_step(&storage, &breaker);
        assert_eq!(state(&server).as_deref(), Some("OPEN"));
        breaker.reset();
        assert!(breaker.flush(PATIENCE));
    }
}

#[test]
fn calls_go_on_while_the_server_hangs() {
    let mut server = server();
    // It hangs for the whole test: nothing here may wait for it.
    let storage = storage(&server.dsn(), PATIENCE * 10);
    let config = BulkheadConfig::new(NAME)
        .max_concurrent_calls(2)
        .circuit_breaker(rules().failure_threshold(50));
    let bulkhead = Bulkhead::builder(config)
        .circuit_storage(storage)
        .build()
        .unwrap();
    server.freeze();
    for i in 0..200 {
        let result = wait(bulkhead.execute(move || if i % 4 == 0 { Err(i) } else { Ok(i) }));
        assert_eq!(result.is_success(), i % 4 != 0);
    }
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    assert!(bulkhead.try_execute(|| Ok::<_, ()>(())).is_err());
    breaker.reset();
    assert!(wait(bulkhead.run(|| 1)).is_success());
    assert_eq!(bulkhead.stats().successful_executions, 151);
    let report = bulkhead.shutdown();
    assert!(report.still_running.is_empty());
    drop(bulkhead);
    // Else the thread of the storage outlives the test.
    server.kill();
}
