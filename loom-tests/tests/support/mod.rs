//! How the model tests explore interleavings, and the helpers that they share with the native tests.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its own part"
)]

#[path = "../../../tests/support/bulkheads.rs"]
mod bulkheads;
#[path = "../../../tests/support/ledger.rs"]
mod ledger;

pub use bulkheads::{bulkhead, config, rules};
pub use ledger::{assert_adds_up, assert_balanced};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As [`explore`], for a scenario that takes a minute or more: with one preemption less, unless `BULKMAN_DEEP` is set, as
/// `loom-tests/mutate` does.
pub fn explore_deep(name: &str, preemptions: usize, scenario: fn()) {
    let is_deep = std::env::var_os("BULKMAN_DEEP").is_some();
    explore(name, preemptions - usize::from(!is_deep), scenario);
}

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
