//! What can be wrong with settings.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error as ThisError;

use super::origin::Origin;
use crate::dependency::did_you_mean::Listed;

/// Why settings could not be loaded. Nothing of them is used then.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read: it is missing, or must not be read, and so on.
    #[error("settings {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path leads to a folder, a device or a pipe.
    #[error("settings {} are no file, but {what}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file is larger than [`size_limit`](super::SettingsLoader::size_limit).
    #[error("settings {} are larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// The file is not UTF-8.
    #[error("settings {} are not UTF-8: line {line} has a byte that is none", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first wrong byte, counted from 1.
        line: usize,
    },
    /// There is nothing in it, or nothing but comments.
    #[error("settings {path} are empty")]
    Empty {
        /// The file, or `text`.
        path: Arc<str>,
    },
    /// The name of the file does not tell its format.
    #[error("settings {} have no format: the name has to end in `.toml`, `.yaml` or `.yml`, or `format` has to say it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The settings are YAML, and the crate was built without its feature `yaml`.
    #[error("settings {path} are YAML, which needs bulkman's feature `yaml`")]
    YamlNotBuilt {
        /// The file, or `text`.
        path: Arc<str>,
    },
    /// The text is no TOML, or no YAML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong there.
        message: String,
    },
    /// There are too many values, or too many sections inside each other. Values behind a YAML alias count as often as it
    /// is used.
    #[error("{origin}: too much: {what}")]
    TooMuch {
        /// Where it became too much.
        origin: Origin,
        /// Of what, and how many are allowed.
        what: String,
    },
    /// No section has the name of the environment.
    #[error("settings {path} have no section for the environment `{}`{}", environment.escape_debug(), Listed { known: known.as_slice(), near: near.as_deref() })]
    UnknownEnvironment {
        /// The file, or `text`.
        path: Arc<str>,
        /// The name that was asked for.
        environment: String,
        /// The environments that have a section.
        known: Vec<String>,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// Keys or values are wrong. All that were found are here.
    #[error("{}", Problems(problems))]
    Invalid {
        /// At least one.
        problems: Vec<SettingsProblem>,
    },
}

/// A key or a value that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingsProblem {
    /// Where it stands.
    pub origin: Origin,
    /// The path of keys, such as `external_dependencies.user_db.timeout`.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

/// More say nothing new.
const MOST_SHOWN: usize = 20;

struct Problems<'a>(&'a [SettingsProblem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.0 {
            return problem.fmt(f);
        }
        write!(f, "{} problems in the settings", self.0.len())?;
        let mut shown = self.0.iter().take(MOST_SHOWN);
        shown.try_for_each(|problem| write!(f, "\n  {problem}"))?;
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
