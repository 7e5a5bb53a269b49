//! What a bulkhead, its workers and its calls share.

use std::ops::Deref;

use crate::context::ContextPropagator;
use crate::gate::Gate;
use crate::queue::Queue;
use crate::sync::{JoinHandle, Mutex, Padded, Spinning};

/// A gate, and workers behind it.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) queue: Queue,
    pub(crate) propagators: Vec<Box<dyn ContextPropagator>>,
    pub(crate) worker_hooks: WorkerHooks,
    /// Whether it pays for a caller to look again before it sleeps.
    pub(crate) spinning: Padded<Spinning>,
    /// Held while joining, so that everybody who shuts down returns after the threads are gone.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) type WorkerHook = Box<dyn Fn(usize) + Send + Sync>;

#[derive(Default)]
pub(crate) struct WorkerHooks {
    pub(crate) on_start: Vec<WorkerHook>,
    pub(crate) on_stop: Vec<WorkerHook>,
}

impl Shared {
    /// Whether no collaborator's code runs around a task.
    pub(crate) fn has_no_onlookers(&self) -> bool {
        self.listeners.is_empty() && self.propagators.is_empty() && self.breaker.is_none()
    }
}

impl Deref for Shared {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.gate
    }
}
