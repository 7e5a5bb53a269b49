//! Random pipelines, beside the same policies nested by hand.

use std::sync::Arc;
use std::time::Instant;

use bulkman::policy::{Fallback, LayerKind, PipelineError, RateLimit, RetryStop};
use bulkman::{CircuitBreaker, CircuitBreakerConfig, ManualClock};
use proptest::prelude::*;

use super::helpers::{Error, pipeline, retry};
use crate::helpers::millis;

/// What a pipeline is made of.
#[derive(Clone, Debug)]
struct Parts {
    fallback: bool,
    timeout: Option<u64>,
    attempts: Option<u32>,
    /// Burst, and milliseconds for each further call.
    rate: Option<(u32, u64)>,
    /// Failures that open the circuit.
    circuit: Option<usize>,
    /// Whether the rate limit stands outside of the circuit.
    rate_first: bool,
}

/// One attempt of a task: how long it takes, and whether it succeeds.
type Step = (u64, bool);

/// What is seen of a call.
#[derive(Debug, PartialEq)]
struct Seen {
    value: Option<usize>,
    by: LayerKind,
    attempts: u32,
    stop: Option<RetryStop>,
    passed_ms: u128,
}

/// The tasks of one run, with the clock that they move.
struct Script {
    steps: Vec<Step>,
    next: usize,
    clock: ManualClock,
}

impl Script {
    fn call(&mut self) -> Result<usize, Error> {
        let (takes, succeeds) = self.steps.get(self.next).copied().unwrap_or((0, true));
        self.next += 1;
        self.clock.advance(millis(takes));
        if succeeds { Ok(self.next) } else { Err("down") }
    }
}

fn circuit(failures: usize, clock: &ManualClock) -> Arc<CircuitBreaker> {
    let rules = CircuitBreakerConfig::default()
        .failure_threshold(failures)
        .success_threshold(1)
        .isolation_duration(millis(400));
    let builder = CircuitBreaker::builder("model", rules).clock(clock.clone());
    Arc::new(builder.build().unwrap())
}

fn rate((burst, each): (u32, u64), clock: &ManualClock) -> RateLimit {
    let limit = RateLimit::new(1, millis(each)).unwrap();
    limit.burst(burst).clock(clock.clone())
}

fn by_pipeline(parts: &Parts, steps: &[Step], calls: usize) -> Vec<Seen> {
    let clock = ManualClock::new();
    let limit = parts.rate.map(|rate_of| rate(rate_of, &clock));
    let breaker = parts.circuit.map(|failures| circuit(failures, &clock));
    let mut builder = pipeline(&clock).fallback(Fallback::value(777).only_if({
        let answers = parts.fallback;
        move |_| answers
    }));
    if let Some(limit) = parts.timeout {
        builder = builder.timeout(millis(limit));
    }
    if let Some(attempts) = parts.attempts {
        builder = builder.retry(retry(attempts, &clock));
    }
    for rate_now in [parts.rate_first, !parts.rate_first] {
        if rate_now {
            if let Some(limit) = &limit {
                builder = builder.rate_limit(limit.clone());
            }
        } else if let Some(breaker) = &breaker {
            builder = builder.circuit_breaker(Arc::clone(breaker));
        }
    }
    let pipeline = builder.build().unwrap();
    let mut script = Script {
        steps: steps.to_vec(),
        next: 0,
        clock: clock.clone(),
    };
    let mut seen = Vec::new();
    for _ in 0..calls {
        let began = clock.now();
        let result = pipeline.execute(|| script.call());
        assert_eq!(result.elapsed, clock.now() - began);
        seen.push(Seen {
            value: result.value().copied(),
            by: result.decided_by,
            attempts: result.attempts,
            stop: result.retry_stop,
            passed_ms: result.elapsed.as_millis(),
        });
    }
    seen
}

/// The same, written out.
struct ByHand {
    parts: Parts,
    limit: Option<RateLimit>,
    breaker: Option<Arc<CircuitBreaker>>,
    clock: ManualClock,
    script: Script,
}

impl ByHand {
    fn attempt(
        &mut self,
        deadline: Option<Instant>,
    ) -> (LayerKind, Result<usize, PipelineError<Error>>) {
        let by_rate = |limit: &Option<RateLimit>| match limit {
            Some(limit) => limit.try_acquire().map_err(PipelineError::RateLimited),
            None => Ok(()),
        };
        if self.parts.rate_first {
            if let Err(error) = by_rate(&self.limit) {
                return (LayerKind::RateLimit, Err(error));
            }
        }
        let permit = match &self.breaker {
            Some(breaker) => match breaker.try_acquire() {
                Ok(permit) => Some(permit),
                Err(open) => return (LayerKind::Circuit, Err(PipelineError::CircuitOpen(open))),
            },
            None => None,
        };
        if !self.parts.rate_first {
            if let Err(error) = by_rate(&self.limit) {
                return (LayerKind::RateLimit, Err(error));
            }
        }
        if deadline.is_some_and(|deadline| self.clock.now() >= deadline) {
            return (LayerKind::Timeout, Err(timed_out()));
        }
        let result = self.script.call();
        if let Some(permit) = permit {
            let is_late = deadline.is_some_and(|deadline| self.clock.now() >= deadline);
            if result.is_ok() && !is_late {
                permit.record_success();
            } else {
                permit.record_failure();
            }
        }
        let result = result.map_err(|own| PipelineError::Call(bulkman::BulkheadError::Failed(own)));
        (LayerKind::Task, result)
    }

    fn call(&mut self) -> Seen {
        let began = self.clock.now();
        let deadline = self.parts.timeout.map(|limit| began + millis(limit));
        let (mut attempts, mut stop) = (1, None);
        let (mut by, mut result) = self.attempt(deadline);
        if let Some(max) = self.parts.attempts {
            while let Err(error) = &result {
                let named = bulkman::policy::RetryableError::retry_after(error);
                let backoff = millis(100 << (attempts - 1));
                let pause = named.map_or(backoff, |named| named.max(backoff));
                let left =
                    deadline.map(|deadline| deadline.saturating_duration_since(self.clock.now()));
                stop = if matches!(error, PipelineError::TimedOut { .. }) {
                    Some(RetryStop::NotRetryable)
                } else if attempts == max {
                    Some(RetryStop::AttemptsUsedUp)
                } else if left.is_some_and(|left| pause >= left) {
                    Some(RetryStop::DeadlineTooNear)
                } else {
                    None
                };
                if stop.is_some() {
                    break;
                }
                self.clock.advance(pause);
                attempts += 1;
                (by, result) = self.attempt(deadline);
            }
        }
        let value = match result {
            Ok(value) => Some(value),
            Err(_) if self.parts.fallback => {
                by = LayerKind::Fallback;
                Some(777)
            }
            Err(_) => None,
        };
        Seen {
            value,
            by,
            attempts,
            stop,
            passed_ms: (self.clock.now() - began).as_millis(),
        }
    }
}

fn timed_out() -> PipelineError<Error> {
    // The only way to make one from outside of the crate.
    let clock = ManualClock::new();
    let over = bulkman::policy::Deadline::after_on(clock.clone(), millis(0));
    let empty = pipeline(&clock).build().unwrap();
    over.with(|| empty.execute(|| Ok(())))
        .into_result()
        .unwrap_err()
}

fn by_hand(parts: &Parts, steps: &[Step], calls: usize) -> Vec<Seen> {
    let clock = ManualClock::new();
    let mut model = ByHand {
        parts: parts.clone(),
        limit: parts.rate.map(|rate_of| rate(rate_of, &clock)),
        breaker: parts.circuit.map(|failures| circuit(failures, &clock)),
        script: Script {
            steps: steps.to_vec(),
            next: 0,
            clock: clock.clone(),
        },
        clock,
    };
    (0..calls).map(|_| model.call()).collect()
}

fn parts() -> impl Strategy<Value = Parts> {
    let attempts = proptest::option::of(1_u32..5);
    let timeout = proptest::option::of(1_u64..2_000);
    let rate = proptest::option::of((1_u32..4, 1_u64..500));
    let circuit = proptest::option::of(1_usize..4);
    (
        any::<bool>(),
        timeout,
        attempts,
        rate,
        circuit,
        any::<bool>(),
    )
        .prop_map(
            |(fallback, timeout, attempts, rate, circuit, rate_first)| Parts {
                fallback,
                timeout,
                attempts,
                rate,
                circuit,
                rate_first,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_pipeline_does_what_the_same_policies_do_by_hand(
        parts in parts(),
        steps in proptest::collection::vec((0_u64..700, any::<bool>()), 0..20),
    ) {
        prop_assert_eq!(by_pipeline(&parts, &steps, 8), by_hand(&parts, &steps, 8));
    }
}
