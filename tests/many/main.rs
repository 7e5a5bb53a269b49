//! Many calls at a time, and calls of many items: sets of handles, waiting for any or all, a call for each item of an
//! iterator, and streams.

#![expect(unreachable_pub, reason = "a test binary has no users")]

#[path = "../support/mod.rs"]
mod support;

mod any_and_all;
mod handle_set;
mod helpers;

/// A call for each item of an iterator.
mod execute_map {
    mod in_flight;
    mod nested;
    mod refusals;
    mod results;
}

/// Calls that yield items while they run.
mod stream {
    mod ending;
    mod items;
    mod limits;
    mod nested;
    mod shutdown;
}
