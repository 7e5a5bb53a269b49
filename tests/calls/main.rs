//! Calls of a bulkhead with worker threads: how they get in, wait, run, end and are counted.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod config;
mod context_propagators;
mod context_vars;
mod errors;
mod health;
mod helpers;
mod idle_timeout;
mod inherited;
mod listeners;
mod nested;
mod nested_depth;
mod operation;
mod order;
mod ownership;
mod panic;
mod queue_timeout;
mod queued_time;
mod refusal;
mod resize;
mod saturation;
mod thread_locals;
mod timeout;
mod waiting_for_a_place;
mod worker_hooks;
mod worker_names;
mod wrap;

/// Cancelling calls.
mod cancel {
    mod helpers;
    mod many;
    mod on_drop;
    mod queued;
    mod running;
}

/// The handle of a call.
mod handle {
    mod awaited_limits;
    mod awaiting;
    mod cancel_handle;
    mod dropping;
    mod helpers;
    mod on_finish;
    mod polled_to_end;
    mod waiting;
}

/// The numbers: exact after every outcome, balanced in every snapshot.
mod ledger {
    mod abandoned;
    mod caller_timeouts;
    mod distributions;
    mod helpers;
    mod outcomes;
    mod reset;
    mod under_load;
    mod utilization;
}
