//! The dependencies of a service: what each is, and what holds for its calls.
//!
//! | file | job |
//! |---|---|
//! | `kind` | the kinds of dependency, and the settings that suit each |
//! | `overrides`, `policy_overrides`, `config` | what each level says: defaults, kinds, dependencies, operations |
//! | `hierarchy` | which level decides a value: a pure function |
//! | `explain`, `shown` | the same for people |
//! | `limits` | the limits in time of a dependency and of its operations, of which some follow how long calls take |
//! | `dependencies`, `call`, `pipeline` | dependencies by name, and their calls, over `registry.rs` |
//! | `apply` | other settings for dependencies that work |
//! | `error`, `near` | errors, and the name that was probably meant |

mod apply;
mod call;
mod config;
mod dependencies;
mod error;
mod explain;
mod hierarchy;
mod kind;
mod limits;
pub(crate) mod near;
mod overrides;
mod pipeline;
mod policy_overrides;
mod shown;

pub use apply::DependencyChange;
pub use call::DependencyCall;
pub use config::{DependencyConfig, OperationOverrides};
pub use dependencies::{Dependencies, DependenciesBuilder};
pub use error::DependencyError;
pub use explain::Explanation;
pub use hierarchy::{ConfigLevel, Decided};
pub use kind::{BulkheadKind, DependencyKind, UnknownKind};
pub use overrides::{
    AdaptiveTimeoutSetting, CircuitBreakerOverrides, DependencyDefaults, DependencyOverrides,
    TimeoutSetting,
};
pub use pipeline::{DependencyPipeline, DependencyPipelineBuilder};
pub use policy_overrides::{HedgeOverrides, RateLimitOverrides, RetryOverrides};

#[cfg(feature = "config")]
pub(crate) use dependencies::{Origins, Rules};
#[cfg(feature = "config")]
pub(crate) use explain::Place;
#[cfg(feature = "config")]
pub(crate) use hierarchy::Resolved;
