//! Clocks that differ.

use std::time::Duration;

use bulkman::{CircuitState, CircuitStorage};

use super::helpers::{ISOLATION, NAME, Rust, assert_close, python, row, since_1970, storage, trip};
use crate::support::eventually;
use crate::support::postgres::Server;

#[test]
fn a_clock_two_minutes_ahead() {
    const SKEW: Duration = Duration::from_secs(120);
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    // Python is ahead: it opens the circuit for ten minutes, and that lasts twelve.
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
