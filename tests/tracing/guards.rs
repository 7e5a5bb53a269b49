//! A guard's call has a span too, in which its thread is until the guard ends it.

use bulkman::{SemaphoreBulkhead, Verdict};
use tracing::info_span;

use crate::helpers::Seen;
use crate::support::config;

#[test]
fn a_guards_span_lasts_as_long_as_the_guard() {
    let here = SemaphoreBulkhead::new(config(1, 0)).unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            let guard = here.acquire().unwrap();
            tracing::info!("inside");
            guard.success();
            tracing::info!("outside");
            drop(here.try_acquire().unwrap());
        });
    });
    assert_eq!(seen.around("inside"), ["request", "bulkhead_call"]);
    assert_eq!(seen.around("outside"), ["request"]);
    assert_eq!(seen.calls().len(), 2);
    for call in seen.calls() {
        assert_eq!(call.parent, Some("request"));
        assert_eq!(call.field("outcome"), "succeeded");
    }
}

#[test]
fn it_says_how_the_guard_ended() {
    let here = SemaphoreBulkhead::new(config(1, 0)).unwrap();
    let seen = Seen::during(|| {
        here.acquire().unwrap().failure();
        here.acquire().unwrap().record(Verdict::Ignored);
        let panics = std::panic::catch_unwind(|| {
            let _guard = here.acquire().unwrap();
            panic!("with a guard");
        });
        assert!(panics.is_err());
        tracing::info!("after");
    });
    let outcomes = seen
        .calls()
        .iter()
        .map(|call| call.field("outcome").to_owned())
        .collect::<Vec<_>>();
    assert_eq!(outcomes, ["failed", "failed", "panicked"]);
    assert!(seen.around("after").is_empty());
}

#[test]
fn guards_may_end_in_any_order() {
    let here = SemaphoreBulkhead::new(config(1, 2)).unwrap();
    let seen = Seen::during(|| {
        let [first, second] = ["first", "second"].map(|name| here.call().operation(name).acquire());
        drop(first);
        tracing::info!("in the second");
        drop(second);
        tracing::info!("after both");
    });
    assert_eq!(seen.around("after both"), [""; 0]);
    // It was acquired inside of the first.
    assert_eq!(
        seen.around("in the second"),
        ["bulkhead_call", "bulkhead_call"]
    );
    assert_eq!(seen.calls().len(), 2);
}
