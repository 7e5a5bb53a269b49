//! What can go wrong with dependencies.

use std::sync::Arc;

use thiserror::Error as ThisError;

use super::did_you_mean::Listed;
use super::kind::UnknownKind;
use crate::error::BuildError;
use crate::registry::RegistryError;

/// Why [`Dependencies`](crate::Dependencies) cannot register a dependency, or have none to give.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum DependencyError {
    /// No dependency has this name.
    #[error(
        "no dependency `{}` is registered{}",
        name.escape_debug(),
        Listed { known: known.as_slice(), near: near.as_deref() }
    )]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that are registered, in order.
        known: Vec<Arc<str>>,
        /// The name that was probably meant.
        near: Option<Arc<str>>,
    },
    /// No kind has this name.
    #[error(transparent)]
    UnknownKind(#[from] UnknownKind),
    /// A setting is out of range.
    #[error(
        "dependency `{}`{}: {reason}",
        dependency.escape_debug(),
        operation.as_ref().map_or(String::new(), |name| format!(", operation `{}`", name.escape_debug()))
    )]
    Invalid {
        /// The dependency's name.
        dependency: String,
        /// The operation, if the setting is an operation's.
        operation: Option<String>,
        /// The setting, its value, and what it has to be.
        reason: Box<BuildError>,
    },
    /// The setting cannot change while the dependency works.
    #[error(
        "dependency `{}`: {setting} cannot change while it works; take it out with `remove`, and register it anew",
        dependency.escape_debug()
    )]
    NotLive {
        /// The dependency's name.
        dependency: String,
        /// The setting.
        setting: &'static str,
    },
    /// Another thread applies settings at this moment, or the thread of a listener that hears of such a change.
    #[error("other settings are being applied at this moment")]
    ChangeInProgress,
    /// The bulkhead could not be built: its name exists already, all is shut down, or a thread could not start.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
