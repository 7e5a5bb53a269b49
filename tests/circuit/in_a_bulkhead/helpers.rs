//! Bulkheads with a breaker and a clock that the test moves.

use std::sync::Arc;

use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, CircuitBreakerConfig, CircuitState, ExecutionHandle,
    ManualClock,
};

use crate::helpers;
use crate::support::{Gate, OpenOnDrop, wait, with_clock};

/// Three failures in a row open the circuit, and two successful probes close it.
pub fn rules() -> CircuitBreakerConfig {
    helpers::rules().failure_threshold(3)
}

pub fn build(config: BulkheadConfig) -> (Arc<Bulkhead>, ManualClock) {
    with_clock(config.circuit_breaker(rules()))
}

pub fn circuit_of(bulkhead: &Bulkhead) -> CircuitState {
    bulkhead.circuit_breaker().expect("configured").state()
}

pub fn succeed(bulkhead: &Bulkhead) {
    assert!(wait(bulkhead.run(|| ())).is_success());
}

pub fn fail(bulkhead: &Bulkhead) {
    let result = wait(bulkhead.execute(|| Err::<(), _>("down")));
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Failed("down"))
    ));
}

/// Opens the circuit by failures.
pub fn open(bulkhead: &Bulkhead) {
    for _ in 0..3 {
        fail(bulkhead);
    }
    assert_eq!(circuit_of(bulkhead), CircuitState::Open);
}

/// Whether the circuit refuses a call.
pub fn is_refused(bulkhead: &Bulkhead) -> bool {
    match bulkhead.try_execute(|| Ok::<_, ()>(())) {
        Ok(handle) => {
            assert!(wait(handle).is_success());
            false
        }
        Err(rejected) => {
            assert!(rejected.reason.is_circuit_open(), "{rejected}");
            true
        }
    }
}

/// A probe that stays out until the gate is opened.
pub fn probe(bulkhead: &Bulkhead, gate: &Gate) -> ExecutionHandle<(), &'static str> {
    let gate = gate.clone();
    bulkhead.execute(move || {
        gate.pass();
        Ok(())
    })
}

pub fn assert_probe_turns(bulkhead: &Bulkhead, free: usize) {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let probes: Vec<_> = (0..free).map(|_| probe(bulkhead, &gate)).collect();
    assert!(probes.iter().all(|probe| !probe.is_finished()));
    assert!(is_refused(bulkhead), "{free} turns and no more");
    for probe in &probes {
        // Back in the queue's order: those that have not started are cancelled.
        let _ = probe.cancel();
    }
    drop(opener);
    for probe in probes {
        let _ = wait(probe);
    }
}
