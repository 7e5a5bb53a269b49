//! What a call costs that never runs: refused, cancelled, or too long in the queue.
//!
//! ```sh
//! cargo bench --bench never_started              # half a minute
//! cargo bench --bench never_started -- --quick   # seconds
//! ```

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::time::{Duration, Instant};

use bulkman::{Bulkhead, CircuitBreakerConfig, ManualClock};
use common::{PATIENCE, Place, bulkhead, config, occupy, settings, task};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Refusals: the closure handed back, and a handle that is already resolved.
fn refused(c: &mut Criterion) {
    let mut group = c.benchmark_group("refused");
    let full = bulkhead(1, 0);
    let release = occupy(&full);
    let open = config(1, 0).circuit_breaker(CircuitBreakerConfig::default());
    let open = Bulkhead::new(open).expect("a valid configuration");
    open.circuit_breaker().expect("it has one").trip();
    let shut_down = bulkhead(1, 0);
    shut_down.shutdown();
    let refusing = [
        ("full", &full),
        ("circuit open", &open),
        ("shut down", &shut_down),
    ];
    for (reason, bulkhead) in refusing {
        group.bench_function(format!("{reason}, closure back"), |b| {
            b.iter(|| bulkhead.try_run(task).is_err());
        });
        group.bench_function(format!("{reason}, handle"), |b| {
            b.iter(|| bulkhead.run(task).is_finished());
        });
        group.bench_function(format!("{reason}, handle, waited for"), |b| {
            b.iter(|| bulkhead.run(task).wait().is_success());
        });
    }
    drop(release);
    group.finish();
}

/// Submitted and cancelled, while the queue holds all but one of its places. What cancels leave in the queue
/// has to be cleared out, at a cost that does not depend on Q.
fn cancelled(c: &mut Criterion) {
    let mut group = c.benchmark_group("cancelled");
    for q in [10, 100, 10_000] {
        let bulkhead = bulkhead(1, q);
        let release = occupy(&bulkhead);
        let others: Vec<_> = (1..q).map(|_| bulkhead.run(task)).collect();
        group.bench_function(BenchmarkId::new("places", q), |b| {
            b.iter(|| assert!(bulkhead.run(task).cancel()));
        });
        drop(release);
        others.into_iter().for_each(|other| drop(other.wait()));
    }
    group.finish();
}

/// A queue timeout, on a clock that is moved by hand.
fn expired(c: &mut Criterion) {
    const LIMIT: Duration = Duration::from_millis(1);
    let clock = ManualClock::new();
    let build = |q| {
        let config = config(1, q).queue_timeout(LIMIT);
        let builder = Bulkhead::builder(config).clock(clock.clone());
        let start = || builder.build().expect("a valid configuration");
        Place::Scheduler.start(start).expect("always has a place")
    };
    let mut group = c.benchmark_group("expired");
    for q in [10, 10_000] {
        let waited = build(q);
        let release = occupy(&waited);
        group.bench_function(BenchmarkId::new("noticed by the waiter, places", q), |b| {
            b.iter(|| {
                let handle = waited.run(task);
                clock.advance(LIMIT * 2);
                assert!(handle.wait().result.is_err_and(|error| error.is_timeout()));
            });
        });
        drop(release);
        let detached = build(q);
        group.bench_function(BenchmarkId::new("noticed by the worker, places", q), |b| {
            b.iter_custom(|calls| expire_in_worker(&detached, &clock, LIMIT, q, calls));
        });
    }
    group.finish();
}

/// Fills the queue again and again, and takes the time from the worker's release to the end of the queue.
fn expire_in_worker(
    bulkhead: &Bulkhead,
    clock: &ManualClock,
    limit: Duration,
    places: usize,
    calls: u64,
) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = calls as usize;
    while left > 0 {
        // One place is for the call that comes last, and runs.
        let now = left.min(places - 1);
        left -= now;
        let release = occupy(bulkhead);
        (0..now).for_each(|_| drop(bulkhead.run(task)));
        let last = bulkhead.call().queue_timeout(PATIENCE * 1_000).run(task);
        clock.advance(limit * 2);
        let began = Instant::now();
        drop(release);
        assert!(last.wait().is_success());
        took += began.elapsed();
    }
    took
}

criterion_group! {
    name = benches;
    config = settings();
    targets = refused, cancelled, expired
}
criterion_main!(benches);
