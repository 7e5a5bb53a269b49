//! What a change of the settings has changed.

use std::fmt;

/// What [`Dependencies::apply`](crate::Dependencies::apply) has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DependencyChange {
    /// A dependency was registered.
    #[non_exhaustive]
    Registered {
        /// Its name.
        dependency: String,
    },
    /// A setting has another value.
    #[non_exhaustive]
    Changed {
        /// The dependency's name.
        dependency: String,
        /// The operation, if the setting is an operation's own.
        operation: Option<String>,
        /// The setting, such as `timeout` or `circuit_breaker.failure_threshold`.
        setting: String,
        /// What it was; `none` if there was none.
        before: String,
        /// What it is.
        after: String,
    },
}

impl fmt::Display for DependencyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { dependency } => {
                write!(f, "dependency `{}` is new", dependency.escape_debug())
            }
            Self::Changed {
                dependency,
                operation,
                setting,
                before,
                after,
            } => {
                write!(f, "dependency `{}`", dependency.escape_debug())?;
                if let Some(operation) = operation {
                    write!(f, ", operation `{}`", operation.escape_debug())?;
                }
                write!(f, ": {setting} goes from {before} to {after}")
            }
        }
    }
}
