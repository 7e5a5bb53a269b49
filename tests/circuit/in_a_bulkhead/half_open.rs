//! Half-open: the next calls are probes, which close the circuit or open it again.

use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, CircuitState};

use super::helpers::{build, circuit_of, fail, is_refused, open, probe, succeed};
use crate::helpers::ISOLATION;
use crate::support::{Gate, OpenOnDrop, config, wait};

#[test]
fn after_the_isolation_the_next_calls_are_probes_and_close_it() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(ISOLATION - Duration::from_nanos(1));
    assert!(is_refused(&bulkhead));
    clock.advance(Duration::from_nanos(1));
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
    // The run of failures begins anew.
    fail(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn a_failed_probe_opens_it_again_for_the_whole_isolation() {
    let (bulkhead, clock) = build(config(2, 4));
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    fail(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
    clock.advance(ISOLATION - Duration::from_nanos(1));
    assert!(is_refused(&bulkhead));
    clock.advance(Duration::from_nanos(1));
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
}

#[test]
fn half_open_lets_no_more_probes_out_than_the_success_threshold() {
    let (bulkhead, clock) = build(config(4, 4));
    open(&bulkhead);
    clock.advance(ISOLATION);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let probes = [probe(&bulkhead, &gate), probe(&bulkhead, &gate)];
    gate.wait_for_arrivals(2);
    for _ in 0..5 {
        let result = wait(bulkhead.run(|| ()));
        assert!(matches!(
            result.error(),
            Some(BulkheadError::CircuitOpen {
                retry_after: ISOLATION, // the limit of a probe
                ..
            })
        ));
    }
    drop(opener);
    for probe in probes {
        assert!(wait(probe).is_success());
    }
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}

#[test]
fn many_callers_never_get_more_probes_through_than_allowed() {
    for _ in 0..20 {
        let (bulkhead, clock) = build(config(4, 12));
        open(&bulkhead);
        clock.advance(ISOLATION);
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let probes: Vec<_> = thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..4)
                            .map(|_| probe(&bulkhead, &gate))
                            .filter(|probe| !probe.is_finished())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        });
        assert_eq!(probes.len(), 2);
        drop(opener);
        for probe in probes {
            assert!(wait(probe).is_success());
        }
    }
}

#[test]
fn a_probe_that_panics_opens_it_again() {
    let (bulkhead, clock) = build(config(1, 1));
    open(&bulkhead);
    clock.advance(ISOLATION);
    let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("down")));
    assert!(!result.is_success());
    assert_eq!(circuit_of(&bulkhead), CircuitState::Open);
}

#[test]
fn outcomes_of_calls_from_before_a_transition_do_not_count() {
    let (bulkhead, clock) = build(config(4, 4));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let old: Vec<_> = (0..3)
        .map(|i| {
            let gate = gate.clone();
            bulkhead.execute(move || {
                gate.pass();
                if i == 0 { Ok(()) } else { Err("old") }
            })
        })
        .collect();
    gate.wait_for_arrivals(3);
    open(&bulkhead);
    clock.advance(ISOLATION);
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::HalfOpen);
    drop(opener);
    for handle in old {
        let _ = wait(handle);
    }
    assert_eq!(
        circuit_of(&bulkhead),
        CircuitState::HalfOpen,
        "neither closed by the old success nor opened by an old failure"
    );
    succeed(&bulkhead);
    assert_eq!(circuit_of(&bulkhead), CircuitState::Closed);
}
