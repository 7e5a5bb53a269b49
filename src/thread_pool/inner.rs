//! What a bulkhead, its workers and its calls share.

use super::queue::Queue;
use super::thread_name::NameFn;
use super::threads::Threads;
use crate::context::ContextPropagator;
use crate::core::{Engine, Kind, ShutdownTarget, ThreadPoolKind};
use crate::sync::{AdaptiveSpin, Mutex, Padded};

/// An engine, and workers behind it.
pub(crate) struct Inner {
    pub(super) engine: Engine,
    pub(super) queue: Queue,
    pub(super) collaborators: Collaborators,
    /// Whether it pays for a caller to look again before it sleeps.
    pub(super) spin: Padded<AdaptiveSpin>,
    /// Held while joining, so that every thread that shuts down returns after the workers are gone.
    pub(super) threads: Mutex<Threads>,
}

/// What a bulkhead with threads can be built with.
#[derive(Default)]
pub(crate) struct Collaborators {
    pub(super) propagators: Vec<Box<dyn ContextPropagator>>,
    pub(super) on_worker_start: Vec<WorkerHook>,
    pub(super) on_worker_stop: Vec<WorkerHook>,
    pub(super) worker_name: Option<NameFn>,
}

pub(super) type WorkerHook = Box<dyn Fn(usize) + Send + Sync>;

impl Inner {
    /// Whether no collaborator's code runs around a task.
    #[inline]
    pub(super) fn runs_no_user_code_around_tasks(&self) -> bool {
        self.engine.listeners.is_silent()
            && self.collaborators.propagators.is_empty()
            && self.engine.breaker.is_none()
    }
}

impl Kind for ThreadPoolKind {
    type Inner = Inner;
    type Collaborators = Collaborators;
    const CALL: &'static str = "Call";
    const BUILDER: &'static str = "BulkheadBuilder";

    fn engine(inner: &Inner) -> &Engine {
        &inner.engine
    }
}

impl ShutdownTarget for Inner {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn cancel_queued(&self) {
        self.queue.drain(|job| job.cancel_for_shutdown());
    }

    fn join(&self) {
        self.threads.lock().join();
    }
}
