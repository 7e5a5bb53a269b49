//! The two kinds of bulkhead, as type parameters of what both have in common.

use super::engine::Engine;

/// The kind of a [`Bulkhead`](crate::Bulkhead): tasks run on worker threads of its own.
#[derive(Debug)]
pub enum ThreadPoolKind {}

/// The kind of a [`SemaphoreBulkhead`](crate::SemaphoreBulkhead): each task runs in its caller's thread.
#[derive(Debug)]
pub enum SemaphoreKind {}

/// What differs between the two.
pub(crate) trait Kind {
    /// What the bulkhead and its calls share.
    type Inner;
    /// What only a bulkhead of this kind can be built with.
    type Collaborators: Default;
    /// The name of its [`Call`](super::Call) type, for `Debug`.
    const CALL: &'static str;
    /// The name of its builder type, for `Debug`.
    const BUILDER: &'static str;

    fn engine(inner: &Self::Inner) -> &Engine;
}
