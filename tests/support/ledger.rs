//! The ledger's equation, which holds in every snapshot. The model tests check it too.

use bulkman::BulkheadStats;

/// The ledger's equation and its bounds.
pub fn assert_balanced(stats: &BulkheadStats) {
    assert_adds_up(stats);
    let capacity = stats.max_concurrent_calls + stats.max_queue_size;
    assert!(
        stats.active_tasks <= stats.max_concurrent_calls,
        "{stats:?}"
    );
    assert!(stats.queued_tasks <= capacity, "{stats:?}");
    assert!(stats.in_flight <= capacity, "{stats:?}");
}

/// The ledger's equation, which holds also while the limits change.
pub fn assert_adds_up(stats: &BulkheadStats) {
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
        "the ledger does not balance: {stats:?}"
    );
    assert_eq!(
        stats.rejected_executions,
        stats.rejected_full + stats.rejected_circuit_open + stats.rejected_shut_down,
    );
    assert!(stats.abandoned_tasks <= stats.in_flight, "{stats:?}");
}
