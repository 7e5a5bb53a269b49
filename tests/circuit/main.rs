//! Circuit breakers: alone, in a bulkhead, and shared between processes through a storage.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod helpers;
mod live_change;
mod opening_rules;
mod operators;
mod probe_limit;
mod settings;
mod slow_calls;
mod state_by_the_clock;
mod verdicts;

/// A breaker alone, around calls that need no bulkhead.
mod breaker_alone {
    mod by_hand;
    mod call;
    mod callbacks;
    mod failure_rate;
    mod helpers;
    mod isolation;
    mod permits;
    mod threads;
}

/// The breaker of a bulkhead: it opens on failures of the dependency and on nothing else.
mod in_a_bulkhead {
    mod cancelled_calls;
    mod half_open;
    mod helpers;
    mod lost_probes;
    mod opening;
    mod order_of_checks;
    mod queued_calls;
    mod refused_without_a_place;
    mod timeouts;
    mod watching;
    mod without_a_breaker;
}

/// A circuit in a storage: peers share its state, also when the storage fails.
mod shared {
    mod callbacks;
    mod cannot_be_stored;
    mod clock_jumps;
    mod coming_and_going;
    mod extremes;
    mod flush;
    mod hanging_storage;
    mod helpers;
    mod names;
    mod names_that_go;
    mod news;
    mod one_bad_circuit;
    mod outages;
    mod outcomes;
    mod peers;
    mod rows_that_go_back;
    mod start;
    mod storms;
    mod told_of_trouble;
    mod write_guard;
}
