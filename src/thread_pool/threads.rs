//! The threads of a bulkhead: their handles, names and indices.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::thread_name::ThreadNames;
use crate::sync::JoinHandle;

/// What the threads of a bulkhead have.
pub(super) struct Threads {
    names: ThreadNames,
    /// By index. Those that have left a bulkhead that goes on are not in here.
    handles: BTreeMap<usize, JoinHandle<()>>,
    /// Below the number of indices that have been used.
    free: BTreeSet<usize>,
    /// A thread that changes how many workers there are is told of a refused thread, and holds a lock.
    is_changing: bool,
    /// What the system said to it.
    refused: Option<io::Error>,
}

impl Threads {
    pub(super) fn new(names: ThreadNames) -> Self {
        Self {
            names,
            handles: BTreeMap::new(),
            free: BTreeSet::new(),
            is_changing: false,
            refused: None,
        }
    }

    pub(super) fn names(&mut self) -> &mut ThreadNames {
        &mut self.names
    }

    /// Waits until the threads are gone. All have ended, or are about to.
    pub(super) fn join(&mut self) {
        while let Some((_, handle)) = self.handles.pop_first() {
            // A worker contains every panic of user code, so there is nothing to hear from it.
            let _ = handle.join();
        }
    }

    /// The lowest index that no worker has, for one that is about to start.
    pub(super) fn take_index(&mut self) -> usize {
        self.free.pop_first().unwrap_or(self.handles.len())
    }

    pub(super) fn has_started(&mut self, index: usize, handle: JoinHandle<()>) {
        self.handles.insert(index, handle);
    }

    /// The system has refused the thread that was to have this index. Gives the reason back, unless the thread that changes
    /// how many workers there are is going to ask for it.
    #[must_use]
    pub(super) fn was_refused(&mut self, index: usize, reason: io::Error) -> Option<io::Error> {
        self.free.insert(index);
        if self.is_changing {
            self.refused = Some(reason);
            None
        } else {
            Some(reason)
        }
    }

    /// The worker leaves a bulkhead that goes on: nobody waits for its thread any more.
    pub(super) fn leave(&mut self, index: usize) {
        self.handles.remove(&index);
        self.free.insert(index);
    }

    /// A thread is about to change how many workers there are. `starts`: threads may start in it.
    pub(super) fn begin_change(&mut self, starts: bool) {
        self.is_changing = starts;
    }

    /// What the system has refused since the change began.
    pub(super) fn end_change(&mut self) -> Option<io::Error> {
        self.is_changing = false;
        self.refused.take()
    }
}
