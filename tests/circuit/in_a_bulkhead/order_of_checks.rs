//! The order of the checks: shut down, open circuit, full.

use bulkman::BulkheadError;

use super::helpers::{build, is_refused};
use crate::support::{config, occupy, wait};

#[test]
fn an_open_circuit_is_said_before_full() {
    let (bulkhead, _clock) = build(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    bulkhead.circuit_breaker().unwrap().trip();
    assert!(is_refused(&bulkhead));
    busy.finish();
    assert!(is_refused(&bulkhead));
}

#[test]
fn shut_down_is_said_before_anything_else() {
    let (bulkhead, _clock) = build(config(1, 0));
    bulkhead.circuit_breaker().unwrap().trip();
    let _ = bulkhead.shutdown();
    assert!(matches!(
        wait(bulkhead.run(|| ())).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}
