//! Policies around a call: what is to happen when a dependency fails, is slow, or is asked too often.
//!
//! | I want | use |
//! |---|---|
//! | to call again what has failed | [`Retry`], with a [`RetryBudget`] for all callers |
//! | one limit over everything below | [`Deadline`], and [`remaining`] in what is called |
//! | to wait for calls no longer than a limit, one or several at once | [`TimeoutManager`] |
//! | an answer in place of an error | [`Fallback`], by [kind of error](FailureKind) |
//! | at most so many calls in a period | [`RateLimit`], also by [key](KeyedRateLimit) |
//! | a limit that follows how long calls take | [`AdaptiveTimeout`](crate::AdaptiveTimeout), which is experimental |
//! | a second attempt beside a slow one | [`Hedge`] |
//! | trouble on purpose, for a drill | [`Chaos`] |
//! | several of these around each call of a dependency | [`Pipeline`] |
//!
//! Each works alone, around any closure or call. A [`Pipeline`] puts them together. All of them decide and
//! wait in the caller's thread, and start none: [`TimeoutManager`] and [`Hedge`] give their calls to the workers of a
//! bulkhead. A pause between attempts, or the wait for a turn, holds neither a worker nor a place in a bulkhead. All
//! go by a [`Clock`](crate::Clock), so that a test moves the time instead of sleeping.
//!
//! # Which order?
//!
//! From the outside in:
//!
//! ```
//! # use bulkman::policy::{Fallback, FailureKind, Pipeline, RateLimit, Retry, RetryBudget};
//! # use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig};
//! # use std::{io, sync::Arc, time::Duration};
//! # let config = BulkheadConfig::new("prices").circuit_breaker(CircuitBreakerConfig::default());
//! # let prices = Arc::new(Bulkhead::new(config)?);
//! let pipeline: Pipeline<io::Error, _> = Pipeline::builder("prices")
//!     .fallback(Fallback::last_good(Duration::from_secs(300)))
//!     .timeout(Duration::from_secs(2))
//!     .retry(Retry::new(3).budget(RetryBudget::new(0.1)).retry_timeouts())
//!     .rate_limit(RateLimit::new(50, Duration::from_secs(1))?)
//!     .timeout(Duration::from_millis(500))
//!     .bulkhead(&prices) // with its own circuit
//!     .build()?;
//! # assert_eq!(pipeline.execute(|| Ok(290)).value(), Some(&290));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | layer | why it stands there |
//! |---|---|
//! | fallback | It answers for whatever goes wrong inside. Inside of the retry it would hide the failures that are to be retried. |
//! | timeout | It holds for all attempts and pauses together: what the caller is ready to wait. |
//! | retry | Outside of the bulkhead, so that a pause holds no place; outside of the circuit, so that the circuit sees each attempt, and refuses those that would be in vain. |
//! | rate limit | Inside of the retry it counts what reaches the dependency. Outside of it, what callers ask for. |
//! | timeout, a second one | It holds for one attempt, so that a slow one leaves time for the next. The retry has to be told with [`retry_timeouts`](Retry::retry_timeouts), since the slow one may still be running. |
//! | hedge | Directly before the bulkhead: both attempts go through it. |
//! | bulkhead | The innermost. The places are for work. Its circuit is checked after the places, so that a call that is full uses up no probe. |
//! | chaos | It stands for the dependency. |
//!
//! [`Pipeline::standard`] is timeout, retry and bulkhead. An order that makes no sense is an error when the pipeline is
//! built, and the error says what to do instead.
//!
//! Two rules of thumb for the numbers. The outer timeout is at least the attempts times the inner one and the
//! pauses, or the last attempts are cut short. And retry at one place only: three attempts around three attempts are nine
//! calls.
//!
//! A pipeline without layers adds a few nanoseconds to a call, and each layer its own price: `benches/README.md` has the
//! table. Retries, rate limits, hedges, timeouts and chaos can also come from settings:
//! [`Dependencies::pipeline`](crate::Dependencies::pipeline) puts them around a dependency in the order above.
//!
//! # What can I see?
//!
//! [`Pipeline::stats`] counts calls by what became of them, retries and why they ended, refusals, hedges and times; the
//! module [`export`](crate::export#the-metrics-of-pipelines) has the numbers for Prometheus, the `metrics` crate and
//! OpenTelemetry. A [listener](PipelineBuilder::listener) is told of each call. With the feature `tracing` each is
//! [one span](crate#does-a-trace-go-on-in-the-worker) with its attempts below it.
//!
//! # One deadline
//!
//! A deadline that is set anywhere holds everywhere below. A [`Deadline`]'s scope, a pipeline's timeout and the caller's limit of
//! a running call all count in [`remaining`], also in the tasks of bulkheads, since it is carried along as a
//! [`ContextVar`](crate::ContextVar). A retry begins no pause that would end after it, a rate limit no wait, a pipeline no attempt without time
//! left; and it is the limit of each attempt's call. A plain call takes it only where it is told: with
//! [`Call::within`](crate::Call::within), and with [`DependencyCall::within`](crate::DependencyCall::within). The client inside the task takes [`remaining`] as its own timeout.
//!
//! # Retries and circuits
//!
//! | the attempt ended as | retried by default | counts against the circuit |
//! |---|---|---|
//! | the task's own error | yes; [`retry_if`](Retry::retry_if) decides | yes; [`failure_if`](PipelineBuilder::failure_if) decides |
//! | full, queue timeout | yes | no |
//! | circuit open, rate limited | yes, not before its time | no |
//! | limit passed before the task started | yes | no |
//! | limit passed while the task ran | no, it may still be running; [`retry_timeouts`](Retry::retry_timeouts) | yes |
//! | panic | no; [`retry_panics`](Retry::retry_panics) | yes |
//! | cancelled, shut down | no | no |

mod attempts;
mod backoff;
mod budget;
mod chaos;
mod deadline;
mod failure;
mod fallback;
mod hedge;
mod pause;
mod pipeline;
mod random;
mod rate_limit;
mod retry;
mod retry_outcome;
mod retry_rule;
mod time_limit;

pub use attempts::{Attempts, attempt};
pub use backoff::Jitter;
pub use budget::RetryBudget;
pub(crate) use chaos::MakeError;
pub use chaos::{Chaos, ChaosStats};
pub use deadline::{Deadline, DeadlineGuard, remaining};
pub use failure::{Failure, FailureKind};
pub use fallback::Fallback;
pub use hedge::{Hedge, HedgeStats};
pub use pipeline::{
    AnyValue, Gives, LayerKind, Only, Pipeline, PipelineBuildError, PipelineBuilder,
    PipelineBulkhead, PipelineError, PipelineEvent, PipelineResult, PipelineStats, Place, Values,
};
pub(crate) use pipeline::{CallLimits, CallSettings, PipelineLedger, PipelineListener};
pub use rate_limit::{KeyedRateLimit, RateLimit, RateLimited};
pub use retry::Retry;
pub use retry_outcome::{AttemptEnd, AttemptResult, RetryError, RetryEvent, RetryStop};
pub use retry_rule::{ByDefault, RetryIf, RetryRule, RetryableError};
pub use time_limit::TimeoutManager;
