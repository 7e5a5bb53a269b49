//! Everything that one call takes along.

use std::time::Duration;

use super::propagator::{CapturedContext, ContextPropagator};
use super::trace::CallTrace;
use super::var::ContextSnapshot;
use crate::panic::contain;
use crate::result::CallOutcome;

/// The values of the submitting thread, what all propagators of the bulkhead have captured there, and its trace. Without
/// propagators and traces nothing is allocated.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "a thin pointer: most calls have none, and all carry the room"
)]
pub(crate) struct CapturedContexts {
    values: ContextSnapshot,
    captured: Option<Box<Vec<CapturedContext>>>,
    trace: CallTrace,
}

impl CapturedContexts {
    /// Runs no user code.
    #[inline]
    pub(crate) fn of_values() -> Self {
        Self {
            values: ContextSnapshot::take(),
            captured: None,
            trace: CallTrace::default(),
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
            ..self
        }
    }

    /// With the trace of the call, which begins after all else is captured.
    #[inline]
    pub(crate) fn with_trace(self, trace: CallTrace) -> Self {
        Self { trace, ..self }
    }

    /// Whether no user code runs to attach and to drop it.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.captured.is_none() && self.values.is_empty() && self.trace.is_quiet()
    }

    /// Drops the contexts of a task that never started, and ends its trace.
    pub(crate) fn discard(self, bulkhead: &str, outcome: CallOutcome, queued_time: Duration) {
        self.trace.end_unstarted(bulkhead, outcome, queued_time);
        for captured in self.captured.into_iter().flat_map(|all| *all) {
            contain(bulkhead, "the drop of a captured context", || {
                drop(captured);
            });
        }
        discard_values(self.values, bulkhead);
    }

    /// Runs `body` with everything attached. `body` must not panic.
    #[inline]
    pub(crate) fn run_with<R>(
        self,
        bulkhead: &str,
        queued_time: Duration,
        body: impl FnOnce(&CallTrace) -> R,
    ) -> R {
        let Self {
            values,
            captured,
            trace,
        } = self;
        let value = values.run(|| {
            trace.run_with(bulkhead, queued_time, |trace| match captured {
                Some(captured) => run_attached(*captured, bulkhead, || body(trace)),
                None => body(trace),
            })
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
