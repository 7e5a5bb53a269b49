//! Everything that one call takes along.

use super::propagator::{CapturedContext, ContextPropagator};
use super::var::ContextSnapshot;
use crate::panic::contain;

/// The values of the submitting thread, and what all propagators of the bulkhead have captured there. Without propagators
/// nothing is allocated.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "a thin pointer: most calls have none, and all carry the room"
)]
pub(crate) struct CapturedContexts {
    values: ContextSnapshot,
    captured: Option<Box<Vec<CapturedContext>>>,
}

impl CapturedContexts {
    /// Runs no user code.
    #[inline]
    pub(crate) fn of_values() -> Self {
        Self {
            values: ContextSnapshot::take(),
            captured: None,
        }
    }

    pub(crate) fn capture(bulkhead: &str, propagators: &[Box<dyn ContextPropagator>]) -> Self {
        let captured = propagators
            .iter()
            .filter_map(|p| contain(bulkhead, "a context propagator", || p.capture()));
        Self {
            captured: Some(Box::new(captured.collect())),
            ..Self::of_values()
        }
    }

    /// As for a detached call of a task.
    #[cold]
    pub(crate) fn detached(self) -> Self {
        Self {
            values: self.values.detached(),
            captured: self.captured,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.captured.is_none() && self.values.is_empty()
    }

    /// Drops the contexts of a task that never started.
    pub(crate) fn discard(self, bulkhead: &str) {
        for captured in self.captured.into_iter().flat_map(|all| *all) {
            contain(bulkhead, "the drop of a captured context", || {
                drop(captured);
            });
        }
        discard_values(self.values, bulkhead);
    }

    /// Runs `body` with everything attached. `body` must not panic.
    #[inline]
    pub(crate) fn run_with<R>(self, bulkhead: &str, body: impl FnOnce() -> R) -> R {
        let Self { values, captured } = self;
        let value = values.run(|| match captured {
            Some(captured) => run_attached(*captured, bulkhead, body),
            None => body(),
        });
        discard_values(values, bulkhead);
        value
    }
}

fn run_attached<R>(captured: Vec<CapturedContext>, bulkhead: &str, body: impl FnOnce() -> R) -> R {
    const WHAT: &str = "a context propagator";
    let attached: Vec<_> = captured
        .into_iter()
        .filter_map(|captured| contain(bulkhead, WHAT, captured.0))
        .collect();
    let value = body();
    // In reverse, as nested scopes would.
    for guard in attached.into_iter().rev() {
        contain(bulkhead, WHAT, move || drop(guard));
    }
    value
}

#[inline]
fn discard_values(values: ContextSnapshot, bulkhead: &str) {
    if !values.is_empty() {
        contain(bulkhead, "the drop of a context value", || drop(values));
    }
}
