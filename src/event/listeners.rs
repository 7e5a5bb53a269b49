//! All that hear of a bulkhead's events: its listeners, and the log.

use super::log_lines;
use super::{BulkheadEvent, BulkheadListener};
use crate::panic::contain_repeated;
use crate::sync::AtomicBool;

/// All listeners of a bulkhead.
#[derive(Default)]
pub(crate) struct Listeners(Vec<Listener>);

struct Listener {
    listener: Box<dyn BulkheadListener>,
    /// Of a listener that panics, the log has one line, not one for each call.
    has_panicked: AtomicBool,
}

impl Listeners {
    pub(crate) fn push(&mut self, listener: Box<dyn BulkheadListener>) {
        self.0.push(Listener {
            listener,
            has_panicked: AtomicBool::new(false),
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody hears of single calls: no listener, and not the log.
    #[inline]
    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_empty() && !log_lines::is_on()
    }

    /// If nobody hears it, `event` is not even built.
    #[inline]
    pub(crate) fn tell<'a>(&self, bulkhead: &str, event: impl FnOnce() -> BulkheadEvent<'a>) {
        if !self.is_silent() {
            self.tell_all(bulkhead, &event());
        }
    }

    #[cold]
    fn tell_all(&self, bulkhead: &str, event: &BulkheadEvent<'_>) {
        if log_lines::is_on() {
            log_lines::write(event);
        }
        for listener in &self.0 {
            contain_repeated(&listener.has_panicked, bulkhead, "a listener", || {
                listener.listener.on_event(event);
            });
        }
    }
}
