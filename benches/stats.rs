//! What a snapshot costs, idle and under load.
//!
//! ```sh
//! cargo bench --bench stats              # seconds
//! ```

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{bulkhead, settings, task};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// N sets of counters are read.
fn idle(c: &mut Criterion) {
    let mut group = c.benchmark_group("stats");
    for n in [1, 10, 100] {
        let bulkhead = bulkhead(n, 10);
        group.bench_function(BenchmarkId::new("idle, workers", n), |b| {
            b.iter(|| bulkhead.stats());
        });
    }
    group.finish();
}

/// A caller that submits as fast as it can. With two cores, three threads share them.
fn under_load(c: &mut Criterion) {
    let mut group = c.benchmark_group("stats");
    for n in [1, 10] {
        let bulkhead = bulkhead(n, 1_000);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let calls: Vec<_> = (0..100).map(|_| bulkhead.run(task)).collect();
                    calls.into_iter().for_each(|call| drop(call.wait()));
                }
            });
            group.bench_function(BenchmarkId::new("under load, workers", n), |b| {
                b.iter(|| bulkhead.stats());
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = idle, under_load
}
criterion_main!(benches);
