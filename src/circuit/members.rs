//! The circuits of one storage, and how they and their synchronizer wait for each other.
//!
//! No I/O and no user code runs under the lock. A thread hands a circuit over first and raises the signal after that;
//! the synchronizer lowers the signal first and takes the circuits after that. So it misses none.

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

use super::local_circuit::LocalCircuit;
use super::signal::Signal;
use super::skew::ClockSkew;
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
    max_adopted_isolation: Option<Duration>,
    state: Mutex<State>,
    /// The synchronizer waits for it.
    signal: Arc<Signal>,
    /// Other threads wait here for the synchronizer.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    synchronizer_runs: bool,
    joining: Vec<Arc<LocalCircuit>>,
    leaving: Vec<Arc<LocalCircuit>>,
    report: Report,
}

/// What the synchronizer has found out about its storage.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Why the storage fails.
    pub(super) trouble: Option<String>,
    /// The circuits that cannot be stored although the storage answers, and why.
    pub(super) troubles: Vec<(Arc<str>, String)>,
    pub(super) clock_skew: Option<ClockSkew>,
}

/// The circuits that were handed over while the synchronizer waited.
#[derive(Default)]
pub(super) struct Work {
    pub(super) joining: Vec<Arc<LocalCircuit>>,
    pub(super) leaving: Vec<Arc<LocalCircuit>>,
}

impl CircuitSync {
    /// With an interval of one second.
    #[must_use]
    pub fn new() -> Self {
        Self::with_refresh_interval(Duration::from_secs(1))
    }

    /// Sets how often the storage is asked for news of its circuits, all of them in one go. So this is also the longest
    /// that a peer's open circuit goes unnoticed while the storage answers. Each interval is shortened at random by up to
    /// a fifth, so that the processes of a fleet do not ask at the same moment. Default: one second. Less than a
    /// millisecond counts as one, more than a hundred years as that.
    ///
    /// A circuit writes its own change at once, whatever the interval.
    #[must_use]
    pub fn with_refresh_interval(interval: Duration) -> Self {
        Self::build(interval, None)
    }

    /// Caps an isolation that a peer has stored: this process isolates its circuit at the longest for `limit` from the
    /// moment when it reads the row. Then it probes, and replaces that row.
    ///
    /// Default: twice the isolation duration of the circuit itself, and at least five minutes. That leaves room for peers
    /// with another configuration or a clock that is a little ahead. A peer whose clock is ahead by a day would isolate
    /// the whole fleet for a day without the cap. `Duration::MAX` turns it off.
    ///
    /// The cap does not hold for a circuit that a peer has opened until [`reset`](crate::CircuitBreaker::reset), that is
    /// for an end more than 50 years ahead.
    ///
    /// Call it before the value is cloned: the answer is a new `CircuitSync` without circuits.
    #[must_use]
    pub fn with_max_adopted_isolation(self, limit: Duration) -> Self {
        Self::build(self.0.refresh_interval, Some(limit))
    }

    fn build(refresh_interval: Duration, max_adopted_isolation: Option<Duration>) -> Self {
        Self(Arc::new(Members {
            refresh_interval: refresh_interval.clamp(Duration::from_millis(1), FOR_EVER),
            max_adopted_isolation,
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

    /// The cap of an isolation that a peer has stored; `None` for the default.
    #[must_use]
    pub fn max_adopted_isolation(&self) -> Option<Duration> {
        self.0.max_adopted_isolation
    }

    /// Why the storage fails, if it failed when it was last asked. While it fails, circuits go on with what this process
    /// knows.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.state.lock().report.trouble.clone()
    }

    /// Why one circuit cannot be stored although the storage answers, as for a name that it cannot hold. Such a circuit
    /// goes on with what this process knows; the others stay in step with the storage.
    #[must_use]
    pub fn trouble_of(&self, circuit: &str) -> Option<String> {
        self.0.state.lock().report.of(circuit).map(str::to_owned)
    }

    /// The clock of this host beside that of the storage, as they were when the storage last answered; `None` if it has
    /// not answered yet, or has no clock.
    ///
    /// A difference of more than five seconds is logged as a warning once, and again only after it went away.
    #[must_use]
    pub fn clock_skew(&self) -> Option<ClockSkew> {
        self.0.state.lock().report.clock_skew
    }

    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.0.signal
    }

    /// Hands a circuit to the synchronizer, which `start` starts if there is none.
    pub(super) fn join(
        &self,
        circuit: &Arc<LocalCircuit>,
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
    pub(super) fn leave(&self, circuit: Arc<LocalCircuit>) {
        self.0.state.lock().leaving.push(circuit);
        self.0.signal.raise();
    }

    /// Waits until `done`, or until the storage fails for this circuit, and tells whether it is done. It does not wait on
    /// the synchronizer's own thread, where callbacks of circuits run.
    pub(super) fn wait_for_progress(
        &self,
        circuit: &str,
        limit: Duration,
        done: impl Fn() -> bool,
    ) -> bool {
        let deadline = sync::now().checked_add(limit);
        let mut state = self.0.state.lock();
        loop {
            if done() {
                return true;
            }
            if IS_SYNCHRONIZER.with(Cell::get)
                || state.report.trouble.is_some()
                || state.report.of(circuit).is_some()
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
    pub(super) fn report(&self, report: Report, has_circuits: bool) -> bool {
        let mut state = self.0.state.lock();
        state.synchronizer_runs = has_circuits || !state.joining.is_empty();
        // The next synchronizer finds out for itself.
        state.report = if state.synchronizer_runs {
            report
        } else {
            Report::default()
        };
        self.0.progress.notify_all();
        state.synchronizer_runs
    }
}

impl Report {
    fn of(&self, circuit: &str) -> Option<&str> {
        let found = self.troubles.iter().find(|(name, _)| **name == *circuit);
        found.map(|(_, trouble)| trouble.as_str())
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
