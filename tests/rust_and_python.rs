//! One circuit, honoured by Rust and by Python: the real libraries on both sides of a real table.
//!
//! No test waits for an isolation: the clocks of both sides are set ahead.

#![cfg(feature = "postgres")]

mod support;

use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, CircuitRecord, CircuitState,
    CircuitStorage, ManualClock, PostgresStorage,
};
use support::postgres::{Bulkman, Outcome, Policy, Python, Row, Server};
use support::{PATIENCE, eventually};

const NAME: &str = "demo";
const ISOLATION: Duration = Duration::from_secs(600);
const LONGER: Duration = Duration::from_secs(601);

/// bulkman's rules in Python: the circuit opens on a failure that makes two of the last three.
const PYTHON: Bulkman = Bulkman {
    failure_threshold: 3,
    success_threshold: 2,
    isolation_seconds: ISOLATION.as_secs() as f64,
};

/// The same in Rust.
fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_rate(2.0 / 3.0, 3)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

/// A policy of resilient-circuit that looks at the table before each call.
fn always_looking() -> Policy {
    Policy {
        failure_limit: (2, 3),
        cooldown_seconds: ISOLATION.as_secs_f64(),
        refresh_seconds: None,
        ..Policy::default()
    }
}

struct Rust {
    breaker: CircuitBreaker,
    clock: ManualClock,
}

impl Rust {
    /// As a new process would begin.
    fn start(server: &Server, namespace: &str) -> Self {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::builder(NAME, rules())
            .clock(clock.clone())
            .storage(storage(server, namespace))
            .build()
            .expect("a breaker");
        Self { breaker, clock }
    }

    /// What came of a call: whether it was let in.
    fn call(&self, succeeds: bool) -> bool {
        match self.breaker.try_acquire() {
            Ok(permit) if succeeds => permit.record_success(),
            Ok(permit) => permit.record_failure(),
            Err(_) => return false,
        }
        true
    }

    fn state(&self) -> CircuitState {
        self.breaker.state()
    }

    fn eventually(&self, state: CircuitState) {
        eventually(&format!("Rust is {state}"), || self.state() == state);
    }

    fn trip(&self) {
        for succeeds in [true, false, false] {
            assert!(self.call(succeeds));
        }
        assert_eq!(self.state(), CircuitState::Open);
        assert!(self.breaker.flush(PATIENCE));
    }

    /// When it lets the next probe in, as Python writes it.
    fn open_until(&self) -> f64 {
        let refused = self.breaker.try_acquire().expect_err("it is open");
        since_1970() + refused.retry_after.as_secs_f64()
    }
}

fn storage(server: &Server, namespace: &str) -> PostgresStorage {
    PostgresStorage::builder(server.dsn())
        .namespace(namespace)
        .refresh_interval(Duration::from_millis(5))
        .deadline(PATIENCE)
        .build()
        .expect("a valid connection string")
}

fn since_1970() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

fn python(server: &Server, namespace: &str) -> Python {
    let mut peer = Python::start(server);
    peer.bulkhead(NAME, namespace, PYTHON);
    peer
}

fn trip(peer: &mut Python) {
    while peer.state().state != "OPEN" {
        assert_eq!(peer.fail().outcome, Outcome::Failed);
    }
}

fn row(server: &Server, namespace: &str) -> Row {
    server.row(NAME, namespace).expect("a row")
}

fn assert_close(one: f64, other: f64, tolerance: f64) {
    assert!((one - other).abs() < tolerance, "{one} and {other}");
}

// ---- the rows

#[test]
fn both_write_the_same_rows() {
    let server = Server::shared();
    let (theirs, ours) = (server.fresh_namespace(), server.fresh_namespace());
    let mut python = python(server, &theirs);
    let rust = Rust::start(server, &ours);
    let both = |rust: &Rust, step: &str| {
        let expected = row(server, &theirs);
        eventually(&format!("the same row after {step}"), || {
            assert!(rust.breaker.flush(PATIENCE));
            server
                .row(NAME, &ours)
                .is_some_and(|row| row.read() == expected.read())
        });
        (expected, row(server, &ours))
    };
    for (step, succeeds) in [
        ("a success", true),
        ("a failure", false),
        ("the trip", false),
    ] {
        let called = if succeeds {
            python.succeed()
        } else {
            python.fail()
        };
        assert_ne!(called.outcome, Outcome::CircuitOpen);
        assert!(rust.call(succeeds));
        both(&rust, step);
    }
    let (theirs_open, ours_open) = both(&rust, "the trip");
    assert_eq!(ours_open.state, "OPEN");
    let in_a_while = since_1970() + ISOLATION.as_secs_f64();
    for row in [&theirs_open, &ours_open] {
        assert_close(row.open_until_epoch.unwrap(), in_a_while, 60.0);
    }
    assert_close(rust.open_until(), ours_open.open_until_epoch.unwrap(), 60.0);

    assert_eq!(python.succeed().outcome, Outcome::CircuitOpen);
    assert!(!rust.call(true));
    assert_eq!(both(&rust, "a refused call"), (theirs_open, ours_open));

    python.set_clock_ahead(LONGER.as_secs_f64());
    rust.clock.advance(LONGER);
    rust.eventually(CircuitState::HalfOpen);
    for step in ["a probe", "the last probe"] {
        assert_eq!(python.succeed().outcome, Outcome::Success);
        assert!(rust.call(true));
        both(&rust, step);
    }
    assert_eq!(row(server, &ours).read(), ("CLOSED", 0, false, Some("[]")));
}

// ---- who opens, opens for all

#[test]
fn python_trips_and_rust_refuses_until_the_same_moment() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let rust = Rust::start(server, &namespace);
    assert!(rust.call(true));
    trip(&mut python(server, &namespace));
    rust.eventually(CircuitState::Open);
    let row = row(server, &namespace);
    assert_close(rust.open_until(), row.open_until_epoch.unwrap(), 60.0);
    assert!(!rust.call(true));
    assert_eq!(
        server.row(NAME, &namespace),
        Some(row),
        "to see it is not to write it"
    );
}

#[test]
fn rust_trips_and_python_refuses() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut running = python(server, &namespace);
    assert_eq!(running.succeed().outcome, Outcome::Success);
    let mut policy = Python::start(server);
    policy.policy(NAME, &*namespace, always_looking());
    let mut lazy = Python::start(server);
    lazy.policy(
        NAME,
        &*namespace,
        Policy {
            refresh_seconds: Some(1.0),
            ..always_looking()
        },
    );

    // Python's outcomes are in the row that Rust begins with.
    Rust::start(server, &namespace).trip();
    let open = row(server, &namespace);
    assert_eq!(open.read().0, "OPEN");

    assert_eq!(policy.succeed().outcome, Outcome::CircuitOpen);
    eventually("a policy with an interval refuses", || {
        lazy.succeed().outcome == Outcome::CircuitOpen
    });
    // A running bulkhead does not look; that is how Python is.
    let state = running.rebuild();
    assert_eq!(state.state, "OPEN");
    assert_close(
        state.open_until.unwrap(),
        open.open_until_epoch.unwrap(),
        1e-5,
    );
    assert_eq!(running.succeed().outcome, Outcome::CircuitOpen);
    assert_eq!(server.row(NAME, &namespace), Some(open));
}

#[test]
fn the_first_opener_s_end_holds_for_both() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut python = python(server, &namespace);
    // Rust does not look by itself in this test.
    let storage = PostgresStorage::builder(server.dsn())
        .namespace(&*namespace)
        .refresh_interval(PATIENCE * 10)
        .deadline(PATIENCE)
        .build()
        .unwrap();
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder(NAME, rules().isolation_duration(ISOLATION * 10))
        .clock(clock)
        .storage(storage)
        .build()
        .unwrap();
    trip(&mut python);
    let row = row(server, &namespace);
    assert!(breaker.is_closed());
    breaker.trip();
    assert!(breaker.flush(PATIENCE));
    assert_eq!(server.row(NAME, &namespace), Some(row));
    let retry_after = breaker.try_acquire().expect_err("open").retry_after;
    assert!(
        retry_after < ISOLATION * 2,
        "Python's end, not its own: {retry_after:?}"
    );
}

#[test]
fn a_reset_by_hand_closes_what_python_has_opened() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut python = python(server, &namespace);
    trip(&mut python);
    let rust = Rust::start(server, &namespace);
    assert_eq!(rust.state(), CircuitState::Open);
    rust.breaker.reset();
    assert!(rust.breaker.flush(PATIENCE));
    assert_eq!(
        row(server, &namespace).read(),
        ("CLOSED", 0, false, Some("[]"))
    );
    assert_eq!(python.rebuild().state, "CLOSED");
    assert_eq!(rust.state(), CircuitState::Closed);
}

// ---- half-open

/// Opened by Python; the isolation is over for both; Rust is half-open, and so is the row.
fn half_open() -> (&'static Server, String, Python, Rust) {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut python = python(server, &namespace);
    trip(&mut python);
    let rust = Rust::start(server, &namespace);
    rust.eventually(CircuitState::Open);
    python.set_clock_ahead(LONGER.as_secs_f64());
    rust.clock.advance(LONGER);
    rust.eventually(CircuitState::HalfOpen);
    assert_eq!(
        row(server, &namespace).read(),
        ("HALF_OPEN", 0, false, Some("[]"))
    );
    assert_eq!(python.rebuild().state, "HALF_OPEN");
    (server, namespace, python, rust)
}

#[test]
fn python_s_probes_close_it_for_rust() {
    let (server, namespace, mut python, rust) = half_open();
    assert_eq!(python.succeed().outcome, Outcome::Success);
    assert_eq!(python.succeed().state.state, "CLOSED");
    rust.eventually(CircuitState::Closed);
    assert_eq!(
        row(server, &namespace).read(),
        ("CLOSED", 0, false, Some("[]"))
    );
}

#[test]
fn python_s_failing_probes_open_it_for_rust() {
    let (server, namespace, mut python, rust) = half_open();
    assert_eq!(python.fail().outcome, Outcome::Failed);
    assert_eq!(python.fail().state.state, "OPEN");
    rust.eventually(CircuitState::Open);
    let until = row(server, &namespace).open_until_epoch.unwrap();
    assert_close(rust.open_until() + LONGER.as_secs_f64(), until, 60.0);
}

#[test]
fn rust_s_probes_close_it_for_python() {
    let (server, namespace, _, rust) = half_open();
    let mut policy = Python::start(server);
    policy.set_clock_ahead(LONGER.as_secs_f64());
    assert_eq!(
        policy.policy(NAME, &*namespace, always_looking()).state,
        "HALF_OPEN"
    );
    assert!(rust.call(true) && rust.call(true));
    assert!(rust.breaker.flush(PATIENCE));
    assert_eq!(policy.succeed().state.state, "CLOSED");
}

#[test]
fn rust_s_failing_probe_opens_it_for_python() {
    let (server, namespace, mut python, rust) = half_open();
    assert!(rust.call(true) && rust.call(false));
    assert!(rust.breaker.flush(PATIENCE));
    let open = row(server, &namespace);
    assert_eq!(open.read(), ("OPEN", 1, true, Some("[true, false]")));
    // Python's own probe is let in, but what it writes is refused, and it gives way.
    assert_eq!(python.succeed().outcome, Outcome::Success);
    assert_eq!(python.succeed().state.state, "OPEN");
    assert_eq!(server.row(NAME, &namespace), Some(open));
}

// ---- restarts

#[test]
fn rust_goes_on_with_what_python_has_stored() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut python = python(server, &namespace);
    python.succeed();
    python.fail();
    let rust = Rust::start(server, &namespace);
    assert_eq!(rust.state(), CircuitState::Closed);
    assert!(rust.call(false));
    assert_eq!(
        rust.state(),
        CircuitState::Open,
        "the second failure of three"
    );
    drop(rust);

    for (state, until, log, expected) in [
        ("CLOSED", "null", "'[]'", CircuitState::Closed),
        // Stored failures do not open it by themselves.
        (
            "CLOSED",
            "null",
            "'[false, false, false]'",
            CircuitState::Closed,
        ),
        (
            "OPEN",
            "now() + interval '1 hour'",
            "'[false, false]'",
            CircuitState::Open,
        ),
        ("OPEN", "null", "'[false, false]'", CircuitState::Open),
        (
            "open",
            "now() + interval '1 hour'",
            "'[]'",
            CircuitState::Closed,
        ),
        ("OPEN", "'infinity'", "'[]'", CircuitState::Closed),
        ("HALF_OPEN", "null", "'[true]'", CircuitState::HalfOpen),
        ("HALF_OPEN", "null", "null", CircuitState::HalfOpen),
    ] {
        let namespace = server.fresh_namespace();
        server.set_row(NAME, &namespace, state, 2, until, log);
        let rust = Rust::start(server, &namespace);
        assert_eq!(rust.state(), expected, "{state} {until} {log}");
        match (expected, log) {
            (CircuitState::Closed, "'[false, false, false]'") => {
                assert!(rust.call(false));
                assert_eq!(rust.state(), CircuitState::Open);
            }
            (CircuitState::HalfOpen, log) => {
                assert!(rust.call(true));
                let closes = log == "'[true]'";
                assert_eq!(rust.state() == CircuitState::Closed, closes, "{log}");
            }
            (CircuitState::Open, _) if until == "null" => {
                let retry_after = rust.breaker.try_acquire().expect_err("open").retry_after;
                assert_eq!(retry_after, ISOLATION, "its own, from now");
            }
            _ => {}
        }
    }

    let namespace = server.fresh_namespace();
    server.set_row(
        NAME,
        &namespace,
        "OPEN",
        2,
        "now() - interval '1 s'",
        "'[false, false]'",
    );
    let rust = Rust::start(server, &namespace);
    rust.eventually(CircuitState::HalfOpen);
    eventually("the row too", || {
        row(server, &namespace).state == "HALF_OPEN"
    });
}

#[test]
fn python_goes_on_with_what_rust_has_stored() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let rust = Rust::start(server, &namespace);
    assert!(rust.call(true) && rust.call(false));
    eventually("the outcomes are stored", || {
        server
            .row(NAME, &namespace)
            .is_some_and(|row| row.execution_log.as_deref() == Some("[true, false]"))
    });
    let mut python = python(server, &namespace);
    assert_eq!(python.state().execution_log, [true, false]);
    assert_eq!(python.fail().state.state, "OPEN");
    rust.eventually(CircuitState::Open);
}

// ---- administration, environment, clocks

#[test]
fn atomic_updates_of_both_lose_nothing() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let mut peers = [(); 2].map(|()| Python::start(server));
    let pending = peers
        .each_mut()
        .map(|peer| peer.start_increments(NAME, &namespace, 50));
    thread::scope(|scope| {
        for _ in 0..2 {
            let storage = storage(server, &namespace);
            scope.spawn(move || {
                for _ in 0..50 {
                    let increment = |stored: Option<&CircuitRecord>| {
                        let mut record = stored.cloned().unwrap_or_else(CircuitRecord::closed);
                        record.failure_count += 1;
                        Some(record)
                    };
                    storage.update(NAME, increment).unwrap();
                }
            });
        }
    });
    for increments in pending {
        increments.finish();
    }
    assert_eq!(row(server, &namespace).failure_count, 200);
}

#[test]
fn each_accepts_the_other_s_table() {
    let ours = Server::start();
    storage(&ours, "any").ensure_schema().unwrap();
    let mut python = Python::start(&ours);
    let (status, output) = python.tool(&["pg-check"]);
    assert_eq!(status, 0, "complete, as by pg-setup: {output}");

    let theirs = Server::start();
    let mut python = Python::start(&theirs);
    python.set_up();
    let before = theirs.sql("select oid::text from pg_class order by 1");
    let storage = storage(&theirs, "any");
    storage.check().unwrap();
    storage.ensure_schema().unwrap();
    let after = theirs.sql("select oid::text from pg_class order by 1");
    assert_eq!(before, after, "nothing was to be made");
}

#[test]
fn the_same_environment_leads_to_the_same_row() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let dsn = server.dsn();
    let part = |key| server.part(key).to_owned();
    let discrete = vec![
        ("RC_DB_HOST", part("host")),
        ("RC_DB_PORT", part("port")),
        ("RC_DB_USER", part("user")),
        ("RC_DB_PASSWORD", part("password")),
        ("RC_DB_NAME", part("dbname")),
        ("RC_NAMESPACE", namespace.clone()),
    ];
    let by_dsn = vec![
        ("RC_DB_DSN", dsn),
        ("RC_DB_STRICT", "yes".into()),
        ("RC_NAMESPACE", namespace.clone()),
    ];
    for environment in [discrete, by_dsn] {
        storage(server, &namespace).remove(NAME).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "child_with_an_environment", "--ignored"])
            .envs(environment);
        let output = child.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert_eq!(row(server, &namespace).state, "OPEN");
    }
    // None of it is set for this process.
    if std::env::var_os("RC_DB_DSN").is_none() && std::env::var_os("RC_DB_HOST").is_none() {
        assert!(PostgresStorage::builder_from_env().unwrap().is_none());
    }
}

#[test]
#[ignore = "started by the test above, with an environment"]
fn child_with_an_environment() {
    let storage = PostgresStorage::builder_from_env()
        .unwrap()
        .expect("a server");
    let bulkhead = Bulkhead::builder(BulkheadConfig::new(NAME).circuit_breaker(rules()))
        .circuit_storage(storage.deadline(PATIENCE).build().unwrap())
        .build()
        .unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    assert!(bulkhead.circuit_breaker().unwrap().flush(PATIENCE));
}

#[test]
fn a_clock_two_minutes_ahead() {
    const SKEW: Duration = Duration::from_secs(120);
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    // Python is ahead: what it opens for ten minutes, is open for twelve.
    let mut ahead = python(server, &namespace);
    ahead.set_clock_ahead(SKEW.as_secs_f64());
    trip(&mut ahead);
    let rust = Rust::start(server, &namespace);
    assert_close(
        rust.open_until(),
        since_1970() + (ISOLATION + SKEW).as_secs_f64(),
        60.0,
    );

    // Rust is ahead: for it, a minute's rest is over already. The table lets it, as it lets Python.
    server.set_row(
        NAME,
        &namespace,
        "OPEN",
        1,
        "now() + interval '1 minute'",
        "'[]'",
    );
    rust.eventually(CircuitState::Open);
    rust.clock.advance(SKEW);
    rust.eventually(CircuitState::HalfOpen);
    eventually("it is written", || {
        row(server, &namespace).state == "HALF_OPEN"
    });
    let stored = storage(server, &namespace).load(NAME).unwrap().unwrap();
    assert_eq!(stored.record.state, CircuitState::HalfOpen);
}
