//! A bulkhead can do without spans, and without the trace.

use std::sync::Arc;

use bulkman::{Bulkhead, SemaphoreBulkhead};
use tracing::info_span;

use crate::helpers::Seen;
use crate::support::{config, occupy, wait};

#[test]
fn without_spans_the_callers_own_goes_along() {
    let pool = Bulkhead::builder(config(1, 0))
        .call_spans(false)
        .build()
        .unwrap();
    let here = SemaphoreBulkhead::builder(config(1, 0))
        .call_spans(false)
        .build()
        .unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            drop(wait(pool.run(|| tracing::info!("on a worker"))));
            drop(here.run(|| tracing::info!("in its caller")));
            let busy = occupy(&pool, 1);
            assert!(pool.try_run(|| ()).is_err());
            busy.finish();
        });
    });
    assert_eq!(seen.around("on a worker"), ["request"]);
    assert_eq!(seen.around("in its caller"), ["request"]);
    assert!(seen.calls().is_empty());
    assert_eq!(seen.events().len(), 2, "none of the refusal");
}

#[test]
fn without_the_trace_nothing_goes_along() {
    let pool = Bulkhead::builder(config(1, 0))
        .propagate_trace(false)
        .build()
        .unwrap();
    let here = SemaphoreBulkhead::builder(config(1, 0))
        .propagate_trace(false)
        .build()
        .unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            drop(wait(pool.run(|| tracing::info!("on a worker"))));
            drop(here.run(|| ()));
        });
    });
    assert!(seen.calls().is_empty());
    assert!(seen.events().is_empty());
}

#[test]
fn a_layer_that_leaves_the_spans_of_calls_out_still_has_the_callers() {
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    let outer = Bulkhead::new(config(1, 0)).unwrap();
    let inner = Arc::new(Bulkhead::new(config(1, 0)).unwrap());
    let here = Arc::new(SemaphoreBulkhead::new(config(1, 0)).unwrap());
    let [all, seen] = [(); 2].map(|()| Seen::default());
    let others = filter_fn(|metadata| metadata.target() != "bulkman");
    let subscriber = tracing_subscriber::registry()
        .with(seen.clone().with_filter(others))
        .with(all.clone());
    tracing::subscriber::with_default(subscriber, || {
        info_span!("request").in_scope(|| {
            drop(wait(outer.run(move || {
                tracing::info!("outer");
                let inside = Arc::clone(&inner);
                drop(inner.run(|| tracing::info!("inner")).wait());
                drop(here.run(|| drop(inside.run(|| tracing::info!("innermost")).wait())));
                let guard = here.acquire().unwrap();
                drop(inside.run(|| tracing::info!("in a guard")).wait());
                guard.success();
            })));
        });
    });
    for text in ["outer", "inner", "innermost", "in a guard"] {
        assert_eq!(seen.around(text), ["request"], "{text}");
        assert_eq!(
            all.around(text)[..2],
            ["request", "bulkhead_call"],
            "{text}"
        );
    }
    assert!(seen.calls().is_empty());
    assert_eq!((all.calls().len(), all.open()), (6, 0));
}

#[test]
fn a_thread_without_a_subscriber_takes_that_along() {
    let pool = Bulkhead::new(config(1, 0)).unwrap();
    let seen = Seen::default();
    seen.on(|| {
        let silent = tracing::subscriber::NoSubscriber::default();
        tracing::subscriber::with_default(silent, || {
            drop(wait(pool.run(|| tracing::info!("to nobody"))));
        });
    });
    assert!(seen.events().is_empty());
    assert!(seen.calls().is_empty());
}
