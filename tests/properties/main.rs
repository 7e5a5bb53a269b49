//! Random sequences of calls on random bulkheads. The calls of one caller are compared with a model. The calls of
//! several callers at the same time are checked against the guarantees.
//!
//! `PROPTEST_CASES` sets the number of cases. One that fails is printed, kept in `main.proptest-regressions` beside
//! this file, and played again first in each later run.

#![expect(unreachable_pub, reason = "a test has no outside")]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod in_their_threads;
mod model;
mod one_caller;
mod script;
mod several_callers;
mod waiting;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use script::script;
use waiting::watched;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(400, |cases| cases.parse().expect("a number")),
        // The default looks for a `lib.rs` above the source file, and there is none above a test.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        max_shrink_iters: 10_000,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_caller_sees_what_the_model_says(
        n in 1_usize..=3,
        q in 0_usize..=4,
        on_demand in any::<bool>(),
        steps in script(40),
    ) {
        watched(move || one_caller::play(n, q, on_demand, &steps));
    }

    #[test]
    fn several_callers_find_every_call_accounted_for(
        n in 1_usize..=3,
        q in 0_usize..=4,
        manual in any::<bool>(),
        resets in prop::bool::weighted(0.2),
        on_demand in any::<bool>(),
        scripts in prop::collection::vec(script(25), 1..=3),
    ) {
        let mode = several_callers::Mode { manual, resets, on_demand };
        watched(move || several_callers::play(n, q, mode, &scripts));
    }

    #[test]
    fn callers_in_their_own_threads_find_every_call_accounted_for(
        n in 1_usize..=3,
        q in 0_usize..=4,
        scripts in prop::collection::vec(in_their_threads::script(25), 1..=4),
    ) {
        watched(move || in_their_threads::play(n, q, &scripts));
    }
}
