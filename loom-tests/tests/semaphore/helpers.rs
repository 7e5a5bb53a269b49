//! Calls of a bulkhead, with a count that is right only if no two tasks run at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bulkman::{BulkheadError, BulkheadStats, ExecutionResult, SemaphoreBulkhead};
use loom::thread::{self, JoinHandle};

use crate::support::{assert_balanced, config};

pub const SECOND: Duration = Duration::from_secs(1);

pub type Done = ExecutionResult<(), Infallible>;

/// A bulkhead, and the tasks that ran in it: a count that is kept by a plain load and store, so that it is right only
/// if no two tasks run at once and each sees what the one before it has written.
pub struct World {
    pub bulkhead: SemaphoreBulkhead,
    pub ran: loom::sync::atomic::AtomicU64,
}

impl World {
    pub fn new(n: usize, q: usize) -> Arc<Self> {
        Self::around(SemaphoreBulkhead::new(config(n, q)).unwrap())
    }

    pub fn around(bulkhead: SemaphoreBulkhead) -> Arc<Self> {
        let ran = loom::sync::atomic::AtomicU64::new(0);
        Arc::new(Self { bulkhead, ran })
    }

    /// The task of each call, where there is one slot.
    pub fn task(&self) {
        let before = self.ran.load(Ordering::Relaxed);
        self.ran.store(before + 1, Ordering::Relaxed);
    }

    pub fn call(&self) -> Done {
        self.bulkhead.run(|| self.task())
    }

    /// A call that waits for a place as long as it takes.
    pub fn patient_call(&self) -> Done {
        let call = self.bulkhead.call().wait_for_capacity(Duration::MAX);
        call.run(|| self.task())
    }

    /// A call that waits in line for a second at most.
    pub fn brief_call(&self) -> Done {
        let call = self.bulkhead.call().queue_timeout(SECOND);
        call.run(|| self.task())
    }

    /// Another thread with a call of its own.
    pub fn beside(
        self: &Arc<Self>,
        call: impl FnOnce(&Self) -> Done + Send + 'static,
    ) -> JoinHandle<Done> {
        let world = Arc::clone(self);
        thread::spawn(move || call(&world))
    }

    /// As often as the task was run, once nobody runs it any more.
    pub fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// All calls have ended: each is in the ledger, and all places are free.
    pub fn assert_whole(&self) -> BulkheadStats {
        let stats = self.bulkhead.stats();
        assert_balanced(&stats);
        assert_eq!(stats.in_flight, 0, "{stats}");
        let ended = stats.successful_executions + stats.failed_executions;
        assert_eq!(
            stats.total_executions,
            ended + stats.panicked_executions,
            "{stats}"
        );
        let places = stats.max_concurrent_calls + stats.max_queue_size;
        assert_eq!(self.bulkhead.available_capacity() as u64, places);
        stats
    }
}

pub fn is_expired(result: &Done) -> bool {
    matches!(
        result.error(),
        Some(BulkheadError::QueueTimeout { .. } | BulkheadError::Timeout { started: false, .. })
    )
}

/// How a call ends that meets a shutdown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Met {
    Ran,
    Refused,
    Cancelled,
    Expired,
}

pub fn met(result: &Done) -> Met {
    match result.error() {
        None => Met::Ran,
        Some(BulkheadError::ShutDown { .. }) => Met::Refused,
        Some(BulkheadError::Cancelled {
            by_shutdown: true, ..
        }) => Met::Cancelled,
        Some(_) if is_expired(result) => Met::Expired,
        Some(other) => panic!("{other}"),
    }
}
