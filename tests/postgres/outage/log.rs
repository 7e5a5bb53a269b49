//! The log of an outage: one warning.

use log::{Level, LevelFilter};

use super::helpers::{breaker, in_step, in_trouble, lives_alone, server, storage};
use crate::support::{PATIENCE, logged};

/// The warnings that name this port.
fn warnings(port: u16) -> Vec<String> {
    let mine =
        |line: &logged::Line| line.level <= Level::Warn && line.text.contains(&format!(":{port},"));
    let lines = logged::lines().into_iter();
    lines.filter(mine).map(|line| line.text).collect()
}

#[test]
fn one_warning_for_each_outage() {
    logged::collect(LevelFilter::Info);
    let mut server = server();
    let port = server.address().port();
    let storage = storage(&server.dsn(), PATIENCE);
    let (breaker, clock) = breaker(&storage);
    for outage in 1..=2 {
        server.kill();
        in_trouble(&storage);
        lives_alone(&breaker, &clock);
        for _ in 0..100 {
            assert!(breaker.try_acquire().is_err());
        }
        assert_eq!(warnings(port).len(), outage, "{:?}", warnings(port));
        server.restart();
        in_step(&storage, &breaker);
        breaker.reset();
        assert!(breaker.flush(PATIENCE));
    }
    let password = server.part("password");
    let lines = logged::lines();
    assert!(lines.iter().all(|line| !line.text.contains(password)));
}
