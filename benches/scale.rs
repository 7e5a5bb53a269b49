//! What must not matter: the number of workers, of places, of bulkheads, and of calls so far. Each group has to be flat.
//!
//! ```sh
//! cargo bench --bench scale              # half a minute
//! cargo bench --bench scale -- --quick   # seconds
//! ```
//!
//! All threads share one core, where a hand-off costs about the same each time. Q and the number of past calls go to
//! 100,000 and 1,000,000. N ends at 10,000: a bulkhead takes at most 65,536 workers, and a system with its usual
//! settings starts some 30,000 threads, each of which takes about 20 kB. If it does not start that many, the bench
//! says so and goes on.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use bulkman::{Bulkhead, BulkheadConfig};
use common::{Place, config, settings, task};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// All threads on one core, if they can be placed.
fn on_one_core<T>(start: impl Fn() -> T) -> T {
    let placed = Place::OneCore.start(&start);
    placed.unwrap_or_else(start)
}

fn build(config: BulkheadConfig) -> Bulkhead {
    Bulkhead::new(config).expect("a valid configuration")
}

fn workers(c: &mut Criterion) {
    let mut group = c.benchmark_group("workers");
    for n in [1, 10, 100, 1_000, 10_000] {
        let bulkhead = match on_one_core(|| Bulkhead::new(config(n, 100))) {
            Ok(bulkhead) => bulkhead,
            Err(error) => {
                eprintln!("left out, {n} workers: {error}");
                continue;
            }
        };
        // Every worker has had something to do.
        let calls: Vec<_> = (0..n + 100).map(|_| bulkhead.run(task)).collect();
        calls.into_iter().for_each(|call| drop(call.wait()));
        group.bench_function(BenchmarkId::new("round trip, N", n), |b| {
            b.iter(|| bulkhead.run(task).wait());
        });
    }
    group.finish();
}

fn places(c: &mut Criterion) {
    let mut group = c.benchmark_group("places");
    for q in [1, 10, 100, 1_000, 10_000, 100_000] {
        let bulkhead = on_one_core(|| build(config(1, q)));
        group.bench_function(BenchmarkId::new("round trip, Q", q), |b| {
            b.iter(|| bulkhead.run(task).wait());
        });
    }
    group.finish();
}

/// One of many, which has to be flat, and each in turn. The latter is dearer from the second bulkhead on, because the
/// worker has gone to sleep by the time that its turn comes, and with many because less of each is left in the caches.
fn bulkheads(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulkheads");
    for count in [1, 10, 100, 1_000] {
        let all: Vec<_> = on_one_core(|| (0..count).map(|_| build(config(1, 10))).collect());
        group.bench_function(BenchmarkId::new("round trip on one of", count), |b| {
            b.iter(|| all[0].run(task).wait());
        });
        let mut turns = all.iter().cycle();
        group.bench_function(BenchmarkId::new("round trip on each of", count), |b| {
            b.iter(|| turns.next().map(|bulkhead| bulkhead.run(task).wait()));
        });
    }
    group.finish();
}

fn past_calls(c: &mut Criterion) {
    const BATCH: usize = 1_000;
    let mut group = c.benchmark_group("past calls");
    let bulkhead = on_one_core(|| build(config(1, BATCH)));
    let mut past = 0;
    for target in [0, 10_000, 1_000_000] {
        while past < target {
            let calls: Vec<_> = (0..BATCH).map(|_| bulkhead.run(task)).collect();
            calls.into_iter().for_each(|call| drop(call.wait()));
            past += BATCH;
        }
        group.bench_function(BenchmarkId::new("round trip after at least", target), |b| {
            b.iter(|| bulkhead.run(task).wait());
        });
        group.bench_function(BenchmarkId::new("stats after at least", target), |b| {
            b.iter(|| bulkhead.stats());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = workers, places, bulkheads, past_calls
}
criterion_main!(benches);
