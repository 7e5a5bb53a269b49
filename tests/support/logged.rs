//! Collects the lines that this process logs.
//!
//! A process has one logger. So a test that collects lines either has a binary of its own, or picks its own lines out
//! of all.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub target: String,
    pub text: String,
    /// The keys and values beside the text.
    pub pairs: Vec<(String, String)>,
}

impl Line {
    /// The value of a key, if the line has it.
    pub fn value(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }
}

/// Copies keys and values.
struct Pairs(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
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
        let mut pairs = Pairs(Vec::new());
        let visited = record.key_values().visit(&mut pairs);
        visited.expect("nothing fails");
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
            pairs: pairs.0,
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
