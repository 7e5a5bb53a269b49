//! A new process goes on with the circuit that the other side has stored.

use bulkman::CircuitState;

use super::helpers::{ISOLATION, NAME, Rust, python, row};
use crate::support::eventually;
use crate::support::postgres::Server;

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
