//! A circuit that one side opens is open for both.

use bulkman::{CircuitBreaker, CircuitState, ManualClock, PostgresStorage};

use super::helpers::{
    ISOLATION, NAME, Rust, always_looking, assert_close, python, row, rules, trip,
};
use crate::support::postgres::{Outcome, Policy, Python, Server};
use crate::support::{PATIENCE, eventually};

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
