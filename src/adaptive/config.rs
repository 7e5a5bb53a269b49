//! The numbers that an adaptive timeout goes by.

use std::time::Duration;

use crate::error::BuildError;

/// How an [`AdaptiveTimeout`](crate::AdaptiveTimeout) comes to its limit: so many times a high quantile of recent run times,
/// between a floor and a ceiling.
///
/// **Experimental**: its rules and defaults may change in a minor version.
///
/// ```
/// use bulkman::AdaptiveTimeoutConfig;
/// use std::time::Duration;
///
/// let config = AdaptiveTimeoutConfig::new()
///     .factor(4.0)
///     .floor(Duration::from_millis(20));
/// assert_eq!(config.quantile, 0.99);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AdaptiveTimeoutConfig {
    /// Which quantile of the run times; more than 0 and less than 1.
    pub quantile: f64,
    /// How many times the quantile; at least 1.
    pub factor: f64,
    /// The shortest limit; more than zero.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration"))]
    pub floor: Duration,
    /// The longest limit, and the one that holds as long as there are too few samples. `None`: the timeout of the dependency;
    /// without a dependency 30 s.
    #[cfg_attr(
        feature = "config",
        serde(
            with = "crate::text::duration::option",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub ceiling: Option<Duration>,
    /// How many calls of the window must have succeeded before a limit is taken from them; at least 1.
    pub minimum_samples: usize,
    /// How long a call is remembered; at least 10 ms.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration"))]
    pub window: Duration,
}

impl AdaptiveTimeoutConfig {
    /// Three times the 0.99 quantile of the last five minutes, if there are at least 100 samples; at least 100 ms.
    #[must_use]
    pub fn new() -> Self {
        Self {
            quantile: 0.99,
            factor: 3.0,
            floor: Duration::from_millis(100),
            ceiling: None,
            minimum_samples: 100,
            window: Duration::from_secs(300),
        }
    }

    /// Sets which quantile of the run times the limit is taken from. Default 0.99.
    #[must_use]
    pub fn quantile(mut self, quantile: f64) -> Self {
        self.quantile = quantile;
        self
    }

    /// Sets how many times the quantile the limit is. Default 3.
    ///
    /// The limit of a call counts its time in the queue too, and the samples do not. The last call of a full queue waits Q ÷ N
    /// run times for its worker, so a factor of 1 + Q ÷ N or more has room for it.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the shortest limit. Default 100 ms.
    #[must_use]
    pub fn floor(mut self, limit: Duration) -> Self {
        self.floor = limit;
        self
    }

    /// Sets the longest limit. Default: the timeout of the dependency; without a dependency 30 s.
    #[must_use]
    pub fn ceiling(mut self, limit: Duration) -> Self {
        self.ceiling = Some(limit);
        self
    }

    /// Sets how many calls of the window must have succeeded before a limit is taken from them. Default 100.
    #[must_use]
    pub fn minimum_samples(mut self, calls: usize) -> Self {
        self.minimum_samples = calls;
        self
    }

    /// Sets how long a call is remembered. Default five minutes. The limit moves at most once in a tenth of it.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Checks every value, as [`AdaptiveTimeout::new`](crate::AdaptiveTimeout::new) does first.
    ///
    /// # Errors
    ///
    /// [`BuildError::InvalidValue`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.checks().into_iter().collect()
    }

    /// Every value that is out of range: the field, and what is wrong.
    #[cfg(feature = "config")]
    pub(crate) fn wrong(&self) -> Vec<(&'static str, BuildError)> {
        let wrong = self.checks().into_iter().filter_map(Result::err);
        wrong
            .filter_map(|error| match error {
                BuildError::InvalidValue { field, .. } => Some((field, error)),
                _ => None,
            })
            .collect()
    }

    fn checks(&self) -> [Result<(), BuildError>; 6] {
        [
            BuildError::check(
                self.quantile > 0.0 && self.quantile < 1.0,
                "quantile",
                self.quantile,
                "must be more than 0 and less than 1",
            ),
            BuildError::check(
                self.factor >= 1.0 && self.factor.is_finite(),
                "factor",
                self.factor,
                "must be at least 1",
            ),
            BuildError::check(
                !self.floor.is_zero(),
                "floor",
                format_args!("{:?}", self.floor),
                "must be greater than zero",
            ),
            BuildError::check(
                self.ceiling.is_none_or(|ceiling| ceiling >= self.floor),
                "ceiling",
                format_args!("{:?}", self.ceiling.unwrap_or_default()),
                "must be at least the floor",
            ),
            BuildError::check(
                self.minimum_samples >= 1,
                "minimum_samples",
                self.minimum_samples,
                "must be at least 1",
            ),
            BuildError::check(
                self.window >= Duration::from_millis(10),
                "window",
                format_args!("{:?}", self.window),
                "must be at least 10 ms",
            ),
        ]
    }
}

impl Default for AdaptiveTimeoutConfig {
    fn default() -> Self {
        Self::new()
    }
}
