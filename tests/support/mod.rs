//! What the tests share: gates that tasks wait at, and waits that end with a condition.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its own part"
)]

#[cfg(feature = "postgres")]
pub mod postgres;
pub mod shelf;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig, BulkheadStats, ExecutionHandle};

/// Long enough for any machine; only a test that fails waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A bulkhead with N workers and Q places in the queue.
pub fn bulkhead(n: usize, q: usize) -> Bulkhead {
    Bulkhead::new(config(n, q)).expect("a valid configuration")
}

/// Its configuration, to add to.
pub fn config(n: usize, q: usize) -> BulkheadConfig {
    BulkheadConfig::new("test")
        .max_concurrent_calls(n)
        .max_queue_size(q)
}

/// A gate that tasks wait at until it is opened. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        // Also when a test that fails has poisoned it: this runs while it unwinds.
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

/// Opens its gate when it goes, also in a test that fails, so that the bulkhead can be dropped.
pub struct OpenOnDrop(pub Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Tasks that run, and stay running until the gate is opened. Declare it after the bulkhead.
pub struct Busy {
    pub gate: Gate,
    pub handles: Vec<ExecutionHandle<(), std::convert::Infallible>>,
    _opener: OpenOnDrop,
}

impl Busy {
    /// Opens the gate and waits for all of them.
    pub fn finish(self) {
        self.gate.open();
        for handle in self.handles {
            wait(handle)
                .into_result()
                .expect("a task at a gate ends well");
        }
    }
}

/// Makes `n` workers busy and returns when all of them are.
pub fn occupy(bulkhead: &Bulkhead, n: usize) -> Busy {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handles = (0..n)
        .map(|_| {
            let gate = gate.clone();
            bulkhead.run(move || gate.pass())
        })
        .collect();
    gate.wait_for_arrivals(n);
    Busy {
        gate,
        handles,
        _opener: opener,
    }
}

/// Waits for a handle, but not for ever: a lost wake-up fails the test instead of hanging it.
pub fn wait<T, E>(handle: ExecutionHandle<T, E>) -> bulkman::ExecutionResult<T, E> {
    match handle.wait_timeout(PATIENCE) {
        Ok(result) => result,
        Err(_) => panic!("no outcome within {PATIENCE:?}"),
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// The ledger's equation and its bounds.
pub fn assert_balanced(stats: &BulkheadStats) {
    assert_eq!(
        stats.submitted_executions,
        stats.rejected_executions
            + stats.cancelled_executions
            + stats.timed_out_executions
            + stats.successful_executions
            + stats.failed_executions
            + stats.panicked_executions
            + stats.queued_tasks
            + stats.active_tasks,
        "the ledger does not balance: {stats:?}"
    );
    assert_eq!(
        stats.rejected_executions,
        stats.rejected_full + stats.rejected_circuit_open + stats.rejected_shut_down,
    );
    let capacity = stats.max_concurrent_calls + stats.max_queue_size;
    assert!(
        stats.active_tasks <= stats.max_concurrent_calls,
        "{stats:?}"
    );
    assert!(stats.queued_tasks <= capacity, "{stats:?}");
    assert!(stats.in_flight <= capacity, "{stats:?}");
    assert!(stats.abandoned_tasks <= stats.in_flight, "{stats:?}");
}

/// A value whose drop panics, unless its thread is panicking already.
#[derive(Debug)]
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the bomb went off");
        }
    }
}
