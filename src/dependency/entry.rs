//! What is kept of a dependency, and what holds for all of them.

use std::sync::{Arc, OnceLock};

use super::chaos::DependencyChaos;
use super::config::DependencyConfig;
use super::defaults::DependencyDefaults;
use super::explain::Place;
use super::limits::Limits;
use super::policies::Policies;
use crate::policy::PipelineLedger;
use crate::registry::AnyBulkhead;

/// A dependency that is registered.
pub(super) struct Entry {
    pub(super) config: DependencyConfig,
    /// Those by which it got its settings.
    pub(super) rules: Arc<Rules>,
    pub(super) bulkhead: AnyBulkhead,
    pub(super) limits: Arc<Limits>,
    pub(super) policies: Arc<Policies>,
    pub(super) chaos: Arc<DependencyChaos>,
    /// What its pipelines count, from the first one on.
    pub(super) ledger: Arc<OnceLock<Arc<PipelineLedger>>>,
}

impl Entry {
    pub(super) fn ledger(&self) -> Arc<PipelineLedger> {
        let make = || Arc::new(PipelineLedger::new(self.bulkhead.name().into()));
        Arc::clone(self.ledger.get_or_init(make))
    }
}

/// What holds for dependencies beyond their own settings.
pub(crate) struct Rules {
    pub(super) defaults: DependencyDefaults,
    pub(super) origins: Option<Origins>,
}

impl Rules {
    pub(crate) fn new(defaults: DependencyDefaults) -> Self {
        Self {
            defaults,
            origins: None,
        }
    }

    #[cfg(feature = "config")]
    pub(crate) fn with_origins(defaults: DependencyDefaults, origins: Origins) -> Self {
        Self {
            defaults,
            origins: Some(origins),
        }
    }
}

/// Tells the file and line, or the variable, of a setting.
pub(crate) type Origins = Box<dyn Fn(&Place<'_>) -> Option<Arc<str>> + Send + Sync>;
