//! What bulkman itself costs: `cargo bench`.
//!
//! Times move with the machine and with where the scheduler puts the threads. Compare runs of the same machine,
//! and see `benches/peers/` for bulkman beside other pools.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

use std::hint::black_box;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, ExecutionHandle};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn bulkhead(n: usize, q: usize) -> Bulkhead {
    let config = BulkheadConfig::new("bench")
        .max_concurrent_calls(n)
        .max_queue_size(q);
    Bulkhead::new(config).expect("a valid configuration")
}

/// Keeps the only worker of a bulkhead busy until the sender goes.
fn occupy(bulkhead: &Bulkhead) -> mpsc::Sender<()> {
    let (release, until_released) = mpsc::channel();
    let (started, has_started) = mpsc::channel();
    drop(bulkhead.run(move || {
        let _ = started.send(());
        let _ = until_released.recv();
    }));
    has_started.recv().expect("the worker starts");
    release
}

/// One call at a time. N and Q must not matter.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("execute and wait");
    for (n, q) in [(1, 0), (1, 100), (2, 100), (2, 100_000), (100, 100)] {
        let bulkhead = bulkhead(n, q);
        group.bench_function(format!("{n} workers, {q} places"), |b| {
            b.iter(|| bulkhead.run(|| black_box(7)).wait());
        });
    }
    group.finish();
}

/// Many handles, then all outcomes.
fn batch(c: &mut Criterion) {
    const CALLS: usize = 10_000;
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(CALLS as u64));
    for n in [1, 2, 8] {
        let bulkhead = bulkhead(n, CALLS);
        group.bench_function(BenchmarkId::new("workers", n), |b| {
            b.iter(|| {
                let handles: Vec<_> = (0..CALLS).map(|_| bulkhead.run(|| black_box(7))).collect();
                handles.into_iter().for_each(|handle| drop(handle.wait()));
            });
        });
    }
    group.finish();
}

/// Calls that never run.
fn never_started(c: &mut Criterion) {
    let mut group = c.benchmark_group("never started");
    let full = bulkhead(1, 0);
    let _release = occupy(&full);
    group.bench_function("refused as full", |b| {
        b.iter(|| full.try_run(|| black_box(7)).is_err());
    });
    for q in [10, 10_000] {
        let queued = bulkhead(1, q);
        let _release = occupy(&queued);
        // A full queue but for one place, so that shells have to be swept out.
        let _others: Vec<ExecutionHandle<_, _>> = (1..q).map(|_| queued.run(|| 7)).collect();
        group.bench_function(format!("cancelled, {q} places"), |b| {
            b.iter(|| assert!(queued.run(|| black_box(7)).cancel()));
        });
        for other in &_others {
            other.cancel();
        }
    }
    let shut_down = bulkhead(1, 0);
    shut_down.shutdown();
    group.bench_function("refused as shut down", |b| {
        b.iter(|| shut_down.try_run(|| black_box(7)).is_err());
    });
    group.finish();
}

/// The breaker alone.
fn circuit(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit breaker");
    let config = CircuitBreakerConfig::default().isolation_duration(Duration::MAX);
    let breaker = CircuitBreaker::new("bench", config).expect("a valid configuration");
    group.bench_function("closed, success", |b| {
        b.iter(|| breaker.try_acquire().map(|permit| permit.record_success()));
    });
    group.bench_function("closed, failure and success", |b| {
        b.iter(|| {
            let _ = breaker.try_acquire().map(|permit| permit.record_failure());
            let _ = breaker.try_acquire().map(|permit| permit.record_success());
        });
    });
    breaker.force_open();
    group.bench_function("open, refused", |b| {
        b.iter(|| breaker.try_acquire().is_err());
    });
    group.finish();
}

/// A snapshot, idle; N sets of counters are read.
fn stats(c: &mut Criterion) {
    let mut group = c.benchmark_group("stats");
    for n in [1, 10, 100] {
        let bulkhead = bulkhead(n, 10);
        group.bench_function(BenchmarkId::new("workers", n), |b| {
            b.iter(|| bulkhead.stats());
        });
    }
    group.finish();
}

/// What every call pays for its times.
fn clock(c: &mut Criterion) {
    c.bench_function("Instant::now", |b| b.iter(Instant::now));
}

criterion_group!(
    benches,
    round_trip,
    batch,
    never_started,
    circuit,
    stats,
    clock
);
criterion_main!(benches);
