//! Gates: tasks wait at them until the test lets them go on.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::waits::PATIENCE;

/// A gate that tasks wait at until it is opened. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all threads through, now and later.
    pub fn open(&self) {
        // A test that fails may have poisoned the lock, and opens the gate while it unwinds.
        let state = self.0.0.lock();
        state.unwrap_or_else(PoisonError::into_inner).0 = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open.
    pub fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.1 += 1;
        self.0.1.notify_all();
        let deadline = Instant::now() + PATIENCE;
        while !state.0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "nobody opened the gate");
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until `n` threads in all have come to the gate.
    pub fn wait_for_arrivals(&self, n: usize) {
        let mut state = self.0.0.lock().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while state.1 < n {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "{} of {n} arrived", state.1);
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// Opens its gate when it is dropped. A test that fails drops it before the bulkhead, whose drop waits for the tasks at
/// the gate.
pub struct OpenOnDrop(pub Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Waits at its gate when it is dropped.
pub struct SlowDrop(pub Gate);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        self.0.pass();
    }
}
