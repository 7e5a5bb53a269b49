//! One dependency: its kind, what is special about it, and about its operations.

use std::collections::BTreeMap;

use super::kind::{BulkheadKind, DependencyKind};
use super::overrides::{CircuitBreakerOverrides, DependencyOverrides, TimeoutSetting};

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
#[non_exhaustive]
pub struct DependencyConfig {
    /// What it is.
    pub kind: DependencyKind,
    /// What differs from others of the kind.
    pub overrides: DependencyOverrides,
    /// What is special about its operations, by name.
    pub operations: BTreeMap<String, OperationOverrides>,
}

/// What is special about one operation of a dependency: its limits in time. All else belongs to the bulkhead, which the
/// operations of a dependency share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationOverrides {
    /// How long a caller waits in all, over queue and run.
    pub timeout: Option<TimeoutSetting>,
    /// How long the call may wait for a worker, or for a slot.
    pub queue_timeout: Option<TimeoutSetting>,
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

    /// As [`DependencyOverrides::queue_timeout`](DependencyOverrides#method.queue_timeout).
    #[must_use]
    pub fn queue_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.queue_timeout = Some(limit.into());
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

    /// As [`DependencyOverrides::circuit_breaker`](DependencyOverrides#method.circuit_breaker).
    #[must_use]
    pub fn circuit_breaker(mut self, rules: impl Into<CircuitBreakerOverrides>) -> Self {
        self.overrides = self.overrides.circuit_breaker(rules);
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
