//! What a call costs that runs: alone, in a batch, from several threads, and when it has to wait for a place.
//!
//! ```sh
//! cargo bench --bench calls              # under a minute
//! cargo bench --bench calls -- --quick   # seconds
//! ```
//!
//! Where it matters, the benches place their threads themselves, with `taskset`. Times move with the machine: compare
//! runs of the same one, when it is idle. `benches/peers/` has bulkman beside other pools.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use bulkman::Bulkhead;
use common::{PATIENCE, Place, bulkhead, config, from_threads, settings, task};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};

/// One call at a time, one after another. On two cores both sides are still looking when the other one is done,
/// if they look again before they go to sleep.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip");
    for place in Place::ALL {
        let Some(bulkhead) = place.bulkhead(config(1, 100)) else {
            continue;
        };
        group.bench_function(place.name(), |b| {
            b.iter(|| bulkhead.run(task).wait());
        });
    }
    group.finish();
}

/// One call with both sides asleep before: the worker when the call comes, the caller when its outcome does.
fn parked(c: &mut Criterion) {
    let mut group = c.benchmark_group("round trip, parked");
    group.sampling_mode(SamplingMode::Flat);
    for place in Place::ALL {
        let Some(bulkhead) = place.bulkhead(config(1, 100)) else {
            continue;
        };
        group.bench_function(place.name(), |b| {
            b.iter_custom(|calls| (0..calls).map(|_| one_parked(&bulkhead)).sum());
        });
    }
    group.finish();
}

/// From the submit to the task's begin, and from its end to the outcome.
fn one_parked(bulkhead: &Bulkhead) -> Duration {
    const LONG_ENOUGH_TO_PARK: Duration = Duration::from_micros(300);
    thread::park_timeout(LONG_ENOUGH_TO_PARK);
    let submitted = Instant::now();
    let handle = bulkhead.run(|| {
        let began = Instant::now();
        thread::park_timeout(LONG_ENOUGH_TO_PARK);
        (began, Instant::now())
    });
    let (began, ended) = handle.wait().into_result().expect("it ran");
    let seen = Instant::now();
    (began - submitted) + (seen - ended)
}

/// Many handles, then all outcomes; the time is that of one batch.
fn batch(c: &mut Criterion) {
    const CALLS: usize = 10_000;
    let mut group = c.benchmark_group("batch of 10,000");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(CALLS as u64));
    for place in Place::ALL {
        for workers in [1, 2, 8] {
            let Some(bulkhead) = place.bulkhead(config(workers, CALLS)) else {
                continue;
            };
            group.bench_function(format!("{}, {workers} workers", place.name()), |b| {
                b.iter(|| {
                    let handles: Vec<_> = (0..CALLS).map(|_| bulkhead.run(task)).collect();
                    handles.into_iter().for_each(|handle| drop(handle.wait()));
                });
            });
        }
    }
    group.finish();
}

/// Several threads that each make one call after another, on two workers; the time is that of all threads together
/// for one call.
fn submitters(c: &mut Criterion) {
    let mut group = c.benchmark_group("submitters");
    group.throughput(Throughput::Elements(1));
    let bulkhead = bulkhead(2, 100);
    for threads in [1, 2, 4, 16] {
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|calls| from_threads(threads, calls, || drop(bulkhead.run(task).wait())));
        });
    }
    group.finish();
}

/// `wait_for_capacity`: what it adds when there is room, and a caller that is always one call ahead of its
/// only worker, so that it waits for each place to come back.
fn blocking_admission(c: &mut Criterion) {
    let mut group = c.benchmark_group("wait for capacity");
    for place in Place::ALL {
        let Some(bulkhead) = place.bulkhead(config(1, 0)) else {
            continue;
        };
        let waiting = || bulkhead.call().wait_for_capacity(PATIENCE);
        group.bench_function(format!("{}, room", place.name()), |b| {
            b.iter(|| waiting().run(task).wait());
        });
        group.bench_function(format!("{}, a place comes back", place.name()), |b| {
            b.iter(|| drop(waiting().run(task)));
        });
    }
    group.finish();
}

/// What every call pays for its times and its id.
fn clock(c: &mut Criterion) {
    c.bench_function("Instant::now", |b| b.iter(Instant::now));
    c.bench_function("Uuid::new_v4", |b| b.iter(uuid::Uuid::new_v4));
}

criterion_group! {
    name = benches;
    config = settings();
    targets = round_trip, parked, batch, submitters, blocking_admission, clock
}
criterion_main!(benches);
