//! The dependencies of a service: what each is, and what holds for its calls.
//!
//! | file | job |
//! |---|---|
//! | `kind`, `preset` | the kinds of dependency, and the settings that suit each |
//! | `overrides`, `circuit_overrides`, `policy_overrides`, `chaos_overrides`, `health_overrides`, `rules_section` | settings of which each is set or left to the next level |
//! | `defaults`, `config` | what is set for all and for a kind; for a dependency and its operations |
//! | `level`, `hierarchy` | the levels, and which of them decides each setting: a pure function |
//! | `explain`, `shown` | which level decided each setting, as a struct and as text |
//! | `limits` | the limits in time of a dependency and of its operations, of which some follow how long calls take |
//! | `policies`, `chaos` | what the settings want around calls, made once for all pipelines of a dependency |
//! | `dependencies`, `entry`, `call`, `call_options`, `pipeline` | dependencies by name, what is kept of each, and their calls, over the `registry` |
//! | `apply`, `change` | gives dependencies other settings while they work, and tells what has changed |
//! | `error`, `did_you_mean` | errors, and the name that was probably meant |

mod apply;
mod call;
mod call_options;
mod change;
mod chaos;
mod chaos_overrides;
mod circuit_overrides;
mod config;
mod defaults;
mod dependencies;
pub(crate) mod did_you_mean;
mod entry;
mod error;
mod explain;
mod health_overrides;
mod hierarchy;
mod kind;
mod level;
mod limits;
mod overrides;
mod pipeline;
mod policies;
mod policy_overrides;
mod preset;
mod rules_section;
mod shown;

pub use call::DependencyCall;
pub use change::DependencyChange;
pub use chaos_overrides::ChaosOverrides;
pub use circuit_overrides::CircuitBreakerOverrides;
pub use config::{DependencyConfig, OperationOverrides};
pub use defaults::DependencyDefaults;
pub use dependencies::{Dependencies, DependenciesBuilder};
pub use error::DependencyError;
pub use explain::Explanation;
pub use health_overrides::HealthOverrides;
pub use kind::{BulkheadKind, DependencyKind, UnknownKind};
pub use level::{ConfigLevel, Decided};
pub use overrides::{AdaptiveTimeoutSetting, DependencyOverrides, TimeoutSetting};
pub use pipeline::{DependencyPipeline, DependencyPipelineBuilder};
pub use policy_overrides::{HedgeOverrides, RateLimitOverrides, RetryOverrides};

#[cfg(feature = "config")]
pub(crate) use entry::{Origins, Rules};
#[cfg(feature = "config")]
pub(crate) use explain::Place;
#[cfg(feature = "config")]
pub(crate) use hierarchy::Resolved;
