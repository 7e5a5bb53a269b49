//! What one level says about the retries, the rate limit and the hedge of a dependency, and leaves to the levels below.

use std::time::Duration;

use super::rules_section::section;
use crate::error::BuildError;
use crate::policy::{Hedge, Jitter, RateLimit, Retry, RetryBudget};

section! {
    /// The rules of the retries of a dependency's pipelines, of which each is set or left to the next level.
    ///
    /// A dependency or a kind that sets a rule has a retry, unless it says [`off`](Self::off). So has an operation. No
    /// [preset](crate::DependencyKind::preset) has one, since only the service knows which calls do no harm when they run
    /// twice. They hold for calls through [`Dependencies::pipeline`](crate::Dependencies::pipeline).
    ///
    /// ```
    /// use bulkman::{DependencyConfig, DependencyKind, OperationOverrides, RetryOverrides};
    /// use std::time::Duration;
    ///
    /// let config = DependencyConfig::new(DependencyKind::Database)
    ///     .retry(RetryOverrides::new().attempts(4).first_delay(Duration::from_millis(50)))
    ///     .operation("add_user", OperationOverrides::new().retry(RetryOverrides::off()));
    /// # let _ = config;
    /// ```
    RetryOverrides, "a retry", all of them: RetryRules, a rule switches on: true
    /// How many attempts there are at most, the first among them. Built-in: 3.
    attempts: u32, u32 = 3;
    /// See [`Retry::first_delay`]. Built-in: 100 ms.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    first_delay: Duration, Duration = Duration::from_millis(100);
    /// See [`Retry::factor`]. Built-in: 2.
    factor: f64, f64 = 2.0;
    /// See [`Retry::max_delay`]. Built-in: 10 s.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    max_delay: Duration, Duration = Duration::from_secs(10);
    /// See [`Retry::jitter`]: `full` or `none` in settings. Built-in: full.
    jitter: Jitter, Jitter = Jitter::Full;
    /// See [`Retry::max_named_delay`]. Built-in: a minute.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    max_named_delay: Duration, Duration = Duration::from_secs(60);
    /// How many retries each call of the dependency pays for, from 0 to 1, see [`RetryBudget::new`]. All pipelines of a
    /// dependency share the budget, except those of an operation that has one of its own. Built-in: 0.1.
    budget: f64, f64 = 0.1;
    /// How many retries the budget has at the start, see [`RetryBudget::reserve`]. Built-in: 10.
    budget_reserve: u32, u32 = 10;
    /// The limit of each attempt. It has no effect where it is not shorter than the timeout, which holds for all attempts
    /// and pauses together. Built-in: none.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    attempt_timeout: Duration, Option<Duration> = None;
    /// See [`Retry::retry_timeouts`]. Built-in: no.
    retry_timeouts: bool, bool = false;
    /// See [`Retry::retry_panics`]. Built-in: no.
    retry_panics: bool, bool = false;
}

section! {
    /// The rules of the rate limit of a dependency's pipelines, of which each is set or left to the next level.
    ///
    /// A dependency or a kind that sets a rule has a rate limit, unless it says [`off`](Self::off). It needs
    /// [`calls`](Self#structfield.calls). Inside of a retry it counts attempts. It holds for calls through
    /// [`Dependencies::pipeline`](crate::Dependencies::pipeline), all pipelines of a dependency together.
    ///
    /// ```
    /// use bulkman::{DependencyConfig, DependencyKind, RateLimitOverrides};
    /// use std::time::Duration;
    ///
    /// let geocoder = DependencyConfig::new(DependencyKind::ExternalApi)
    ///     .rate_limit(RateLimitOverrides::new().calls(50).max_wait(Duration::from_millis(200)));
    /// # let _ = geocoder;
    /// ```
    RateLimitOverrides, "a rate limit", all of them: RateLimitRules, a rule switches on: true
    /// How many calls there may be in a [`period`](Self#structfield.period). There is no built-in number.
    calls: u32, Option<u32> = None;
    /// See [`RateLimit::new`]. Built-in: a second.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    period: Duration, Duration = Duration::from_secs(1);
    /// See [`RateLimit::burst`]. Built-in: all of a period.
    burst: u32, Option<u32> = None;
    /// See [`RateLimit::wait_up_to`]. Built-in: no wait.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    max_wait: Duration, Duration = Duration::ZERO;
}

section! {
    /// The rules of the second attempts beside slow ones in a dependency's pipelines, of which each is set or left to the next
    /// level.
    ///
    /// A dependency, a kind or an operation that sets a rule has them, unless it says [`off`](Self::off). They need
    /// [`delay`](Self#structfield.delay), and a bulkhead with threads. They are for operations that only read, and hold for
    /// calls through [`Dependencies::pipeline`](crate::Dependencies::pipeline).
    ///
    /// ```
    /// use bulkman::{DependencyConfig, DependencyKind, HedgeOverrides, OperationOverrides};
    /// use std::time::Duration;
    ///
    /// let hedge = HedgeOverrides::new().quantile(0.95).delay(Duration::from_millis(50));
    /// let config = DependencyConfig::new(DependencyKind::Database)
    ///     .operation("get_user", OperationOverrides::new().hedge(hedge));
    /// # let _ = config;
    /// ```
    HedgeOverrides, "a hedge", all of them: HedgeRules, a rule switches on: true
    /// After which time the second attempt begins, see [`Hedge::after`]. Beside a quantile it holds until enough calls were
    /// measured. There is no built-in time.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    delay: Duration, Option<Duration> = None;
    /// The second attempt begins after this quantile of the run times, from 0 to 1, see [`Hedge::after_quantile`]. Built-in:
    /// none.
    quantile: f64, Option<f64> = None;
}

impl HedgeRules {
    /// The first rule that is out of range.
    pub(super) fn check_alone(&self) -> Result<(), BuildError> {
        let quantile = self.quantile.unwrap_or(1.0);
        BuildError::check(
            (0.0..=1.0).contains(&quantile),
            "hedge.quantile",
            quantile,
            "must be a number from 0 to 1",
        )
    }

    /// The first rule that is missing or out of range.
    pub(super) fn check(&self, has_threads: bool) -> Result<(), BuildError> {
        self.check_alone()?;
        BuildError::check(
            self.delay.is_some(),
            "hedge.delay",
            "none",
            "must be a duration",
        )?;
        BuildError::check(
            has_threads,
            "hedge",
            "on",
            "must be off where the bulkhead is a semaphore, since two attempts at once cannot run in one thread",
        )
    }

    pub(super) fn hedge(&self) -> Option<Hedge> {
        let delay = self.delay?;
        Some(match self.quantile {
            Some(quantile) => Hedge::after_quantile(quantile, delay),
            None => Hedge::after(delay),
        })
    }
}

impl RetryRules {
    /// The first rule that is out of range.
    pub(super) fn check_alone(&self) -> Result<(), BuildError> {
        BuildError::check(
            self.attempts >= 1,
            "retry.attempts",
            self.attempts,
            "must be at least 1",
        )?;
        BuildError::check(
            self.factor.is_finite() && self.factor >= 1.0,
            "retry.factor",
            self.factor,
            "must be a number, at least 1",
        )?;
        BuildError::check(
            (0.0..=1.0).contains(&self.budget),
            "retry.budget",
            self.budget,
            "must be a number from 0 to 1",
        )?;
        BuildError::check(
            self.budget_reserve >= 1,
            "retry.budget_reserve",
            self.budget_reserve,
            "must be at least 1",
        )?;
        BuildError::check(
            self.attempt_timeout != Some(Duration::ZERO),
            "retry.attempt_timeout",
            "0ns",
            "must be greater than zero; leave it out for no limit",
        )
    }

    pub(super) fn new_budget(&self) -> RetryBudget {
        RetryBudget::new(self.budget).reserve(self.budget_reserve)
    }

    pub(super) fn retry(&self, budget: RetryBudget) -> Retry {
        let retry = Retry::new(self.attempts)
            .first_delay(self.first_delay)
            .factor(self.factor)
            .max_delay(self.max_delay)
            .jitter(self.jitter)
            .max_named_delay(self.max_named_delay)
            .budget(budget);
        let retry = if self.retry_timeouts {
            retry.retry_timeouts()
        } else {
            retry
        };
        if self.retry_panics {
            retry.retry_panics()
        } else {
            retry
        }
    }
}

impl RateLimitRules {
    /// The first rule that is out of range. The period is checked beside the number of calls.
    pub(super) fn check_alone(&self) -> Result<(), BuildError> {
        BuildError::check(
            self.calls != Some(0),
            "rate_limit.calls",
            0,
            "must be at least 1",
        )?;
        BuildError::check(
            self.burst != Some(0),
            "rate_limit.burst",
            0,
            "must be at least 1",
        )?;
        BuildError::check(
            !self.period.is_zero(),
            "rate_limit.period",
            format_args!("{:?}", self.period),
            "must be greater than zero",
        )
    }

    /// The first rule that is missing, out of range, or does not go with the others.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        self.check_alone()?;
        let Some(calls) = self.calls else {
            return BuildError::check(
                false,
                "rate_limit.calls",
                "none",
                "must be a number of calls",
            );
        };
        BuildError::check(
            self.period.as_nanos() >= u128::from(calls),
            "rate_limit.period",
            format_args!("{:?}", self.period),
            "must be at least a nanosecond for each call",
        )
    }

    pub(super) fn rate_limit(&self) -> Result<RateLimit, BuildError> {
        self.check()?;
        let limit = RateLimit::new(self.calls.unwrap_or(1), self.period)?;
        let limit = limit.wait_up_to(self.max_wait);
        Ok(match self.burst {
            Some(burst) => limit.burst(burst),
            None => limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_those_of_a_retry_and_of_a_rate_limit() {
        let plain = format!("{:?}", Retry::new(3).budget(RetryBudget::new(0.1)));
        let rules = RetryRules::default();
        assert_eq!(format!("{:?}", rules.retry(rules.new_budget())), plain);
        assert_eq!(rules.check_alone().ok(), Some(()));
        let limit = RateLimitRules {
            calls: Some(5),
            ..RateLimitRules::default()
        };
        let plain = RateLimit::new(5, Duration::from_secs(1)).expect("in range");
        let limit = limit.rate_limit().expect("in range");
        assert_eq!(format!("{limit:?}"), format!("{plain:?}"));
    }

    #[test]
    fn a_level_that_sets_a_rule_wants_it() {
        assert_eq!(RetryOverrides::new().wanted(), None);
        assert_eq!(RetryOverrides::new().attempts(2).wanted(), Some(true));
        assert_eq!(RetryOverrides::off().attempts(2).wanted(), Some(false));
        assert_eq!(RateLimitOverrides::on().wanted(), Some(true));
    }
}
