//! The storage alone, on a real server: schema, rows, guard, names, connection strings.

#![cfg(feature = "postgres")]

mod support;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use bulkman::{
    BuildError, CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState, CircuitStorage,
    PostgresStorage, PostgresStorageBuilder, StorageError, StoredCircuit, WriteGuard, WriteOutcome,
};
use support::postgres::{Link, Server, Silent};
use support::{PATIENCE, eventually};

const NAME: &str = "payments";
const HOUR: Duration = Duration::from_secs(3600);

fn builder(server: &Server) -> PostgresStorageBuilder {
    PostgresStorage::builder(server.dsn()).deadline(PATIENCE)
}

/// A storage in a namespace of its own, with the table.
fn fresh() -> (&'static Server, PostgresStorage) {
    let server = Server::shared();
    let storage = builder(server).namespace(server.fresh_namespace());
    (server, storage.build().expect("a valid connection string"))
}

fn record(state: CircuitState) -> CircuitRecord {
    let mut record = CircuitRecord::closed();
    record.state = state;
    record
}

fn open_until(until: SystemTime) -> CircuitRecord {
    let mut record = record(CircuitState::Open);
    record.open_until = Some(until);
    record
}

fn now() -> WriteGuard {
    WriteGuard::UnlessOpen {
        now: SystemTime::now(),
    }
}

fn is_applied(storage: &PostgresStorage, record: &CircuitRecord, guard: WriteGuard) -> bool {
    match storage.store(NAME, record, guard).expect("an answer") {
        WriteOutcome::Applied { version } => {
            assert_eq!(loaded(storage).version, version);
            true
        }
        WriteOutcome::Refused => false,
        other => panic!("{other:?}"),
    }
}

fn loaded(storage: &PostgresStorage) -> StoredCircuit {
    storage.load(NAME).expect("an answer").expect("a row")
}

fn text(error: Result<(), StorageError>) -> String {
    error.expect_err("an error").to_string()
}

// ---- schema

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

// ---- rows

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
    let before = WriteGuard::UnlessOpen {
        now: until - Duration::from_micros(1),
    };
    assert!(!is_applied(&storage, &closed, before));
    assert!(is_applied(
        &storage,
        &closed,
        WriteGuard::UnlessOpen { now: until }
    ));
}

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
        let guard = WriteGuard::UnlessOpen { now: until };
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

// ---- administration

#[test]
fn updates_exclude_each_other_and_override_an_open_circuit() {
    let (server, storage) = fresh();
    thread::scope(|scope| {
        for _ in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for _ in 0..10 {
                    let change = |stored: Option<&CircuitRecord>| {
                        let mut record = stored.cloned().unwrap_or_else(CircuitRecord::closed);
                        record.failure_count += 1;
                        Some(record)
                    };
                    storage.update(NAME, change).unwrap();
                }
            });
        }
    });
    assert_eq!(loaded(&storage).record.failure_count, 40);

    server.set_row(
        NAME,
        storage.namespace(),
        "OPEN",
        1,
        "now() + interval '1 hour'",
        "'[]'",
    );
    let seen = storage.update(NAME, |_| None).unwrap().expect("a row");
    assert_eq!(seen.state, CircuitState::Open);
    let written = storage
        .update(NAME, |_| Some(CircuitRecord::closed()))
        .unwrap();
    assert_eq!(written, Some(CircuitRecord::closed()));
    assert_eq!(loaded(&storage).record, CircuitRecord::closed());

    assert!(storage.remove(NAME).unwrap());
    assert!(!storage.remove(NAME).unwrap());
    assert_eq!(
        storage.update(NAME, |stored| stored.cloned()).unwrap(),
        None
    );
}

#[test]
fn an_update_that_panics_changes_nothing_and_keeps_nobody_out() {
    let (_, storage) = fresh();
    let panicked = std::panic::catch_unwind(|| storage.update(NAME, |_| panic!("no")));
    assert!(panicked.is_err());
    assert_eq!(storage.load(NAME).unwrap(), None);
    storage
        .update(NAME, |_| Some(CircuitRecord::closed()))
        .unwrap();
}

#[test]
fn an_update_may_use_the_storage() {
    let (_, storage) = fresh();
    let seen = storage.update(NAME, |_| {
        assert_eq!(storage.load(NAME).unwrap(), None);
        Some(CircuitRecord::closed())
    });
    assert!(seen.unwrap().is_some());
}

// ---- connecting

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

#[test]
fn a_variable_that_is_no_text_is_not_as_good_as_none() {
    use std::os::unix::ffi::OsStrExt;
    for name in [
        "RC_DB_DSN",
        "RC_DB_PASSWORD",
        "RC_DB_SSLMODE",
        "RC_NAMESPACE",
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_with_such_a_variable", "--ignored"]);
        child.envs([("RC_DB_HOST", "h"), ("RC_DB_PASSWORD", "p")]);
        child.env("BULKMAN_TEST_VARIABLE", name);
        child.env(name, std::ffi::OsStr::from_bytes(b"requir\xe9"));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
#[ignore = "started by the test above"]
fn child_with_such_a_variable() {
    let name = std::env::var("BULKMAN_TEST_VARIABLE").unwrap();
    let built = PostgresStorage::builder_from_env()
        .and_then(|builder| builder.expect("a server is named").build());
    let error = built.expect_err("it is no text").to_string();
    assert_eq!(error, format!("{name} is not Unicode"));
}
