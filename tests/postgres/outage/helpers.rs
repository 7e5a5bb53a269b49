//! Circuits on a server that the test stops, kills or freezes.

use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitBreakerConfig, CircuitStorage, ManualClock, PostgresStorage};

use crate::support;
use crate::support::postgres::Server;
use crate::support::{PATIENCE, eventually};

pub const NAME: &str = "demo";
pub const NAMESPACE: &str = "outage";
pub const ISOLATION: Duration = Duration::from_secs(600);

pub fn rules() -> CircuitBreakerConfig {
    support::rules(2, 1, ISOLATION)
}

/// `deadline` is for servers that do not answer. The others are given all the time they need.
pub fn storage(dsn: &str, deadline: Duration) -> PostgresStorage {
    PostgresStorage::builder(dsn)
        .namespace(NAMESPACE)
        .refresh_interval(Duration::from_millis(5))
        .deadline(deadline)
        .build()
        .expect("a valid connection string")
}

pub fn breaker(storage: &PostgresStorage) -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder(NAME, rules())
        .clock(clock.clone())
        .storage(storage.clone())
        .build()
        .expect("a breaker");
    (breaker, clock)
}

pub fn server() -> Server {
    let server = Server::start();
    server.create_table();
    server
}

pub fn trip(breaker: &CircuitBreaker) {
    for _ in 0..2 {
        breaker.try_acquire().expect("closed").record_failure();
    }
    assert!(breaker.is_open());
}

pub fn in_trouble(storage: &PostgresStorage) {
    eventually("the trouble is seen", || storage.sync().trouble().is_some());
}

pub fn in_step(storage: &PostgresStorage, breaker: &CircuitBreaker) {
    eventually("it is in step again", || {
        storage.sync().trouble().is_none() && breaker.flush(PATIENCE)
    });
}

pub fn state(server: &Server) -> Option<String> {
    server.row(NAME, NAMESPACE).map(|row| row.state)
}

/// The whole life of a circuit that nobody hears of.
pub fn lives_alone(breaker: &CircuitBreaker, clock: &ManualClock) {
    trip(breaker);
    assert!(!breaker.flush(PATIENCE), "it says so at once");
    clock.advance(ISOLATION);
    eventually("it ends the isolation by itself", || breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_success();
    assert!(breaker.is_closed());
    trip(breaker);
}

/// The outage is over, and it has lost nothing.
pub fn comes_back_open(server: &Server, storage: &PostgresStorage, breaker: &CircuitBreaker) {
    in_step(storage, breaker);
    assert_eq!(state(server).as_deref(), Some("OPEN"));
    assert!(breaker.is_open(), "no outage loses it");
}
