//! What one level says about when a dependency counts as unhealthy, and leaves to the levels below.

use std::time::Duration;

use super::rules_section::section;
use crate::error::BuildError;
use crate::stats::HealthThresholds;

section! {
    /// From where on a dependency counts as unhealthy: [`HealthThresholds`], of which each is set or left to the next level.
    ///
    /// A threshold that no level sets is off. [`off`](Self::off) switches off those that the next levels set. Thresholds
    /// [for all](crate::DependencyDefaults::for_all) hold for each dependency. [`Dependencies::health`](crate::Dependencies::health) and the
    /// [`health`](crate::AnyBulkhead::health) of each bulkhead go by them.
    ///
    /// ```
    /// use bulkman::{DependencyConfig, DependencyDefaults, DependencyKind, DependencyOverrides, HealthOverrides};
    /// use std::time::Duration;
    ///
    /// let defaults = DependencyDefaults::new().for_all(
    ///     DependencyOverrides::new().health(HealthOverrides::new().all_busy_for(Duration::from_secs(30))),
    /// );
    /// let user_db = DependencyConfig::new(DependencyKind::Database)
    ///     .health(HealthOverrides::new().rejection_rate(0.05).abandoned_tasks(3));
    /// let nice_to_have = DependencyConfig::new(DependencyKind::Cache).health(HealthOverrides::off());
    /// # let _ = (defaults, user_db, nice_to_have);
    /// ```
    HealthOverrides, "health thresholds", all of them: HealthRules, a rule switches on: true
    /// The share of the queue that is taken, above 0 and up to 1, see [`HealthThresholds::queue_utilization`].
    queue_utilization: f64, Option<f64> = None;
    /// For how long that has been so. Zero: the moment counts. Built-in: 10 s.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    queue_utilization_for: Duration, Duration = Duration::from_secs(10);
    /// See [`HealthThresholds::saturated_for`].
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    saturated_for: Duration, Option<Duration> = None;
    /// See [`HealthThresholds::queued_for`].
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    queued_for: Duration, Option<Duration> = None;
    /// See [`HealthThresholds::all_busy_for`].
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    all_busy_for: Duration, Option<Duration> = None;
    /// How many tasks run although their callers have left, at least 1, see [`HealthThresholds::abandoned_tasks`].
    abandoned_tasks: u64, Option<u64> = None;
    /// The share of the calls that was refused, above 0 and up to 1, see [`HealthThresholds::rejection_rate`].
    rejection_rate: f64, Option<f64> = None;
    /// Over which time that is counted, longer than zero. Built-in: a minute.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    rejection_window: Duration, Duration = Duration::from_secs(60);
    /// Whether a circuit that is half-open counts as unhealthy too. Built-in: no.
    closed_circuit: bool, bool = false;
}

/// Sets the thresholds that are on, and leaves the others to the next level.
impl From<HealthThresholds> for HealthOverrides {
    fn from(thresholds: HealthThresholds) -> Self {
        let (queue_utilization, queue_utilization_for) = thresholds.queue_utilization.unzip();
        let (rejection_rate, rejection_window) = thresholds.rejection_rate.unzip();
        Self {
            enabled: None,
            queue_utilization,
            queue_utilization_for,
            saturated_for: thresholds.saturated_for,
            queued_for: thresholds.queued_for,
            all_busy_for: thresholds.all_busy_for,
            abandoned_tasks: thresholds.abandoned_tasks,
            rejection_rate,
            rejection_window,
            closed_circuit: thresholds.closed_circuit.then_some(true),
        }
    }
}

impl HealthRules {
    /// The first rule that is out of range.
    pub(super) fn check_alone(&self) -> Result<(), BuildError> {
        BuildError::check(
            !self.rejection_window.is_zero(),
            "rejection_window",
            "0ns",
            "must be greater than zero",
        )?;
        self.thresholds().validate()
    }

    pub(super) fn thresholds(&self) -> HealthThresholds {
        let Self {
            queue_utilization_for: lasting,
            rejection_window: window,
            ..
        } = *self;
        HealthThresholds {
            queue_utilization: self.queue_utilization.map(|share| (share, lasting)),
            saturated_for: self.saturated_for,
            queued_for: self.queued_for,
            all_busy_for: self.all_busy_for,
            abandoned_tasks: self.abandoned_tasks,
            rejection_rate: self.rejection_rate.map(|share| (share, window)),
            closed_circuit: self.closed_circuit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::level::ConfigLevel;

    #[test]
    fn thresholds_come_through_unchanged() {
        let all = HealthThresholds::default()
            .queue_utilization(0.8, Duration::from_secs(1))
            .saturated_for(Duration::from_secs(2))
            .queued_for(Duration::from_secs(3))
            .all_busy_for(Duration::from_secs(4))
            .abandoned_tasks(5)
            .rejection_rate(0.6, Duration::from_secs(7))
            .closed_circuit(true);
        for thresholds in [all, HealthThresholds::default()] {
            let overrides = HealthOverrides::from(thresholds.clone());
            let (rules, _) = HealthRules::resolve(&[(ConfigLevel::Dependency, overrides)]);
            assert_eq!(rules.thresholds(), thresholds);
        }
    }
}
