//! The circuits of one storage, and how they and their synchronizer wait for each other.
//!
//! The lock is held for nothing else: no I/O and no user code runs under it. A circuit is handed over first and the
//! signal raised after that; the synchronizer lowers the signal first and takes what was handed over after that. So it
//! misses nothing.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::locked::Circuit;
use super::signal::Signal;
use crate::sync::{self, Condvar, Mutex};

/// Stands for a time without an end: it can be added to any point in time.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

sync::thread_local! {
    static IS_SYNCHRONIZER: Cell<bool> = Cell::new(false);
}

/// Ties the circuits of one [`CircuitStorage`](crate::CircuitStorage) to the thread that keeps them in step with it.
///
/// A storage owns one and lends it out; clones of the storage share it. The thread, named `bulkman-circuits`, starts with the
/// first circuit and ends after the last.
#[derive(Clone)]
pub struct CircuitSync(Arc<Members>);

struct Members {
    refresh_interval: Duration,
    state: Mutex<State>,
    /// The synchronizer waits for it.
    signal: Arc<Signal>,
    /// Other threads wait here for the synchronizer.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    synchronizer_runs: bool,
    joining: Vec<Arc<Circuit>>,
    leaving: Vec<Arc<Circuit>>,
    trouble: Option<String>,
}

/// The circuits that were handed over while the synchronizer waited.
#[derive(Default)]
pub(super) struct Work {
    pub(super) joining: Vec<Arc<Circuit>>,
    pub(super) leaving: Vec<Arc<Circuit>>,
}

impl CircuitSync {
    /// With an interval of one second.
    #[must_use]
    pub fn new() -> Self {
        Self::with_refresh_interval(Duration::from_secs(1))
    }

    /// Sets how often the storage is asked for news of its circuits, all of them in one go. So this is also the longest
    /// that a peer's open circuit goes unnoticed while the storage answers. Less than a millisecond counts as one, more
    /// than a hundred years as that.
    ///
    /// An own change is written at once, whatever the interval.
    #[must_use]
    pub fn with_refresh_interval(interval: Duration) -> Self {
        Self(Arc::new(Members {
            refresh_interval: interval.clamp(Duration::from_millis(1), FOR_EVER),
            state: Mutex::default(),
            signal: Arc::default(),
            progress: Condvar::new(),
        }))
    }

    /// How often the storage is asked for news.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.0.refresh_interval
    }

    /// What the storage said when it was last asked, if it failed then. While it does, circuits go on with what this
    /// process knows.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.state.lock().trouble.clone()
    }

    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.0.signal
    }

    /// Hands a circuit to the synchronizer, which `start` starts if there is none.
    pub(super) fn join(
        &self,
        circuit: &Arc<Circuit>,
        start: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.synchronizer_runs {
            start()?;
            state.synchronizer_runs = true;
        }
        state.joining.push(Arc::clone(circuit));
        drop(state);
        self.0.signal.raise();
        Ok(())
    }

    /// The synchronizer drops a circuit after it has written the last change.
    pub(super) fn leave(&self, circuit: Arc<Circuit>) {
        self.0.state.lock().leaving.push(circuit);
        self.0.signal.raise();
    }

    /// Waits until `done`, or until the storage is in trouble, and tells whether it is done. On the synchronizer's own
    /// thread, where callbacks of circuits run, it does not wait.
    pub(super) fn wait_for_progress(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let deadline = sync::now().checked_add(limit);
        let mut state = self.0.state.lock();
        loop {
            if done() {
                return true;
            }
            if IS_SYNCHRONIZER.with(Cell::get)
                || state.trouble.is_some()
                || deadline.is_some_and(|deadline| sync::now() >= deadline)
            {
                return false;
            }
            sync::wait_until(&self.0.progress, &mut state, deadline);
        }
    }

    /// Makes this thread the one of a synchronizer.
    pub(super) fn mark_this_thread() {
        IS_SYNCHRONIZER.with(|is_synchronizer| is_synchronizer.set(true));
    }

    /// The synchronizer waits until the signal is raised or `deadline` comes.
    pub(super) fn wait_for_work(&self, deadline: Instant) -> Work {
        self.0.signal.wait(deadline);
        let mut state = self.0.state.lock();
        Work {
            joining: std::mem::take(&mut state.joining),
            leaving: std::mem::take(&mut state.leaving),
        }
    }

    /// The synchronizer has been through all its circuits. `false` tells it to end: it has none left, and none is coming.
    pub(super) fn report(&self, trouble: Option<String>, has_circuits: bool) -> bool {
        let mut state = self.0.state.lock();
        state.trouble = trouble;
        state.synchronizer_runs = has_circuits || !state.joining.is_empty();
        if !state.synchronizer_runs {
            // The next synchronizer finds out for itself.
            state.trouble = None;
        }
        self.0.progress.notify_all();
        state.synchronizer_runs
    }
}

impl Default for CircuitSync {
    fn default() -> Self {
        Self::new()
    }
}

// Nothing that can panic happens under the lock.
impl UnwindSafe for CircuitSync {}
impl RefUnwindSafe for CircuitSync {}

impl fmt::Debug for CircuitSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitSync")
            .field("refresh_interval", &self.0.refresh_interval)
            .field("trouble", &self.trouble())
            .finish_non_exhaustive()
    }
}
