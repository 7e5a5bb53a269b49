//! What a bulkhead writes to the log: which level, and whose name. In a binary of its own, since the logger is the
//! process's.

mod support;

use std::sync::Mutex;

use bulkman::{Bulkhead, BulkheadConfig, BulkheadEvent, CircuitBreakerConfig};
use log::Level;
use support::wait;

struct Lines(Mutex<Vec<(Level, String)>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("bulkman") {
            let line = (record.level(), record.args().to_string());
            self.0.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

#[test]
fn every_line_has_its_level_and_names_its_bulkhead() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
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

    let lines = LINES.0.lock().unwrap();
    let lines: Vec<_> = lines
        .iter()
        .map(|(level, line)| (*level, &**line))
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
