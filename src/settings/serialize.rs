//! Settings as text again, with the keys that they are read by.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::loader::Settings;
use super::schema::{DEFAULT, DEFAULT_TIMEOUT, timeout_key};
use crate::dependency::{
    ChaosOverrides, CircuitBreakerOverrides, DependencyConfig, DependencyOverrides,
    HealthOverrides, HedgeOverrides, RateLimitOverrides, RetryOverrides, TimeoutSetting,
};

#[derive(Serialize)]
struct Root<'a> {
    resilience: Resilience<'a>,
    external_dependencies: &'a BTreeMap<String, DependencyConfig>,
}

#[derive(Serialize)]
struct Resilience<'a> {
    timeouts: BTreeMap<String, TimeoutSetting>,
    circuit_breaker: &'a CircuitBreakerOverrides,
    #[serde(skip_serializing_if = "HealthOverrides::is_empty")]
    health: HealthOverrides,
    #[serde(skip_serializing_if = "RetryOverrides::is_empty")]
    retry: RetryOverrides,
    #[serde(skip_serializing_if = "RateLimitOverrides::is_empty")]
    rate_limit: RateLimitOverrides,
    #[serde(skip_serializing_if = "HedgeOverrides::is_empty")]
    hedge: HedgeOverrides,
    #[serde(skip_serializing_if = "ChaosOverrides::is_empty")]
    chaos: ChaosOverrides,
    bulkheads: BTreeMap<&'static str, DependencyOverrides>,
}

/// What holds: the sections `resilience` and `external_dependencies`, which can be loaded again. The section of the environment
/// is merged into them, and so are the variables; the environment's name and the places in files are not written.
///
/// Durations are written as text. Settings that the presets decide are left out.
impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = self.defaults();
        let kinds = defaults.kinds.iter();
        let levels: Vec<_> =
            std::iter::once((DEFAULT, DEFAULT_TIMEOUT.to_owned(), &defaults.global))
                .chain(kinds.map(|(kind, overrides)| (kind.name(), timeout_key(*kind), overrides)))
                .collect();
        let timeouts = levels.iter().filter_map(|(_, key, overrides)| {
            let timeout = overrides.timeout?;
            Some((key.clone(), timeout))
        });
        let bulkheads = levels.iter().filter_map(|(name, _, overrides)| {
            let mut overrides = (*overrides).clone();
            let has_timeout = overrides.timeout.take().is_some();
            if *name == DEFAULT {
                overrides.circuit_breaker = CircuitBreakerOverrides::new();
                overrides.health = HealthOverrides::new();
                overrides.retry = RetryOverrides::new();
                overrides.rate_limit = RateLimitOverrides::new();
                overrides.hedge = HedgeOverrides::new();
                overrides.chaos = ChaosOverrides::new();
            }
            // A kind that was named without a setting is named again.
            let is_said = has_timeout || *name == DEFAULT;
            let is_empty = overrides == DependencyOverrides::default();
            (!(is_empty && is_said)).then_some((*name, overrides))
        });
        let root = Root {
            resilience: Resilience {
                timeouts: timeouts.collect(),
                circuit_breaker: &defaults.global.circuit_breaker,
                health: defaults.global.health,
                retry: defaults.global.retry,
                rate_limit: defaults.global.rate_limit,
                hedge: defaults.global.hedge,
                chaos: defaults.global.chaos,
                bulkheads: bulkheads.collect(),
            },
            external_dependencies: self.dependencies(),
        };
        root.serialize(serializer)
    }
}
