//! Which level decided each setting, as a struct and as text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::hierarchy::Resolved;
use super::kind::{BulkheadKind, DependencyKind};
use super::level::{ConfigLevel, Decided};
use super::overrides::{AdaptiveTimeoutSetting, TimeoutSetting};
use crate::adaptive::{AdaptiveTimeoutRule, AdaptiveTimeoutStats};
use crate::circuit::CircuitBreakerConfig;

/// The settings of a call, each with the level that decided it, from
/// [`Dependencies::explain`](crate::Dependencies::explain).
///
/// `Display` shows a table:
///
/// ```text
/// dependency `user_db`, kind `database`, operation `get_user`
///   timeout               2s           operation         settings.yaml:31:7
///   queue timeout         2s           preset
///   concurrent calls      4            dependency        settings.yaml:28:5
///   places in the queue   20           preset
///   bulkhead              thread_pool  preset
///   circuit breaker       on           preset
///     failure_threshold   5            built-in default
///     isolation_duration  30s          built-in default
///     success_threshold   2            global default    settings.yaml:9:5
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The name of the dependency.
    pub dependency: String,
    /// Its kind.
    pub kind: DependencyKind,
    /// The name of the operation.
    pub operation: String,
    /// How long a caller waits in all, over queue and run.
    pub timeout: Decided<TimeoutSetting>,
    /// Whether callers wait no longer than recent run times suggest, and at most for the timeout.
    pub adaptive_timeout: Decided<AdaptiveTimeoutSetting>,
    /// How long that is now, and why. `None` if there is no adaptive timeout, or no timeout.
    pub adaptive_timeout_stats: Option<AdaptiveTimeoutStats>,
    /// How long the call may wait for a worker, or for a slot.
    pub queue_timeout: Decided<TimeoutSetting>,
    /// N.
    pub max_concurrent_calls: Decided<usize>,
    /// Q.
    pub max_queue_size: Decided<usize>,
    /// Thread pool or semaphore.
    pub bulkhead: Decided<BulkheadKind>,
    /// How long a worker thread waits for work before it ends.
    pub idle_timeout: Decided<TimeoutSetting>,
    /// The stack of each worker thread in bytes; `None`: the standard library's default.
    pub stack_size: Decided<Option<usize>>,
    /// How many calls a worker runs on top of one another.
    pub max_nested_calls: Decided<usize>,
    /// Whether there is a circuit breaker.
    pub circuit_breaker: Decided<bool>,
    /// The rules of the circuit breaker, by the names of the fields of [`CircuitBreakerConfig`], as text. Empty if there is
    /// none.
    pub circuit_breaker_rules: BTreeMap<&'static str, Decided<String>>,
    /// The same as data; `None` if there is none.
    pub circuit_breaker_config: Option<CircuitBreakerConfig>,
    /// Whether there are thresholds from which on it counts as unhealthy.
    pub health: Decided<bool>,
    /// These, by the names of the fields of [`HealthOverrides`](crate::HealthOverrides), as text. Empty if there are none.
    pub health_rules: BTreeMap<&'static str, Decided<String>>,
    /// Whether its pipelines retry.
    pub retry: Decided<bool>,
    /// The rules of the retry, by the names of the fields of [`RetryOverrides`](crate::RetryOverrides), as text. Empty if
    /// there is none.
    pub retry_rules: BTreeMap<&'static str, Decided<String>>,
    /// Whether its pipelines have a rate limit.
    pub rate_limit: Decided<bool>,
    /// The rules of the rate limit, by the names of the fields of [`RateLimitOverrides`](crate::RateLimitOverrides), as
    /// text. Empty if there is none.
    pub rate_limit_rules: BTreeMap<&'static str, Decided<String>>,
    /// Whether its pipelines begin second attempts beside slow ones.
    pub hedge: Decided<bool>,
    /// The rules of these, by the names of the fields of [`HedgeOverrides`](crate::HedgeOverrides), as text. Empty if there
    /// are none.
    pub hedge_rules: BTreeMap<&'static str, Decided<String>>,
    /// Whether its pipelines make trouble on purpose.
    pub chaos: Decided<bool>,
    /// The rules of that, by the names of the fields of [`ChaosOverrides`](crate::ChaosOverrides), as text. Empty if there is
    /// none.
    pub chaos_rules: BTreeMap<&'static str, Decided<String>>,
}

/// A setting, as a level has it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "config"),
    expect(dead_code, reason = "read where settings come from files")
)]
pub(crate) struct Place<'a> {
    pub(crate) dependency: &'a str,
    pub(crate) kind: DependencyKind,
    pub(crate) operation: &'a str,
    pub(crate) level: ConfigLevel,
    /// The name of the field, such as `timeout`.
    pub(crate) setting: &'a str,
    /// The rule, where the setting is `circuit_breaker`, `health`, `retry`, `rate_limit`, `hedge` or `chaos`.
    pub(crate) rule: Option<&'a str>,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self {
            dependency: "",
            kind: DependencyKind::Database,
            operation: "",
            level: ConfigLevel::BuiltIn,
            setting: "",
            rule: None,
        }
    }
}

type Rules = BTreeMap<&'static str, Decided<String>>;

type OriginOf<'a> = &'a (dyn Fn(&Place<'_>) -> Option<Arc<str>> + Send + Sync);

impl Explanation {
    pub(super) fn new(resolved: Resolved, place: Place<'_>, origins: Option<OriginOf<'_>>) -> Self {
        let origin = |setting, rule, level| {
            origins?(&Place {
                setting,
                rule,
                level,
                ..place
            })
        };
        fn with<T>(
            decided: Decided<T>,
            origin: impl Fn(ConfigLevel) -> Option<Arc<str>>,
        ) -> Decided<T> {
            Decided {
                origin: origin(decided.level),
                ..decided
            }
        }
        let of = |setting: &'static str| move |level| origin(setting, None, level);
        let has_breaker = resolved.has_circuit_breaker.value;
        let rules_of = |setting: &'static str, is_there: bool, rules: Rules| -> Rules {
            if !is_there {
                return Rules::new();
            }
            let rules = rules.into_iter().map(|(rule, decided)| {
                let decided = with(decided, |level| origin(setting, Some(rule), level));
                (rule, decided)
            });
            rules.collect()
        };
        Self {
            dependency: place.dependency.to_owned(),
            kind: place.kind,
            operation: place.operation.to_owned(),
            timeout: with(resolved.timeout, of("timeout")),
            adaptive_timeout: with(resolved.adaptive_timeout, of("adaptive_timeout")),
            adaptive_timeout_stats: None,
            queue_timeout: with(resolved.queue_timeout, of("queue_timeout")),
            max_concurrent_calls: with(resolved.max_concurrent_calls, of("max_concurrent_calls")),
            max_queue_size: with(resolved.max_queue_size, of("max_queue_size")),
            bulkhead: with(resolved.bulkhead, of("bulkhead")),
            idle_timeout: with(resolved.idle_timeout, of("idle_timeout")),
            stack_size: with(resolved.stack_size, of("stack_size")),
            max_nested_calls: with(resolved.max_nested_calls, of("max_nested_calls")),
            circuit_breaker: with(resolved.has_circuit_breaker, of("circuit_breaker")),
            circuit_breaker_rules: rules_of("circuit_breaker", has_breaker, resolved.rules),
            circuit_breaker_config: has_breaker.then_some(resolved.circuit_breaker),
            health_rules: rules_of("health", resolved.has_health.value, resolved.health_rules),
            health: with(resolved.has_health, of("health")),
            retry_rules: rules_of("retry", resolved.has_retry.value, resolved.retry_rules),
            retry: with(resolved.has_retry, of("retry")),
            rate_limit_rules: rules_of(
                "rate_limit",
                resolved.has_rate_limit.value,
                resolved.rate_limit_rules,
            ),
            rate_limit: with(resolved.has_rate_limit, of("rate_limit")),
            hedge_rules: rules_of("hedge", resolved.has_hedge.value, resolved.hedge_rules),
            hedge: with(resolved.has_hedge, of("hedge")),
            chaos_rules: rules_of("chaos", resolved.has_chaos.value, resolved.chaos_rules),
            chaos: with(resolved.has_chaos, of("chaos")),
        }
    }
}

/// The rules that each one has. The others are shown where a level sets them.
const ALWAYS_SHOWN: [&str; 9] = [
    "failure_threshold",
    "success_threshold",
    "isolation_duration",
    "attempts",
    "first_delay",
    "budget",
    "calls",
    "period",
    "delay",
];

/// A line of the table: the setting, its value, its level, and where it stands.
type Row = [String; 4];

fn row(name: &str, value: impl fmt::Display, decided: &Decided<impl Sized>) -> Row {
    let origin = decided.origin.as_deref().unwrap_or_default();
    [
        name.to_owned(),
        value.to_string(),
        decided.level.to_string(),
        origin.to_owned(),
    ]
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_or_off = |on| if on { "on" } else { "off" };
        let mut rows = vec![row("timeout", self.timeout.value, &self.timeout)];
        let is_set = |level| level != ConfigLevel::BuiltIn;
        if is_set(self.adaptive_timeout.level) {
            let limit = match &self.adaptive_timeout_stats {
                Some(stats) => format!("{:.1?}", stats.limit),
                None => "off".to_owned(),
            };
            rows.push(row("adaptive timeout", limit, &self.adaptive_timeout));
        }
        let reason = rows.len();
        rows.extend([
            row(
                "queue timeout",
                self.queue_timeout.value,
                &self.queue_timeout,
            ),
            row(
                "concurrent calls",
                self.max_concurrent_calls.value,
                &self.max_concurrent_calls,
            ),
            row(
                "places in the queue",
                self.max_queue_size.value,
                &self.max_queue_size,
            ),
            row("bulkhead", self.bulkhead.value, &self.bulkhead),
        ]);
        if is_set(self.idle_timeout.level) {
            let limit = &self.idle_timeout;
            rows.push(row("idle timeout", limit.value, limit));
        }
        if is_set(self.stack_size.level) {
            let bytes = self.stack_size.value.unwrap_or_default();
            rows.push(row("stack size", bytes, &self.stack_size));
        }
        if is_set(self.max_nested_calls.level) {
            let calls = &self.max_nested_calls;
            rows.push(row("nested calls", calls.value, calls));
        }
        for (name, is_there, rules) in [
            (
                "circuit breaker",
                &self.circuit_breaker,
                &self.circuit_breaker_rules,
            ),
            ("health thresholds", &self.health, &self.health_rules),
            ("retry", &self.retry, &self.retry_rules),
            ("rate limit", &self.rate_limit, &self.rate_limit_rules),
            ("hedge", &self.hedge, &self.hedge_rules),
            ("chaos", &self.chaos, &self.chaos_rules),
        ] {
            // Most dependencies have none of the others, and nobody has said a word about them.
            if is_there.level == ConfigLevel::BuiltIn && name != "circuit breaker" {
                continue;
            }
            rows.push(row(name, on_or_off(is_there.value), is_there));
            for (rule, decided) in rules {
                if decided.level != ConfigLevel::BuiltIn || ALWAYS_SHOWN.contains(rule) {
                    rows.push(row(&format!("  {rule}"), &decided.value, decided));
                }
            }
        }
        write!(
            f,
            "dependency `{}`, kind `{}`, operation `{}`",
            self.dependency, self.kind, self.operation
        )?;
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let [name_width, value_width, level_width] = [0, 1, 2].map(|c| width(c).unwrap_or(0));
        for (place, [name, value, level, origin]) in rows.iter().enumerate() {
            if let Some(stats) = self.adaptive_timeout_stats.filter(|_| place == reason) {
                write!(f, "\n    {}", Reason(stats))?;
            }
            let line = format!(
                "  {name:name_width$}  {value:value_width$}  {level:level_width$}  {origin}"
            );
            write!(f, "\n{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Why an adaptive timeout is what it is.
struct Reason(AdaptiveTimeoutStats);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.0;
        let config = &stats.config;
        let rule = match stats.rule {
            AdaptiveTimeoutRule::TooFewSamples => "the ceiling, until there are enough samples",
            AdaptiveTimeoutRule::Quantile => "the factor times the quantile",
            AdaptiveTimeoutRule::Floor => "the floor",
            AdaptiveTimeoutRule::Ceiling => "the ceiling",
            AdaptiveTimeoutRule::Step => "a step towards the factor times the quantile",
            AdaptiveTimeoutRule::Held => "held, since it should be neither clearly more nor less",
            AdaptiveTimeoutRule::CutOff => "held, since too many calls do not succeed",
        };
        write!(f, "{rule}: {} times ", config.factor)?;
        match stats.quantile {
            Some(time) => write!(f, "{time:.1?}")?,
            None => f.write_str("an unknown time")?,
        }
        write!(
            f,
            ", the {} quantile of {} samples",
            config.quantile, stats.samples
        )
    }
}
