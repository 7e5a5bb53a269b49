//! What each layer of a pipeline adds to a call while all is well. The tasks run in the caller's thread, where nothing else
//! hides it.
//!
//! ```sh
//! cargo bench --bench policy              # half a minute
//! cargo bench --bench policy -- --quick   # seconds
//! ```
//!
//! `instructions.rs` counts the same, exactly.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkman::policy::{Chaos, Fallback, Pipeline, PipelineBuilder, RateLimit, Retry, RetryBudget};
use bulkman::{CircuitBreaker, CircuitBreakerConfig, SemaphoreBulkhead};
use common::config;
use criterion::{Criterion, criterion_group, criterion_main};

const HOUR: Duration = Duration::from_secs(3600);

fn task() -> Result<u64, &'static str> {
    Ok(black_box(7))
}

fn builder() -> PipelineBuilder<&'static str> {
    Pipeline::builder("bench")
}

fn rate() -> RateLimit {
    RateLimit::new(1_000_000_000, Duration::from_secs(1)).expect("in range")
}

fn retry() -> Retry {
    Retry::new(3).budget(RetryBudget::new(0.1))
}

/// Each layer by itself, beside the call without a pipeline and two readings of the clock, which a pipeline with a layer makes.
fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline in the caller's thread");
    group.bench_function("no pipeline", |b| b.iter(task));
    group.bench_function("two readings of the clock", |b| {
        b.iter(|| black_box(Instant::now()).elapsed());
    });
    let breaker = CircuitBreaker::new("bench", CircuitBreakerConfig::default());
    let breaker = Arc::new(breaker.expect("in range"));
    let bulkhead = SemaphoreBulkhead::new(config(10, 100)).expect("in range");
    let bulkhead = Arc::new(bulkhead);
    for (name, builder) in [
        ("nothing", builder()),
        ("timeout", builder().timeout(HOUR)),
        ("retry", builder().retry(retry())),
        ("rate limit", builder().rate_limit(rate())),
        (
            "circuit breaker",
            builder().circuit_breaker(Arc::clone(&breaker)),
        ),
        (
            "chaos, switched off",
            builder().chaos(Chaos::new().errors(1.0, || "chaos")),
        ),
        ("bulkhead", builder().bulkhead(&bulkhead)),
    ] {
        let pipeline = builder.build().expect("in order");
        group.bench_function(name, |b| b.iter(|| pipeline.execute(task)));
    }
    let answered = builder().fallback(Fallback::value(0)).build();
    let answered = answered.expect("in order");
    group.bench_function("fallback", |b| b.iter(|| answered.execute(task)));
    let all = builder()
        .fallback(Fallback::value(0))
        .timeout(HOUR)
        .retry(retry())
        .rate_limit(rate())
        .bulkhead(&bulkhead)
        .build();
    let all = all.expect("in order");
    group.bench_function("fallback to bulkhead", |b| b.iter(|| all.execute(task)));
    group.finish();
}

/// The same policies without a pipeline.
fn alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("policy alone");
    let (retry, limit) = (retry(), rate());
    group.bench_function("retry", |b| b.iter(|| retry.call(task)));
    group.bench_function("rate limit", |b| b.iter(|| limit.try_acquire()));
    group.finish();
}

criterion_group!(benches, layers, alone);
criterion_main!(benches);
