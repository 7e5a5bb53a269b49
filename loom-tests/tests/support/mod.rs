//! How the model tests explore, and what they share.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::{Bulkhead, BulkheadConfig, BulkheadStats};

/// Explores every interleaving of `scenario` with at most `preemptions` switches away from a thread that
/// could have gone on (`LOOM_MAX_PREEMPTIONS` overrides it), and prints how many there were. The same
/// with one spurious wake-up, at every place where a thread sleeps first, and one switch less, but at least one.
pub fn explore(name: &str, preemptions: usize, scenario: fn()) {
    for spurious in [0, 1] {
        let executions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&executions);
        let mut builder = loom::model::Builder::new();
        let switches = preemptions.saturating_sub(spurious).max(1);
        builder.preemption_bound.get_or_insert(switches);
        builder.max_branches = 20_000;
        builder.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            bulkman::model::spurious_wake_ups(spurious);
            scenario();
        });
        let executions = executions.load(Ordering::Relaxed);
        println!("{name}: {executions} executions, {spurious} spurious wake-ups");
        assert!(executions > 1, "the model explores nothing");
    }
}

pub fn config(n: usize, q: usize) -> BulkheadConfig {
    BulkheadConfig::new("model")
        .max_concurrent_calls(n)
        .max_queue_size(q)
}

pub fn bulkhead(n: usize, q: usize) -> Bulkhead {
    Bulkhead::new(config(n, q)).expect("a valid configuration")
}

/// The ledger's equation and its bounds.
pub fn assert_balanced(stats: &BulkheadStats) {
    assert_eq!(
        stats.submitted_executions,
        stats.rejected_executions
            + stats.refused_in_queue_executions
            + stats.cancelled_executions
            + stats.timed_out_executions
            + stats.successful_executions
            + stats.failed_executions
            + stats.panicked_executions
            + stats.queued_tasks
            + stats.active_tasks,
    );
    assert!(stats.active_tasks <= stats.max_concurrent_calls);
    assert!(stats.in_flight <= stats.max_concurrent_calls + stats.max_queue_size);
}
