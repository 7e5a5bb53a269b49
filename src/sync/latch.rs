//! A count that threads wait for: it is zero when a bulkhead has ended.

use std::time::Instant;

use super::{Condvar, Mutex, now, wait_until};

/// Counts the worker threads of a bulkhead, or stands for all calls of one without threads.
#[derive(Default)]
pub(crate) struct Latch {
    count: Mutex<usize>,
    reached_zero: Condvar,
}

impl Latch {
    pub(crate) fn count_up(&self) {
        *self.count.lock() += 1;
    }

    pub(crate) fn count_down(&self) {
        let mut count = self.count.lock();
        *count -= 1;
        let is_zero = *count == 0;
        drop(count);
        if is_zero {
            self.reached_zero.notify_all();
        }
    }

    /// Waits until the count is zero; `false` if `deadline` came first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut count = self.count.lock();
        while *count > 0 {
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return false;
            }
            wait_until(&self.reached_zero, &mut count, deadline);
        }
        true
    }
}
