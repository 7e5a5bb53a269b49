//! Wakes the synchronizer of a storage when a circuit has work for it.

use std::time::Instant;

use crate::sync::{self, Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Signal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        *self.is_raised.lock() = true;
        self.raised.notify_one();
    }

    /// Waits until the signal is raised or `deadline` comes, and lowers it.
    pub(super) fn wait(&self, deadline: Instant) {
        let mut is_raised = self.is_raised.lock();
        while !*is_raised && sync::now() < deadline {
            sync::wait_until(&self.raised, &mut is_raised, Some(deadline));
        }
        *is_raised = false;
    }
}
