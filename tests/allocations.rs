//! G11 and the cost of a call: a refusal allocates nothing, a call one block.
//!
//! The file is a binary of its own, since it replaces the allocator of the process.

mod support;

use allocation_counter::measure;
use bulkman::policy::{Fallback, Pipeline, RateLimit, Retry, RetryBudget};
use bulkman::{
    Bulkhead, BulkheadKind, CircuitBreaker, CircuitBreakerConfig, Dependencies, DependencyConfig,
    DependencyKind, OperationOverrides, SemaphoreBulkhead,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::{bulkhead, config, occupy};

/// Blocks allocated by this thread.
fn blocks(action: impl FnOnce()) -> u64 {
    measure(action).count_total
}

#[test]
fn a_refusal_allocates_nothing() {
    let full = bulkhead(1, 0);
    let busy = occupy(&full, 1);
    let open = config(1, 0).circuit_breaker(CircuitBreakerConfig::default());
    let open = Bulkhead::new(open).unwrap();
    open.circuit_breaker().unwrap().trip();
    let shut_down = bulkhead(1, 0);
    shut_down.shutdown();
    for refusing in [&full, &open, &shut_down] {
        // A thread makes some things once, such as the state of its random numbers.
        drop(refusing.run(|| ()));
        let allocated = blocks(|| {
            for _ in 0..100 {
                assert!(refusing.try_run(|| ()).is_err());
                assert!(refusing.run(|| ()).is_finished());
                let waiting = refusing.call().wait_for_capacity(Duration::ZERO);
                assert!(waiting.operation("static").try_run(|| ()).is_err());
            }
        });
        assert_eq!(allocated, 0, "{refusing:?}");
    }
    busy.finish();
}

#[test]
fn a_call_allocates_one_block() {
    let bulkhead = bulkhead(1, 100);
    let busy = occupy(&bulkhead, 1);
    drop(bulkhead.run(|| ()));
    let captured = [7_u64; 4];
    let mut handles = Vec::with_capacity(50);
    let allocated = blocks(|| {
        for _ in 0..50 {
            handles.push(bulkhead.run(move || captured));
        }
    });
    assert_eq!(allocated, 50);
    busy.finish();
    let waiting = blocks(|| {
        for handle in handles {
            assert_eq!(handle.wait().into_result().unwrap(), captured);
        }
    });
    assert_eq!(waiting, 0, "waiting and collecting allocate nothing");
}

#[test]
fn a_call_of_a_dependency_allocates_no_more_than_its_handle() {
    let dependencies = Dependencies::new();
    for kind in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let config = DependencyConfig::new(DependencyKind::Database)
            .bulkhead(kind)
            .operation(
                "get",
                OperationOverrides::new().timeout(Duration::from_secs(9)),
            );
        dependencies.register_with(kind.name(), config).unwrap();
        let call = || dependencies.call(kind.name()).unwrap().operation("get");
        // A thread makes some things once, and the bulkhead a slot.
        let _ = call().run(|| ()).wait();
        let allocated = blocks(|| {
            for _ in 0..10 {
                let _ = call().run(|| ()).wait();
            }
        });
        assert_eq!(allocated, 10, "{kind}");
        let _ended = dependencies.bulkhead(kind.name()).unwrap().shutdown();
        let refused = blocks(|| assert!(call().try_run(|| ()).is_err()));
        assert_eq!(refused, 0, "{kind}");
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_queued_call_is_small() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = measure(|| drop(bulkhead.run(|| ())));
    // OpenTelemetry's `Context`.
    let context = if cfg!(feature = "opentelemetry") {
        24
    } else {
        0
    };
    assert!(
        queued.bytes_total <= 208 + context,
        "{} bytes",
        queued.bytes_total
    );
    busy.finish();
}

#[test]
fn a_call_in_its_callers_thread_allocates_nothing() {
    let bulkhead = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    // A thread makes some things once, and the bulkhead a slot.
    let _ = bulkhead.call().operation("first").run(|| ());
    let allocated = blocks(|| {
        for _ in 0..100 {
            let result = bulkhead.call().operation("static").run(|| [7; 100]);
            assert!(result.is_success());
            assert!(bulkhead.execute(|| Err::<(), _>(())).error().is_some());
            bulkhead.acquire().unwrap().success();
            let guard = bulkhead.call().operation("static").try_acquire().unwrap();
            drop(guard);
        }
        bulkhead.shutdown();
        for _ in 0..100 {
            assert!(bulkhead.try_run(|| ()).is_err());
            assert!(bulkhead.acquire().is_err());
            assert!(bulkhead.try_acquire().is_err());
        }
    });
    assert_eq!(allocated, 0);
}

/// A thread remembers the bulkhead of its last call, not those of earlier ones.
#[test]
fn a_thread_holds_no_memory_of_a_bulkhead_that_it_has_left() {
    let lasting = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    let _ = lasting.run(|| ());
    let shut_down = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    shut_down.shutdown();
    let here = || {
        // A thread makes some things once.
        let _ = shut_down.run(|| ());
        measure(|| {
            let gone = [0, 1].map(|_| SemaphoreBulkhead::new(config(1, 1)).unwrap());
            let _ = gone[0].run(|| ());
            let [outer, inner] = gone.each_ref().map(|gone| gone.acquire().unwrap());
            outer.success();
            inner.success();
            let _ = gone[0].run(|| drop(gone[1].acquire().unwrap()));
            drop(gone);
            let _ = lasting.run(|| ());
        })
    };
    // In a thread that has made no call yet.
    let held = thread::scope(|scope| scope.spawn(here).join().unwrap());
    assert_eq!(held.bytes_current, 0);
}

#[test]
fn a_cancel_allocates_nothing() {
    let bulkhead = bulkhead(1, 10);
    let busy = occupy(&bulkhead, 1);
    let handles: Vec<_> = (0..10).map(|_| bulkhead.run(|| ())).collect();
    let allocated = blocks(|| assert!(handles.iter().all(|handle| handle.cancel())));
    assert_eq!(allocated, 0);
    busy.finish();
}

#[test]
fn policies_allocate_nothing_of_their_own_while_all_is_well() {
    let here = Arc::new(SemaphoreBulkhead::new(config(1, 0)).unwrap());
    let breaker = CircuitBreaker::new("layer", CircuitBreakerConfig::default()).unwrap();
    let limit = RateLimit::new(u32::MAX, Duration::from_secs(3600)).unwrap();
    let retry = Retry::new(3).budget(RetryBudget::new(0.1));
    let nothing = Pipeline::builder("nothing").build().unwrap();
    let many = Pipeline::builder("many")
        .fallback(Fallback::value(0))
        .retry(retry.clone())
        .rate_limit(limit)
        .circuit_breaker(Arc::new(breaker))
        .bulkhead(&here)
        .build()
        .unwrap();
    let call = || Ok::<u32, &str>(1);
    let calls = || {
        assert_eq!(retry.call(call), Ok(1));
        assert_eq!(nothing.execute(call).value(), Some(&1));
        assert_eq!(many.execute(call).value(), Some(&1));
    };
    calls();
    assert_eq!(blocks(|| (0..100).for_each(|_| calls())), 0);

    // On a worker: the task, which may be needed again, and the call.
    let pool = Arc::new(bulkhead(1, 100));
    let on_worker = Pipeline::builder("worker").bulkhead(&pool).build().unwrap();
    let call = || assert!(on_worker.execute(|| Ok::<u32, &str>(1)).is_success());
    call();
    assert_eq!(blocks(|| (0..100).for_each(|_| call())), 200);
}
