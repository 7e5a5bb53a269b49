//! One breaker in many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bulkman::{CircuitBreaker, CircuitState};

use super::helpers::{breaker, builder, half_open, turns};
use crate::helpers::{ISOLATION, rules};

#[test]
fn never_more_probes_are_in_flight_than_allowed() {
    const PROBES: usize = 3;

    let in_flight = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    for _ in 0..200 {
        let (breaker, clock) = breaker(rules().success_threshold(PROBES));
        breaker.trip();
        clock.advance(ISOLATION);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Ok(permit) = breaker.try_acquire() else {
                            thread::yield_now();
                            continue;
                        };
                        // Not told apart from calls that a closed circuit lets pass, so nobody
                        // ever says success: it stays half-open.
                        let now = in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(breaker.is_half_open());
        assert_eq!(turns(&breaker), PROBES, "no turn was lost");
    }
    assert!(most.load(Ordering::SeqCst) <= PROBES);
}

#[test]
fn changes_seen_by_many_threads_are_one_chain() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let (builder, clock) = builder(rules().failure_threshold(1).success_threshold(1));
    let breaker = builder
        .on_change({
            let changes = Arc::clone(&changes);
            move |change| changes.lock().unwrap().push(change.clone())
        })
        .build()
        .unwrap();
    thread::scope(|scope| {
        for t in 0..4 {
            let (breaker, clock) = (&breaker, &clock);
            scope.spawn(move || {
                for i in 0..500 {
                    clock.advance(ISOLATION);
                    let _ = breaker.call(|| if (i + t) % 2 == 0 { Ok(()) } else { Err(()) });
                }
            });
        }
    });
    let mut changes = changes.lock().unwrap();
    changes.sort_by_key(|change| change.sequence);
    assert!(changes.len() > 4);
    assert_eq!(changes[0].from, CircuitState::Closed);
    for (i, change) in changes.iter().enumerate() {
        assert_eq!(change.sequence, i as u64 + 1);
        if i > 0 {
            assert_eq!(change.from, changes[i - 1].to);
        }
    }
    assert_eq!(changes.last().unwrap().to, breaker.state());
}

/// Compiles only if it can be shared.
#[test]
fn it_can_be_shared_and_shown() {
    fn crosses<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let (breaker, _clock) = breaker(rules());
    crosses(&breaker);
    assert!(format!("{breaker:?}").contains("dependency"));
    assert_eq!(breaker.name(), "dependency");
    let is = |breaker: &CircuitBreaker| {
        [
            breaker.is_closed(),
            breaker.is_open(),
            breaker.is_half_open(),
        ]
    };
    assert_eq!(is(&breaker), [true, false, false]);
    breaker.trip();
    assert_eq!(is(&breaker), [false, true, false]);
    assert_eq!(is(&half_open().0), [false, false, true]);
    assert_eq!(CircuitState::HalfOpen.to_string(), "half-open");
}
