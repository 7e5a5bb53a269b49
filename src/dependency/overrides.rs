//! What one level says about a dependency, and leaves to the levels below.

use std::fmt;
use std::time::Duration;

use super::chaos_overrides::ChaosOverrides;
use super::circuit_overrides::CircuitBreakerOverrides;
use super::health_overrides::HealthOverrides;
use super::kind::BulkheadKind;
use super::policy_overrides::{HedgeOverrides, RateLimitOverrides, RetryOverrides};
use crate::adaptive::AdaptiveTimeoutConfig;

/// Settings of which each is set or left to the next level: what a [`DependencyKind`](crate::DependencyKind)'s preset is, and what
/// [`DependencyDefaults`](crate::DependencyDefaults) say over it.
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
///
/// # What code has to give
///
/// Settings name what is a number or a switch: limits, circuit breakers, health thresholds, retries, rate limits, hedges, chaos.
/// A function, or a value of the program's own types, comes from code, with a [`DependencyPipelineBuilder`](crate::DependencyPipelineBuilder):
/// which errors are worth another attempt, which count against the circuit, the error that chaos gives, and a fallback. A fallback
/// to the last good value is code too: all calls of its pipeline then give values of one type, and one call's answer would
/// be given to all others. Whether that is right, only the program knows.
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
    /// From where on it counts as unhealthy.
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "HealthOverrides::is_empty")
    )]
    pub health: HealthOverrides,
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
    /// The trouble on purpose in its [pipelines](crate::Dependencies::pipeline), for drills.
    #[cfg_attr(
        feature = "config",
        serde(skip_serializing_if = "ChaosOverrides::is_empty")
    )]
    pub chaos: ChaosOverrides,
}

impl DependencyOverrides {
    /// Leaves everything to the next level.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which bulkhead a dependency has. [`DependencyKind`](crate::DependencyKind) says when to override it.
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

    /// Sets the circuit breaker: a whole [`CircuitBreakerConfig`](crate::CircuitBreakerConfig), or [`CircuitBreakerOverrides`] for single rules.
    #[must_use]
    pub fn circuit_breaker(mut self, rules: impl Into<CircuitBreakerOverrides>) -> Self {
        self.circuit_breaker = rules.into();
        self
    }

    /// Sets from where on it counts as unhealthy: [`HealthThresholds`](crate::HealthThresholds), or [`HealthOverrides`], which can
    /// also say that none holds.
    #[must_use]
    pub fn health(mut self, rules: impl Into<HealthOverrides>) -> Self {
        self.health = rules.into();
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

    /// Sets the trouble on purpose in a [pipeline](crate::Dependencies::pipeline), for drills.
    #[must_use]
    pub fn chaos(mut self, rules: ChaosOverrides) -> Self {
        self.chaos = rules;
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

/// What settings say: a limit or `none`; `true`, `false`, or numbers.
#[cfg(feature = "config")]
mod text {
    use std::fmt;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{AdaptiveTimeoutSetting, TimeoutSetting};
    use crate::adaptive::AdaptiveTimeoutConfig;
    use crate::text::duration::{self, DurationVisitor};

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
