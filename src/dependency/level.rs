//! The levels that can say something about a setting, and which of them decides.

use std::fmt;
use std::sync::Arc;

/// Where a setting of a dependency comes from. The first level that says something decides, in this order; a call's own
/// [`timeout`](crate::DependencyCall::timeout) comes before all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigLevel {
    /// The [operation](crate::DependencyConfig::operation) of this dependency.
    Operation,
    /// The [dependency](crate::DependencyConfig).
    Dependency,
    /// What is set [for its kind](crate::DependencyDefaults::for_kind).
    Kind,
    /// The [preset](crate::DependencyKind::preset) of its kind.
    Preset,
    /// What is set [for all](crate::DependencyDefaults::for_all).
    Global,
    /// The crate's own default: 30 s for a call, no queue timeout, and the defaults of
    /// [`BulkheadConfig`](crate::BulkheadConfig) and [`CircuitBreakerConfig`](crate::CircuitBreakerConfig).
    BuiltIn,
}

/// A value, and the level that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided<T> {
    /// The value that holds.
    pub value: T,
    /// The level that says so.
    pub level: ConfigLevel,
    /// The file and line, or the variable, that says so, if the level comes from settings.
    pub origin: Option<Arc<str>>,
}

impl<T> Decided<T> {
    pub(super) fn new(value: T, level: ConfigLevel) -> Self {
        Self {
            value,
            level,
            origin: None,
        }
    }
}

impl fmt::Display for ConfigLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Operation => "operation",
            Self::Dependency => "dependency",
            Self::Kind => "kind",
            Self::Preset => "preset",
            Self::Global => "global default",
            Self::BuiltIn => "built-in default",
        })
    }
}

/// The first value of all levels, which come in the order of [`ConfigLevel`].
pub(super) fn decide<T>(
    levels: impl IntoIterator<Item = (ConfigLevel, Option<T>)>,
) -> Option<Decided<T>> {
    levels
        .into_iter()
        .find_map(|(level, value)| value.map(|value| Decided::new(value, level)))
}
