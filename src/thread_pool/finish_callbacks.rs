//! The callbacks for the end of a call. A call that has none pays one word for them.

use crate::panic::contain;
use crate::result::CallSummary;

pub(super) type FinishCallback = Box<dyn FnOnce(&CallSummary) + Send>;

/// In the order in which they are called.
#[derive(Default)]
pub(super) struct FinishCallbacks(Option<Box<List>>);

#[derive(Default)]
struct List {
    callbacks: Vec<FinishCallback>,
}

impl FinishCallbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn push(&mut self, callback: FinishCallback) {
        self.0.get_or_insert_default().callbacks.push(callback);
    }

    /// Calls all of them. They are user code, so the caller holds no lock.
    pub(super) fn call(self, summary: &CallSummary) {
        for callback in self.0.into_iter().flat_map(|list| list.callbacks) {
            call_back(callback, summary);
        }
    }
}

/// Calls a callback. A panic in it is contained and logged.
pub(super) fn call_back(callback: impl FnOnce(&CallSummary), summary: &CallSummary) {
    contain(
        &summary.bulkhead_name,
        "a callback for the end of a call",
        || callback(summary),
    );
}
