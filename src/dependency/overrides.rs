//! What one level says about a dependency, and leaves to the levels below.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::hierarchy::{ConfigLevel, Decided, decide};
use super::kind::{BulkheadKind, DependencyKind};
use super::policy_overrides::{HedgeOverrides, RateLimitOverrides, RetryOverrides};
use super::shown::Shown;
use crate::adaptive::AdaptiveTimeoutConfig;
use crate::circuit::{CircuitBreakerConfig, CircuitMode, CircuitWindow, IsolationBackoff};
#[cfg(feature = "config")]
use crate::error::BuildError;

/// Settings of which each is set or left to the next level: what a [`DependencyKind`]'s preset is, and what
/// [`DependencyDefaults`] say over it.
///
/// ```
/// use bulkman::{BulkheadKind, DependencyOverrides};
/// use std::time::Duration;
///
/// let databases = DependencyOverrides::new()
///     .max_concurrent_calls(20)
///     .timeout(Duration::from_secs(5))
///     .bulkhead(BulkheadKind::ThreadPool);
/// assert_eq!(databases.max_queue_size, None); // left to the next level
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DependencyOverrides {
    /// Thread pool or semaphore.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub bulkhead: Option<BulkheadKind>,
    /// N, see [`BulkheadConfig::max_concurrent_calls`](crate::BulkheadConfig::max_concurrent_calls).
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub max_concurrent_calls: Option<usize>,
    /// Q, see [`BulkheadConfig::max_queue_size`](crate::BulkheadConfig::max_queue_size).
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub max_queue_size: Option<usize>,
    /// How long a caller waits in all, over queue and run.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub timeout: Option<TimeoutSetting>,
    /// Whether callers wait no longer than recent run times suggest, and at most for the timeout. Experimental.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub adaptive_timeout: Option<AdaptiveTimeoutSetting>,
    /// How long a call may wait for a worker, or for a slot.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub queue_timeout: Option<TimeoutSetting>,
    /// How long a worker thread waits for work before it ends, see
    /// [`BulkheadConfig::idle_timeout`](crate::BulkheadConfig::idle_timeout).
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub idle_timeout: Option<TimeoutSetting>,
    /// The stack of each worker thread in bytes, see [`BulkheadConfig::stack_size`](crate::BulkheadConfig::stack_size).
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub stack_size: Option<usize>,
    /// How many calls a worker runs on top of one another, see
    /// [`BulkheadConfig::max_nested_calls`](crate::BulkheadConfig::max_nested_calls).
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub max_nested_calls: Option<usize>,
    /// The circuit breaker.
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "CircuitBreakerOverrides::is_empty")
    )]
    pub circuit_breaker: CircuitBreakerOverrides,
    /// The retries of its [pipelines](crate::Dependencies::pipeline).
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "RetryOverrides::is_empty")
    )]
    pub retry: RetryOverrides,
    /// The rate limit of its [pipelines](crate::Dependencies::pipeline).
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "RateLimitOverrides::is_empty")
    )]
    pub rate_limit: RateLimitOverrides,
    /// The second attempts of its [pipelines](crate::Dependencies::pipeline).
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "HedgeOverrides::is_empty")
    )]
    pub hedge: HedgeOverrides,
}

impl DependencyOverrides {
    /// Leaves everything to the next level.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which bulkhead a dependency has. [`DependencyKind`] says when to override it.
    #[must_use]
    pub fn bulkhead(mut self, kind: BulkheadKind) -> Self {
        self.bulkhead = Some(kind);
        self
    }

    /// Sets N, the number of calls that run at the same time.
    #[must_use]
    pub fn max_concurrent_calls(mut self, calls: usize) -> Self {
        self.max_concurrent_calls = Some(calls);
        self
    }

    /// Sets Q, the number of calls that may wait beyond those that run.
    #[must_use]
    pub fn max_queue_size(mut self, calls: usize) -> Self {
        self.max_queue_size = Some(calls);
        self
    }

    /// Sets how long a caller waits in all, over queue and run: a [`Duration`], or [`TimeoutSetting::Never`]. On a
    /// semaphore it ends the wait for a slot only.
    #[must_use]
    pub fn timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.timeout = Some(limit.into());
        self
    }

    /// Sets how long a call may wait for a worker, or for a slot: a [`Duration`], or [`TimeoutSetting::Never`].
    #[must_use]
    pub fn queue_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.queue_timeout = Some(limit.into());
        self
    }

    /// Lets the timeout follow how long calls take: an [`AdaptiveTimeoutConfig`], or `true` for its defaults, or `false`.
    /// Experimental.
    ///
    /// Callers then wait as long as an [`AdaptiveTimeout`](crate::AdaptiveTimeout) says, whose ceiling is the
    /// [`timeout`](Self#method.timeout), or the configured ceiling if that is shorter. Where there is no timeout, it is
    /// without effect. Each operation that the dependency's configuration names has a limit of its own, and all others share
    /// one. Every task that succeeds counts, also after its caller has left. A call that sets its own limit has that.
    /// [`Dependencies::explain`](crate::Dependencies::explain) shows what the limit is now, and why.
    ///
    /// ```
    /// use bulkman::{AdaptiveTimeoutConfig, Dependencies, DependencyConfig, DependencyKind};
    ///
    /// let dependencies = Dependencies::new();
    /// dependencies.register_with(
    ///     "user_db",
    ///     DependencyConfig::new(DependencyKind::Database)
    ///         .adaptive_timeout(AdaptiveTimeoutConfig::new().factor(4.0)),
    /// )?;
    /// let explained = dependencies.explain("user_db", "get_user")?;
    /// let now = explained.adaptive_timeout_stats.unwrap();
    /// assert_eq!(Some(now.limit), explained.timeout.value.limit()); // without samples
    /// # Ok::<(), bulkman::DependencyError>(())
    /// ```
    #[must_use]
    pub fn adaptive_timeout(mut self, setting: impl Into<AdaptiveTimeoutSetting>) -> Self {
        self.adaptive_timeout = Some(setting.into());
        self
    }

    /// Sets how long a worker thread waits for work before it ends: a [`Duration`], or [`TimeoutSetting::Never`], with which all
    /// are there from the start. A semaphore takes no notice.
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<TimeoutSetting>) -> Self {
        self.idle_timeout = Some(limit.into());
        self
    }

    /// Sets the size of each worker thread's stack, in bytes. A semaphore takes no notice.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets how many calls a worker runs on top of one another. A semaphore takes no notice.
    #[must_use]
    pub fn max_nested_calls(mut self, calls: usize) -> Self {
        self.max_nested_calls = Some(calls);
        self
    }

    /// Sets the circuit breaker: a whole [`CircuitBreakerConfig`], or [`CircuitBreakerOverrides`] for single rules.
    #[must_use]
    pub fn circuit_breaker(mut self, rules: impl Into<CircuitBreakerOverrides>) -> Self {
        self.circuit_breaker = rules.into();
        self
    }

    /// Sets the retries of calls through a [pipeline](crate::Dependencies::pipeline).
    #[must_use]
    pub fn retry(mut self, rules: RetryOverrides) -> Self {
        self.retry = rules;
        self
    }

    /// Sets the rate limit of calls through a [pipeline](crate::Dependencies::pipeline).
    #[must_use]
    pub fn rate_limit(mut self, rules: RateLimitOverrides) -> Self {
        self.rate_limit = rules;
        self
    }

    /// Sets the second attempts beside slow ones of calls through a [pipeline](crate::Dependencies::pipeline).
    #[must_use]
    pub fn hedge(mut self, rules: HedgeOverrides) -> Self {
        self.hedge = rules;
        self
    }
}

/// A limit in time, or the word that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutSetting {
    /// So long, and more than zero.
    After(Duration),
    /// No limit, whatever the next level says.
    Never,
}

impl TimeoutSetting {
    /// The limit; `None` if there is none.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::After(limit) => Some(limit),
            Self::Never => None,
        }
    }
}

impl From<Duration> for TimeoutSetting {
    fn from(limit: Duration) -> Self {
        Self::After(limit)
    }
}

impl From<Option<Duration>> for TimeoutSetting {
    fn from(limit: Option<Duration>) -> Self {
        limit.map_or(Self::Never, Self::After)
    }
}

impl fmt::Display for TimeoutSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(limit) => f.pad(&format!("{limit:?}")),
            Self::Never => f.pad("none"),
        }
    }
}

/// Whether a timeout follows how long calls take, and how.
///
/// In settings it is `true`, `false`, or a section with what differs from the defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdaptiveTimeoutSetting {
    /// It does, by these numbers.
    On(AdaptiveTimeoutConfig),
    /// It does not, whatever the next level says.
    Off,
}

impl AdaptiveTimeoutSetting {
    /// The numbers; `None` if it is off.
    #[must_use]
    pub fn config(self) -> Option<AdaptiveTimeoutConfig> {
        match self {
            Self::On(config) => Some(config),
            Self::Off => None,
        }
    }
}

impl From<AdaptiveTimeoutConfig> for AdaptiveTimeoutSetting {
    fn from(config: AdaptiveTimeoutConfig) -> Self {
        Self::On(config)
    }
}

/// `true` is the default numbers.
impl From<bool> for AdaptiveTimeoutSetting {
    fn from(is_on: bool) -> Self {
        if is_on {
            Self::On(AdaptiveTimeoutConfig::new())
        } else {
            Self::Off
        }
    }
}

/// Settings that hold for many dependencies: for all, and for those of a kind.
///
/// ```
/// use bulkman::{Dependencies, DependencyDefaults, DependencyKind, DependencyOverrides};
/// use std::time::Duration;
///
/// let defaults = DependencyDefaults::new()
///     .for_all(DependencyOverrides::new().timeout(Duration::from_secs(20)))
///     .for_kind(DependencyKind::Database, DependencyOverrides::new().max_concurrent_calls(4));
/// let dependencies = Dependencies::builder().defaults(defaults).build();
/// dependencies.register_database("user_db")?;
/// let explained = dependencies.explain("user_db", "get_user")?;
/// assert_eq!(explained.max_concurrent_calls.value, 4); // the kind's
/// assert_eq!(explained.timeout.value.limit(), Some(Duration::from_secs(10))); // the preset comes before what is for all
/// # Ok::<(), bulkman::DependencyError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DependencyDefaults {
    /// Hold for all dependencies, where neither their kind nor its preset says anything.
    pub global: DependencyOverrides,
    /// Hold for the dependencies of a kind, over its preset.
    pub kinds: BTreeMap<DependencyKind, DependencyOverrides>,
}

impl DependencyDefaults {
    /// No settings beyond the presets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what holds for all dependencies where neither their kind nor its [preset](DependencyKind::preset) says
    /// anything. So `enabled` of the circuit breaker is without effect here: each preset says it.
    #[must_use]
    pub fn for_all(mut self, overrides: DependencyOverrides) -> Self {
        self.global = overrides;
        self
    }

    /// Sets what holds for the dependencies of a kind, over its [preset](DependencyKind::preset).
    #[must_use]
    pub fn for_kind(mut self, kind: DependencyKind, overrides: DependencyOverrides) -> Self {
        self.kinds.insert(kind, overrides);
        self
    }
}

/// The rules of a circuit breaker of which each is set or left to the next level.
///
/// The rules are those of [`CircuitBreakerConfig`], which has their meaning and their ranges. A dependency or a kind that
/// sets a rule has a circuit breaker, unless it says [`off`](Self::off).
///
/// ```
/// use bulkman::{CircuitBreakerOverrides, DependencyConfig, DependencyKind};
/// use std::time::Duration;
///
/// // The rest is as for any database.
/// let config = DependencyConfig::new(DependencyKind::Database)
///     .circuit_breaker(CircuitBreakerOverrides::new().isolation_duration(Duration::from_secs(5)));
/// # let _ = config;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(remote = "Self", default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct CircuitBreakerOverrides {
    /// Whether there is one.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub enabled: Option<bool>,
    /// See [`CircuitBreakerConfig::failure_threshold`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub failure_threshold: Option<usize>,
    /// See [`CircuitBreakerConfig::max_failure_gap`].
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub max_failure_gap: Option<Duration>,
    /// See [`CircuitBreakerConfig::success_threshold`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub success_threshold: Option<usize>,
    /// See [`CircuitBreakerConfig::isolation_duration`].
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub isolation_duration: Option<Duration>,
    /// See [`CircuitBreakerConfig::isolation_backoff`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub isolation_backoff: Option<IsolationBackoff>,
    /// See [`CircuitBreakerConfig::probe_timeout`].
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub probe_timeout: Option<Duration>,
    /// See [`CircuitBreakerConfig::failure_rate`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub failure_rate: Option<f64>,
    /// Which calls the rates look at.
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub window: Option<CircuitWindow>,
    /// See [`CircuitBreakerConfig::minimum_calls`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub minimum_calls: Option<usize>,
    /// See [`CircuitBreakerConfig::slow_call_duration`].
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub slow_call_duration: Option<Duration>,
    /// See [`CircuitBreakerConfig::slow_call_rate`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub slow_call_rate: Option<f64>,
    /// See [`CircuitBreakerConfig::timeouts_are_failures`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub timeouts_are_failures: Option<bool>,
    /// See [`CircuitBreakerConfig::cancelled_calls_are_neutral`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub cancelled_calls_are_neutral: Option<bool>,
    /// See [`CircuitBreakerConfig::refuse_queued_when_open`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub refuse_queued_when_open: Option<bool>,
    /// See [`CircuitBreakerConfig::initial_mode`].
    #[cfg_attr(feature = "config", serde(skip_serializing_if = "Option::is_none"))]
    pub initial_mode: Option<CircuitMode>,
}

/// Runs `$each!(field)` for every rule.
macro_rules! for_each_rule {
    ($each:ident) => {
        $each!(failure_threshold);
        $each!(max_failure_gap);
        $each!(success_threshold);
        $each!(isolation_duration);
        $each!(isolation_backoff);
        $each!(probe_timeout);
        $each!(failure_rate);
        $each!(window);
        $each!(minimum_calls);
        $each!(slow_call_duration);
        $each!(slow_call_rate);
        $each!(timeouts_are_failures);
        $each!(cancelled_calls_are_neutral);
        $each!(refuse_queued_when_open);
        $each!(initial_mode);
    };
}

macro_rules! setters {
    ($($rule:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("As [`CircuitBreakerConfig::", stringify!($rule), "`](CircuitBreakerConfig#method.", stringify!($rule), ").")]
            #[must_use]
            pub fn $rule(mut self, value: $type) -> Self {
                self.$rule = Some(value);
                self
            }
        )*
    };
}

impl CircuitBreakerOverrides {
    /// Leaves everything to the next level.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// There is a circuit breaker; its rules are left to the next level.
    #[must_use]
    pub fn on() -> Self {
        Self {
            enabled: Some(true),
            ..Self::default()
        }
    }

    /// There is no circuit breaker, whatever the next level says.
    #[must_use]
    pub fn off() -> Self {
        Self {
            enabled: Some(false),
            ..Self::default()
        }
    }

    setters! {
        failure_threshold: usize,
        max_failure_gap: Duration,
        success_threshold: usize,
        isolation_duration: Duration,
        probe_timeout: Duration,
        minimum_calls: usize,
        slow_call_duration: Duration,
        slow_call_rate: f64,
        timeouts_are_failures: bool,
        cancelled_calls_are_neutral: bool,
        refuse_queued_when_open: bool,
        initial_mode: CircuitMode,
    }

    /// As [`CircuitBreakerConfig::isolation_backoff`](CircuitBreakerConfig#method.isolation_backoff).
    #[must_use]
    pub fn isolation_backoff(mut self, factor: f64, max: Duration) -> Self {
        self.isolation_backoff = CircuitBreakerConfig::default()
            .isolation_backoff(factor, max)
            .isolation_backoff;
        self
    }

    /// As [`CircuitBreakerConfig::failure_rate`](CircuitBreakerConfig#method.failure_rate).
    #[must_use]
    pub fn failure_rate(mut self, rate: f64, window: usize) -> Self {
        self.failure_rate = Some(rate);
        self.window = Some(CircuitWindow::Calls(window));
        self
    }

    /// As [`CircuitBreakerConfig::failure_rate_over`].
    #[must_use]
    pub fn failure_rate_over(mut self, rate: f64, period: Duration) -> Self {
        self.failure_rate = Some(rate);
        self.window = Some(CircuitWindow::Time(period));
        self
    }

    /// Whether everything is left to the next level.
    #[cfg(feature = "config")]
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this level wants a circuit breaker: it says so, or sets a rule.
    pub(super) fn wanted(&self) -> Option<bool> {
        let sets_a_rule = *self
            != Self {
                enabled: self.enabled,
                ..Self::default()
            };
        self.enabled.or(sets_a_rule.then_some(true))
    }

    /// The rules of all levels, the first that says something before the others, and which level that was.
    pub(super) fn resolve(
        levels: &[(ConfigLevel, &Self)],
    ) -> (
        CircuitBreakerConfig,
        BTreeMap<&'static str, Decided<String>>,
    ) {
        let mut config = CircuitBreakerConfig::default();
        let mut rules = BTreeMap::new();
        macro_rules! rule {
            ($rule:ident) => {
                let decided = decide(levels.iter().map(|(level, rules)| (*level, rules.$rule)));
                let level = match decided {
                    Some(Decided { value, level, .. }) => {
                        config.$rule = value.into();
                        level
                    }
                    None => ConfigLevel::BuiltIn,
                };
                rules.insert(stringify!($rule), Decided::new(config.$rule.shown(), level));
            };
        }
        for_each_rule!(rule);
        (config, rules)
    }
}

#[cfg(feature = "config")]
impl CircuitBreakerOverrides {
    /// The rules that are out of range whatever the other ones are, and what is wrong with each.
    pub(crate) fn wrong_alone(&self) -> Vec<(&'static str, BuildError)> {
        let mut wrong = Vec::new();
        macro_rules! rule {
            ($rule:ident) => {
                if let Some(value) = self.$rule {
                    // The others are such that they go with any.
                    let mut config = CircuitBreakerConfig::default()
                        .isolation_duration(Duration::ZERO)
                        .failure_rate_over(0.5, Duration::from_secs(1))
                        .slow_call_duration(Duration::from_secs(1));
                    config.$rule = value.into();
                    if let Err(error) = config.validate() {
                        wrong.push((stringify!($rule), error));
                    }
                }
            };
        }
        for_each_rule!(rule);
        wrong
    }
}

/// A whole configuration: each rule is set.
impl From<CircuitBreakerConfig> for CircuitBreakerOverrides {
    fn from(config: CircuitBreakerConfig) -> Self {
        let mut all = Self::on();
        macro_rules! rule {
            ($rule:ident) => {
                all.$rule = config.$rule.into();
            };
        }
        for_each_rule!(rule);
        all
    }
}

/// What settings say: `true`, `false`, or rules.
#[cfg(feature = "config")]
mod text {
    use std::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{AdaptiveTimeoutSetting, CircuitBreakerOverrides, TimeoutSetting};
    use crate::adaptive::AdaptiveTimeoutConfig;
    use crate::text::duration::{self, DurationVisitor};

    impl Serialize for CircuitBreakerOverrides {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            Self::serialize(self, serializer)
        }
    }

    struct RulesVisitor;

    impl<'de> Visitor<'de> for RulesVisitor {
        type Value = CircuitBreakerOverrides;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, or a section with the rules of a circuit breaker")
        }

        fn visit_bool<E: Error>(self, enabled: bool) -> Result<Self::Value, E> {
            Ok(if enabled {
                CircuitBreakerOverrides::on()
            } else {
                CircuitBreakerOverrides::off()
            })
        }

        fn visit_map<A: MapAccess<'de>>(self, rules: A) -> Result<Self::Value, A::Error> {
            CircuitBreakerOverrides::deserialize(MapAccessDeserializer::new(rules))
        }
    }

    impl<'de> Deserialize<'de> for CircuitBreakerOverrides {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(RulesVisitor)
        }
    }

    impl Serialize for AdaptiveTimeoutSetting {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::On(config) => config.serialize(serializer),
                Self::Off => serializer.serialize_bool(false),
            }
        }
    }

    struct AdaptiveVisitor;

    impl<'de> Visitor<'de> for AdaptiveVisitor {
        type Value = AdaptiveTimeoutSetting;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, or a section with the numbers of an adaptive timeout")
        }

        fn visit_bool<E: Error>(self, is_on: bool) -> Result<Self::Value, E> {
            Ok(is_on.into())
        }

        fn visit_map<A: MapAccess<'de>>(self, numbers: A) -> Result<Self::Value, A::Error> {
            AdaptiveTimeoutConfig::deserialize(MapAccessDeserializer::new(numbers))
                .map(AdaptiveTimeoutSetting::On)
        }
    }

    impl<'de> Deserialize<'de> for AdaptiveTimeoutSetting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(AdaptiveVisitor)
        }
    }

    const NONE: &str = "none";
    const DURATION: DurationVisitor = DurationVisitor {
        or: ", or \"none\"",
    };

    impl Serialize for TimeoutSetting {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::After(limit) => duration::serialize(limit, serializer),
                Self::Never => serializer.serialize_str(NONE),
            }
        }
    }

    struct LimitVisitor;

    impl Visitor<'_> for LimitVisitor {
        type Value = TimeoutSetting;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            DURATION.expecting(f)
        }

        fn visit_u64<E: Error>(self, seconds: u64) -> Result<Self::Value, E> {
            DURATION.visit_u64(seconds).map(TimeoutSetting::After)
        }

        fn visit_i64<E: Error>(self, seconds: i64) -> Result<Self::Value, E> {
            DURATION.visit_i64(seconds).map(TimeoutSetting::After)
        }

        fn visit_f64<E: Error>(self, seconds: f64) -> Result<Self::Value, E> {
            DURATION.visit_f64(seconds).map(TimeoutSetting::After)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            if text == NONE {
                Ok(TimeoutSetting::Never)
            } else {
                DURATION.visit_str(text).map(TimeoutSetting::After)
            }
        }
    }

    impl<'de> Deserialize<'de> for TimeoutSetting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(LimitVisitor)
        }
    }
}
