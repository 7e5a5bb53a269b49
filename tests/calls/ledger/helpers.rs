//! One call of every outcome, checks of the counters in any two snapshots, and a mixed workload.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadStats, CircuitBreakerConfig, ManualClock};

use crate::support::{SECOND, config, occupy, wait, with_clock};

/// With a circuit breaker, and a clock that the test moves.
pub fn with_breaker(n: usize, q: usize) -> (Arc<Bulkhead>, ManualClock) {
    with_clock(config(n, q).circuit_breaker(CircuitBreakerConfig::default()))
}

/// One of every outcome, and some of them twice.
pub fn every_outcome(bulkhead: &Bulkhead, clock: &ManualClock) {
    for _ in 0..3 {
        assert!(wait(bulkhead.run(|| ())).is_success());
    }
    for _ in 0..2 {
        let failed = wait(bulkhead.execute(|| Err::<(), _>(())));
        assert!(matches!(failed.error(), Some(BulkheadError::Failed(()))));
    }
    let panicked: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("one")));
    assert!(matches!(panicked.error(), Some(BulkheadError::Panicked(_))));
    assert!(wait(bulkhead.run(|| ())).is_success());

    // Two busy workers, two calls queued, two refused.
    let busy = occupy(bulkhead, 2);
    let cancelled = bulkhead.run(|| ());
    let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
    for _ in 0..2 {
        assert!(matches!(
            wait(bulkhead.run(|| ())).error(),
            Some(BulkheadError::Full { .. })
        ));
    }
    assert!(cancelled.cancel());
    let out_of_time = bulkhead.call().timeout(SECOND).run(|| ());
    clock.advance(SECOND);
    assert!(matches!(
        expired.wait().error(),
        Some(BulkheadError::QueueTimeout { .. })
    ));
    assert!(matches!(
        out_of_time.wait().error(),
        Some(BulkheadError::Timeout { started: false, .. })
    ));
    busy.finish();

    bulkhead.circuit_breaker().unwrap().trip();
    assert!(matches!(
        wait(bulkhead.run(|| ())).error(),
        Some(BulkheadError::CircuitOpen { .. })
    ));
    bulkhead.circuit_breaker().unwrap().reset();
}

/// Every counter that may only grow.
pub fn growing(stats: &BulkheadStats) -> [u64; 14] {
    [
        stats.submitted_executions,
        stats.total_executions,
        stats.successful_executions,
        stats.failed_executions,
        stats.panicked_executions,
        stats.rejected_executions,
        stats.rejected_full,
        stats.rejected_circuit_open,
        stats.rejected_shut_down,
        stats.timed_out_executions,
        stats.cancelled_executions,
        stats.caller_timeouts_started,
        stats.caller_timeouts_queued,
        stats.successful_executions + stats.failed_executions + stats.panicked_executions,
    ]
}

pub fn assert_never_goes_back(before: &BulkheadStats, after: &BulkheadStats) {
    for (before, after) in growing(before).into_iter().zip(growing(after)) {
        assert!(before <= after, "a counter went back: {before} to {after}");
    }
    let [before, after] = [before.busy_time, after.busy_time];
    assert!(
        before <= after,
        "busy time went back: {before:?} to {after:?}"
    );
}

/// How many tasks have started can be neither more than were let in nor less than have ended.
pub fn assert_started_fits(stats: &BulkheadStats) {
    let ended = stats.successful_executions + stats.failed_executions + stats.panicked_executions;
    let never_started =
        stats.rejected_executions + stats.cancelled_executions + stats.timed_out_executions;
    assert!(
        stats.total_executions >= ended + stats.active_tasks,
        "{stats:?}"
    );
    assert!(
        stats.total_executions + never_started <= stats.submitted_executions,
        "more have started than were submitted: {stats:?}"
    );
}

/// The calls of one submitter, by outcome.
#[derive(Default, Debug, PartialEq)]
pub struct Counted {
    pub submitted: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub panicked: u64,
    pub refused: u64,
    pub expired: u64,
    pub cancelled: u64,
}

impl Counted {
    pub fn add<T, E>(&mut self, result: &bulkman::ExecutionResult<T, E>) {
        self.submitted += 1;
        match result.error() {
            None => self.succeeded += 1,
            Some(BulkheadError::Failed(_)) => self.failed += 1,
            Some(BulkheadError::Panicked(_)) => self.panicked += 1,
            Some(error) if error.is_rejected() => self.refused += 1,
            Some(BulkheadError::QueueTimeout { .. }) => self.expired += 1,
            Some(BulkheadError::Cancelled { .. }) => self.cancelled += 1,
            Some(_) => unreachable!("nobody sets a limit of another kind"),
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            submitted: self.submitted + other.submitted,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            panicked: self.panicked + other.panicked,
            refused: self.refused + other.refused,
            expired: self.expired + other.expired,
            cancelled: self.cancelled + other.cancelled,
        }
    }
}

/// A mixed workload; each call is waited for or cancelled, so that its outcome is known.
pub fn submit_many(bulkhead: &Arc<Bulkhead>, calls: u64, seed: u64) -> Counted {
    let mut counted = Counted::default();
    let mut waiting = Vec::new();
    for i in 0..calls {
        // Some spread, the same in every run.
        let kind = (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 16;
        let handle = match kind {
            0 => bulkhead.execute(|| Err(())),
            // Without the panic hook's output, of which there would be thousands of lines.
            1 => bulkhead.execute(|| std::panic::resume_unwind(Box::new("quiet"))),
            2 => bulkhead
                .call()
                .queue_timeout(Duration::from_nanos(1))
                .execute(|| Ok(())),
            3 => bulkhead
                .call()
                .queue_timeout(Duration::from_micros(20))
                .execute(|| Ok(())),
            4 => {
                let handle = bulkhead.execute(|| Ok(()));
                handle.cancel();
                handle
            }
            5 => bulkhead.execute(|| {
                thread::yield_now();
                Ok(())
            }),
            _ => bulkhead.execute(|| Ok(())),
        };
        waiting.push(handle);
        if waiting.len() == 6 || kind == 7 {
            for handle in waiting.drain(..) {
                counted.add(&wait(handle));
            }
        }
    }
    for handle in waiting {
        counted.add(&wait(handle));
    }
    counted
}
