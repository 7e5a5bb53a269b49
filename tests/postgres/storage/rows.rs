//! Rows: the storage writes as Python does, and reads rows of others.

use std::time::{Duration, SystemTime};

use bulkman::{
    BuildError, CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage,
    WriteGuard,
};

use super::helpers::{NAME, builder, fresh, is_applied, loaded, now, open_until, record};
use crate::support::postgres::Server;

#[test]
fn times_beyond_what_all_can_read() {
    let (server, storage) = fresh();
    let seconds = |seconds| Duration::from_secs(seconds);
    let epoch = SystemTime::UNIX_EPOCH;
    let last = "9999-12-30 00:00:00+00";
    let first = "1970-01-01 00:00:00+00";
    for (until, written) in [
        (epoch.checked_add(seconds(i64::MAX as u64 / 2)), last),
        (epoch.checked_add(seconds(300_000_000_000)), last),
        (epoch.checked_sub(seconds(1)), first),
        (epoch.checked_sub(seconds(i64::MAX as u64 / 2)), first),
    ] {
        let Some(until) = until else {
            continue; // Not a time here.
        };
        assert!(is_applied(&storage, &open_until(until), WriteGuard::Always));
        let row = server.row(NAME, storage.namespace()).unwrap();
        assert_eq!(row.open_until.as_deref(), Some(written), "{until:?}");
        // As the writer's clock it is the same.
        let guard = WriteGuard::unless_open(until);
        assert!(is_applied(&storage, &record(CircuitState::Closed), guard));
    }
}

#[test]
fn an_update_that_a_trigger_keeps_out() {
    let server = Server::start();
    server.create_table();
    let storage = builder(&server).build().unwrap();
    assert!(is_applied(&storage, &record(CircuitState::HalfOpen), now()));
    server.sql(
        "create function no() returns trigger language plpgsql as 'begin return null; end';
         create trigger no before insert or update on rc_circuit_breakers
             for each row execute function no()",
    );
    let seen = storage.update(NAME, |_| Some(CircuitRecord::closed()));
    assert_eq!(seen.unwrap(), Some(record(CircuitState::HalfOpen)));
}

#[test]
fn what_is_written_is_what_python_writes() {
    let (server, storage) = fresh();
    let read = || {
        let row = server.row(NAME, storage.namespace()).unwrap();
        (
            row.state,
            row.failure_count,
            row.open_until,
            row.execution_log.unwrap(),
        )
    };
    let mut closed = record(CircuitState::Closed);
    closed.outcomes = vec![true, false, false];
    closed.failure_count = 2;
    // Only an open circuit has an end.
    closed.open_until = Some(SystemTime::now());
    assert!(is_applied(&storage, &closed, now()));
    assert_eq!(
        read(),
        ("CLOSED".into(), 2, None, "[true, false, false]".into())
    );
    let created = server.row(NAME, storage.namespace()).unwrap();

    let until = SystemTime::UNIX_EPOCH + Duration::from_micros(1_763_000_000_130_668);
    assert!(is_applied(&storage, &open_until(until), now()));
    assert_eq!(
        read(),
        (
            "OPEN".into(),
            0,
            Some("2025-11-13 02:13:20.130668+00".into()),
            "[]".into()
        )
    );
    assert_eq!(loaded(&storage).record.open_until, Some(until));
    let opened = server.row(NAME, storage.namespace()).unwrap();
    assert_eq!(opened.created_at, created.created_at);
    assert!(opened.updated_at > created.updated_at);

    assert!(is_applied(&storage, &record(CircuitState::HalfOpen), now()));
    assert_eq!(read(), ("HALF_OPEN".into(), 0, None, "[]".into()));

    let mut huge = record(CircuitState::Closed);
    huge.failure_count = u32::MAX;
    assert!(is_applied(&storage, &huge, now()));
    assert_eq!(read().1, i32::MAX);
}

#[test]
fn rows_that_make_no_sense_are_no_rows_and_the_next_write_replaces_them() {
    let (server, storage) = fresh();
    for (state, until) in [
        ("open", "null"),
        ("OPEN ", "null"),
        ("", "null"),
        ("OPEN", "'infinity'"),
        ("OPEN", "'-infinity'"),
    ] {
        server.set_row(NAME, storage.namespace(), state, 1, until, "null");
        assert_eq!(storage.load(NAME).unwrap(), None, "{state:?} {until}");
    }
    assert!(is_applied(&storage, &record(CircuitState::Closed), now()));
    assert_eq!(loaded(&storage).record, record(CircuitState::Closed));
}

#[test]
fn odd_outcomes_are_left_out() {
    let (server, storage) = fresh();
    for (log, outcomes) in [
        ("null", &[][..]),
        ("'[]'", &[]),
        ("'{\"a\": true}'", &[]),
        ("'true'", &[]),
        (
            "'[true, 1, \"false\", null, [false], false]'",
            &[true, false],
        ),
    ] {
        server.set_row(NAME, storage.namespace(), "HALF_OPEN", -4, "now()", log);
        let record = loaded(&storage).record;
        assert_eq!(record.outcomes, outcomes, "{log}");
        assert_eq!((record.failure_count, record.open_until), (0, None));
    }
}

#[test]
fn names_are_compared_as_they_are() {
    let (server, storage) = fresh();
    let other = builder(server)
        .namespace(server.fresh_namespace())
        .build()
        .unwrap();
    let longest = "ü".repeat(255);
    let names = [
        "", " ", "a", "A", "a ", "o'clock", "\\", "名前", "%", &longest,
    ];
    for name in names {
        storage.check_name(name).unwrap();
        assert_eq!(storage.load(name).unwrap(), None, "{name:?}");
        let mut record = CircuitRecord::closed();
        record.failure_count = name.len() as u32;
        let _ = storage.store(name, &record, now()).unwrap();
    }
    let asked: Vec<&str> = names.into_iter().chain(["missing", "a"]).collect();
    let found = storage.load_many(&asked).unwrap();
    assert_eq!(found.len(), asked.len());
    for (name, stored) in asked.into_iter().zip(found) {
        let expected = (name != "missing").then_some(name.len() as u32);
        assert_eq!(
            stored.map(|stored| stored.record.failure_count),
            expected,
            "{name:?}"
        );
    }
    assert!(other.load_many(&names).unwrap().iter().all(Option::is_none));
    assert_eq!(other.load_many(&[]).unwrap(), []);
}

#[test]
fn a_name_that_the_table_does_not_hold_is_refused_before_anything_is_built() {
    let (server, storage) = fresh();
    let long = "x".repeat(256);
    let built = CircuitBreaker::builder(long.clone(), CircuitBreakerConfig::default())
        .storage(storage.clone())
        .build();
    let error = built.expect_err("too long");
    assert!(matches!(&error, BuildError::CircuitStorage { circuit, .. } if *circuit == long));
    let source = std::error::Error::source(&error)
        .expect("the reason")
        .to_string();
    assert!(
        source.contains("256 characters") && source.contains("255"),
        "{source}"
    );
    assert!(storage.check_name("a\0b").is_err());

    for namespace in [long.as_str(), "a\0b"] {
        assert!(builder(server).namespace(namespace).build().is_err());
    }
    let mut own_default = builder(server).namespace("").build().unwrap();
    assert_eq!(own_default.namespace(), "");
    own_default = builder(server).build().unwrap();
    assert_eq!(own_default.namespace(), "default");
}
