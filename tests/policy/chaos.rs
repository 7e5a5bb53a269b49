//! Trouble on purpose.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::policy::{
    Chaos, Failure, FailureKind, Fallback, LayerKind, Pipeline, PipelineBuildError, PipelineError,
    Retry,
};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, ManualClock, SemaphoreBulkhead};

use crate::support::{HOUR, SECOND, eventually, in_time, seconds, wait};

type Error = &'static str;

#[test]
fn it_does_nothing_until_it_is_switched_on() {
    let chaos = Chaos::new()
        .latency(1.0, HOUR)
        .errors(1.0, || "chaos")
        .panics(1.0)
        .refusals(1.0);
    for n in 0..100 {
        assert_eq!(chaos.call(|| Ok(n)), Ok(n));
    }
    assert_eq!(chaos.stats(), Default::default());
    assert!(!chaos.is_on());
}

#[test]
fn a_switch_is_for_all_clones() {
    let chaos = Chaos::new().errors(1.0, || "chaos");
    let clone = chaos.clone();
    chaos.switch_on();
    assert_eq!(clone.call(|| Ok(())), Err("chaos"));
    clone.switch_off();
    assert_eq!(chaos.call(|| Ok(())), Ok(()));
    assert_eq!(chaos.stats().errors, 1);
}

#[test]
fn shares_hold_over_many_calls() {
    for (share, range) in [
        (0.0, 0..=0),
        (-1.0, 0..=0),
        (f64::NAN, 0..=0),
        (0.25, 2_200..=2_800),
        (1.0, 10_000..=10_000),
        (7.0, 10_000..=10_000),
    ] {
        let chaos = Chaos::new().errors(share, || "chaos").seed(1);
        chaos.switch_on();
        let failed = (0..10_000)
            .filter(|_| chaos.call(|| Ok(())).is_err())
            .count();
        assert!(range.contains(&failed), "{share}: {failed}");
        assert_eq!(chaos.stats().errors, failed as u64);
    }
}

#[test]
fn a_seed_repeats_the_trouble() {
    let run = |seed| {
        let chaos = Chaos::new().errors(0.5, || "chaos").seed(seed);
        chaos.switch_on();
        (0..64)
            .map(|_| chaos.call(|| Ok(())).is_ok())
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_panic_is_the_tasks() {
    let chaos = Chaos::<Error>::new().panics(1.0);
    chaos.switch_on();
    let panicked = catch_unwind(AssertUnwindSafe(|| chaos.call(|| Ok(()))));
    assert!(panicked.is_err());
    assert_eq!(chaos.stats().panics, 1);
}

#[test]
fn latency_passes_by_its_clock() {
    let clock = ManualClock::new();
    let chaos = Chaos::<Error>::new()
        .latency(1.0, seconds(5))
        .clock(clock.clone());
    chaos.switch_on();
    let slow = chaos.clone();
    let caller = thread::spawn(move || slow.call(|| Ok(())));
    eventually("the call is delayed", || chaos.stats().delays == 1);
    assert!(!caller.is_finished());
    // The wait may begin a moment after it was counted.
    let result = in_time(move || {
        while !caller.is_finished() {
            clock.advance(SECOND);
            thread::yield_now();
        }
        caller.join().unwrap()
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_cancelled_call_ends_its_latency() {
    for longer in [HOUR, Duration::MAX] {
        let chaos = Chaos::<Error>::new()
            .latency(1.0, longer)
            .clock(ManualClock::new());
        chaos.switch_on();
        let bulkhead = Bulkhead::new(BulkheadConfig::new("cancelled")).unwrap();
        let slow = chaos.clone();
        let handle = bulkhead.execute(move || slow.call(|| Ok(1)));
        eventually("the call is delayed", || chaos.stats().delays == 1);
        assert!(!handle.cancel());
        assert_eq!(wait(handle).value(), Some(&1));
    }
}

#[test]
fn a_latency_that_has_begun_ends_when_the_trouble_is_switched_off() {
    let chaos = Chaos::new()
        .latency(1.0, Duration::MAX)
        .errors(1.0, || "chaos")
        .clock(ManualClock::new());
    chaos.switch_on();
    let slow = chaos.clone();
    let caller = thread::spawn(move || slow.call(|| Ok(1)));
    eventually("the call is delayed", || chaos.stats().delays == 1);
    chaos.switch_off();
    assert_eq!(in_time(move || caller.join().unwrap()), Ok(1));
}

#[test]
fn in_a_pipeline_it_stands_for_the_dependency() {
    let bulkhead = Arc::new(Bulkhead::new(BulkheadConfig::new("users")).unwrap());
    let chaos = Chaos::new().errors(1.0, || "chaos");
    let pipeline = Pipeline::builder("users")
        .fallback(Fallback::value(0))
        .retry(Retry::new(3).first_delay(Duration::ZERO))
        .bulkhead(&bulkhead)
        .chaos(chaos.clone())
        .build()
        .unwrap();
    assert_eq!(pipeline.execute(|| Ok(1)).value(), Some(&1));
    chaos.switch_on();
    let result = pipeline.execute(|| Ok(1));
    assert_eq!((result.value(), result.attempts), (Some(&0), 3));
    assert_eq!(result.decided_by, LayerKind::Fallback);
    assert_eq!(bulkhead.stats().failed_executions, 3);
}

#[test]
fn a_refusal_takes_no_place_and_has_the_type_of_the_bulkheads() {
    let bulkhead = Arc::new(Bulkhead::new(BulkheadConfig::new("users")).unwrap());
    let chaos = Chaos::<Error>::new().refusals(1.0);
    let pipeline = Pipeline::builder("users")
        .bulkhead(&bulkhead)
        .chaos(chaos.clone())
        .build()
        .unwrap();
    chaos.switch_on();
    let result = pipeline.execute(|| Ok(1));
    assert_eq!(result.error().unwrap().failure_kind(), FailureKind::Full);
    assert_eq!(result.decided_by, LayerKind::Chaos);
    assert_eq!(bulkhead.stats().submitted_executions, 0);
    assert_eq!(chaos.stats().refusals, 1);
}

#[test]
fn a_refusal_names_the_limits_that_hold_now() {
    let workers = Arc::new(Bulkhead::new(BulkheadConfig::new("users")).unwrap());
    let here = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("users")).unwrap());
    let chaos = Chaos::<Error>::new().refusals(1.0);
    chaos.switch_on();
    let builder = || Pipeline::builder("users");
    let on_workers = builder().bulkhead(&workers).chaos(chaos.clone()).build();
    let in_here = builder().bulkhead(&here).chaos(chaos).build();
    workers.resize(3, 7).unwrap();
    here.resize(3, 7).unwrap();
    let (on_workers, in_here) = (on_workers.unwrap(), in_here.unwrap());
    for error in [
        on_workers.execute(|| Ok(1)).into_result().unwrap_err(),
        in_here.execute(|| Ok(1)).into_result().unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                PipelineError::Call(BulkheadError::Full {
                    max_concurrent_calls: 3,
                    max_queue_size: 7,
                    ..
                })
            ),
            "{error:?}"
        );
    }
}

#[test]
fn it_is_the_innermost() {
    let chaos = Chaos::<Error>::new();
    let builder = Pipeline::builder("users").chaos(chaos).retry(Retry::new(2));
    let error = builder.build().unwrap_err();
    assert!(matches!(
        error,
        PipelineBuildError::Order {
            outer: LayerKind::Chaos,
            inner: LayerKind::Retry,
            ..
        }
    ));
}
