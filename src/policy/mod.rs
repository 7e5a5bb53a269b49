//! Policies around a call: what is to happen when a dependency fails, is slow, or asks for a pause.

mod attempts;
mod backoff;
mod budget;
mod chaos;
mod deadline;
mod failure;
mod fallback;
mod hedge;
mod pipeline;
mod random;
mod rate_limit;
mod retry;
mod retry_rule;
mod sleep;
mod time_limit;

pub use attempts::{AttemptEnd, Attempts, RetryError, RetryEvent, RetryStop};
pub use backoff::Jitter;
pub use budget::RetryBudget;
pub use chaos::{Chaos, ChaosStats};
pub use deadline::{Deadline, DeadlineGuard, remaining};
pub use failure::{Failure, FailureKind};
pub use fallback::Fallback;
pub use hedge::{Hedge, HedgeStats};
pub use pipeline::{
    AnyValue, Gives, LayerKind, Only, Pipeline, PipelineBuildError, PipelineBuilder,
    PipelineBulkhead, PipelineError, PipelineEvent, PipelineResult, Place, Values,
};
pub use rate_limit::{KeyedRateLimit, RateLimit, RateLimited};
pub use retry::{AttemptResult, Retry};
pub use retry_rule::{ByDefault, RetryIf, RetryRule, RetryableError};
pub use time_limit::TimeoutManager;
