//! How the schedules run, and the checks of each.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of the tests, with helpers of others"
)]

#[path = "../../../../tests/support/bulkheads.rs"]
mod bulkheads;
#[path = "../../../../tests/support/ledger.rs"]
mod ledger;

pub use bulkheads::{config, rules};
pub use ledger::{assert_adds_up, assert_balanced};

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bulkman::{
    Bulkhead, BulkheadError, BulkheadStats, ExecutionHandle, ExecutionResult, SemaphoreBulkhead,
};
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

/// Runs `scenario` in `schedules` random schedules and in as many that the PCT algorithm chooses, and prints how many
/// there were, and their seed; in some of them the first waits end without a reason. `SHUTTLE_RANDOM_SEED` repeats a
/// seed, `SHUTTLE_SCHEDULES` sets how many.
pub fn check(name: &str, schedules: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let schedules = match std::env::var("SHUTTLE_SCHEDULES") {
        Ok(number) => number.parse().expect("a number of schedules"),
        Err(_) => schedules,
    };
    let seed = match std::env::var("SHUTTLE_RANDOM_SEED") {
        Ok(seed) => seed.parse().expect("a seed"),
        Err(_) => RandomState::new().hash_one(name),
    };
    let scenario = Arc::new(scenario);
    let random = RandomScheduler::new_from_seed(seed, schedules);
    let pct = PctScheduler::new_from_seed(seed, 3, schedules);
    run(name, "random", seed, random, Arc::clone(&scenario));
    run(name, "PCT", seed, pct, scenario);
}

fn run(
    name: &str,
    kind: &str,
    seed: u64,
    scheduler: impl Scheduler + 'static,
    scenario: Arc<impl Fn() + Send + Sync + 'static>,
) {
    println!("{name}: {kind} schedules of seed {seed}");
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    let done = shuttle::Runner::new(scheduler, config).run(move || {
        bulkman::model::spurious_wake_ups(chance(3) as usize);
        scenario();
    });
    println!("{name}: {done} {kind} schedules");
}

/// A number below `n`, by the schedule's choice.
pub fn chance(n: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..n)
}

/// A bulkhead, wherever its tasks run.
pub trait AnyBulkhead: Send + Sync + 'static {
    fn stats(&self) -> BulkheadStats;
    fn available_capacity(&self) -> usize;
    fn end(&self);
}

macro_rules! any_bulkhead {
    ($bulkhead:ty) => {
        impl AnyBulkhead for $bulkhead {
            fn stats(&self) -> BulkheadStats {
                self.stats()
            }

            fn available_capacity(&self) -> usize {
                self.available_capacity()
            }

            fn end(&self) {
                self.shutdown();
            }
        }
    };
}

any_bulkhead!(Bulkhead);
any_bulkhead!(SemaphoreBulkhead);

/// Waits for the end, and finds nothing left behind.
pub fn finally(bulkhead: &impl AnyBulkhead) {
    bulkhead.end();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(
        (stats.in_flight, stats.abandoned_tasks),
        (0, 0),
        "{stats:?}"
    );
}

/// Tasks that count how many of them run at once, and whether each was dropped.
pub struct Running {
    limit: usize,
    now: AtomicUsize,
    made: AtomicUsize,
    dropped: AtomicUsize,
}

impl Running {
    /// At most `limit` may run at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            now: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        })
    }

    pub fn task(self: &Arc<Self>) -> impl FnOnce() -> Result<(), ()> + Send + 'static {
        let task = self.nested_task();
        let running = Arc::clone(self);
        move || {
            let before = running.now.fetch_add(1, Ordering::Relaxed);
            assert!(before < running.limit, "more tasks run at once than may");
            let result = task();
            running.now.fetch_sub(1, Ordering::Relaxed);
            result
        }
    }

    /// One that runs on top of a task that waits for it, or beside.
    pub fn nested_task(self: &Arc<Self>) -> impl FnOnce() -> Result<(), ()> + Send + 'static {
        struct CountDrop(Arc<Running>);
        impl Drop for CountDrop {
            fn drop(&mut self) {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let counted = CountDrop(Arc::clone(self));
        move || {
            let _counted = counted;
            shuttle::thread::yield_now();
            Ok(())
        }
    }

    pub fn assert_over(&self) {
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        assert_eq!(load(&self.now), 0);
        assert_eq!(load(&self.made), load(&self.dropped), "a closure was lost");
    }
}

/// The outcomes that callers saw, and the callbacks that were registered and called.
#[derive(Clone, Default)]
pub struct Counts {
    outcomes: Arc<Mutex<[u64; 7]>>,
    callbacks: Arc<[AtomicUsize; 2]>,
}

impl Counts {
    /// Registers a callback for the end of the call.
    pub fn watch<T, E>(&self, handle: &ExecutionHandle<T, E>) {
        self.callbacks[0].fetch_add(1, Ordering::Relaxed);
        let callbacks = Arc::clone(&self.callbacks);
        let call = handle.cancel_handle();
        handle.on_finish(move |summary| {
            assert!(call.is_finished());
            assert!(call.is_started() || summary.outcome.never_started());
            shuttle::thread::yield_now();
            callbacks[1].fetch_add(1, Ordering::Relaxed);
        });
    }

    pub fn add<T, E>(&self, result: &ExecutionResult<T, E>) {
        let which = match result.error() {
            None => 0,
            Some(BulkheadError::Failed(_)) => 1,
            Some(BulkheadError::Panicked(_)) => 2,
            Some(BulkheadError::Cancelled { .. }) => 3,
            Some(BulkheadError::QueueTimeout { .. }) => 4,
            // How the task ended is its own business.
            Some(BulkheadError::Timeout { started: true, .. }) => 5,
            Some(BulkheadError::Timeout { .. }) => 6,
            Some(error) => {
                assert!(error.is_rejected());
                return;
            }
        };
        self.outcomes.lock().unwrap()[which] += 1;
    }

    /// Each outcome that a caller saw is in the ledger's column, and no other is but of those whose caller left.
    pub fn assert_are(&self, stats: &BulkheadStats) {
        let [
            succeeded,
            failed,
            panicked,
            cancelled,
            expired,
            left,
            left_queue,
        ] = *self.outcomes.lock().unwrap();
        assert_eq!(stats.cancelled_executions, cancelled, "{stats}");
        assert_eq!(stats.timed_out_executions, expired + left_queue, "{stats}");
        assert_eq!(stats.caller_timeouts_started, left, "{stats:?}");
        assert_eq!(stats.caller_timeouts_queued, left_queue, "{stats:?}");
        assert_eq!(stats.failed_executions, failed, "{stats}");
        assert_eq!(stats.panicked_executions, panicked, "{stats}");
        assert_eq!(stats.successful_executions, succeeded + left, "{stats}");
        let [registered, called] = self.callbacks.each_ref();
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        assert_eq!(load(called), load(registered), "of the callbacks");
    }
}

/// No counter goes back from one snapshot to the next.
pub fn assert_grown(before: &BulkheadStats, after: &BulkheadStats) {
    assert!(before.submitted_executions <= after.submitted_executions);
    assert!(before.total_executions <= after.total_executions);
    assert!(before.successful_executions <= after.successful_executions);
    assert!(before.cancelled_executions <= after.cancelled_executions);
    assert!(before.timed_out_executions <= after.timed_out_executions);
    assert!(before.caller_timeouts_started <= after.caller_timeouts_started);
    assert!(before.caller_timeouts_queued <= after.caller_timeouts_queued);
    assert!(before.rejected_executions <= after.rejected_executions);
    assert!(before.refused_in_queue_executions <= after.refused_in_queue_executions);
}
