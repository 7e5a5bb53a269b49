//! Probes of one side close the circuit for both, or open it again.

use bulkman::CircuitState;

use super::helpers::{LONGER, NAME, Rust, always_looking, assert_close, python, row, trip};
use crate::support::PATIENCE;
use crate::support::postgres::{Outcome, Python, Server};

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
