//! What holds for many dependencies: for all, and for those of a kind.

use std::collections::BTreeMap;

use super::config::{DependencyConfig, OperationOverrides};
use super::hierarchy::{Levels, Resolved};
use super::kind::DependencyKind;
use super::overrides::DependencyOverrides;

/// Settings that hold for many dependencies: for all, and for those of a kind.
///
/// ```
/// use bulkman::{Dependencies, DependencyDefaults, DependencyKind, DependencyOverrides};
/// use std::time::Duration;
///
/// let defaults = DependencyDefaults::new()
///     .for_all(DependencyOverrides::new().timeout(Duration::from_secs(20)))
///     .for_kind(DependencyKind::Database, DependencyOverrides::new().max_concurrent_calls(4));
/// let dependencies = Dependencies::builder().defaults(defaults).build();
/// dependencies.register_database("user_db")?;
/// let explained = dependencies.explain("user_db", "get_user")?;
/// assert_eq!(explained.max_concurrent_calls.value, 4); // the kind's
/// assert_eq!(explained.timeout.value.limit(), Some(Duration::from_secs(10))); // the preset comes before what is for all
/// # Ok::<(), bulkman::DependencyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DependencyDefaults {
    /// Hold for all dependencies, where neither their kind nor its preset says anything.
    pub global: DependencyOverrides,
    /// Hold for the dependencies of a kind, over its preset.
    pub kinds: BTreeMap<DependencyKind, DependencyOverrides>,
}

impl DependencyDefaults {
    /// No settings beyond the presets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what holds for all dependencies where neither their kind nor its [preset](DependencyKind::preset) says
    /// anything. So `enabled` of the circuit breaker is without effect here: each preset says it.
    #[must_use]
    pub fn for_all(mut self, overrides: DependencyOverrides) -> Self {
        self.global = overrides;
        self
    }

    /// Sets what holds for the dependencies of a kind, over its [preset](DependencyKind::preset).
    #[must_use]
    pub fn for_kind(mut self, kind: DependencyKind, overrides: DependencyOverrides) -> Self {
        self.kinds.insert(kind, overrides);
        self
    }

    /// What holds for a dependency, or for one of its operations.
    pub(crate) fn resolve(
        &self,
        config: &DependencyConfig,
        operation: Option<&OperationOverrides>,
    ) -> Resolved {
        let nothing = DependencyOverrides::default();
        Levels {
            operation,
            dependency: &config.overrides,
            kind: self.kinds.get(&config.kind).unwrap_or(&nothing),
            preset: &config.kind.preset(),
            global: &self.global,
        }
        .resolve()
    }
}
