//! Both write the same rows, accept the same table and lose no update.

use std::thread;

use bulkman::{CircuitRecord, CircuitState};

use super::helpers::{
    ISOLATION, LONGER, NAME, Rust, assert_close, python, row, since_1970, storage,
};
use crate::support::postgres::{Outcome, Python, Server};
use crate::support::{PATIENCE, eventually};

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
