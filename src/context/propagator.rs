//! Carrying a caller's context (a trace, a request id, a tenant) to the worker.

use std::any::Any;

/// Takes something along from the thread that submits a call to the worker that runs it. For values of your own a
/// [`ContextVar`](crate::ContextVar) is simpler; for a thread-local that can be read and set there is
/// [`propagate`].
///
/// Given to [`BulkheadBuilder::context_propagator`](crate::BulkheadBuilder::context_propagator).
/// For each admitted call, `capture` runs in the submitting thread; what it returns is attached on
/// the worker before the task, and what that returns is dropped there after the task.
///
/// A panic in any of these steps is contained and logged, and the task runs all the same.
///
/// A closure is a propagator too: it takes what the calling thread has, and returns a closure that attaches it on the worker.
/// That one returns a guard, whose drop detaches it.
///
/// ```
/// # use bulkman::{Bulkhead, BulkheadConfig};
/// # use std::cell::Cell;
/// # thread_local!(static TENANT: Cell<u32> = const { Cell::new(0) });
/// # struct Tenant { before: u32 }
/// # impl Tenant {
/// #     fn current() -> u32 { TENANT.get() }
/// #     fn enter(tenant: u32) -> Self { Self { before: TENANT.replace(tenant) } }
/// # }
/// # impl Drop for Tenant { fn drop(&mut self) { TENANT.set(self.before) } }
/// let bulkhead = Bulkhead::builder(BulkheadConfig::new("api"))
///     .context_propagator(|| {
///         let tenant = Tenant::current(); // in the thread that submits
///         move || Tenant::enter(tenant)   // on the worker; the guard that it returns goes after the task
///     })
///     .build()?;
/// # TENANT.set(7);
/// # assert_eq!(bulkhead.run(Tenant::current).wait().into_result()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The same as a type of its own:
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

/// A closure that returns what attaches.
impl<F, A, G> ContextPropagator for F
where
    F: Fn() -> A + Send + Sync,
    A: FnOnce() -> G + Send + 'static,
    G: 'static,
{
    fn capture(&self) -> CapturedContext {
        let attach = self();
        CapturedContext::new(move || Box::new(attach()))
    }
}

/// A context on its way to the worker, see [`ContextPropagator`].
pub struct CapturedContext(pub(super) Box<dyn FnOnce() -> Box<dyn Any> + Send>);

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

/// A propagator for a thread-local that can be read and set: `get` reads the caller's value, `set` sets it on the worker
/// before the task, and sets the worker's own again after it.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, propagate};
/// use std::cell::Cell;
///
/// thread_local!(static REQUEST: Cell<u32> = const { Cell::new(0) });
///
/// let bulkhead = Bulkhead::builder(BulkheadConfig::new("api"))
///     .context_propagator(propagate(|| REQUEST.get(), |id| REQUEST.set(id)))
///     .build()?;
/// REQUEST.set(7);
/// assert_eq!(bulkhead.run(|| REQUEST.get()).wait().into_result()?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn propagate<T, G, S>(get: G, set: S) -> impl ContextPropagator
where
    T: Send + 'static,
    G: Fn() -> T + Clone + Send + Sync + 'static,
    S: Fn(T) + Clone + Send + Sync + 'static,
{
    Propagate { get, set }
}

struct Propagate<G, S> {
    get: G,
    set: S,
}

impl<T, G, S> ContextPropagator for Propagate<G, S>
where
    T: Send + 'static,
    G: Fn() -> T + Clone + Send + Sync + 'static,
    S: Fn(T) + Clone + Send + Sync + 'static,
{
    fn capture(&self) -> CapturedContext {
        let value = (self.get)();
        let (get, set) = (self.get.clone(), self.set.clone());
        CapturedContext::new(move || {
            let own = Some(get());
            // First: after a panic in it there is nothing to restore.
            set(value);
            Box::new(RestoreOwn { own, set })
        })
    }
}

struct RestoreOwn<T, S: Fn(T)> {
    own: Option<T>,
    set: S,
}

impl<T, S: Fn(T)> Drop for RestoreOwn<T, S> {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            (self.set)(own);
        }
    }
}
