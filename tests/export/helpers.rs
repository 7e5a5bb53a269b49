//! A small reader of the text, and bulkheads with something to tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bulkman::policy::{FailureKind, Fallback, Only, Pipeline, Retry};
use bulkman::{Bulkhead, BulkheadStats, CircuitBreakerConfig, ManualClock, SemaphoreKind};

use crate::support::{SECOND, config, occupy, wait, with_clock};

/// Two calls succeeded after a second each, one failed, one panicked, one was cancelled, one refused, one runs, one waits.
pub(crate) struct Busy {
    pub(crate) bulkhead: Arc<Bulkhead>,
    pub(crate) clock: ManualClock,
    end: Option<Box<dyn FnOnce()>>,
}

impl Busy {
    pub(crate) fn new() -> Self {
        let (bulkhead, clock) =
            with_clock(config(1, 1).circuit_breaker(CircuitBreakerConfig::default()));
        for _ in 0..2 {
            let clock = clock.clone();
            assert!(wait(bulkhead.run(move || clock.advance(SECOND))).is_success());
        }
        assert!(!wait(bulkhead.execute(|| Err::<(), _>("no"))).is_success());
        assert!(!wait(bulkhead.run(|| panic!("one"))).is_success());
        let running = occupy(&bulkhead, 1);
        assert!(bulkhead.run(|| ()).cancel());
        let queued = bulkhead.run(|| ());
        assert!(!wait(bulkhead.run(|| ())).is_success());
        clock.advance(2 * SECOND);
        let end = move || {
            running.finish();
            // A test may have refused or cancelled it.
            drop(wait(queued));
        };
        Self {
            bulkhead,
            clock,
            end: Some(Box::new(end)),
        }
    }

    pub(crate) fn stats(&self) -> BulkheadStats {
        self.bulkhead.stats()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end.take().into_iter().for_each(|end| end());
    }
}

/// A pipeline of which two calls succeeded, one of them at its second attempt; one was answered by the fallback, and one
/// panicked. Each took a second.
pub(crate) fn used_pipeline() -> Pipeline<&'static str, Only<u32>, SemaphoreKind> {
    let clock = ManualClock::new();
    let hand = clock.clone();
    let pipeline = Pipeline::builder("users")
        .fallback(Fallback::value(7).only_for([FailureKind::Failed]))
        .retry(Retry::new(2).first_delay(Duration::ZERO))
        .clock(clock)
        .build()
        .unwrap();
    for good_at in [1, 2, 3] {
        let (mut attempt, hand) = (0, hand.clone());
        let result = pipeline.execute(|| {
            attempt += 1;
            if attempt == 1 {
                hand.advance(SECOND);
            }
            if attempt == good_at {
                Ok(1)
            } else {
                Err("down")
            }
        });
        assert!(result.is_success());
    }
    let panics = pipeline.execute(|| {
        hand.advance(SECOND);
        panic!("a task")
    });
    assert!(!panics.is_success());
    pipeline
}

/// Every sample by its name and labels, as they stand. Each line must be a comment or a sample.
pub(crate) fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').expect("a value after a space");
        let value = value.parse().expect("a number");
        let before = samples.insert(sample.to_owned(), value);
        assert_eq!(before, None, "{sample} is there twice");
    }
    samples
}
