//! One circuit, in Rust and in Python.
//!
//! No test waits for an isolation: the clocks of both sides are set ahead.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitState, ManualClock, PostgresStorage};

use crate::support::postgres::{Bulkman, Outcome, Policy, Python, Row, Server};
use crate::support::{PATIENCE, eventually};

pub const NAME: &str = "demo";
pub const ISOLATION: Duration = Duration::from_secs(600);
pub const LONGER: Duration = Duration::from_secs(601);

/// bulkman's rules in Python: the circuit opens on a failure that makes two of the last three.
pub const PYTHON: Bulkman = Bulkman {
    failure_threshold: 3,
    success_threshold: 2,
    isolation_seconds: ISOLATION.as_secs() as f64,
};

/// The same in Rust.
pub fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_rate(2.0 / 3.0, 3)
        .success_threshold(2)
        .isolation_duration(ISOLATION)
}

/// A policy of resilient-circuit that looks at the table before each call.
pub fn always_looking() -> Policy {
    Policy {
        failure_limit: (2, 3),
        cooldown_seconds: ISOLATION.as_secs_f64(),
        refresh_seconds: None,
        ..Policy::default()
    }
}

pub struct Rust {
    pub breaker: CircuitBreaker,
    pub clock: ManualClock,
}

impl Rust {
    /// As a new process would begin.
    pub fn start(server: &Server, namespace: &str) -> Self {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::builder(NAME, rules())
            .clock(clock.clone())
            .storage(storage(server, namespace))
            .build()
            .expect("a breaker");
        Self { breaker, clock }
    }

    /// Makes a call, and returns whether it was let in.
    pub fn call(&self, succeeds: bool) -> bool {
        match self.breaker.try_acquire() {
            Ok(permit) if succeeds => permit.record_success(),
            Ok(permit) => permit.record_failure(),
            Err(_) => return false,
        }
        true
    }

    pub fn state(&self) -> CircuitState {
        self.breaker.state()
    }

    pub fn eventually(&self, state: CircuitState) {
        eventually(&format!("Rust is {state}"), || self.state() == state);
    }

    pub fn trip(&self) {
        for succeeds in [true, false, false] {
            assert!(self.call(succeeds));
        }
        assert_eq!(self.state(), CircuitState::Open);
        assert!(self.breaker.flush(PATIENCE));
    }

    /// When it lets the next probe in, as Python writes it.
    pub fn open_until(&self) -> f64 {
        let refused = self.breaker.try_acquire().expect_err("it is open");
        since_1970() + refused.retry_after.as_secs_f64()
    }
}

pub fn storage(server: &Server, namespace: &str) -> PostgresStorage {
    PostgresStorage::builder(server.dsn())
        .namespace(namespace)
        .refresh_interval(Duration::from_millis(5))
        .deadline(PATIENCE)
        .build()
        .expect("a valid connection string")
}

pub fn since_1970() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

pub fn python(server: &Server, namespace: &str) -> Python {
    let mut peer = Python::start(server);
    peer.bulkhead(NAME, namespace, PYTHON);
    peer
}

pub fn trip(peer: &mut Python) {
    while peer.state().state != "OPEN" {
        assert_eq!(peer.fail().outcome, Outcome::Failed);
    }
}

pub fn row(server: &Server, namespace: &str) -> Row {
    server.row(NAME, namespace).expect("a row")
}

pub fn assert_close(one: f64, other: f64, tolerance: f64) {
    assert!((one - other).abs() < tolerance, "{one} and {other}");
}
