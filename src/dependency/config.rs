//! One dependency: its kind, what is special about it, and about its operations.

use std::collections::BTreeMap;

use super::chaos_overrides::ChaosOverrides;
use super::circuit_overrides::CircuitBreakerOverrides;
use super::health_overrides::HealthOverrides;
use super::kind::{BulkheadKind, DependencyKind};
use super::overrides::{AdaptiveTimeoutSetting, DependencyOverrides, TimeoutSetting};
use super::policy_overrides::{HedgeOverrides, RateLimitOverrides, RetryOverrides};

/// A dependency: its kind, and what differs from others of the kind.
///
/// ```
/// use bulkman::{Dependencies, DependencyConfig, DependencyKind, OperationOverrides};
/// use std::time::Duration;
///
/// let dependencies = Dependencies::new();
/// dependencies.register_with(
///     "user_db",
///     DependencyConfig::new(DependencyKind::Database)
///         .max_concurrent_calls(4)
///         .operation("export", OperationOverrides::new().timeout(Duration::from_secs(120))),
/// )?;
/// # Ok::<(), bulkman::DependencyError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(from = "text::Section", into = "text::Section")
)]
#[non_exhaustive]
pub struct DependencyConfig {
    /// What it is.
    pub kind: DependencyKind,
    /// What differs from others of the kind.
    pub overrides: DependencyOverrides,
    /// What is special about its operations, by name.
    pub operations: BTreeMap<String, OperationOverrides>,
}

/// What is special about one operation of a dependency: its limits in time, its retries, its hedge, and its chaos. All
/// else belongs to the bulkhead and the rate limit, which the operations of a dependency share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct OperationOverrides {
    /// How long a caller waits in all, over queue and run.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub timeout: Option<TimeoutSetting>,
    /// Whether callers wait no longer than recent run times suggest, and at most for the timeout. Experimental.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub adaptive_timeout: Option<AdaptiveTimeoutSetting>,
    /// How long the call may wait for a worker, or for a slot.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub queue_timeout: Option<TimeoutSetting>,
    /// The retries of its [pipelines](crate::DependencyCall::pipeline).
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "RetryOverrides::is_empty")
    )]
    pub retry: RetryOverrides,
    /// The second attempts of its [pipelines](crate::DependencyCall::pipeline).
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "HedgeOverrides::is_empty")
    )]
    pub hedge: HedgeOverrides,
    /// The trouble on purpose in its [pipelines](crate::DependencyCall::pipeline), for drills.
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "ChaosOverrides::is_empty")
    )]
    pub chaos: ChaosOverrides,
}

impl OperationOverrides {
    /// Leaves everything to the dependency.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`DependencyOverrides::timeout`](DependencyOverrides#method.timeout).
    #[must_use]
    pub fn timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.timeout = Some(limit.into());
        self
    }

    /// As [`DependencyOverrides::adaptive_timeout`](DependencyOverrides#method.adaptive_timeout).
    #[must_use]
    pub fn adaptive_timeout(mut self, setting: impl Into<AdaptiveTimeoutSetting>) -> Self {
        self.adaptive_timeout = Some(setting.into());
        self
    }

    /// As [`DependencyOverrides::queue_timeout`](DependencyOverrides#method.queue_timeout).
    #[must_use]
    pub fn queue_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.queue_timeout = Some(limit.into());
        self
    }

    /// As [`DependencyOverrides::retry`](DependencyOverrides#method.retry). An operation that must not run twice says
    /// [`off`](RetryOverrides::off).
    #[must_use]
    pub fn retry(mut self, rules: RetryOverrides) -> Self {
        self.retry = rules;
        self
    }

    /// As [`DependencyOverrides::hedge`](DependencyOverrides#method.hedge).
    #[must_use]
    pub fn hedge(mut self, rules: HedgeOverrides) -> Self {
        self.hedge = rules;
        self
    }

    /// As [`DependencyOverrides::chaos`](DependencyOverrides#method.chaos).
    #[must_use]
    pub fn chaos(mut self, rules: ChaosOverrides) -> Self {
        self.chaos = rules;
        self
    }
}

impl DependencyConfig {
    /// A dependency with the settings of its kind.
    #[must_use]
    pub fn new(kind: DependencyKind) -> Self {
        Self {
            kind,
            overrides: DependencyOverrides::default(),
            operations: BTreeMap::new(),
        }
    }

    /// As [`DependencyOverrides::bulkhead`](DependencyOverrides#method.bulkhead).
    #[must_use]
    pub fn bulkhead(mut self, kind: BulkheadKind) -> Self {
        self.overrides = self.overrides.bulkhead(kind);
        self
    }

    /// As [`DependencyOverrides::max_concurrent_calls`](DependencyOverrides#method.max_concurrent_calls).
    #[must_use]
    pub fn max_concurrent_calls(mut self, calls: usize) -> Self {
        self.overrides = self.overrides.max_concurrent_calls(calls);
        self
    }

    /// As [`DependencyOverrides::max_queue_size`](DependencyOverrides#method.max_queue_size).
    #[must_use]
    pub fn max_queue_size(mut self, calls: usize) -> Self {
        self.overrides = self.overrides.max_queue_size(calls);
        self
    }

    /// As [`DependencyOverrides::timeout`](DependencyOverrides#method.timeout).
    #[must_use]
    pub fn timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.overrides = self.overrides.timeout(limit);
        self
    }

    /// As [`DependencyOverrides::queue_timeout`](DependencyOverrides#method.queue_timeout).
    #[must_use]
    pub fn queue_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.overrides = self.overrides.queue_timeout(limit);
        self
    }

    /// As [`DependencyOverrides::adaptive_timeout`](DependencyOverrides#method.adaptive_timeout).
    #[must_use]
    pub fn adaptive_timeout(mut self, setting: impl Into<AdaptiveTimeoutSetting>) -> Self {
        self.overrides = self.overrides.adaptive_timeout(setting);
        self
    }

    /// As [`DependencyOverrides::idle_timeout`](DependencyOverrides#method.idle_timeout).
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.overrides = self.overrides.idle_timeout(limit);
        self
    }

    /// As [`DependencyOverrides::stack_size`](DependencyOverrides#method.stack_size).
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.overrides = self.overrides.stack_size(bytes);
        self
    }

    /// As [`DependencyOverrides::max_nested_calls`](DependencyOverrides#method.max_nested_calls).
    #[must_use]
    pub fn max_nested_calls(mut self, calls: usize) -> Self {
        self.overrides = self.overrides.max_nested_calls(calls);
        self
    }

    /// As [`DependencyOverrides::circuit_breaker`](DependencyOverrides#method.circuit_breaker).
    #[must_use]
    pub fn circuit_breaker(mut self, rules: impl Into<CircuitBreakerOverrides>) -> Self {
        self.overrides = self.overrides.circuit_breaker(rules);
        self
    }

    /// As [`DependencyOverrides::health`](DependencyOverrides#method.health).
    #[must_use]
    pub fn health(mut self, rules: impl Into<HealthOverrides>) -> Self {
        self.overrides = self.overrides.health(rules);
        self
    }

    /// As [`DependencyOverrides::retry`](DependencyOverrides#method.retry).
    #[must_use]
    pub fn retry(mut self, rules: RetryOverrides) -> Self {
        self.overrides = self.overrides.retry(rules);
        self
    }

    /// As [`DependencyOverrides::rate_limit`](DependencyOverrides#method.rate_limit).
    #[must_use]
    pub fn rate_limit(mut self, rules: RateLimitOverrides) -> Self {
        self.overrides = self.overrides.rate_limit(rules);
        self
    }

    /// As [`DependencyOverrides::hedge`](DependencyOverrides#method.hedge).
    #[must_use]
    pub fn hedge(mut self, rules: HedgeOverrides) -> Self {
        self.overrides = self.overrides.hedge(rules);
        self
    }

    /// As [`DependencyOverrides::chaos`](DependencyOverrides#method.chaos).
    #[must_use]
    pub fn chaos(mut self, rules: ChaosOverrides) -> Self {
        self.overrides = self.overrides.chaos(rules);
        self
    }

    /// Sets what is special about an operation. [`DependencyCall::operation`](crate::DependencyCall::operation) names the
    /// operation of a call.
    #[must_use]
    pub fn operation(mut self, name: impl Into<String>, overrides: OperationOverrides) -> Self {
        self.operations.insert(name.into(), overrides);
        self
    }
}

impl From<DependencyKind> for DependencyConfig {
    fn from(kind: DependencyKind) -> Self {
        Self::new(kind)
    }
}

/// What settings say: kind and overrides in one section.
#[cfg(feature = "config")]
mod text {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::{DependencyConfig, OperationOverrides};
    use crate::dependency::{
        AdaptiveTimeoutSetting, BulkheadKind, ChaosOverrides, CircuitBreakerOverrides,
        DependencyKind, DependencyOverrides, HealthOverrides, HedgeOverrides, RateLimitOverrides,
        RetryOverrides, TimeoutSetting,
    };

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Section {
        kind: DependencyKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bulkhead: Option<BulkheadKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_concurrent_calls: Option<usize>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_queue_size: Option<usize>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<TimeoutSetting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adaptive_timeout: Option<AdaptiveTimeoutSetting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue_timeout: Option<TimeoutSetting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle_timeout: Option<TimeoutSetting>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_size: Option<usize>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_nested_calls: Option<usize>,
        #[serde(default, skip_serializing_if = "CircuitBreakerOverrides::is_empty")]
        circuit_breaker: CircuitBreakerOverrides,
        #[serde(default, skip_serializing_if = "HealthOverrides::is_empty")]
        health: HealthOverrides,
        #[serde(default, skip_serializing_if = "RetryOverrides::is_empty")]
        retry: RetryOverrides,
        #[serde(default, skip_serializing_if = "RateLimitOverrides::is_empty")]
        rate_limit: RateLimitOverrides,
        #[serde(default, skip_serializing_if = "HedgeOverrides::is_empty")]
        hedge: HedgeOverrides,
        #[serde(default, skip_serializing_if = "ChaosOverrides::is_empty")]
        chaos: ChaosOverrides,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        operations: BTreeMap<String, OperationOverrides>,
    }

    impl From<Section> for DependencyConfig {
        fn from(section: Section) -> Self {
            Self {
                kind: section.kind,
                overrides: DependencyOverrides {
                    bulkhead: section.bulkhead,
                    max_concurrent_calls: section.max_concurrent_calls,
                    max_queue_size: section.max_queue_size,
                    timeout: section.timeout,
                    adaptive_timeout: section.adaptive_timeout,
                    queue_timeout: section.queue_timeout,
                    idle_timeout: section.idle_timeout,
                    stack_size: section.stack_size,
                    max_nested_calls: section.max_nested_calls,
                    circuit_breaker: section.circuit_breaker,
                    health: section.health,
                    retry: section.retry,
                    rate_limit: section.rate_limit,
                    hedge: section.hedge,
                    chaos: section.chaos,
                },
                operations: section.operations,
            }
        }
    }

    impl From<DependencyConfig> for Section {
        fn from(config: DependencyConfig) -> Self {
            let DependencyOverrides {
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                timeout,
                adaptive_timeout,
                queue_timeout,
                idle_timeout,
                stack_size,
                max_nested_calls,
                circuit_breaker,
                health,
                retry,
                rate_limit,
                hedge,
                chaos,
            } = config.overrides;
            Self {
                kind: config.kind,
                bulkhead,
                max_concurrent_calls,
                max_queue_size,
                timeout,
                adaptive_timeout,
                queue_timeout,
                idle_timeout,
                stack_size,
                max_nested_calls,
                circuit_breaker,
                health,
                retry,
                rate_limit,
                hedge,
                chaos,
                operations: config.operations,
            }
        }
    }
}
