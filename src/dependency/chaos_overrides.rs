//! What one level says about the chaos of a dependency, and leaves to the levels below.

use std::fmt;
use std::time::Duration;

use super::rules_section::section;
use crate::error::BuildError;
use crate::policy::Chaos;

section! {
    /// The trouble on purpose in a dependency's pipelines, of which each rule is set or left to the next level: for drills, see
    /// [`Chaos`].
    ///
    /// Rules alone make no trouble. There is chaos where a level says [`on`](Self::on), which is
    /// [`enabled`](Self#structfield.enabled), and no level before it says [`off`](Self::off). The log warns of it when the
    /// dependency is registered. It holds for calls through
    /// [`Dependencies::pipeline`](crate::Dependencies::pipeline), all pipelines of a dependency together. An operation that says
    /// something about it has its own. [`Dependencies::apply_config`](crate::Dependencies::apply_config) with other rules, or with
    /// [`off`](Self::off), ends it for all calls that begin from then on.
    ///
    /// Rates run from 0, never, to 1, always. Which error an [`error_rate`](Self#structfield.error_rate) gives is a value of the
    /// program's own type, and so it comes from code:
    /// [`DependencyPipelineBuilder::chaos_error`](crate::DependencyPipelineBuilder::chaos_error).
    ///
    /// ```
    /// use bulkman::{ChaosOverrides, Dependencies, DependencyConfig, DependencyKind, DependencyPipeline};
    /// use std::io;
    /// use std::time::Duration;
    ///
    /// let drill = ChaosOverrides::on()
    ///     .latency(Duration::from_millis(3))
    ///     .latency_rate(0.2)
    ///     .error_rate(1.0);
    /// let dependencies = Dependencies::new();
    /// dependencies.register_with("user_db", DependencyConfig::new(DependencyKind::Database).chaos(drill))?;
    /// let users: DependencyPipeline<io::Error> = dependencies
    ///     .pipeline("user_db")?
    ///     .chaos_error(|| io::ErrorKind::ConnectionReset.into())
    ///     .build()?;
    /// assert!(!users.execute(|| Ok("Ada")).is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ChaosOverrides, "chaos", all of them: ChaosRules, a rule switches on: false
    /// Where the random numbers begin, see [`Chaos::seed`]. Built-in: anywhere.
    seed: u64, Option<u64> = None;
    /// How much longer a call takes that is delayed, see [`Chaos::latency`]. Built-in: none.
    #[cfg_attr(feature = "config", serde(with = "crate::text::duration::option"))]
    latency: Duration, Option<Duration> = None;
    /// The share of the calls that is delayed. It needs a [`latency`](Self#structfield.latency). Built-in: all of them.
    latency_rate: f64, Option<f64> = None;
    /// The share of the calls that fails in place of its task. Built-in: 0.
    error_rate: f64, f64 = 0.0;
    /// The share of the calls that is refused as full, see [`Chaos::refusals`]. Built-in: 0.
    refusal_rate: f64, f64 = 0.0;
    /// The share of the calls that panics in place of its task, on a worker or in the caller's thread, as the bulkhead is. There
    /// the panic is caught, as any. Built-in: 0.
    panic_rate: f64, f64 = 0.0;
}

impl ChaosRules {
    /// The first rule that is out of range.
    pub(super) fn check_alone(&self) -> Result<(), BuildError> {
        for (rule, rate) in [
            ("chaos.latency_rate", self.latency_rate.unwrap_or(0.0)),
            ("chaos.error_rate", self.error_rate),
            ("chaos.refusal_rate", self.refusal_rate),
            ("chaos.panic_rate", self.panic_rate),
        ] {
            let is_share = (0.0..=1.0).contains(&rate);
            BuildError::check(is_share, rule, rate, "must be a number from 0 to 1")?;
        }
        Ok(())
    }

    /// The first rule that is out of range, or does not go with the others.
    pub(super) fn check(&self) -> Result<(), BuildError> {
        self.check_alone()?;
        BuildError::check(
            self.latency.is_some() || self.latency_rate.is_none(),
            "chaos.latency_rate",
            self.latency_rate.unwrap_or(0.0),
            "must have a `latency` beside it",
        )
    }

    /// Everything but the errors, and switched on.
    pub(super) fn chaos(&self) -> Chaos<()> {
        let rate = self.latency_rate.unwrap_or(1.0);
        let latency = self.latency.map_or((0.0, Duration::ZERO), |it| (rate, it));
        let chaos = Chaos::new()
            .latency(latency.0, latency.1)
            .refusals(self.refusal_rate)
            .panics(self.panic_rate);
        let chaos = match self.seed {
            Some(seed) => chaos.seed(seed),
            None => chaos,
        };
        chaos.switch_on();
        chaos
    }

    /// Whether the code may leave out which error it is; if not, what is to be done.
    pub(super) fn check_error(&self, is_given: bool) -> Result<(), BuildError> {
        BuildError::check(
            is_given || self.error_rate == 0.0,
            "chaos.error_rate",
            self.error_rate,
            "must be 0, unless `chaos_error` of the pipeline's builder says which error it gives",
        )
    }
}

/// What trouble they make.
impl fmt::Display for ChaosRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = self.latency.map(|_| self.latency_rate.unwrap_or(1.0));
        let latency = (latency.unwrap_or(0.0), "delays");
        let [errors, refusals, panics] = [
            (self.error_rate, "errors"),
            (self.refusal_rate, "refusals"),
            (self.panic_rate, "panics"),
        ];
        let mut before = "";
        for (rate, what) in [latency, errors, refusals, panics] {
            if rate > 0.0 {
                write!(f, "{before}{what} at a rate of {rate}")?;
                before = ", ";
            }
        }
        if before.is_empty() {
            f.write_str("none, since all rates are 0")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_switches_it_on() {
        assert_eq!(ChaosOverrides::new().panic_rate(1.0).wanted(), None);
        assert_eq!(ChaosOverrides::on().wanted(), Some(true));
        assert_eq!(ChaosOverrides::off().panic_rate(1.0).wanted(), Some(false));
        assert!(ChaosRules::default().chaos().is_on());
    }

    #[test]
    fn a_latency_without_a_rate_is_that_of_all_calls() {
        let built_in = format!("{:?}", ChaosRules::default().chaos());
        assert!(built_in.contains("latency: (0.0, 0ns)"), "{built_in}");
        let rules = ChaosRules {
            latency: Some(Duration::from_secs(1)),
            ..ChaosRules::default()
        };
        let all = format!("{:?}", rules.chaos());
        assert!(all.contains("latency: (1.0, 1s)"), "{all}");
    }
}
