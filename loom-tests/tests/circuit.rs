//! The breaker's probes: never more than allowed, and none lost.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::{CircuitBreaker, CircuitBreakerConfig};
use loom::thread;
use support::explore;

fn breaker() -> Arc<CircuitBreaker> {
    let config = CircuitBreakerConfig::default()
        .failure_threshold(1)
        .success_threshold(1)
        .isolation_duration(Duration::from_secs(1));
    Arc::new(CircuitBreaker::new("model", config).unwrap())
}

/// Two threads ask at the moment the isolation ends: one probe goes out.
#[test]
fn two_callers_for_one_probe() {
    explore("two callers, one probe", 3, || {
        let breaker = breaker();
        breaker.force_open();
        bulkman::__model::advance(Duration::from_secs(1));
        let out = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (breaker, out) = (Arc::clone(&breaker), Arc::clone(&out));
            move || {
                if let Ok(permit) = breaker.try_acquire() {
                    assert_eq!(out.fetch_add(1, Ordering::Relaxed), 0, "two probes at once");
                    thread::yield_now();
                    out.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                }
            }
        };
        let other = thread::spawn(ask.clone());
        ask();
        other.join().unwrap();
        assert!(breaker.is_half_open());
        assert!(breaker.try_acquire().is_ok(), "a turn was lost");
    });
}

/// A failure opens the circuit while another call passes; the late success closes nothing.
#[test]
fn late_success_against_opening() {
    explore("late success", 3, || {
        let breaker = breaker();
        let other = Arc::clone(&breaker);
        let late = thread::spawn(move || {
            if let Ok(permit) = other.try_acquire() {
                permit.record_success();
            }
        });
        breaker.try_acquire().expect("closed").record_failure();
        late.join().unwrap();
        assert!(breaker.is_open());
    });
}

/// The refusal without the lock never says "open" about a circuit that was closed before the call.
#[test]
fn reset_against_refusal() {
    explore("reset against refusal", 3, || {
        let breaker = breaker();
        breaker.force_open();
        let other = Arc::clone(&breaker);
        let asking = thread::spawn(move || drop(other.try_acquire()));
        breaker.reset();
        assert!(breaker.try_acquire().is_ok());
        asking.join().unwrap();
        assert!(breaker.is_closed());
    });
}
