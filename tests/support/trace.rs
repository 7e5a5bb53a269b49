//! A task that tells whether it ran and whether its closure is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Notices whether a task ran, and when its closure is gone.
#[derive(Clone, Default)]
pub struct Trace(Arc<AtomicU64>);

impl Trace {
    pub fn task(&self) -> impl FnOnce() -> &'static str + Send + 'static {
        let Self(inside) = self.clone();
        move || {
            inside.fetch_add(1, Ordering::SeqCst);
            "ran"
        }
    }

    pub fn ran(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// No closure is left: only this trace itself.
    pub fn is_dropped(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Its strong count is the number of traces and closures that are left.
    pub fn downgrade(&self) -> Weak<AtomicU64> {
        Arc::downgrade(&self.0)
    }
}
