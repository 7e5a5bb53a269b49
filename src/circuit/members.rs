//! What the circuits of one storage and the thread that keeps them have in common: who comes, who goes, and a bell.
//!
//! Nothing but this is touched under the lock; no I/O, and no code of the user's.

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

use super::core::Circuit;
use crate::sync::{self, Condvar, Mutex, MutexGuard};

/// What stands for a time without an end, so that it can be added to any point in time.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

sync::thread_local! {
    static IS_KEEPER: Cell<bool> = Cell::new(false);
}

/// What ties the circuits of one [`CircuitStorage`](crate::CircuitStorage) to the thread that keeps them in step with
/// it.
///
/// A storage owns one and hands it out; its clones share it. The thread, named `bulkman-circuits`, starts with the
/// first circuit and ends after the last.
#[derive(Clone)]
pub struct CircuitSync(Arc<Roster>);

struct Roster {
    refresh_interval: Duration,
    state: Mutex<State>,
    /// The keeper waits here for work.
    work: Condvar,
    /// Others wait here for the keeper.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    keeper_runs: bool,
    rung: bool,
    joining: Vec<Arc<Circuit>>,
    leaving: Vec<Arc<Circuit>>,
    trouble: Option<String>,
}

/// What the keeper finds when it comes back from waiting.
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
        Self(Arc::new(Roster {
            refresh_interval: interval.clamp(Duration::from_millis(1), FOR_EVER),
            state: Mutex::default(),
            work: Condvar::new(),
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

    pub(super) fn bell(&self) -> Bell {
        Bell(self.clone())
    }

    /// Hands a circuit to the keeper, which `start` starts if there is none.
    pub(super) fn join(
        &self,
        circuit: &Arc<Circuit>,
        start: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.keeper_runs {
            start()?;
            state.keeper_runs = true;
        }
        state.joining.push(Arc::clone(circuit));
        self.ring(&mut state);
        Ok(())
    }

    /// The keeper lets go of a circuit after it has written its last change.
    pub(super) fn leave(&self, circuit: Arc<Circuit>) {
        let mut state = self.0.state.lock();
        state.leaving.push(circuit);
        self.ring(&mut state);
    }

    /// Waits until `done`, or the storage is in trouble; whether it is done. On a keeper's thread, where callbacks of
    /// circuits run, it does not wait.
    pub(super) fn wait_for_keeper(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let deadline = sync::now().checked_add(limit);
        let mut state = self.0.state.lock();
        loop {
            if done() {
                return true;
            }
            if IS_KEEPER.with(Cell::get)
                || state.trouble.is_some()
                || deadline.is_some_and(|deadline| sync::now() >= deadline)
            {
                return false;
            }
            sync::wait_until(&self.0.progress, &mut state, deadline);
        }
    }

    /// Called once on the keeper's thread.
    pub(super) fn sit_down() {
        IS_KEEPER.with(|is_keeper| is_keeper.set(true));
    }

    /// The keeper waits until the bell rings or `deadline` comes.
    pub(super) fn wait_for_work(&self, deadline: Instant) -> Work {
        let mut state = self.0.state.lock();
        while !state.rung && sync::now() < deadline {
            sync::wait_until(&self.0.work, &mut state, Some(deadline));
        }
        state.rung = false;
        Work {
            joining: std::mem::take(&mut state.joining),
            leaving: std::mem::take(&mut state.leaving),
        }
    }

    /// The keeper has been through all its circuits. `false` tells it to end: it has none left, and none is coming.
    pub(super) fn report(&self, trouble: Option<String>, has_circuits: bool) -> bool {
        let mut state = self.0.state.lock();
        state.trouble = trouble;
        state.keeper_runs = has_circuits || !state.joining.is_empty();
        if !state.keeper_runs {
            // Whoever comes next finds out for itself.
            state.trouble = None;
        }
        self.0.progress.notify_all();
        state.keeper_runs
    }

    fn ring(&self, state: &mut MutexGuard<'_, State>) {
        state.rung = true;
        self.0.work.notify_one();
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

/// Calls the keeper.
pub(crate) struct Bell(CircuitSync);

impl Bell {
    pub(super) fn ring(&self) {
        let mut state = self.0.0.state.lock();
        self.0.ring(&mut state);
    }
}
