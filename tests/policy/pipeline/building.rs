//! Which pipelines can be built.

use std::sync::Arc;
use std::time::Duration;

use bulkman::policy::{
    Fallback, LayerKind, Pipeline, PipelineBuildError, PipelineBuilder, RateLimit, Retry,
};
use bulkman::{BuildError, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, ManualClock};

use super::helpers::{Error, pipeline, semaphore, threads};
use crate::support::{SECOND, seconds};

fn builder() -> PipelineBuilder<Error> {
    Pipeline::builder("users")
}

fn rate() -> RateLimit {
    RateLimit::new(1, SECOND).unwrap()
}

fn breaker() -> Arc<CircuitBreaker> {
    Arc::new(CircuitBreaker::new("users", CircuitBreakerConfig::default()).unwrap())
}

#[test]
fn an_order_that_makes_no_sense_says_what_to_do() {
    use LayerKind::{
        Bulkhead, Circuit, Fallback as Answer, RateLimit as Rate, Retry as Again, Timeout,
    };
    let clock = ManualClock::new();
    let inside = threads(BulkheadConfig::new("users"), &clock);
    let circuit = CircuitBreakerConfig::default();
    let with_circuit = BulkheadConfig::new("users").circuit_breaker(circuit);
    let (on_workers, here) = (
        threads(with_circuit.clone(), &clock),
        semaphore(with_circuit, &clock),
    );
    let retry = || Retry::new(2);
    let value = || Fallback::value(1);
    let errors = [
        (
            Again,
            Answer,
            builder().retry(retry()).fallback(value()).build().err(),
        ),
        (
            Circuit,
            Answer,
            builder()
                .circuit_breaker(breaker())
                .fallback(value())
                .build()
                .err(),
        ),
        (
            Rate,
            Answer,
            builder().rate_limit(rate()).fallback(value()).build().err(),
        ),
        (
            Circuit,
            Again,
            builder()
                .circuit_breaker(breaker())
                .retry(retry())
                .build()
                .err(),
        ),
        (
            Again,
            Again,
            builder().retry(retry()).retry(retry()).build().err(),
        ),
        (
            Timeout,
            Timeout,
            builder().timeout(SECOND).timeout(SECOND).build().err(),
        ),
        (
            Bulkhead,
            Again,
            builder().bulkhead(&inside).retry(retry()).build().err(),
        ),
        (
            Bulkhead,
            Timeout,
            builder().bulkhead(&inside).timeout(SECOND).build().err(),
        ),
        (
            Circuit,
            Bulkhead,
            builder()
                .circuit_breaker(breaker())
                .bulkhead(&on_workers)
                .build()
                .err(),
        ),
        (
            Circuit,
            Bulkhead,
            builder()
                .circuit_breaker(breaker())
                .bulkhead(&here)
                .build()
                .err(),
        ),
        (
            Rate,
            Rate,
            builder()
                .rate_limit(rate())
                .rate_limit(rate())
                .build()
                .err(),
        ),
    ];
    for (outer, inner, error) in errors {
        let error = error.unwrap_or_else(|| panic!("{inner} inside of {outer}"));
        let PipelineBuildError::Order {
            outer: o,
            inner: i,
            instead,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*o, *i), (outer, inner));
        assert!(error.to_string().ends_with(instead), "{error}");
    }
}

#[test]
fn a_limit_of_calls_may_stand_around_one_of_attempts() {
    let built = builder()
        .rate_limit(rate())
        .retry(Retry::new(2))
        .rate_limit(rate())
        .build();
    assert!(built.is_ok(), "{built:?}");
}

#[test]
fn values_out_of_range_are_errors() {
    for builder in [
        builder().timeout(Duration::ZERO),
        Pipeline::builder(""),
        Pipeline::builder("a\0b"),
        builder()
            .timeout(SECOND)
            .retry(Retry::new(2))
            .timeout(SECOND),
        builder()
            .timeout(SECOND)
            .retry(Retry::new(2))
            .timeout(seconds(2)),
    ] {
        let shown = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert!(
            matches!(
                error,
                PipelineBuildError::InvalidValue {
                    source: BuildError::InvalidValue { .. },
                    ..
                }
            ),
            "{shown}: {error}"
        );
    }
}

#[test]
fn it_knows_its_layers() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let pipeline = pipeline(&clock)
        .fallback(Fallback::value(1))
        .timeout(seconds(9))
        .retry(Retry::new(3))
        .rate_limit(rate())
        .circuit_breaker(breaker())
        .timeout(seconds(2))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    assert_eq!(pipeline.name(), "users");
    assert_eq!(
        pipeline.layers(),
        [
            LayerKind::Fallback,
            LayerKind::Timeout,
            LayerKind::Retry,
            LayerKind::RateLimit,
            LayerKind::Circuit,
            LayerKind::Timeout,
            LayerKind::Bulkhead,
        ]
    );
    assert!(format!("{pipeline:?}").contains("users"));
}

#[test]
fn the_standard_one() {
    let clock = ManualClock::new();
    let bulkhead = threads(BulkheadConfig::new("users"), &clock);
    let standard = |limit| Pipeline::<Error, _, _>::standard("users", limit, &bulkhead);
    assert_eq!(
        standard(SECOND).unwrap().layers(),
        [LayerKind::Timeout, LayerKind::Retry, LayerKind::Bulkhead]
    );
    assert!(standard(Duration::ZERO).is_err());
}
