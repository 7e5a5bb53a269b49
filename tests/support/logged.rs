//! Collects the lines that this process logs.
//!
//! A process has one logger. So a test that collects lines either has a binary of its own, or picks its own lines out
//! of all.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub target: String,
    pub text: String,
}

struct Collector(Mutex<Vec<Line>>);

static COLLECTOR: Collector = Collector(Mutex::new(Vec::new()));

impl Collector {
    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        };
        self.lines().push(line);
    }

    fn flush(&self) {}
}

/// Becomes the logger of this process.
pub fn collect(level: LevelFilter) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&COLLECTOR).expect("the only logger");
        log::set_max_level(level);
    });
}

/// All lines so far.
pub fn lines() -> Vec<Line> {
    COLLECTOR.lines().clone()
}

/// Removes all lines, and returns them.
pub fn take() -> Vec<Line> {
    std::mem::take(&mut *COLLECTOR.lines())
}
