//! Callbacks hear of each change.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bulkman::{CircuitBreaker, CircuitChange, CircuitState};

use super::helpers::builder;
use crate::helpers::{ISOLATION, rules};

fn pair(change: &CircuitChange) -> (CircuitState, CircuitState) {
    (change.from, change.to)
}

#[test]
fn callbacks_hear_of_each_change_in_order() {
    use CircuitState::{Closed, HalfOpen, Open};

    let heard = Arc::new(Mutex::new(Vec::new()));
    let (builder, clock) = builder(rules());
    let listener = |number: u32| {
        let heard = Arc::clone(&heard);
        move |change: &CircuitChange| heard.lock().unwrap().push((number, change.clone()))
    };
    let breaker = builder
        .on_change(listener(1))
        .on_change(listener(2))
        .build()
        .unwrap();
    breaker.record_failure();
    breaker.record_failure();
    clock.advance(ISOLATION);
    let _ = breaker.call(|| Ok::<_, ()>(()));
    let _ = breaker.call(|| Ok::<_, ()>(()));
    breaker.trip();
    breaker.reset();
    let heard = heard.lock().unwrap();
    let numbers: Vec<_> = heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2].repeat(5));
    let changes: Vec<_> = heard.iter().step_by(2).map(|(_, c)| c.clone()).collect();
    assert_eq!(
        changes.iter().map(pair).collect::<Vec<_>>(),
        [
            (Closed, Open),
            (Open, HalfOpen),
            (HalfOpen, Closed),
            (Closed, Open),
            (Open, Closed)
        ]
    );
    let sequence: Vec<_> = changes.iter().map(|change| change.sequence).collect();
    assert_eq!(sequence, [1, 2, 3, 4, 5]);
    assert!(changes.iter().all(|change| &*change.name == "dependency"));
}

#[test]
fn the_sequence_counts_changes_only() {
    let sequence = Arc::new(Mutex::new(Vec::new()));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let sequence = Arc::clone(&sequence);
            move |change| sequence.lock().unwrap().push(change.sequence)
        })
        .build()
        .unwrap();
    breaker.reset();
    breaker.trip();
    breaker.trip();
    breaker.reset();
    assert_eq!(*sequence.lock().unwrap(), [1, 2]);
}

#[test]
fn what_changes_nothing_is_told_to_nobody() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let heard = Arc::clone(&heard);
            move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    breaker.reset();
    breaker.record_success();
    breaker.record_failure();
    drop(breaker.try_acquire());
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    breaker.trip();
    breaker.trip();
    assert!(breaker.try_acquire().is_err());
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}

#[test]
fn a_callback_may_use_the_breaker() {
    let slot: Arc<OnceLock<Arc<CircuitBreaker>>> = Arc::default();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (builder, _clock) = builder(rules());
    let breaker = builder
        .on_change({
            let (slot, heard) = (Arc::clone(&slot), Arc::clone(&heard));
            move |change| {
                let breaker = slot.get().unwrap();
                assert_eq!(breaker.state(), change.to);
                heard.lock().unwrap().push(pair(change));
                // This callback closes an open circuit at once.
                if change.to == CircuitState::Open {
                    assert!(breaker.try_acquire().is_err());
                    breaker.record_failure();
                    breaker.reset();
                    assert!(breaker.try_acquire().is_ok());
                }
            }
        })
        .build()
        .unwrap();
    let breaker = slot.get_or_init(|| Arc::new(breaker));
    breaker.trip();
    assert!(breaker.is_closed());
    assert_eq!(
        *heard.lock().unwrap(),
        [
            (CircuitState::Closed, CircuitState::Open),
            (CircuitState::Open, CircuitState::Closed)
        ]
    );
}

#[test]
fn a_callback_that_panics_is_contained_and_the_others_are_told() {
    let heard = Arc::new(AtomicUsize::new(0));
    let (builder, clock) = builder(rules());
    let breaker = builder
        .on_change(|_| panic!("a callback that panics"))
        .on_change({
            let heard = Arc::clone(&heard);
            move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().record_failure();
    breaker.try_acquire().unwrap().record_failure();
    assert!(breaker.is_open());
    clock.advance(ISOLATION);
    breaker.try_acquire().unwrap().record_success();
    breaker.try_acquire().unwrap().record_success();
    assert!(breaker.is_closed());
    assert_eq!(heard.load(Ordering::Relaxed), 3);
}
