//! Gives dependencies other settings while they work, in three steps:
//!
//! 1. All settings are resolved and checked, also whether each can change while calls run. An error here has changed nothing.
//! 2. New dependencies are registered, and bulkheads get their new limits. If the system refuses memory or a thread for it,
//!    this step is undone.
//! 3. Limits in time, circuits and policies change. That cannot fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::change::DependencyChange;
use super::config::DependencyConfig;
use super::defaults::DependencyDefaults;
use super::dependencies::Dependencies;
use super::entry::{Entry, Rules};
use super::error::DependencyError;
use super::hierarchy::Resolved;
use super::level::{ConfigLevel, Decided};
use crate::registry::AnyBulkhead;

/// A dependency that is registered, with what is to hold for it.
struct Plan {
    name: Arc<str>,
    entry: Arc<Entry>,
    config: DependencyConfig,
    before: Resolved,
    after: Resolved,
    changes: Vec<DependencyChange>,
}

impl Plan {
    fn new(
        dependencies: &Dependencies,
        name: Arc<str>,
        entry: Arc<Entry>,
        config: DependencyConfig,
        new: &Rules,
    ) -> Result<Self, DependencyError> {
        let old = &entry.rules;
        let before = dependencies.resolve(old, &name, &entry.config, None)?;
        let after = dependencies.resolve(new, &name, &config, None)?;
        let mut changes = Vec::new();
        compare(&name, None, &before, &after, &mut changes);
        let old_names = entry.config.operations.keys();
        let mut operations: Vec<_> = old_names.chain(config.operations.keys()).collect();
        operations.sort_unstable();
        operations.dedup();
        let mut adapts = before.adaptive_config().is_some() || after.adaptive_config().is_some();
        for operation in operations {
            let of = |config: &DependencyConfig| {
                config
                    .operations
                    .get(operation)
                    .copied()
                    .unwrap_or_default()
            };
            let own = [of(&entry.config), of(&config)];
            let before =
                dependencies.resolve(old, &name, &entry.config, Some((operation, &own[0])))?;
            let after = dependencies.resolve(new, &name, &config, Some((operation, &own[1])))?;
            adapts |= before.adaptive_config().is_some() || after.adaptive_config().is_some();
            compare(&name, Some(operation), &before, &after, &mut changes);
        }
        let plan = Self {
            name,
            entry,
            config,
            before,
            after,
            changes,
        };
        match plan.not_live(adapts) {
            None => Ok(plan),
            Some(setting) => Err(DependencyError::NotLive {
                dependency: plan.name.to_string(),
                setting,
            }),
        }
    }

    /// A setting that changes, and belongs to what a bulkhead is built with.
    fn not_live(&self, adapts: bool) -> Option<&'static str> {
        let (before, after) = (&self.before, &self.after);
        let changes_limits = self.changes.iter().any(|change| match change {
            DependencyChange::Changed { setting, .. } => {
                ["timeout", "adaptive_timeout", "queue_timeout"].contains(&&**setting)
            }
            DependencyChange::Registered { .. } => false,
        });
        if before.bulkhead.value != after.bulkhead.value {
            Some("bulkhead")
        } else if before.idle_timeout.value != after.idle_timeout.value {
            Some("idle_timeout")
        } else if before.stack_size.value != after.stack_size.value {
            Some("stack_size")
        } else if before.max_nested_calls.value != after.max_nested_calls.value {
            Some("max_nested_calls")
        } else if before.has_circuit_breaker.value != after.has_circuit_breaker.value {
            Some("circuit_breaker")
        } else if adapts && changes_limits {
            // What has been learned belongs to the bulkhead, whose calls it hears of.
            Some("adaptive_timeout")
        } else {
            None
        }
    }

    fn changes_size(&self) -> bool {
        let (before, after) = (&self.before, &self.after);
        before.max_concurrent_calls.value != after.max_concurrent_calls.value
            || before.max_queue_size.value != after.max_queue_size.value
    }

    fn resize(&self) -> Result<(), DependencyError> {
        let after = &self.after;
        let (n, q) = (after.max_concurrent_calls.value, after.max_queue_size.value);
        let resized = self.entry.bulkhead.resize(n, q);
        resized.map_err(|reason| DependencyError::Invalid {
            dependency: self.name.to_string(),
            operation: None,
            reason: Box::new(reason),
        })
    }

    /// What cannot fail, unless the bulkhead has been shut down, and then it is of no use.
    fn set_the_rest(&self) {
        let bulkhead = &self.entry.bulkhead;
        let config = self.after.bulkhead_config(&self.name);
        let before = self.before.bulkhead_config(&self.name);
        if config.execution_timeout != before.execution_timeout {
            let _shut_down = bulkhead.set_execution_timeout(config.execution_timeout);
        }
        if config.queue_timeout != before.queue_timeout {
            let _shut_down = bulkhead.set_queue_timeout(config.queue_timeout);
        }
        let thresholds = self.after.health_thresholds();
        if thresholds != self.before.health_thresholds() {
            let _shut_down = bulkhead.set_health_thresholds(thresholds);
        }
        if config.circuit_breaker != before.circuit_breaker {
            if let Some(rules) = config.circuit_breaker {
                let _shut_down = bulkhead.set_circuit_breaker(rules);
            }
        }
    }
}

/// The settings whose values differ. Of an operation only those that it decides itself.
fn compare(
    dependency: &str,
    operation: Option<&String>,
    before: &Resolved,
    after: &Resolved,
    changes: &mut Vec<DependencyChange>,
) {
    let (before, after) = (before.shown(), after.shown());
    let counts = |decided: Option<&Decided<String>>| {
        operation.is_none() || decided.is_some_and(|it| it.level == ConfigLevel::Operation)
    };
    let mut settings: Vec<_> = before.keys().chain(after.keys()).collect();
    settings.sort_unstable();
    settings.dedup();
    for setting in settings {
        let (old, new) = (before.get(setting), after.get(setting));
        let value = |decided: Option<&Decided<String>>| {
            decided.map_or_else(|| "none".to_owned(), |decided| decided.value.clone())
        };
        if value(old) != value(new) && (counts(old) || counts(new)) {
            changes.push(DependencyChange::Changed {
                dependency: dependency.to_owned(),
                operation: operation.cloned(),
                setting: setting.clone(),
                before: value(old),
                after: value(new),
            });
        }
    }
}

impl Resolved {
    /// Every setting, as text.
    fn shown(&self) -> BTreeMap<String, Decided<String>> {
        fn text<T>(decided: &Decided<T>, value: impl fmt::Display) -> Decided<String> {
            Decided::new(value.to_string(), decided.level)
        }
        let on_or_off = |on: &Decided<bool>| text(on, if on.value { "on" } else { "off" });
        let mut all = BTreeMap::new();
        let mut put = |name: &str, value| all.insert(name.to_owned(), value);
        put("timeout", text(&self.timeout, self.timeout.value));
        let adaptive = match self.adaptive_timeout.value.config() {
            Some(config) => format!("{config:?}"),
            None => "off".to_owned(),
        };
        put("adaptive_timeout", text(&self.adaptive_timeout, adaptive));
        put(
            "queue_timeout",
            text(&self.queue_timeout, self.queue_timeout.value),
        );
        let n = &self.max_concurrent_calls;
        put("max_concurrent_calls", text(n, n.value));
        let q = &self.max_queue_size;
        put("max_queue_size", text(q, q.value));
        for (name, is_there, rules) in [
            ("circuit_breaker", &self.has_circuit_breaker, &self.rules),
            ("health", &self.has_health, &self.health_rules),
            ("retry", &self.has_retry, &self.retry_rules),
            ("rate_limit", &self.has_rate_limit, &self.rate_limit_rules),
            ("hedge", &self.has_hedge, &self.hedge_rules),
            ("chaos", &self.has_chaos, &self.chaos_rules),
        ] {
            put(name, on_or_off(is_there));
            if is_there.value {
                for (rule, decided) in rules {
                    put(&format!("{name}.{rule}"), text(decided, &decided.value));
                }
            }
        }
        all
    }
}

impl Dependencies {
    /// Gives the dependencies other settings while they work, and tells what it has changed. No call is lost.
    ///
    /// `defaults` hold from here on in place of the ones before. Each dependency of `dependencies` gets its new settings, or is
    /// registered if there is none of its name. A dependency that is not among them keeps its own;
    /// [`remove`](Self::remove) takes one out.
    ///
    /// Limits in time, N, Q, health thresholds, the rules of a circuit and those of policies change at once, for calls that are made
    /// from here on, see [`Bulkhead::resize`](crate::Bulkhead::resize) and its neighbours. A [pipeline](Self::pipeline) that is there already
    /// follows with its timeout over everything, see [`build`](crate::DependencyPipelineBuilder::build), and keeps its other
    /// policies, but chaos whose rules change ends in it, and only pipelines that are built from here on have the new one.
    /// A dependency whose policies change begins with a new retry budget and a new rate limit.
    ///
    /// ```
    /// use bulkman::{Dependencies, DependencyConfig, DependencyDefaults, DependencyKind};
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_database("user_db")?;
    /// let user_db = DependencyConfig::new(DependencyKind::Database).max_concurrent_calls(4);
    /// let changes = dependencies.apply_config(DependencyDefaults::new(), [("user_db".to_owned(), user_db)])?;
    /// assert_eq!(
    ///     changes[0].to_string(),
    ///     "dependency `user_db`: max_concurrent_calls goes from 10 to 4"
    /// );
    /// # Ok::<(), bulkman::DependencyError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](DependencyError::Invalid) if a setting is out of range, or the system refuses what more calls need.
    /// [`NotLive`](DependencyError::NotLive) for what a bulkhead is built with: its kind, `idle_timeout`, `stack_size`, `max_nested_calls`,
    /// whether there is a circuit breaker, and the limits of a dependency with an adaptive timeout. [`Registry`](DependencyError::Registry) if a
    /// new dependency cannot be registered. [`ChangeInProgress`](DependencyError::ChangeInProgress) if another thread, or a
    /// listener that hears of this change, does the same at this moment. Then everything is as it was.
    pub fn apply_config(
        &self,
        defaults: DependencyDefaults,
        dependencies: impl IntoIterator<Item = (String, DependencyConfig)>,
    ) -> Result<Vec<DependencyChange>, DependencyError> {
        self.apply_rules(Rules::new(defaults), dependencies.into_iter().collect())
    }

    pub(crate) fn apply_rules(
        &self,
        rules: Rules,
        mut configs: BTreeMap<String, DependencyConfig>,
    ) -> Result<Vec<DependencyChange>, DependencyError> {
        let _one_at_a_time = self.begin_change()?;
        let after = Arc::new(rules);
        let mut plans = Vec::new();
        for (name, entry) in self.entries() {
            let config = configs.remove(&*name);
            let config = config.unwrap_or_else(|| entry.config.clone());
            self.check(&after, &name, &config)?;
            plans.push(Plan::new(self, name, entry, config, &after)?);
        }
        for (name, config) in &configs {
            self.check(&after, name, config)?;
        }
        let mut changes = Vec::new();
        let done = self.register_and_resize(&after, &configs, &plans, &mut changes);
        if let Err(error) = done {
            for change in changes {
                if let DependencyChange::Registered { dependency } = change {
                    drop(self.remove(&dependency));
                }
            }
            return Err(error);
        }
        for plan in plans {
            changes.extend(self.finish(plan, &after)?);
        }
        self.set_rules(Arc::clone(&after));
        changes.extend(self.change_those_registered_meanwhile(&after));
        Ok(changes)
    }

    /// The changes of a plan that cannot fail.
    fn finish(
        &self,
        plan: Plan,
        rules: &Arc<Rules>,
    ) -> Result<Vec<DependencyChange>, DependencyError> {
        plan.set_the_rest();
        self.replace(rules, plan.name, &plan.entry, plan.config, &plan.changes)?;
        Ok(plan.changes)
    }

    /// A dependency that another thread has registered meanwhile went by the rules before. If the new ones do not suit it, it
    /// keeps them, and the next change says so.
    fn change_those_registered_meanwhile(&self, rules: &Arc<Rules>) -> Vec<DependencyChange> {
        let entries = self.entries().into_iter();
        let old = entries.filter(|(_, entry)| !Arc::ptr_eq(&entry.rules, rules));
        let change = |(name, entry): (Arc<str>, Arc<Entry>)| {
            let config = entry.config.clone();
            self.check(rules, &name, &config).ok()?;
            let plan = Plan::new(self, name, entry, config, rules).ok()?;
            if plan.changes_size() {
                plan.resize().ok()?;
            }
            self.finish(plan, rules).ok()
        };
        old.filter_map(change).flatten().collect()
    }

    /// The changes that the system can refuse. After an error all bulkheads have the limits that they had.
    fn register_and_resize(
        &self,
        rules: &Arc<Rules>,
        new: &BTreeMap<String, DependencyConfig>,
        plans: &[Plan],
        changes: &mut Vec<DependencyChange>,
    ) -> Result<(), DependencyError> {
        for (name, config) in new {
            self.register_by(rules, name, config.clone())?;
            changes.push(DependencyChange::Registered {
                dependency: name.clone(),
            });
        }
        let mut undo: Vec<(&AnyBulkhead, _)> = Vec::new();
        for plan in plans.iter().filter(|plan| plan.changes_size()) {
            let bulkhead = &plan.entry.bulkhead;
            // Not what the settings before say: it may have been resized by itself.
            let before = (bulkhead.max_concurrent_calls(), bulkhead.max_queue_size());
            if let Err(error) = plan.resize() {
                for (bulkhead, (n, q)) in undo {
                    let _fewer_or_shut_down = bulkhead.resize(n, q);
                }
                return Err(error);
            }
            undo.push((bulkhead, before));
        }
        Ok(())
    }
}
