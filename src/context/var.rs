//! Values that a thread has for a scope, and that every bulkhead carries to the worker.
//!
//! All values of a thread are one shared map. Nobody changes it while it is shared: setting a value makes a new map then. So
//! taking them along with a call is one reference, and nothing at all where no value is set.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use crate::panic::contain_in;
use crate::sync;

type Shared = Arc<dyn Any + Send + Sync>;

/// The values of a thread, by their variable.
type Values = Vec<(Key, Shared)>;

/// Tells one variable from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    address: usize,
    /// Whether a detached call has its value too.
    detached_too: bool,
}

sync::thread_local! {
    /// `None` if no value is set.
    static CURRENT: RefCell<Option<Arc<Values>>> = RefCell::new(None);

    /// The values whose guards were dropped while a younger one of the same variable was there, and what was set before each.
    static ENDED: RefCell<Vec<(Shared, Option<Shared>)>> = RefCell::new(Vec::new());
}

/// A value that belongs to what a thread is doing: a request id, a tenant, a deadline. Python's `ContextVar`.
///
/// It is declared once, set for a scope, and read anywhere below. Each bulkhead of the process carries the values of the
/// thread that submits a call to the worker that runs it, without being asked, and gives the worker its own back
/// afterwards. So a value is also there in calls that a task makes on other bulkheads.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig, ContextVar};
///
/// static REQUEST_ID: ContextVar<u64> = ContextVar::new();
///
/// fn log(line: &str) -> String {
///     format!("request {:?}: {line}", REQUEST_ID.get())
/// }
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("database"))?;
/// let line = REQUEST_ID.with(7, || bulkhead.run(|| log("stored")).wait().into_result())?;
/// assert_eq!(line, "request Some(7): stored");
/// assert_eq!(REQUEST_ID.get(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Values are shared and never changed: to change one means to set another, for a scope. A call without any value costs a
/// look at a thread-local; each call with some, one reference count. For what is not set in a `ContextVar`, such as
/// another crate's thread-local, see [`ContextPropagator`](crate::ContextPropagator). Threads that are started by hand
/// take the values along with a [`ContextSnapshot`].
pub struct ContextVar<T: 'static> {
    /// Never set. It has a size, since two statics without one may have the same address; and Clippy warns of a `const` of
    /// this type, each use of which could have an address of its own.
    _address: OnceLock<()>,
    detached_too: bool,
    _type: PhantomData<fn() -> T>,
}

/// Whether this thread has a value of any variable.
#[inline]
pub(crate) fn has_values() -> bool {
    let has_some = CURRENT.try_with(|current| current.borrow().is_some());
    has_some.unwrap_or(false)
}

impl<T: Send + Sync + 'static> ContextVar<T> {
    /// A variable without a value, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            _address: OnceLock::new(),
            detached_too: true,
            _type: PhantomData,
        }
    }

    /// A variable whose value is not there in a [detached](crate::Call::detached) call of a task.
    pub(crate) const fn unless_detached() -> Self {
        Self {
            _address: OnceLock::new(),
            detached_too: false,
            _type: PhantomData,
        }
    }

    /// Sets the value in this thread until the guard is dropped. Then the value before it is back.
    pub fn set(&'static self, value: T) -> ContextGuard {
        let value: Shared = Arc::new(value);
        let before = replace(self.key(), Some(Arc::clone(&value)));
        ContextGuard {
            key: self.key(),
            value,
            before,
            _in_this_thread: PhantomData,
        }
    }

    /// Runs `body` with this value. It is gone afterwards, also if `body` panics.
    pub fn with<R>(&'static self, value: T, body: impl FnOnce() -> R) -> R {
        let _guard = self.set(value);
        body()
    }

    /// A copy of the value in this thread.
    #[must_use]
    pub fn get(&'static self) -> Option<T>
    where
        T: Clone,
    {
        self.shared().map(|value| T::clone(&value))
    }

    /// The value in this thread, shared.
    #[must_use]
    pub fn shared(&'static self) -> Option<Arc<T>> {
        let key = self.key();
        let value = CURRENT.try_with(|current| {
            let current = current.borrow();
            let (_, value) = current.as_ref()?.iter().find(|(of, _)| *of == key)?;
            Some(Arc::clone(value))
        });
        value.ok()??.downcast().ok()
    }

    fn key(&'static self) -> Key {
        Key {
            address: std::ptr::from_ref(self).addr(),
            detached_too: self.detached_too,
        }
    }
}

impl<T: Send + Sync + 'static> Default for ContextVar<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar").finish_non_exhaustive()
    }
}

/// Keeps a value of a [`ContextVar`] set in its thread.
///
/// # What dropping it does
///
/// The value that was there before is back. If a younger guard of the variable is still there, that one's value stays, and with
/// it goes this one's.
#[must_use = "the value is set until this is dropped"]
pub struct ContextGuard {
    key: Key,
    value: Shared,
    before: Option<Shared>,
    /// It belongs to the thread that made it.
    _in_this_thread: PhantomData<*const ()>,
}

impl Drop for ContextGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        if is_set(self.key, &self.value) {
            let (before, ended) = still_set(before);
            drop(replace(self.key, before));
            discard(ended);
        } else {
            set_aside(Arc::clone(&self.value), before);
        }
    }
}

fn is_set(key: Key, value: &Shared) -> bool {
    let is_it = |(of, set): &(Key, Shared)| *of == key && is_same(set, value);
    let found = CURRENT.try_with(|current| match &*current.borrow() {
        Some(values) => values.iter().any(is_it),
        None => false,
    });
    found.unwrap_or(false)
}

fn is_same(a: &Shared, b: &Shared) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

/// The youngest value, from this one on, whose guard is still there; and the others, to be dropped.
fn still_set(mut value: Option<Shared>) -> (Option<Shared>, Vec<Shared>) {
    let mut all_ended = Vec::new();
    while let Some((ended, before)) = value.as_ref().and_then(take_ended) {
        value = before;
        all_ended.push(ended);
    }
    (value, all_ended)
}

/// Drops values whose guards are gone: user code, which runs under no borrow, and once the thread has the values that it is
/// to have.
fn discard(ended: impl IntoIterator<Item = Shared>) {
    for value in ended {
        contain_in("context", "ContextVar", "the drop of a value", || {
            drop(value);
        });
    }
}

fn take_ended(value: &Shared) -> Option<(Shared, Option<Shared>)> {
    let taken = ENDED.try_with(|ended| {
        let mut ended = ended.borrow_mut();
        let place = ended.iter().position(|(of, _)| is_same(of, value))?;
        Some(ended.swap_remove(place))
    });
    taken.ok()?
}

/// The value's guard is gone before a younger one.
#[cold]
fn set_aside(value: Shared, before: Option<Shared>) {
    let forgotten = ENDED.try_with(|ended| {
        let mut ended = ended.borrow_mut();
        // Those that no guard would bring back: it would have a reference.
        let (kept, forgotten) = ended
            .drain(..)
            .partition::<Vec<_>, _>(|(value, _)| Arc::strong_count(value) > 1);
        *ended = kept;
        ended.push((value, before));
        forgotten
    });
    for (value, before) in forgotten.unwrap_or_default() {
        discard([value].into_iter().chain(before));
    }
}

/// Ends the values of guards that were dropped while the thread had others, in [`ContextSnapshot::run`].
fn end_those_set_aside() {
    let is_nothing_ended = ENDED.try_with(|ended| ended.borrow().is_empty());
    if is_nothing_ended.unwrap_or(true) {
        return;
    }
    let values = CURRENT.try_with(|current| match &*current.borrow() {
        Some(values) => Values::clone(values),
        None => Values::new(),
    });
    for (key, value) in values.unwrap_or_default() {
        let (still, ended) = still_set(Some(value));
        if !ended.is_empty() {
            drop(replace(key, still));
            discard(ended);
        }
    }
}

impl fmt::Debug for ContextGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextGuard").finish_non_exhaustive()
    }
}

/// Sets a value, or takes it away, and gives the one before it. In a thread-local's destructor, when the values may be gone,
/// nothing is set.
fn replace(key: Key, value: Option<Shared>) -> Option<Shared> {
    let changed = CURRENT.try_with(|current| {
        let mut shared = current.take().unwrap_or_default();
        // In place, if nothing was taken along to another thread. Else the new map has all values of the old one, of which
        // none is dropped here.
        let values = Arc::make_mut(&mut shared);
        let place = values.iter().position(|(of, _)| *of == key);
        let before = match (place, value) {
            (Some(place), Some(value)) => Some(std::mem::replace(&mut values[place].1, value)),
            (Some(place), None) => Some(values.swap_remove(place).1),
            (None, Some(value)) => {
                values.push((key, value));
                None
            }
            (None, None) => None,
        };
        if !values.is_empty() {
            current.replace(Some(shared));
        }
        // Dropping it is user code: outside of the thread-local, which that code may read.
        before
    });
    changed.ok()?
}

/// All [`ContextVar`] values of a thread, to be taken to another one.
///
/// A bulkhead does this by itself. It is for threads that are started by hand, as `contextvars.copy_context()` in Python.
///
/// ```
/// use bulkman::{ContextSnapshot, ContextVar};
///
/// static TENANT: ContextVar<&str> = ContextVar::new();
///
/// let seen = TENANT.with("acme", || {
///     let context = ContextSnapshot::take();
///     std::thread::spawn(move || context.run(|| TENANT.get())).join().unwrap()
/// });
/// assert_eq!(seen, Some("acme"));
/// ```
#[derive(Clone, Default)]
pub struct ContextSnapshot(Option<Arc<Values>>);

impl ContextSnapshot {
    /// The values of this thread.
    #[must_use]
    #[inline]
    pub fn take() -> Self {
        Self(
            CURRENT
                .try_with(|current| current.borrow().clone())
                .unwrap_or_default(),
        )
    }

    /// Without the values that a detached call is not to have. The thread that it was taken in still has them.
    #[cold]
    pub(crate) fn detached(self) -> Self {
        let Some(values) = self.0 else {
            return self;
        };
        let values: Values = values
            .iter()
            .filter(|(key, _)| key.detached_too)
            .cloned()
            .collect();
        Self((!values.is_empty()).then(|| Arc::new(values)))
    }

    /// Runs `body` with these values and no others. The thread's own are back afterwards, also if `body` panics.
    #[inline]
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Arc<Values>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let own = self.0.take();
                let _ = CURRENT.try_with(|current| current.replace(own)).map(drop);
                end_those_set_aside();
            }
        }
        let own = CURRENT.try_with(|current| current.borrow().clone());
        let own = own.unwrap_or_default();
        if own.is_none() && self.0.is_none() {
            return body();
        }
        let _restore = Restore(own);
        let _ = CURRENT
            .try_with(|current| current.replace(self.0.clone()))
            .map(drop);
        body()
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for ContextSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextSnapshot")
            .field("values", &self.0.as_ref().map_or(0, |values| values.len()))
            .finish()
    }
}
