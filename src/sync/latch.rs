//! Who has to be gone before a bulkhead has ended: its worker threads, or the calls in it.

use std::time::Instant;

use crate::sync::{self, Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Crew {
    /// Begun and not yet at their end.
    alive: Mutex<usize>,
    changed: Condvar,
}

impl Crew {
    pub(crate) fn one_begins(&self) {
        *self.alive.lock() += 1;
    }

    /// To be called by each at its very end.
    pub(crate) fn one_ends(&self) {
        let mut alive = self.alive.lock();
        *alive -= 1;
        let last = *alive == 0;
        drop(alive);
        if last {
            self.changed.notify_all();
        }
    }

    /// Waits until nobody is left; `false` if `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut alive = self.alive.lock();
        while *alive > 0 {
            if deadline.is_some_and(|deadline| sync::now() >= deadline) {
                return false;
            }
            sync::wait_until(&self.changed, &mut alive, deadline);
        }
        true
    }
}
