//! Several servers, standbys that refuse writes, and servers that have lost the last writes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::support::postgres::Server;
use crate::support::{PATIENCE, eventually};
use bulkman::{
    CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage, ManualClock,
    PostgresStorage, WriteGuard, WriteOutcome,
};

use CircuitState::{HalfOpen, Open};

const NAME: &str = "demo";
const NAMESPACE: &str = "failover";
const ISOLATION: Duration = Duration::from_secs(600);

type Changes = Arc<Mutex<Vec<CircuitState>>>;

fn storage(dsn: &str) -> PostgresStorage {
    PostgresStorage::builder(dsn)
        .namespace(NAMESPACE)
        .refresh_interval(Duration::from_millis(5))
        .deadline(PATIENCE)
        .build()
        .expect("a valid connection string")
}

fn breaker(storage: &PostgresStorage) -> (CircuitBreaker, ManualClock, Changes) {
    let clock = ManualClock::new();
    let changes = Changes::default();
    let log = Arc::clone(&changes);
    let rules = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(ISOLATION);
    let breaker = CircuitBreaker::builder(NAME, rules)
        .clock(clock.clone())
        .storage(storage.clone())
        .on_change(move |change| log.lock().unwrap().push(change.to))
        .build()
        .expect("a breaker");
    (breaker, clock, changes)
}

fn server() -> Server {
    let server = Server::start();
    server.create_table();
    server
}

/// A connection string for several servers with the same user and password.
fn dsn_of(servers: &[&Server], attributes: &str) -> String {
    let join = |key| {
        let parts: Vec<&str> = servers.iter().map(|server| server.part(key)).collect();
        parts.join(",")
    };
    servers[0].dsn_with(&[
        ("host", &join("host")),
        ("port", &join("port")),
        ("target_session_attrs", attributes),
    ])
}

fn state(server: &Server) -> Option<String> {
    server.row(NAME, NAMESPACE).map(|row| row.state)
}

fn is_state(server: &Server, expected: &str) -> bool {
    state(server).as_deref() == Some(expected)
}

fn in_step(storage: &PostgresStorage, breaker: &CircuitBreaker) {
    eventually("it is in step again", || {
        storage.sync().trouble().is_none() && breaker.flush(PATIENCE)
    });
}

fn promote(server: &Server) {
    server.sql("select pg_promote()");
}

// ---- standbys

#[test]
fn a_standby_that_refuses_writes_is_an_outage_with_that_reason() {
    let primary = server();
    let standby = primary.standby();
    let storage = storage(&standby.dsn());
    let (breaker, _, _) = breaker(&storage);
    assert!(storage.check().is_err());
    let end = "now() + interval '5 minutes'";
    primary.set_row(NAME, NAMESPACE, "OPEN", 1, end, "'[]'");
    eventually("it can be read", || breaker.is_open());
    breaker.reset();
    eventually("the reason is told", || {
        let trouble = storage.sync().trouble();
        trouble.is_some_and(|trouble| trouble.contains("read-only transaction"))
    });
    assert!(breaker.is_closed());
    promote(&standby);
    in_step(&storage, &breaker);
    assert!(is_state(&standby, "CLOSED"));
    storage.check().unwrap();
}

#[test]
fn the_host_after_a_standby_is_tried_when_it_refuses_a_write() {
    let primary = server();
    let standby = primary.standby();
    for attributes in ["any", "read-write", "primary"] {
        let storage = storage(&dsn_of(&[&standby, &primary], attributes));
        let (breaker, _, _) = breaker(&storage);
        breaker.reset();
        in_step(&storage, &breaker);
        breaker.record_failure();
        in_step(&storage, &breaker);
        assert!(is_state(&primary, "OPEN"), "{attributes}");
        storage.check().expect("it has found the primary");
        assert!(
            storage
                .update(NAME, |stored| stored.cloned())
                .unwrap()
                .is_some()
        );
        assert!(storage.remove(NAME).unwrap());
        drop(breaker);
    }
    let only_standbys = storage(&dsn_of(&[&standby, &standby], "read-write"));
    let error = only_standbys.check().unwrap_err().to_string();
    assert!(error.contains("does not allow writes"), "{error}");
}

#[test]
fn a_failover_to_a_standby_that_lags_does_not_close_the_circuit_of_its_opener() {
    let mut primary = server();
    let mut standby = primary.standby();
    primary.set_row(NAME, NAMESPACE, "CLOSED", 0, "null", "'[]'");
    eventually("it has followed", || is_state(&standby, "CLOSED"));
    let dsn = dsn_of(&[&primary, &standby], "read-write");
    let storage = storage(&dsn);
    let (breaker, _, changes) = breaker(&storage);
    standby.stop();
    breaker.record_failure();
    assert!(breaker.flush(PATIENCE));
    assert!(is_state(&primary, "OPEN"));

    primary.kill();
    eventually("the outage", || storage.sync().trouble().is_some());
    standby.restart();
    assert!(is_state(&standby, "CLOSED"), "it lags");
    promote(&standby);
    eventually("stored again", || is_state(&standby, "OPEN"));
    in_step(&storage, &breaker);
    assert_eq!(*changes.lock().unwrap(), [Open]);

    // A newcomer starts open, and its reset is newer.
    let newcomers = PostgresStorage::builder(dsn).namespace(NAMESPACE);
    let newcomers = newcomers.deadline(PATIENCE).build().unwrap();
    let (newcomer, _, _) = self::breaker(&newcomers);
    assert!(newcomer.is_open());
    newcomer.reset();
    eventually("it holds for the opener", || breaker.is_closed());
    in_step(&storage, &breaker);
    assert!(is_state(&standby, "CLOSED"));
}

// ---- rows that go back in time, or away

#[test]
fn a_row_that_was_deleted_or_is_older_is_stored_again_by_its_opener() {
    let server = server();
    let storage = storage(&server.dsn());
    let (breaker, clock, changes) = breaker(&storage);
    breaker.record_failure();
    assert!(breaker.flush(PATIENCE));
    let end = server.row(NAME, NAMESPACE).unwrap().open_until;
    for sql in [
        "truncate rc_circuit_breakers",
        "delete from rc_circuit_breakers",
        "update rc_circuit_breakers set state = 'CLOSED', open_until = null, updated_at = now() - interval '1 minute'",
    ] {
        server.sql(sql);
        eventually(sql, || is_state(&server, "OPEN"));
        in_step(&storage, &breaker);
        assert_eq!(
            server.row(NAME, NAMESPACE).unwrap().open_until,
            end,
            "{sql}"
        );
    }
    assert!(storage.remove(NAME).unwrap());
    eventually("also after remove", || is_state(&server, "OPEN"));
    assert_eq!(*changes.lock().unwrap(), [Open]);
    // Something newer holds, whoever wrote it.
    server.set_row(NAME, NAMESPACE, "CLOSED", 0, "null", "'[]'");
    eventually("closed by hand", || breaker.is_closed());
    clock.advance(ISOLATION);
    assert!(breaker.is_closed());
}

#[test]
fn a_change_by_hand_that_keeps_the_time_of_the_last_write_is_news() {
    let server = server();
    let storage = storage(&server.dsn());
    let (breaker, _, _) = breaker(&storage);
    breaker.record_failure();
    assert!(breaker.flush(PATIENCE));
    server.sql("update rc_circuit_breakers set state = 'CLOSED', open_until = null");
    eventually("closed", || breaker.is_closed());
}

// ---- clocks

#[test]
fn a_wall_clock_that_is_set_back() {
    let server = server();
    let storage = storage(&server.dsn());
    let (breaker, clock, _) = breaker(&storage);
    breaker.record_failure();
    assert!(breaker.flush(PATIENCE));
    clock.set_wall_behind(Duration::from_secs(3600));
    clock.advance(ISOLATION);
    eventually("half-open", || breaker.is_half_open());
    eventually("stored", || is_state(&server, "HALF_OPEN"));
    breaker.record_success();
    assert!(breaker.flush(PATIENCE));
    assert!(is_state(&server, "CLOSED"));
    // The server's clock is this host's.
    let skew = storage.sync().clock_skew().expect("it was read");
    assert!(skew.amount() < Duration::from_secs(3600), "{skew:?}");
    assert!(storage.clock().is_some());
}

#[test]
fn the_guard_s_exception_is_for_one_version_only() {
    let server = server();
    let storage = storage(&server.dsn());
    let now = SystemTime::now();
    let mut open = CircuitRecord::closed();
    open.state = Open;
    open.open_until = Some(now + ISOLATION);
    let mut half_open = CircuitRecord::closed();
    half_open.state = HalfOpen;
    let write = |record: &CircuitRecord, except| {
        let guard = WriteGuard::UnlessOpen { now, except };
        storage.store(NAME, record, guard).unwrap()
    };
    let WriteOutcome::Applied { version } = write(&open, None) else {
        panic!("nothing is there yet");
    };
    assert_eq!(storage.load(NAME).unwrap().unwrap().version, version);
    for other in [0, version - 1, version + 1, u64::MAX] {
        assert_eq!(write(&half_open, Some(other)), WriteOutcome::Refused);
    }
    let WriteOutcome::Applied { version: next } = write(&half_open, Some(version)) else {
        panic!("it is the row that may be replaced");
    };
    assert!(next > version);
    // A row without a time of its last write.
    let _ = write(&open, None);
    server.sql("update rc_circuit_breakers set updated_at = null");
    let version = storage.load(NAME).unwrap().unwrap().version;
    assert_eq!(version, 0);
    assert_eq!(write(&half_open, Some(next)), WriteOutcome::Refused);
    assert_ne!(write(&half_open, Some(version)), WriteOutcome::Refused);
    assert_eq!(storage.load(NAME).unwrap().unwrap().record.state, HalfOpen);
}
