//! What is counted of the calls through a pipeline.
//!
//! Each counter is one relaxed addition by the thread that made the call, after the call and before anybody sees its result.
//! No decision rests on a counter, so nothing orders one against another. A snapshot takes the number of calls from the
//! outcomes that it has read, so that these always add up.

use std::sync::Arc;

use super::result::PipelineResult;
use super::stats::PipelineStats;
use crate::core::next_serial;
use crate::policy::failure::{Failure, FailureKind};
use crate::policy::retry_outcome::RetryStop;
use crate::stats::{Distribution, Recorder};
use crate::sync::{AtomicU64, Ordering};

/// The counters of a pipeline and its clones, or of all pipelines of a dependency.
pub(crate) struct PipelineLedger {
    name: Arc<str>,
    /// No other ledger of the process has it.
    serial: u64,
    succeeded: AtomicU64,
    fell_back: AtomicU64,
    failed: [AtomicU64; FailureKind::ALL.len()],
    retries: AtomicU64,
    retry_stops: [AtomicU64; RetryStop::ALL.len()],
    rate_limited: AtomicU64,
    circuit_open: AtomicU64,
    hedged: AtomicU64,
    hedges_won: AtomicU64,
    duration: Recorder,
}

impl PipelineLedger {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            serial: next_serial(),
            succeeded: AtomicU64::new(0),
            fell_back: AtomicU64::new(0),
            failed: std::array::from_fn(|_| AtomicU64::new(0)),
            retries: AtomicU64::new(0),
            retry_stops: std::array::from_fn(|_| AtomicU64::new(0)),
            rate_limited: AtomicU64::new(0),
            circuit_open: AtomicU64::new(0),
            hedged: AtomicU64::new(0),
            hedges_won: AtomicU64::new(0),
            duration: Recorder::new(),
        }
    }

    /// A call has ended.
    pub(super) fn end<T, E>(&self, result: &PipelineResult<T, E>) {
        let outcome = match (&result.result, &result.fell_back_from) {
            (Ok(_), None) => &self.succeeded,
            (Ok(_), Some(_)) => &self.fell_back,
            (Err(error), _) => &self.failed[error.failure_kind() as usize],
        };
        add(outcome, 1);
        self.duration.record_of_many(result.elapsed);
        add(&self.retries, result.attempts.saturating_sub(1));
        if let Some(stop) = result.retry_stop {
            add(&self.retry_stops[stop as usize], 1);
        }
        add(&self.hedged, result.hedged);
        add(&self.hedges_won, result.hedges_won);
    }

    /// The pipeline's rate limit has refused an attempt.
    pub(super) fn rate_limited(&self) {
        add(&self.rate_limited, 1);
    }

    /// The pipeline's own circuit has refused an attempt.
    pub(super) fn circuit_open(&self) {
        add(&self.circuit_open, 1);
    }

    pub(crate) fn stats(&self) -> PipelineStats {
        let mut duration = Distribution::empty();
        self.duration.add_to(&mut duration);
        let failures = self.failed.each_ref().map(get);
        let failed_calls = failures.iter().sum();
        let (successful_calls, fallback_calls) = (get(&self.succeeded), get(&self.fell_back));
        PipelineStats {
            name: Arc::clone(&self.name),
            calls: successful_calls + fallback_calls + failed_calls,
            successful_calls,
            fallback_calls,
            failed_calls,
            retries: get(&self.retries),
            rate_limited_attempts: get(&self.rate_limited),
            circuit_open_attempts: get(&self.circuit_open),
            hedged_attempts: get(&self.hedged),
            hedges_won: get(&self.hedges_won),
            duration,
            failures,
            retry_stops: self.retry_stops.each_ref().map(get),
            serial: self.serial,
        }
    }

    /// Of a pipeline that counts nothing.
    pub(super) fn empty(name: &Arc<str>) -> PipelineStats {
        Self::new(Arc::clone(name)).stats()
    }
}

/// Most calls add nothing to most counters.
fn add(counter: &AtomicU64, number: u32) {
    if number > 0 {
        // ORDERING: Relaxed. The number stands for itself.
        counter.fetch_add(u64::from(number), Ordering::Relaxed);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
