//! Pipelines by a clock that moves in their pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bulkman::policy::{AttemptEnd, Jitter, Pipeline, PipelineBuilder, Retry};
use bulkman::{Bulkhead, BulkheadConfig, ManualClock, SemaphoreBulkhead};

pub type Error = &'static str;

/// A pipeline to be built, in whose pauses the clock moves on.
pub fn pipeline(clock: &ManualClock) -> PipelineBuilder<Error> {
    Pipeline::builder("users").clock(clock.clone())
}

/// A retry without jitter, whose pauses move the clock.
pub fn retry(max_attempts: u32, clock: &ManualClock) -> Retry {
    let hand = clock.clone();
    let retry = Retry::new(max_attempts).jitter(Jitter::None);
    retry.listener(move |event| {
        if let AttemptEnd::Retrying { delay, .. } = event.end {
            hand.advance(delay);
        }
    })
}

pub fn threads(config: BulkheadConfig, clock: &ManualClock) -> Arc<Bulkhead> {
    let builder = Bulkhead::builder(config).clock(clock.clone());
    Arc::new(builder.build().unwrap())
}

pub fn semaphore(config: BulkheadConfig, clock: &ManualClock) -> Arc<SemaphoreBulkhead> {
    let builder = SemaphoreBulkhead::builder(config).clock(clock.clone());
    Arc::new(builder.build().unwrap())
}

/// A task that fails until its call `succeeds_at`, and how often it was called.
pub fn flaky(
    succeeds_at: u32,
) -> (
    impl Fn() -> Result<u32, Error> + Send + Sync + 'static,
    Arc<AtomicU32>,
) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let task = move || {
        let call = counted.fetch_add(1, Ordering::Relaxed) + 1;
        if call >= succeeds_at {
            Ok(call)
        } else {
            Err("down")
        }
    };
    (task, calls)
}
