//! What one level says about a circuit breaker, and leaves to the levels below.

use std::collections::BTreeMap;
use std::time::Duration;

use super::level::{ConfigLevel, Decided, decide};
use super::shown::Shown;
use crate::circuit::{CircuitBreakerConfig, CircuitMode, CircuitWindow, IsolationBackoff};
#[cfg(feature = "config")]
use crate::error::BuildError;

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

    use super::CircuitBreakerOverrides;

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
}
