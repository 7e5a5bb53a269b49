//! Why a registry has no bulkhead to give.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use thiserror::Error as ThisError;

use crate::config::BulkheadConfig;
use crate::error::BuildError;
use crate::text::OneLine;

/// Why a registry has no bulkhead to give.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum RegistryError {
    /// A bulkhead of this name exists, or is being built.
    #[error("the registry has a bulkhead `{name}` already")]
    AlreadyExists {
        /// The name.
        name: Arc<str>,
    },
    /// The bulkhead of this name was built from another configuration.
    #[error(
        "the registry has a bulkhead `{name}` with another configuration: {existing:?}, and not {wanted:?}"
    )]
    OtherConfig {
        /// The name.
        name: Arc<str>,
        /// What it was built from.
        existing: Box<BulkheadConfig>,
        /// What was asked for.
        wanted: Box<BulkheadConfig>,
    },
    /// The bulkhead of this name is of the other kind.
    #[error("the registry has a bulkhead `{name}`, but it is {existing}")]
    OtherKind {
        /// The name.
        name: Arc<str>,
        /// `a thread pool` or `a semaphore`.
        existing: &'static str,
    },
    /// [`shutdown_all`](crate::BulkheadRegistry::shutdown_all) or [`close_all`](crate::BulkheadRegistry::close_all) was called: nothing
    /// new is built.
    #[error("the registry is shut down, and builds no bulkhead `{}`", OneLine(.name))]
    ShutDown {
        /// The name.
        name: Arc<str>,
    },
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// No bulkhead has this name. The caller's own closure comes back, untouched.
pub struct UnknownBulkhead<F> {
    /// The name that was asked for.
    pub name: String,
    /// The closure as it was handed in.
    pub task: F,
}

impl<F> fmt::Debug for UnknownBulkhead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownBulkhead")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for UnknownBulkhead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OneLine(&self.name);
        write!(f, "the registry has no bulkhead `{name}`")
    }
}

impl<F> Error for UnknownBulkhead<F> {}
