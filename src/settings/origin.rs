//! Where a value comes from: a line of a file, or a variable.

use std::fmt;
use std::sync::Arc;

/// Where a value of the settings comes from.
///
/// `Display` is what editors and terminals understand: `settings.yaml:12:5`, `variable BULKMAN_…`, `data`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A file, or a text.
    File {
        /// The path as it was given; `text` for a text.
        path: Arc<str>,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// Data of another format, read with serde's `Deserialize`.
    Data,
    /// A variable of the environment.
    Variable {
        /// Its name.
        name: Arc<str>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Data => f.write_str("data"),
            Self::Variable { name } => write!(f, "variable {name}"),
        }
    }
}
