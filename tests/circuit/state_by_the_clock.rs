//! What a circuit says of itself is true by the clock, whether or not a call has asked. To ask moves nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{config, eventually, wait};
use bulkman::{
    Bulkhead, BulkheadEvent, BulkheadState, CircuitBreaker, CircuitBreakerConfig, CircuitState,
    CircuitStorage, ManualClock, MemoryStorage,
};

const ISOLATION: Duration = Duration::from_secs(30);
const NANO: Duration = Duration::from_nanos(1);

fn rules() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(ISOLATION)
}

#[test]
fn a_router_that_goes_by_the_health_finds_its_way_back() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .build()
        .unwrap();
    let is_down = std::sync::atomic::AtomicBool::new(true);
    // Calls are sent here only while it says that it is healthy.
    let route = || {
        if !bulkhead.is_healthy() {
            return None;
        }
        let is_down = is_down.load(Ordering::Relaxed);
        Some(
            wait(bulkhead.execute(move || if is_down { Err("down") } else { Ok(()) })).is_success(),
        )
    };
    assert_eq!(route(), Some(false));
    assert_eq!(route(), None);
    clock.advance(ISOLATION - NANO);
    assert_eq!((route(), bulkhead.state()), (None, BulkheadState::Isolated));
    clock.advance(NANO);
    assert_eq!(bulkhead.state(), BulkheadState::Degraded);
    assert_eq!(bulkhead.stats().circuit_state, Some(CircuitState::HalfOpen));
    is_down.store(false, Ordering::Relaxed);
    assert_eq!(route(), Some(true));
    assert_eq!(bulkhead.state(), BulkheadState::Healthy);
}

#[test]
fn to_ask_announces_nothing_and_the_change_is_announced_once() {
    let clock = ManualClock::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let bulkhead = Bulkhead::builder(config(1, 1).circuit_breaker(rules()))
        .clock(clock.clone())
        .listener({
            let heard = Arc::clone(&heard);
            move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::CircuitChanged { change, .. } = event {
                    heard.lock().unwrap().push(change.to);
                }
            }
        })
        .build()
        .unwrap();
    let breaker = bulkhead.circuit_breaker().unwrap();
    breaker.trip();
    clock.advance(ISOLATION);
    // The lock is held: a callback that ran in here would wait for it for ever.
    let told = heard.lock().unwrap();
    for _ in 0..3 {
        assert!(breaker.is_half_open() && bulkhead.is_healthy());
        assert!(!format!("{breaker:?} {bulkhead:?}").is_empty());
        assert_eq!(breaker.stats().state, CircuitState::HalfOpen);
        assert_eq!(bulkhead.stats().state, BulkheadState::Degraded);
    }
    assert_eq!(*told, [CircuitState::Open]);
    drop(told);
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            CircuitState::Open,
            CircuitState::HalfOpen,
            CircuitState::Closed
        ]
    );
}

#[test]
fn what_it_says_is_what_a_call_finds() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("dependency", rules().probe_timeout(2 * ISOLATION))
        .clock(clock.clone())
        .build()
        .unwrap();
    let mut held = Vec::new();
    let mut seen = Vec::new();
    breaker.trip();
    for _ in 0..40 {
        let (state, retry_after) = (breaker.state(), breaker.stats().retry_after);
        match breaker.try_acquire() {
            Ok(permit) => {
                assert_eq!((state, retry_after), (CircuitState::HalfOpen, None));
                held.push(permit);
            }
            Err(refused) => {
                assert_eq!(retry_after, Some(refused.retry_after));
                assert!(refused.retry_after > Duration::ZERO);
            }
        }
        assert_eq!(breaker.state(), state, "the call found something else");
        seen.push(state);
        clock.advance(ISOLATION / 2);
    }
    assert!(seen.contains(&CircuitState::Open) && seen.contains(&CircuitState::HalfOpen));
}

/// A shared circuit is open until its synchronizer has asked the storage, since calls are refused until then.
#[test]
fn a_shared_circuit_says_half_open_when_its_calls_pass() {
    let clock = ManualClock::new();
    let told = Arc::new(AtomicUsize::new(0));
    let storage = MemoryStorage::new();
    let breaker = CircuitBreaker::builder("dependency", rules())
        .clock(clock.clone())
        .storage(storage.clone())
        .on_change({
            let told = Arc::clone(&told);
            move |_| {
                told.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    breaker.trip();
    assert!(breaker.flush(crate::support::PATIENCE));
    clock.advance(ISOLATION);
    eventually("nobody asks, and yet", || breaker.is_half_open());
    breaker.try_acquire().expect("a probe").record_success();
    assert!(breaker.is_closed());
    assert_eq!(told.load(Ordering::Relaxed), 3);
    let row = storage.load("dependency").unwrap().expect("stored");
    assert_ne!(row.record.state, CircuitState::Open);
}
