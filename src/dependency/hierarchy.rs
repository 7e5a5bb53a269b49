//! Which level decides a value: one pure function, and the settings that come out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chaos_overrides::ChaosRules;
use super::circuit_overrides::CircuitBreakerOverrides;
use super::config::OperationOverrides;
use super::health_overrides::HealthRules;
use super::kind::BulkheadKind;
use super::level::{ConfigLevel, Decided, decide};
use super::overrides::{AdaptiveTimeoutSetting, DependencyOverrides, TimeoutSetting};
use super::policy_overrides::{HedgeRules, RateLimitRules, RetryRules};
use crate::adaptive::AdaptiveTimeoutConfig;
use crate::circuit::CircuitBreakerConfig;
use crate::config::BulkheadConfig;
use crate::error::BuildError;
use crate::stats::HealthThresholds;

/// The limit of a call where no level says anything.
pub(crate) const BUILT_IN_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether there is a circuit breaker, a retry, a rate limit, a hedge, or chaos. Each level: whether it says so, and whether it also
/// sets rules.
fn is_there(
    levels: impl IntoIterator<Item = (ConfigLevel, Option<bool>, Option<bool>)>,
) -> Decided<bool> {
    let wanted = levels
        .into_iter()
        .map(|(level, enabled, wanted)| match level {
            // The rules that hold for all hold for those that have one. They give nobody one.
            ConfigLevel::Global => (level, enabled),
            _ => (level, wanted),
        });
    decide(wanted).unwrap_or(Decided::new(false, ConfigLevel::BuiltIn))
}

/// What every level says about a dependency and one of its operations.
#[derive(Clone, Copy)]
pub(crate) struct Levels<'a> {
    pub(crate) operation: Option<&'a OperationOverrides>,
    pub(crate) dependency: &'a DependencyOverrides,
    pub(crate) kind: &'a DependencyOverrides,
    pub(crate) preset: &'a DependencyOverrides,
    pub(crate) global: &'a DependencyOverrides,
}

/// What holds, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) bulkhead: Decided<BulkheadKind>,
    pub(crate) max_concurrent_calls: Decided<usize>,
    pub(crate) max_queue_size: Decided<usize>,
    pub(crate) timeout: Decided<TimeoutSetting>,
    pub(crate) adaptive_timeout: Decided<AdaptiveTimeoutSetting>,
    pub(crate) queue_timeout: Decided<TimeoutSetting>,
    pub(crate) idle_timeout: Decided<TimeoutSetting>,
    pub(crate) stack_size: Decided<Option<usize>>,
    pub(crate) max_nested_calls: Decided<usize>,
    pub(crate) has_circuit_breaker: Decided<bool>,
    pub(crate) circuit_breaker: CircuitBreakerConfig,
    pub(crate) rules: BTreeMap<&'static str, Decided<String>>,
    pub(crate) has_health: Decided<bool>,
    pub(crate) health: HealthRules,
    pub(crate) health_rules: BTreeMap<&'static str, Decided<String>>,
    pub(crate) has_retry: Decided<bool>,
    pub(crate) retry: RetryRules,
    pub(crate) retry_rules: BTreeMap<&'static str, Decided<String>>,
    pub(crate) has_rate_limit: Decided<bool>,
    pub(crate) rate_limit: RateLimitRules,
    pub(crate) rate_limit_rules: BTreeMap<&'static str, Decided<String>>,
    pub(crate) has_hedge: Decided<bool>,
    pub(crate) hedge: HedgeRules,
    pub(crate) hedge_rules: BTreeMap<&'static str, Decided<String>>,
    pub(crate) has_chaos: Decided<bool>,
    pub(crate) chaos: ChaosRules,
    pub(crate) chaos_rules: BTreeMap<&'static str, Decided<String>>,
}

impl Levels<'_> {
    /// The levels that know all settings, in their order.
    fn of_dependency(&self) -> [(ConfigLevel, &DependencyOverrides); 4] {
        [
            (ConfigLevel::Dependency, self.dependency),
            (ConfigLevel::Kind, self.kind),
            (ConfigLevel::Preset, self.preset),
            (ConfigLevel::Global, self.global),
        ]
    }

    fn decide<T>(&self, built_in: T, of: impl Fn(&DependencyOverrides) -> Option<T>) -> Decided<T> {
        self.decide_for_operation(None, built_in, of)
    }

    fn decide_for_operation<T>(
        &self,
        operation: Option<T>,
        built_in: T,
        of: impl Fn(&DependencyOverrides) -> Option<T>,
    ) -> Decided<T> {
        let operation = [(ConfigLevel::Operation, operation)];
        let others = self
            .of_dependency()
            .map(|(level, overrides)| (level, of(overrides)));
        decide(operation.into_iter().chain(others))
            .unwrap_or(Decided::new(built_in, ConfigLevel::BuiltIn))
    }

    pub(crate) fn resolve(&self) -> Resolved {
        let built_in = BulkheadConfig::new("");
        let own = self.operation.copied().unwrap_or_default();
        let has_circuit_breaker = self.of_dependency().map(|(level, overrides)| {
            let breaker = &overrides.circuit_breaker;
            (level, breaker.enabled, breaker.wanted())
        });
        let (circuit_breaker, rules) = CircuitBreakerOverrides::resolve(
            &self
                .of_dependency()
                .map(|(level, overrides)| (level, &overrides.circuit_breaker)),
        );
        let health = self
            .of_dependency()
            .map(|(level, overrides)| (level, overrides.health));
        let (health_all, health_rules) = HealthRules::resolve(&health);
        // Thresholds that are set for all hold for all.
        let has_health = decide(health.iter().map(|(level, rules)| (*level, rules.wanted())));
        let retry = self
            .of_dependency()
            .map(|(level, overrides)| (level, overrides.retry));
        let retry: Vec<_> = std::iter::once((ConfigLevel::Operation, own.retry))
            .chain(retry)
            .collect();
        let rate_limit = self
            .of_dependency()
            .map(|(level, overrides)| (level, overrides.rate_limit));
        let hedge = self
            .of_dependency()
            .map(|(level, overrides)| (level, overrides.hedge));
        let hedge: Vec<_> = std::iter::once((ConfigLevel::Operation, own.hedge))
            .chain(hedge)
            .collect();
        let (hedge_all, hedge_rules) = HedgeRules::resolve(&hedge);
        let has_hedge = hedge
            .iter()
            .map(|(level, rules)| (*level, rules.enabled, rules.wanted()));
        let chaos = self
            .of_dependency()
            .map(|(level, overrides)| (level, overrides.chaos));
        let chaos: Vec<_> = std::iter::once((ConfigLevel::Operation, own.chaos))
            .chain(chaos)
            .collect();
        let (chaos_all, chaos_rules) = ChaosRules::resolve(&chaos);
        let has_chaos = chaos
            .iter()
            .map(|(level, rules)| (*level, rules.enabled, rules.wanted()));
        let (retry_all, retry_rules) = RetryRules::resolve(&retry);
        let (rate_limit_all, rate_limit_rules) = RateLimitRules::resolve(&rate_limit);
        let has_retry = retry
            .iter()
            .map(|(level, rules)| (*level, rules.enabled, rules.wanted()));
        let has_rate_limit = rate_limit
            .iter()
            .map(|(level, rules)| (*level, rules.enabled, rules.wanted()));
        Resolved {
            has_health: has_health.unwrap_or(Decided::new(false, ConfigLevel::BuiltIn)),
            health: health_all,
            health_rules,
            has_retry: is_there(has_retry),
            retry: retry_all,
            retry_rules,
            has_rate_limit: is_there(has_rate_limit),
            rate_limit: rate_limit_all,
            rate_limit_rules,
            has_hedge: is_there(has_hedge),
            hedge: hedge_all,
            hedge_rules,
            has_chaos: is_there(has_chaos),
            chaos: chaos_all,
            chaos_rules,
            bulkhead: self.decide(BulkheadKind::ThreadPool, |o| o.bulkhead),
            max_concurrent_calls: self
                .decide(built_in.max_concurrent_calls, |o| o.max_concurrent_calls),
            max_queue_size: self.decide(built_in.max_queue_size, |o| o.max_queue_size),
            timeout: self.decide_for_operation(
                own.timeout,
                TimeoutSetting::After(BUILT_IN_TIMEOUT),
                |o| o.timeout,
            ),
            adaptive_timeout: self.decide_for_operation(
                own.adaptive_timeout,
                AdaptiveTimeoutSetting::Off,
                |o| o.adaptive_timeout,
            ),
            queue_timeout: self.decide_for_operation(
                own.queue_timeout,
                built_in.queue_timeout.into(),
                |o| o.queue_timeout,
            ),
            idle_timeout: self.decide(built_in.idle_timeout.into(), |o| o.idle_timeout),
            stack_size: self.decide(built_in.stack_size, |o| o.stack_size.map(Some)),
            max_nested_calls: self.decide(built_in.max_nested_calls, |o| o.max_nested_calls),
            has_circuit_breaker: is_there(has_circuit_breaker),
            circuit_breaker,
            rules,
        }
    }
}

impl Resolved {
    /// Whether all that holds is in range, and goes together.
    pub(crate) fn validate(&self, name: &str) -> Result<(), BuildError> {
        self.bulkhead_config(name).validate()?;
        if let Some(config) = self.adaptive_timeout.value.config() {
            config.validate().map_err(|error| error.of(name))?;
        }
        if self.has_health.value {
            self.health.check_alone().map_err(|error| error.of(name))?;
        }
        if self.has_retry.value {
            self.retry.check_alone().map_err(|error| error.of(name))?;
        }
        if self.has_rate_limit.value {
            self.rate_limit.check().map_err(|error| error.of(name))?;
        }
        if self.has_hedge.value {
            let has_threads = self.bulkhead.value == BulkheadKind::ThreadPool;
            let checked = self.hedge.check(has_threads);
            checked.map_err(|error| error.of(name))?;
        }
        if self.has_chaos.value {
            self.chaos.check().map_err(|error| error.of(name))?;
        }
        Ok(())
    }

    /// The configuration of the bulkhead.
    pub(crate) fn bulkhead_config(&self, name: &str) -> BulkheadConfig {
        let mut config = BulkheadConfig::new(name)
            .max_concurrent_calls(self.max_concurrent_calls.value)
            .max_queue_size(self.max_queue_size.value);
        config.execution_timeout = self.timeout.value.limit();
        config.queue_timeout = self.queue_timeout.value.limit();
        config.circuit_breaker = self
            .has_circuit_breaker
            .value
            .then(|| self.circuit_breaker.clone());
        config.idle_timeout = self.idle_timeout.value.limit();
        config.stack_size = self.stack_size.value;
        config.max_nested_calls = self.max_nested_calls.value;
        config
    }

    pub(crate) fn health_thresholds(&self) -> HealthThresholds {
        if self.has_health.value {
            self.health.thresholds()
        } else {
            HealthThresholds::default()
        }
    }

    /// The numbers of the adaptive timeout, with its ceiling. `None`: there is none, or no timeout that could be the ceiling.
    pub(crate) fn adaptive_config(&self) -> Option<AdaptiveTimeoutConfig> {
        let mut config = self.adaptive_timeout.value.config()?;
        let timeout = self.timeout.value.limit()?;
        config.ceiling = Some(config.ceiling.map_or(timeout, |own| own.min(timeout)));
        Some(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Which levels set a value, and what each of them says: its own number.
    const LEVELS: [(ConfigLevel, u32); 5] = [
        (ConfigLevel::Operation, 1),
        (ConfigLevel::Dependency, 2),
        (ConfigLevel::Kind, 3),
        (ConfigLevel::Preset, 4),
        (ConfigLevel::Global, 5),
    ];

    fn limits(sets: bool, number: u32) -> DependencyOverrides {
        let nothing = DependencyOverrides::new();
        if sets {
            nothing
                .timeout(number * SECOND)
                .queue_timeout(number * 10 * SECOND)
        } else {
            nothing
        }
    }

    /// All 32 cases: whichever levels are silent, the first that is not decides.
    #[test]
    fn the_first_level_that_says_something_decides_both_limits() {
        for case in 0..1 << LEVELS.len() {
            let sets = |i: usize| case & (1 << i) != 0;
            let [dependency, kind, preset, global] =
                [1, 2, 3, 4].map(|i| limits(sets(i), LEVELS[i].1));
            let operation = OperationOverrides::new()
                .timeout(SECOND)
                .queue_timeout(10 * SECOND);
            let resolved = Levels {
                operation: sets(0).then_some(&operation),
                dependency: &dependency,
                kind: &kind,
                preset: &preset,
                global: &global,
            }
            .resolve();
            let first = (0..LEVELS.len()).find(|&i| sets(i)).map(|i| LEVELS[i]);
            let (level, timeout, queue_timeout) = match first {
                Some((level, number)) => {
                    let queue = Some(number * 10 * SECOND);
                    (level, Some(number * SECOND), queue)
                }
                None => (ConfigLevel::BuiltIn, Some(BUILT_IN_TIMEOUT), None),
            };
            assert_eq!(
                resolved.timeout,
                Decided::new(timeout.into(), level),
                "{case:05b}"
            );
            assert_eq!(
                resolved.queue_timeout,
                Decided::new(queue_timeout.into(), level),
                "{case:05b}"
            );
        }
    }

    fn resolve(
        dependency: DependencyOverrides,
        kind: DependencyOverrides,
        preset: DependencyOverrides,
        global: DependencyOverrides,
    ) -> Resolved {
        Levels {
            operation: None,
            dependency: &dependency,
            kind: &kind,
            preset: &preset,
            global: &global,
        }
        .resolve()
    }

    #[test]
    fn each_value_is_decided_by_itself() {
        let resolved = resolve(
            DependencyOverrides::new().max_concurrent_calls(1),
            DependencyOverrides::new()
                .max_queue_size(2)
                .max_concurrent_calls(3),
            DependencyOverrides::new().bulkhead(BulkheadKind::Semaphore),
            DependencyOverrides::new().timeout(4 * SECOND),
        );
        assert_eq!(
            resolved.max_concurrent_calls,
            Decided::new(1, ConfigLevel::Dependency)
        );
        assert_eq!(resolved.max_queue_size, Decided::new(2, ConfigLevel::Kind));
        assert_eq!(
            resolved.bulkhead,
            Decided::new(BulkheadKind::Semaphore, ConfigLevel::Preset)
        );
        assert_eq!(resolved.timeout.level, ConfigLevel::Global);
        assert_eq!(
            resolved.has_circuit_breaker,
            Decided::new(false, ConfigLevel::BuiltIn)
        );
    }

    #[test]
    fn never_ends_the_search_as_a_limit_does() {
        let resolved = resolve(
            DependencyOverrides::new(),
            DependencyOverrides::new().timeout(TimeoutSetting::Never),
            DependencyOverrides::new().timeout(SECOND),
            DependencyOverrides::new().timeout(SECOND),
        );
        let never = Decided::new(TimeoutSetting::Never, ConfigLevel::Kind);
        assert_eq!(resolved.timeout, never);
        assert_eq!(resolved.bulkhead_config("test").execution_timeout, None);
    }

    #[test]
    fn whether_there_is_a_circuit_breaker() {
        use CircuitBreakerOverrides as Rules;
        let nothing = Rules::new;
        let rule = || Rules::new().failure_threshold(7);
        let off_with_a_rule = || Rules {
            enabled: Some(false),
            ..rule()
        };
        for (dependency, kind, preset, global, expected) in [
            (
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                (false, ConfigLevel::BuiltIn),
            ),
            (
                nothing(),
                nothing(),
                Rules::on(),
                nothing(),
                (true, ConfigLevel::Preset),
            ),
            (
                nothing(),
                nothing(),
                Rules::off(),
                Rules::on(),
                (false, ConfigLevel::Preset),
            ),
            (
                nothing(),
                nothing(),
                nothing(),
                rule(),
                (false, ConfigLevel::BuiltIn),
            ),
            (
                nothing(),
                nothing(),
                nothing(),
                Rules::on(),
                (true, ConfigLevel::Global),
            ),
            (
                nothing(),
                rule(),
                Rules::off(),
                nothing(),
                (true, ConfigLevel::Kind),
            ),
            (
                rule(),
                Rules::off(),
                Rules::off(),
                nothing(),
                (true, ConfigLevel::Dependency),
            ),
            (
                Rules::off(),
                rule(),
                Rules::on(),
                nothing(),
                (false, ConfigLevel::Dependency),
            ),
            (
                off_with_a_rule(),
                rule(),
                Rules::on(),
                rule(),
                (false, ConfigLevel::Dependency),
            ),
        ] {
            let of = |rules: &Rules| DependencyOverrides::new().circuit_breaker(rules.clone());
            let resolved = resolve(of(&dependency), of(&kind), of(&preset), of(&global));
            let decided = Decided::new(expected.0, expected.1);
            assert_eq!(
                resolved.has_circuit_breaker, decided,
                "{dependency:?} {kind:?} {preset:?} {global:?}"
            );
        }
    }

    #[test]
    fn each_rule_of_a_circuit_breaker_is_decided_by_itself() {
        let of = |rules| DependencyOverrides::new().circuit_breaker(rules);
        let resolved = resolve(
            of(CircuitBreakerOverrides::new().failure_threshold(7)),
            of(CircuitBreakerOverrides::new()
                .failure_rate(0.5, 20)
                .failure_threshold(8)),
            of(CircuitBreakerOverrides::on().success_threshold(1)),
            of(CircuitBreakerOverrides::new()
                .success_threshold(9)
                .isolation_duration(SECOND)),
        );
        let expected = CircuitBreakerConfig::default()
            .failure_threshold(7)
            .failure_rate(0.5, 20)
            .success_threshold(1)
            .isolation_duration(SECOND);
        assert_eq!(resolved.circuit_breaker, expected);
        let rule = |name: &str| {
            let rule = &resolved.rules[name];
            (&*rule.value, rule.level)
        };
        assert_eq!(rule("failure_threshold"), ("7", ConfigLevel::Dependency));
        assert_eq!(rule("failure_rate"), ("0.5", ConfigLevel::Kind));
        assert_eq!(rule("window"), ("20 calls", ConfigLevel::Kind));
        assert_eq!(rule("success_threshold"), ("1", ConfigLevel::Preset));
        assert_eq!(rule("isolation_duration"), ("1s", ConfigLevel::Global));
        assert_eq!(rule("probe_timeout"), ("none", ConfigLevel::BuiltIn));
        assert_eq!(rule("timeouts_are_failures"), ("yes", ConfigLevel::BuiltIn));
    }

    #[test]
    fn a_whole_configuration_decides_every_rule() {
        let whole = CircuitBreakerConfig::default()
            .failure_rate_over(0.25, 60 * SECOND)
            .minimum_calls(3)
            .slow_call_duration(SECOND)
            .slow_call_rate(0.5)
            .isolation_backoff(2.0, 300 * SECOND)
            .probe_timeout(SECOND)
            .timeouts_are_failures(false);
        let of = |rules| DependencyOverrides::new().circuit_breaker(rules);
        let resolved = resolve(
            of(CircuitBreakerOverrides::from(whole.clone())),
            of(CircuitBreakerOverrides::new().failure_threshold(99)),
            DependencyOverrides::new(),
            DependencyOverrides::new(),
        );
        assert_eq!(resolved.circuit_breaker, whole);
        assert_eq!(resolved.rules["failure_threshold"].value, "5");
    }
}
