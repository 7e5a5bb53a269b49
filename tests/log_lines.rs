//! Every line that a bulkhead logs has its level and names the bulkhead.
//!
//! The file is a binary of its own, since a process has one logger.

mod support;

use bulkman::{Bulkhead, BulkheadConfig, BulkheadEvent, CircuitBreakerConfig};
use log::{Level, LevelFilter};
use support::{logged, wait};

#[test]
fn every_line_has_its_level_and_names_its_bulkhead() {
    logged::collect(LevelFilter::Trace);
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    let config = BulkheadConfig::new("tea").circuit_breaker(breaker);
    let bulkhead = Bulkhead::builder(config)
        .listener(|event: &BulkheadEvent<'_>| {
            assert!(!matches!(event, BulkheadEvent::Rejected { .. }));
        })
        .build()
        .unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());

    // An error whose judge panics is a failure, which opens the circuit.
    let handle = bulkhead
        .call()
        .failure_if(|_: &()| panic!("the judge's own panic"))
        .execute(|| Err::<(), _>(()));
    assert!(wait(handle).error().is_some());
    assert!(wait(bulkhead.run(|| ())).error().is_some());
    bulkhead.circuit_breaker().unwrap().reset();
    assert!(bulkhead.shutdown().is_clean());

    let lines = logged::lines();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line.target.starts_with("bulkman"))
        .map(|line| (line.level, &*line.text))
        .collect();
    let contained = "panicked; the panic is contained";
    assert_eq!(
        lines,
        [
            (
                Level::Error,
                &*format!("bulkhead `tea`: a failure classifier {contained}")
            ),
            (
                Level::Warn,
                "circuit `tea` is open, it was closed: failures in a row"
            ),
            (
                Level::Error,
                &*format!("bulkhead `tea`: a listener {contained}")
            ),
            (Level::Info, "circuit `tea` is closed, it was open: by hand"),
            (Level::Debug, "bulkhead `tea` is shutting down"),
        ]
    );
}
