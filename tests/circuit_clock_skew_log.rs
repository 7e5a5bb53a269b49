//! A host whose clock is far from the storage's: one warning with both clocks, and no other until it went away. In a
//! binary of its own, since the logger is the process's.

mod support;

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use bulkman::{CircuitBreaker, CircuitBreakerConfig};
use log::Level;
use support::eventually;
use support::scripted_storage::ScriptedStorage;

struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if record.level() == Level::Warn && text.contains("clock") {
            self.0.lock().unwrap().push(text);
        }
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

#[test]
fn one_warning_until_it_went_away() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let lines = || LINES.0.lock().unwrap().clone();
    let shelf = ScriptedStorage::new();
    let _breaker = CircuitBreaker::builder("c", CircuitBreakerConfig::default())
        .storage(shelf.clone())
        .build()
        .unwrap();
    let hour = Duration::from_secs(3600);
    for round in 0..3 {
        shelf.set_clock(SystemTime::now());
        shelf.let_it_look();
        assert_eq!(lines().len(), round, "{:?}", lines());
        // 2025-11-13 02:13:20 UTC
        let storage = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_000_000);
        shelf.set_clock(storage);
        eventually("the warning", || lines().len() == round + 1);
        shelf.set_clock(storage + hour);
        shelf.let_it_look();
        assert_eq!(lines().len(), round + 1, "once");
        let line = &lines()[round];
        assert!(line.contains("ahead"), "{line}");
        assert!(line.contains("2025-11-13 02:13:20Z there"), "{line}");
        assert!(line.contains("Z here"), "{line}");
    }
}
