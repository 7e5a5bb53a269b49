//! How the bulkheads of a registry are doing, all together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::stats::{BulkheadState, HealthReason, InWords};

/// How the bulkheads of a registry are doing, from [`BulkheadRegistry::health`](crate::BulkheadRegistry::health).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryHealth {
    /// The state of each bulkhead, by name.
    pub states: BTreeMap<Arc<str>, BulkheadState>,
    /// What is wrong with each bulkhead that is unhealthy, by name.
    pub reasons: BTreeMap<Arc<str>, Vec<HealthReason>>,
}

impl RegistryHealth {
    /// Whether no bulkhead is unhealthy. So it is in an empty registry.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.unhealthy().next().is_none()
    }

    /// The unhealthy bulkheads by name, with their states. One that has reached a threshold may be in any state.
    pub fn unhealthy(&self) -> impl Iterator<Item = (&str, BulkheadState)> {
        self.states
            .iter()
            .filter(|(name, _)| self.reasons.contains_key(*name))
            .map(|(name, state)| (&**name, *state))
    }
}

impl fmt::Display for RegistryHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bulkheads are healthy",
            self.states.len() - self.unhealthy().count(),
            self.states.len()
        )?;
        for (i, (name, state)) in self.unhealthy().enumerate() {
            let before = if i == 0 { ": " } else { ", " };
            if state.is_healthy() {
                write!(f, "{before}`{name}` is unhealthy")?;
            } else {
                write!(f, "{before}`{name}` is {state}")?;
            }
            // What the state says already stands first, and is not said twice.
            let reasons = self.reasons.get(name).map_or(&[][..], |reasons| reasons);
            let said = usize::from(!state.is_healthy()).min(reasons.len());
            if !reasons[said..].is_empty() {
                write!(f, " ({})", InWords(&reasons[said..]))?;
            }
        }
        Ok(())
    }
}
