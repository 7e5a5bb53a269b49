//! Calls of a thread pool.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod cancel;
mod config;
mod listeners;
mod nested;
mod ownership;
mod panic;
mod queue_timeout;
mod refusal;
mod thread_locals;
mod timeout;
mod waiting_for_a_place;

mod handle {
    mod waiting;
}

mod ledger {
    mod under_load;
}
