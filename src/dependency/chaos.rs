//! The trouble that the settings of a dependency want, shared by its pipelines.

use std::collections::BTreeMap;
use std::fmt;

use super::chaos_overrides::ChaosRules;
use super::hierarchy::Resolved;
use super::level::ConfigLevel;
use crate::error::BuildError;
use crate::panic::note;
use crate::policy::{Chaos, MakeError};

/// The chaos of a dependency, and of the operations that say something about it.
///
/// It is shared until its rules change: so a change can end what pipelines have that were built long before.
pub(super) struct DependencyChaos {
    of_all: Option<ConfiguredChaos>,
    operations: BTreeMap<String, Option<ConfiguredChaos>>,
}

/// What one set of rules makes.
struct ConfiguredChaos {
    rules: ChaosRules,
    chaos: Chaos<()>,
}

impl ConfiguredChaos {
    fn of(resolved: &Resolved) -> Option<Self> {
        resolved.has_chaos.value.then(|| Self {
            rules: resolved.chaos,
            chaos: resolved.chaos.chaos(),
        })
    }
}

impl DependencyChaos {
    pub(super) fn of(resolved: &Resolved) -> Self {
        Self {
            of_all: ConfiguredChaos::of(resolved),
            operations: BTreeMap::new(),
        }
    }

    /// Adds an operation, if it has a chaos of its own, or none.
    pub(super) fn add(&mut self, operation: &str, resolved: &Resolved) {
        let mut levels = resolved.chaos_rules.values().map(|decided| decided.level);
        let is_its_own = resolved.has_chaos.level == ConfigLevel::Operation
            || levels.any(|level| level == ConfigLevel::Operation);
        if is_its_own {
            let own = ConfiguredChaos::of(resolved);
            self.operations.insert(operation.to_owned(), own);
        }
    }

    /// What a pipeline has. `error` makes the errors.
    pub(super) fn for_pipeline<E>(
        &self,
        operation: Option<&str>,
        error: Option<MakeError<E>>,
    ) -> Result<Option<Chaos<E>>, BuildError> {
        let own = operation.and_then(|operation| self.operations.get(operation));
        let Some(configured) = own.unwrap_or(&self.of_all) else {
            return Ok(None);
        };
        configured.rules.check_error(error.is_some())?;
        let share = configured.rules.error_rate;
        Ok(Some(configured.chaos.with_errors(share, error)))
    }

    /// Ends it in all pipelines.
    pub(super) fn end(&self) {
        for configured in self.operations.values().chain([&self.of_all]).flatten() {
            configured.chaos.switch_off();
        }
    }

    /// Warns of it, so that nobody forgets it.
    pub(super) fn warn(&self, dependency: &str) {
        if self
            .operations
            .values()
            .chain([&self.of_all])
            .any(Option::is_some)
        {
            let name = dependency.escape_debug();
            note(|| {
                log::warn!(
                    target: "bulkman", bulkhead = dependency;
                    "dependency `{name}` makes trouble on purpose in its pipelines: {self}"
                );
            });
        }
    }
}

impl fmt::Display for DependencyChaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        if let Some(configured) = &self.of_all {
            write!(f, "{}", configured.rules)?;
            before = "; ";
        }
        for (operation, configured) in &self.operations {
            if let Some(ConfiguredChaos { rules, .. }) = configured {
                let operation = operation.escape_debug();
                write!(f, "{before}in operation `{operation}` {rules}")?;
                before = "; ";
            }
        }
        Ok(())
    }
}
