//! What each layer does around those inside of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::PipelineError;
use super::ledger::PipelineLedger;
use super::order::LayerKind;
use super::times::Times;
use super::values::{Gives, Values};
use crate::adaptive::AdaptiveTimeout;
use crate::circuit::{CircuitBreaker, CircuitPermit, LiveRules, Verdict};
use crate::clock::Clock;
use crate::core::current;
use crate::error::BulkheadError;
use crate::panic::contain_in;
use crate::policy::attempts::Attempts;
use crate::policy::deadline::Deadline;
use crate::policy::rate_limit::RateLimit;
use crate::policy::retry::Retry;
use crate::policy::retry_outcome::RetryStop;
use crate::policy::retry_rule::RetryRule;

/// A layer around a call. The bulkhead is none: it is the innermost, and makes the call.
pub(super) enum Layer<E, V: Values<E>> {
    Fallback(V::Fallback),
    Timeout(Duration),
    AdaptiveTimeout(AdaptiveTimeout),
    /// What it is at the moment of the call, `None`: none.
    LiveTimeout(LiveLimit),
    Retry(Retry<AnyRule<E>>),
    RateLimit(RateLimit),
    Circuit(Arc<CircuitBreaker>),
}

/// Tells the limit of a dependency, which may change. No user code.
pub(super) type LiveLimit = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// A retry's rule, whatever its type.
pub(crate) type AnyRule<E> = Arc<dyn RetryRule<PipelineError<E>> + Send + Sync>;

/// Which of the task's own errors are failures, for the circuits.
pub(super) type FailureIf<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// What is known of one call on its way through the layers.
pub(super) struct CallProgress<'p, E> {
    pub(super) name: &'p Arc<str>,
    pub(super) clock: &'p Clock,
    /// Whether the times are measured that no bulkhead measures.
    pub(super) is_timed: bool,
    /// What the clock has shown, as long as no time has passed since: no wait, and no code of the user's.
    pub(super) just_now: Option<Instant>,
    pub(super) failure_if: Option<&'p FailureIf<E>>,
    pub(super) attempts: u32,
    pub(super) hedged: u32,
    pub(super) hedges_won: u32,
    pub(super) retry_stop: Option<RetryStop>,
    pub(super) decided_by: LayerKind,
    pub(super) fell_back_from: Option<PipelineError<E>>,
    pub(super) times: Times,
    /// The innermost timeout around.
    pub(super) limit: Option<Duration>,
    /// Whether the last attempt has taken its limit, or longer.
    pub(super) was_late: bool,
    pub(super) ledger: Option<&'p PipelineLedger>,
}

impl<E> CallProgress<'_, E> {
    /// The time now. It is read once for all layers that ask before anything happens.
    pub(super) fn now(&mut self) -> Instant {
        let now = self.just_now.unwrap_or_else(|| self.clock.now());
        self.just_now = Some(now);
        now
    }

    fn count(&self, event: impl FnOnce(&PipelineLedger)) {
        if let Some(ledger) = self.ledger {
            event(ledger);
        }
    }

    /// Time may have passed.
    pub(super) fn went_on(&mut self) {
        self.just_now = None;
    }

    pub(super) fn spend(&mut self, layer: LayerKind, time: Duration) {
        self.times.spend(layer, time);
    }

    /// The result comes from this layer, as far as those inside of the next one know.
    pub(super) fn decide<T>(
        &mut self,
        by: LayerKind,
        error: PipelineError<E>,
    ) -> Result<T, PipelineError<E>> {
        self.decided_by = by;
        Err(error)
    }

    /// What the task's own error is for a circuit. A predicate that panics leaves it a failure.
    fn verdict_on(&self, error: &E) -> Verdict {
        let is_failure = self.failure_if.is_none_or(|is_failure| {
            let ask = || is_failure(error);
            contain_in("pipeline", self.name, "a failure predicate", ask).unwrap_or(true)
        });
        Verdict::failure_if(is_failure)
    }

    fn discard(&self, error: PipelineError<E>) {
        contain_in("pipeline", self.name, "the drop of an error", || {
            drop(error);
        });
    }
}

/// The innermost call.
pub(super) type Attempt<'a, 'p, T, E> =
    &'a mut dyn FnMut(&mut CallProgress<'p, E>) -> Result<T, PipelineError<E>>;

/// Makes a call through `layers`, the outermost first.
pub(super) fn run<'p, T, E, V: Gives<T, E>>(
    layers: &'p [Layer<E, V>],
    progress: &mut CallProgress<'p, E>,
    attempt: Attempt<'_, 'p, T, E>,
) -> Result<T, PipelineError<E>> {
    let Some((layer, inner)) = layers.split_first() else {
        return attempt(progress);
    };
    match layer {
        Layer::Fallback(fallback) => {
            let result = run(inner, progress, attempt);
            fall_back::<T, E, V>(fallback, progress, result)
        }
        Layer::Timeout(limit) => run_within(*limit, inner, progress, attempt),
        Layer::LiveTimeout(limit) => match limit() {
            Some(limit) => run_within(limit, inner, progress, attempt),
            None => run(inner, progress, attempt),
        },
        Layer::AdaptiveTimeout(timeout) => {
            let (limit, began) = (timeout.limit(), progress.now());
            let result = run_within(limit, inner, progress, attempt);
            progress.went_on();
            let took = progress.now().saturating_duration_since(began);
            match &result {
                // The fallback's answer, and not the dependency's.
                Ok(_) if progress.decided_by == LayerKind::Fallback => {}
                Ok(_) => timeout.record(took),
                Err(PipelineError::Call(BulkheadError::Timeout { started: true, .. })) => {
                    timeout.record_timeout(took);
                }
                Err(error) if error.never_started() => timeout.record_other(),
                Err(_) => timeout.record_failure(took, Some(limit.saturating_sub(took))),
            }
            result
        }
        Layer::Retry(retry) => {
            let attempts = Attempts::begin(retry, progress.now());
            let result = loop {
                match attempts.run(|| run(inner, progress, attempt)) {
                    Ok(value) => {
                        if attempts.has_listeners() {
                            attempts.succeeded();
                            progress.went_on();
                        }
                        break Ok(value);
                    }
                    Err(error) => {
                        progress.went_on();
                        match attempts.next_after(&error) {
                            Ok(()) => progress.discard(error),
                            Err(stop) => {
                                progress.retry_stop = Some(stop);
                                break Err(error);
                            }
                        }
                    }
                }
            };
            progress.attempts = attempts.made();
            progress.spend(LayerKind::Retry, attempts.waited());
            result
        }
        Layer::RateLimit(limit) => match limit.acquire() {
            Ok(waited) => {
                if !waited.is_zero() {
                    progress.went_on();
                    progress.spend(LayerKind::RateLimit, waited);
                }
                run(inner, progress, attempt)
            }
            Err(limited) => {
                progress.count(PipelineLedger::rate_limited);
                progress.decide(LayerKind::RateLimit, PipelineError::RateLimited(limited))
            }
        },
        Layer::Circuit(breaker) => match breaker.try_acquire() {
            Ok(permit) => {
                // Its storage and its listeners are user code.
                progress.went_on();
                let result = run(inner, progress, attempt);
                judge(permit, breaker.live_rules(), progress, &result);
                progress.went_on();
                result
            }
            Err(open) => {
                progress.count(PipelineLedger::circuit_open);
                progress.decide(LayerKind::Circuit, PipelineError::CircuitOpen(open))
            }
        },
    }
}

fn run_within<'p, T, E, V: Gives<T, E>>(
    limit: Duration,
    layers: &'p [Layer<E, V>],
    progress: &mut CallProgress<'p, E>,
    attempt: Attempt<'_, 'p, T, E>,
) -> Result<T, PipelineError<E>> {
    let around = progress.limit.replace(limit);
    let deadline = Deadline::after_moment(progress.now(), progress.clock.clone(), limit);
    let result = deadline.with(|| run(layers, progress, attempt));
    progress.limit = around;
    result
}

fn fall_back<T, E, V: Gives<T, E>>(
    fallback: &V::Fallback,
    progress: &mut CallProgress<'_, E>,
    result: Result<T, PipelineError<E>>,
) -> Result<T, PipelineError<E>> {
    let error = match result {
        Ok(value) => {
            if V::remember(fallback, &value) {
                progress.went_on();
            }
            return Ok(value);
        }
        Err(error) => error,
    };
    let began = progress.clock.now();
    let answer = V::answer(fallback, &error);
    let took = progress.clock.now().saturating_duration_since(began);
    progress.spend(LayerKind::Fallback, took);
    progress.went_on();
    match answer {
        Some(value) => {
            progress.decided_by = LayerKind::Fallback;
            progress.fell_back_from = Some(error);
            Ok(value)
        }
        None => Err(error),
    }
}

/// Tells the pipeline's own circuit how an attempt went: the same as a bulkhead tells its own.
fn judge<T, E>(
    permit: CircuitPermit<'_>,
    rules: LiveRules,
    progress: &CallProgress<'_, E>,
    result: &Result<T, PipelineError<E>>,
) {
    let is_cancelled = || current().is_some_and(|call| call.is_cancelled());
    match result {
        // It says nothing about the dependency.
        Err(error) if error.never_started() => drop(permit),
        _ if progress.was_late && rules.timeouts_are_failures() => permit.record_failure(),
        Ok(_) => permit.record_success(),
        // The attempt inherits the cancel of the call around it.
        Err(PipelineError::Call(BulkheadError::Failed(_)))
            if rules.cancelled_calls_are_neutral() && is_cancelled() =>
        {
            drop(permit);
        }
        Err(PipelineError::Call(BulkheadError::Failed(own))) => {
            permit.record(progress.verdict_on(own));
        }
        // Nobody waits for what the task returns.
        Err(PipelineError::Call(BulkheadError::Timeout { .. }))
            if !rules.timeouts_are_failures() =>
        {
            drop(permit);
        }
        Err(_) => permit.record_failure(),
    }
}
