//! A logger that panics costs no call its outcome and no worker its life.
//!
//! The file is a binary of its own, since a process has one logger.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, CircuitBreakerConfig};
use support::{Bomb, Gate, OpenOnDrop, assert_balanced, config, wait};

struct PanickingLogger(AtomicUsize);

impl log::Log for PanickingLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("bulkman") {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("the logger's own panic");
        }
    }

    fn flush(&self) {}
}

static LOGGER: PanickingLogger = PanickingLogger(AtomicUsize::new(0));

#[test]
fn every_call_has_its_outcome_and_the_workers_live() {
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let breaker = CircuitBreakerConfig::default().failure_threshold(1);
    let bulkhead = Bulkhead::builder(config(1, 2).circuit_breaker(breaker))
        .listener(|_: &BulkheadEvent<'_>| panic!("the listener's own panic"))
        .build()
        .unwrap();

    // A result that nobody waits for and whose drop panics: contained, and logged.
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    drop(bulkhead.run(move || {
        gate.pass();
        Bomb
    }));
    drop(opener);
    // The circuit opens: logged.
    let failed = wait(bulkhead.execute(|| Err::<(), _>("x")));
    assert!(matches!(
        failed.into_result(),
        Err(BulkheadError::Failed("x"))
    ));
    assert!(bulkhead.circuit_breaker().unwrap().is_open());
    bulkhead.circuit_breaker().unwrap().reset();
    assert_eq!(wait(bulkhead.run(|| 7)).into_result().unwrap(), 7);

    assert!(bulkhead.shutdown().is_clean());
    assert_balanced(&bulkhead.stats());
    assert_eq!(bulkhead.stats().in_flight, 0);
    assert!(LOGGER.0.load(Ordering::SeqCst) >= 4, "nothing was logged");
}
