//! What a circuit breaker costs, alone and in a bulkhead.
//!
//! ```sh
//! cargo bench --bench circuit              # half a minute
//! cargo bench --bench circuit -- --quick   # seconds
//! ```
//!
//! `never_started` has the call that an open circuit refuses, beside other refusals.

#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::time::Duration;

use bulkman::{BulkheadConfig, CircuitBreaker, CircuitBreakerConfig};
use common::{Place, config, settings, task};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

fn rules() -> [(&'static str, CircuitBreakerConfig); 2] {
    let for_ever = CircuitBreakerConfig::default().isolation_duration(Duration::MAX);
    let by_rate = for_ever.clone().failure_rate(0.9, 100);
    [("in a row", for_ever), ("by rate", by_rate)]
}

/// Asked and told, by one thread.
fn alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("circuit breaker alone");
    for (name, rules) in rules() {
        let breaker = CircuitBreaker::new("bench", rules).expect("a valid configuration");
        group.bench_function(format!("{name}, closed, success"), |b| {
            b.iter(|| breaker.try_acquire().map(|permit| permit.record_success()));
        });
        group.bench_function(format!("{name}, closed, failure and success"), |b| {
            b.iter(|| {
                let _ = breaker.try_acquire().map(|permit| permit.record_failure());
                let _ = breaker.try_acquire().map(|permit| permit.record_success());
            });
        });
        breaker.trip();
        group.bench_function(format!("{name}, open"), |b| {
            b.iter(|| breaker.try_acquire().is_err());
        });
    }
    group.finish();
}

/// A batch on one core, without a breaker and with one: the difference, over 10,000 calls, is what it adds.
fn on_top(c: &mut Criterion) {
    const CALLS: usize = 10_000;
    let mut group = c.benchmark_group("circuit breaker on top, batch of 10,000");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(CALLS as u64));
    let none = ("none", config(1, CALLS));
    let with = |(name, rules)| (name, config(1, CALLS).circuit_breaker(rules));
    let all: Vec<(&str, BulkheadConfig)> = std::iter::once(none).chain(rules().map(with)).collect();
    for (name, config) in all {
        let Some(bulkhead) = Place::OneCore.bulkhead(config) else {
            continue;
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let handles: Vec<_> = (0..CALLS).map(|_| bulkhead.run(task)).collect();
                handles.into_iter().for_each(|handle| drop(handle.wait()));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = settings();
    targets = alone, on_top
}
criterion_main!(benches);
