//! Carrying a caller's context (a trace, a request id, a tenant) to the worker.

use std::any::Any;

use crate::panic::contain;

/// Takes something along from the thread that submits a call to the worker that runs it.
///
/// Given to [`BulkheadBuilder::context_propagator`](crate::BulkheadBuilder::context_propagator).
/// For each admitted call, `capture` runs in the submitting thread; what it returns is attached on
/// the worker before the task, and what that returns is dropped there after the task.
///
/// A panic in any of these steps is contained and logged, and the task runs all the same.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, CapturedContext, ContextPropagator};
/// use std::any::Any;
/// use std::cell::Cell;
///
/// thread_local!(static REQUEST: Cell<u32> = const { Cell::new(0) });
///
/// struct RequestId;
///
/// impl ContextPropagator for RequestId {
///     fn capture(&self) -> CapturedContext {
///         let id = REQUEST.get();
///         CapturedContext::new(move || -> Box<dyn Any> {
///             let before = REQUEST.replace(id);
///             struct Restore(u32);
///             impl Drop for Restore {
///                 fn drop(&mut self) {
///                     REQUEST.set(self.0);
///                 }
///             }
///             Box::new(Restore(before))
///         })
///     }
/// }
///
/// let bulkhead = Bulkhead::builder(BulkheadConfig::new("api")).context_propagator(RequestId).build()?;
/// REQUEST.set(7);
/// assert_eq!(bulkhead.run(|| REQUEST.get()).wait().into_result()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ContextPropagator: Send + Sync {
    /// Takes the calling thread's context.
    fn capture(&self) -> CapturedContext;
}

/// A context on its way to the worker, see [`ContextPropagator`].
pub struct CapturedContext(Box<dyn FnOnce() -> Box<dyn Any> + Send>);

impl CapturedContext {
    /// `attach` runs on the worker before the task; what it returns is dropped there after the task.
    pub fn new(attach: impl FnOnce() -> Box<dyn Any> + Send + 'static) -> Self {
        Self(Box::new(attach))
    }
}

impl std::fmt::Debug for CapturedContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CapturedContext").finish_non_exhaustive()
    }
}

/// The contexts that all propagators of a bulkhead captured for one call. Without propagators nothing is allocated.
#[derive(Default)]
#[expect(
    clippy::box_collection,
    reason = "a thin pointer: most calls have none, and all carry the room"
)]
pub(crate) struct CapturedContexts(Option<Box<Vec<CapturedContext>>>);

impl CapturedContexts {
    pub(crate) fn capture(bulkhead: &str, propagators: &[Box<dyn ContextPropagator>]) -> Self {
        let captured = propagators
            .iter()
            .filter_map(|p| contain(bulkhead, "a context propagator", || p.capture()));
        Self(Some(Box::new(captured.collect())))
    }

    /// Drops the contexts of a task that never started.
    pub(crate) fn discard(self, bulkhead: &str) {
        for captured in self.0.into_iter().flat_map(|all| *all) {
            contain(bulkhead, "the drop of a captured context", || {
                drop(captured);
            });
        }
    }

    /// Runs `body` with everything attached. `body` must not panic.
    pub(crate) fn run_with<R>(self, bulkhead: &str, body: impl FnOnce() -> R) -> R {
        const WHAT: &str = "a context propagator";
        let Some(captured) = self.0 else {
            return body();
        };
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
}
