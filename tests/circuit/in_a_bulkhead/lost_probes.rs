//! Probes that never start give their turn back.

use bulkman::{Bulkhead, BulkheadError, CircuitState, ExecutionHandle, ManualClock};

use super::helpers::{assert_probe_turns, build, circuit_of, fail, is_refused, succeed};
use crate::helpers::ISOLATION;
use crate::support::{SECOND, config, occupy, wait};

/// Half-open, with one worker that is busy with a call from before, so that probes queue.
fn half_open_with_probes_queued(
    end: impl FnOnce(&Bulkhead, &ManualClock, [ExecutionHandle<(), &'static str>; 2]),
) {
    let (bulkhead, clock) = build(config(1, 4));
    for _ in 0..2 {
        fail(&bulkhead);
    }
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let probes = [(); 2].map(|()| {
        bulkhead
            .call()
            .queue_timeout(SECOND)
            .execute(|| Ok::<_, &'static str>(()))
    });
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    assert!(is_refused(&bulkhead), "both turns are taken");
    end(&bulkhead, &clock, probes);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen, "no verdict");
    assert_probe_turns(&bulkhead, 2);
    drop(busy.handles);
}

#[test]
fn a_cancelled_probe_gives_its_turn_back() {
    half_open_with_probes_queued(|_, _, probes| {
        for probe in probes {
            assert!(probe.cancel());
        }
    });
}

#[test]
fn an_expired_probe_gives_its_turn_back() {
    half_open_with_probes_queued(|_, clock, probes| {
        clock.advance(SECOND);
        for probe in probes {
            assert!(matches!(
                probe.wait().error(),
                Some(BulkheadError::QueueTimeout { .. })
            ));
        }
    });
}

#[test]
fn a_detached_probe_that_is_cancelled_on_drop_gives_its_turn_back() {
    half_open_with_probes_queued(|_, _, probes| {
        for probe in probes {
            drop(probe.cancel_on_drop());
        }
    });
}

#[test]
fn a_call_refused_as_full_never_uses_up_a_probe() {
    let (bulkhead, clock) = build(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    for _ in 0..10 {
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
    }
    let stats = bulkhead.circuit_breaker().unwrap().stats();
    assert_eq!(stats.probes_in_flight, 0, "it was not even asked");
    busy.finish();
    succeed(&bulkhead);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn a_shutdown_gives_queued_probes_turns_back_and_counts_no_failure() {
    let (bulkhead, clock) = build(config(1, 4));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(ISOLATION);
    let probes = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    assert_eq!(bulkhead.shutdown_now().cancelled, 2);
    for probe in probes {
        assert!(!wait(probe).is_success());
    }
    let breaker = bulkhead.circuit_breaker().unwrap();
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let permits: Vec<_> = std::iter::from_fn(|| breaker.try_acquire().ok())
        .take(5)
        .collect();
    assert_eq!(permits.len(), 2, "both turns are free again");
    drop(permits);
    busy.finish();
}
