//! What a call costs that runs in its caller's thread, beside the least that it could cost.
//!
//! ```sh
//! cargo bench --bench semaphore              # half a minute
//! cargo bench --bench semaphore -- --quick   # seconds
//! ```

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
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
    group.bench_function("guard", |b| {
        b.iter(|| {
            let guard = plain.acquire().expect("a slot is free");
            black_box(task());
            guard.success();
        });
    });
    group.bench_function("guard, without a wait", |b| {
        b.iter(|| {
            let guard = plain.try_acquire().expect("a slot is free");
            black_box(task());
            guard.success();
        });
    });
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
    let taken = build(config(1, 100));
    std::thread::scope(|scope| {
        let (release, until_released) = mpsc::channel::<()>();
        let (took, has_taken) = mpsc::channel();
        let taken = &taken;
        scope.spawn(move || {
            let guard = taken.acquire().expect("a slot is free");
            took.send(()).expect("the bench waits");
            let _ = until_released.recv();
            guard.success();
        });
        has_taken.recv().expect("the guard is there");
        group.bench_function("no free slot, guard", |b| {
            b.iter(|| taken.try_acquire().is_err());
        });
        drop(release);
    });
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

/// One slot for all, which is handed to the caller that has waited longest, or free for whoever comes first. Both in turn,
/// round by round, since a busy machine changes from one second to the next. Prints medians and their ratio.
fn order(_: &mut Criterion) {
    let is_quick = std::env::args().any(|arg| arg == "--quick" || arg == "--test");
    let (rounds, calls) = if is_quick { (3, 10_000) } else { (21, 100_000) };
    for threads in [2, 4, 16] {
        let config = || config(1, threads as usize);
        let fair = build(config());
        let builder = SemaphoreBulkhead::builder(config()).fair(false);
        let unfair = builder.build().expect("a valid configuration");
        let mut nanos = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (bulkhead, nanos) in [&fair, &unfair].into_iter().zip(&mut nanos) {
                let call = || assert!(bulkhead.run(task).is_success());
                let took = from_threads(threads, calls, call);
                nanos.push(took.as_secs_f64() * 1e9 / calls as f64);
            }
        }
        let longest = [&fair, &unfair].map(|bulkhead| bulkhead.stats().queue_wait.max());
        let [fair, unfair] = nanos.map(|mut nanos| {
            nanos.sort_by(f64::total_cmp);
            nanos[nanos.len() / 2]
        });
        println!(
            "semaphore order, {threads} callers of one slot: fair {fair:.0} ns a call, not fair {unfair:.0} ns, \
             ratio {:.2}; longest waits {longest:.1?}",
            unfair / fair
        );
    }
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
    targets = call, least, refused, callers, order, scale
}
criterion_main!(benches);
