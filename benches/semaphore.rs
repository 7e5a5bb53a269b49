//! What a call costs that runs in its caller's thread, beside the least that it could cost.
//!
//! ```sh
//! cargo bench --bench semaphore              # half a minute
//! cargo bench --bench semaphore -- --quick   # seconds
//! ```

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkman::{BulkheadConfig, CircuitBreakerConfig, SemaphoreBulkhead};
use common::{config, from_threads, settings, task};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn build(config: BulkheadConfig) -> SemaphoreBulkhead {
    SemaphoreBulkhead::new(config).expect("a valid configuration")
}

/// One call after another.
fn call(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore call");
    let plain = build(config(10, 100));
    group.bench_function("run", |b| b.iter(|| plain.run(task)));
    let fails = || black_box(Err::<u64, u64>(7));
    group.bench_function("execute, an error", |b| b.iter(|| plain.execute(fails)));
    group.bench_function("with a name and limits", |b| {
        let limit = Duration::from_secs(60);
        let call = || plain.call().operation("bench").queue_timeout(limit);
        b.iter(|| call().timeout(limit).run(task));
    });
    let guarded = build(config(10, 100).circuit_breaker(CircuitBreakerConfig::default()));
    group.bench_function("with a circuit breaker", |b| b.iter(|| guarded.run(task)));
    group.bench_function("inside another", |b| {
        let outer = plain.run(|| b.iter(|| plain.run(task)));
        assert!(outer.is_success());
    });
    group.finish();
}

/// What no call can do without: when it began and ended, an id, the name in its result, and a word that says how many
/// are in, which it changes twice.
fn least(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore call, least");
    group.bench_function("two readings of the clock", |b| {
        b.iter(|| black_box(Instant::now()).elapsed());
    });
    let name: Arc<str> = "bench".into();
    let inside = AtomicU64::new(0);
    group.bench_function("and an id, the name, in and out", |b| {
        b.iter(|| {
            inside.fetch_add(1, Ordering::AcqRel);
            let began = Instant::now();
            let result = (
                uuid::Uuid::new_v4(),
                Arc::clone(&name),
                task(),
                began.elapsed(),
            );
            inside.fetch_sub(1, Ordering::AcqRel);
            result
        });
    });
    group.finish();
}

fn refused(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore call, refused");
    let full = build(config(1, 0));
    group.bench_function("full, closure back", |b| {
        // From inside, since that takes a place of its own.
        let inside = full.run(|| b.iter(|| full.try_run(task).is_err()));
        assert!(inside.is_success());
    });
    let shut_down = build(config(1, 0));
    shut_down.shutdown();
    group.bench_function("shut down, closure back", |b| {
        b.iter(|| shut_down.try_run(task).is_err());
    });
    group.finish();
}

/// Several threads that each make one call after another: with a turn for each, and with one turn for all. The time is
/// that of all threads together for one call.
fn callers(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore callers");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2, 4, 16] {
        for (turns, n) in [("a turn each", threads as usize), ("one turn", 1)] {
            let bulkhead = build(config(n, threads as usize));
            group.bench_function(BenchmarkId::new(turns, threads), |b| {
                let call = || assert!(bulkhead.run(task).is_success());
                b.iter_custom(|calls| from_threads(threads, calls, call));
            });
        }
    }
    group.finish();
}

/// Has to be flat.
fn scale(c: &mut Criterion) {
    let mut group = c.benchmark_group("semaphore scale");
    for n in [1, 100, 65_536] {
        let bulkhead = build(config(n, 100));
        group.bench_function(BenchmarkId::new("N", n), |b| b.iter(|| bulkhead.run(task)));
    }
    for q in [0, 100_000, 16_000_000] {
        let bulkhead = build(config(10, q));
        group.bench_function(BenchmarkId::new("Q", q), |b| b.iter(|| bulkhead.run(task)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = call, least, refused, callers, scale
}
criterion_main!(benches);
