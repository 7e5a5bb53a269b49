//! Changes of the limits that listeners have not heard of yet.
//!
//! Several threads may change the limits. Listeners hear of the changes in the order in which they were made, one at a time,
//! and under no lock: a thread adds its change under the lock under which it makes it. Then one thread tells, until none is
//! left, of its own change and of those that come meanwhile.

use std::collections::VecDeque;

use super::permit::Limits;

/// The lock around it is held while the limits change.
#[derive(Default)]
pub(crate) struct Resizes {
    untold: VecDeque<Resize>,
    /// A thread tells.
    is_telling: bool,
}

/// A change of the limits.
#[derive(Clone, Copy)]
pub(super) struct Resize {
    pub(super) from: Limits,
    pub(super) to: Limits,
}

impl Resizes {
    pub(super) fn add(&mut self, resize: Resize) {
        self.untold.push_back(resize);
    }

    /// The next change to tell of. `None`: there is none, or another thread tells. `tells`: this thread got the one before.
    #[must_use]
    pub(super) fn next(&mut self, tells: bool) -> Option<Resize> {
        if self.is_telling && !tells {
            return None;
        }
        let next = self.untold.pop_front();
        self.is_telling = next.is_some();
        next
    }
}
