//! The guard of a write, between clocks and between many writers.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use bulkman::{CircuitState, CircuitStorage, WriteGuard, WriteOutcome};

use super::helpers::{NAME, builder, fresh, is_applied, now, open_until, record};
use crate::support::postgres::Server;
use crate::support::{HOUR, eventually};

#[test]
fn the_guard() {
    let (server, storage) = fresh();
    let namespace = storage.namespace();
    let set =
        |state: &str, until: &str| server.set_row(NAME, namespace, state, 3, until, "'[false]'");
    let writes = || {
        let (sooner, later) = (SystemTime::now() + HOUR / 2, SystemTime::now() + 2 * HOUR);
        [
            record(CircuitState::Closed),
            record(CircuitState::HalfOpen),
            open_until(sooner),
            open_until(later),
        ]
    };
    for write in writes() {
        set("OPEN", "now() + interval '1 hour'");
        let row = server.row(NAME, namespace);
        assert!(!is_applied(&storage, &write, now()), "{write:?}");
        assert_eq!(server.row(NAME, namespace), row, "nothing is touched");
        assert!(
            is_applied(&storage, &write, WriteGuard::Always),
            "{write:?}"
        );
    }
    for (state, until) in [
        ("OPEN", "now() - interval '1 s'"),
        ("OPEN", "null"),
        ("HALF_OPEN", "null"),
        ("HALF_OPEN", "now() + interval '1 hour'"),
        ("CLOSED", "null"),
        ("CLOSED", "now() + interval '1 hour'"),
        ("open", "now() + interval '1 hour'"),
    ] {
        for write in writes() {
            set(state, until);
            assert!(
                is_applied(&storage, &write, now()),
                "{state} {until} {write:?}"
            );
        }
    }
}

#[test]
fn the_writer_s_clock_decides_to_the_microsecond() {
    let (_, storage) = fresh();
    // On a microsecond, as the table keeps it.
    let until = SystemTime::UNIX_EPOCH + Duration::from_micros(4_000_000_000_000_001);
    assert!(is_applied(&storage, &open_until(until), now()));
    let closed = record(CircuitState::Closed);
    let before = WriteGuard::unless_open(until - Duration::from_micros(1));
    assert!(!is_applied(&storage, &closed, before));
    assert!(is_applied(
        &storage,
        &closed,
        WriteGuard::unless_open(until)
    ));
}

#[test]
fn one_of_many_openers_wins() {
    let (server, storage) = fresh();
    for round in 0..5 {
        let circuit = format!("round {round}");
        let barrier = Barrier::new(6);
        let applied: usize = thread::scope(|scope| {
            let openers: Vec<_> = (0..6)
                .map(|_| {
                    let (barrier, circuit) = (&barrier, &circuit);
                    let own = builder(server)
                        .namespace(storage.namespace())
                        .build()
                        .unwrap();
                    scope.spawn(move || {
                        own.load(circuit).unwrap();
                        barrier.wait();
                        let outcome =
                            own.store(circuit, &open_until(SystemTime::now() + HOUR), now());
                        usize::from(outcome.unwrap() != WriteOutcome::Refused)
                    })
                })
                .collect();
            openers
                .into_iter()
                .map(|opener| opener.join().unwrap())
                .sum()
        });
        assert_eq!(applied, 1);
    }
}

#[test]
fn an_opener_that_waits_for_a_faster_one_under_a_stricter_isolation() {
    let server = Server::start();
    server.create_table();
    server.sql("alter role bulkman set default_transaction_isolation = 'repeatable read'");
    let storage = builder(&server).build().unwrap();
    assert!(is_applied(&storage, &record(CircuitState::Closed), now()));
    let mut session = postgres::Client::connect(&server.dsn(), postgres::NoTls).unwrap();
    let mut faster = session.transaction().unwrap();
    let open =
        "update rc_circuit_breakers set state = 'OPEN', open_until = now() + interval '1 hour'";
    faster.execute(open, &[]).unwrap();
    thread::scope(|scope| {
        let write = || is_applied(&storage, &open_until(SystemTime::now() + 2 * HOUR), now());
        let opener = scope.spawn(write);
        eventually("the other waits", || {
            let waiting = server.sql(
                "select count(*) from pg_stat_activity
                 where application_name = 'bulkman' and wait_event_type = 'Lock'",
            );
            waiting[0][0].as_deref() == Some("1")
        });
        faster.commit().unwrap();
        assert!(!opener.join().unwrap(), "it is told of the other");
    });
}
