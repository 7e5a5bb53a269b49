//! The feature `opentelemetry`: the current `Context`, with the active span, the baggage and what else is in it.

use std::cell::Cell;

use ::opentelemetry::trace::TraceContextExt;
use ::opentelemetry::{Context, ContextGuard};

/// The caller's `Context`. An empty one is taken along as any other: none of its methods tells whether it is empty.
#[derive(Default)]
pub(super) struct CallContext(Option<Context>);

#[derive(Default)]
pub(super) struct Attached(Option<ContextGuard>);

/// Has a destructor, see [`CallContext::take`].
struct Sentinel;

impl Drop for Sentinel {
    fn drop(&mut self) {}
}

std::thread_local! {
    static SENTINEL: Sentinel = const { Sentinel };

    /// Whether this thread has used `SENTINEL`.
    static HAS_SENTINEL: Cell<bool> = const { Cell::new(false) };
}

impl CallContext {
    pub(super) const IS_CARRIED: bool = true;

    /// Takes nothing while the thread's own values are being dropped: `Context::current` would panic.
    ///
    /// Thread-local values are dropped in the reverse of the order in which they were first used. The sentinel is first used
    /// after the thread's `Context`. So as long as the sentinel is there, the `Context` is.
    pub(super) fn take() -> Self {
        if HAS_SENTINEL.get() {
            return Self(SENTINEL.try_with(|_| Context::current()).ok());
        }
        let current = Context::current();
        let is_there = SENTINEL.try_with(|_| ()).is_ok();
        HAS_SENTINEL.set(is_there);
        Self(Some(current))
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Without a span. Its drop can still run code of the user: that of a value in it, whose last owner the call is.
    pub(super) fn is_quiet(&self) -> bool {
        !self
            .0
            .as_ref()
            .is_some_and(TraceContextExt::has_active_span)
    }

    pub(super) fn discard(self) {
        drop(self.0);
    }

    pub(super) fn attach(&mut self) -> Attached {
        Attached(self.0.take().map(Context::attach))
    }
}

impl Attached {
    pub(super) fn detach(self) {
        drop(self.0);
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }
}
