//! The limit: what it is taken from, and when it moves. Pure: the time is an argument.
//!
//! The window is a row of [`BUCKETS`]. When the time of one is over, two views are compared with the limit: that of the whole
//! window, and that of the newest buckets alone, as many as it takes for the minimum of samples. From each follows a quantile of
//! run times, and from that a limit. The first limit also waits for the end of a bucket: the quick calls of a moment end
//! first, and say nothing of the others.
//!
//! | the two views | the limit |
//! |---|---|
//! | both say clearly more | grows to the lesser of the two, at most by half |
//! | both say clearly less | shrinks to the greater of the two, at most by a third |
//! | they differ, or say about the same | stays |
//! | for one of them the quantile is not known | stays |
//!
//! Clearly is a fifth. So a slow minute moves the limit a few steps, and only while it lasts: afterwards the newest calls no
//! longer agree. The limit goes back when the slow minute has left the window.
//!
//! Where the newest calls are cut off too often for their quantile to be known, the dependency is dying, or it has become slower
//! than the limit allows. The limit alone cannot tell these apart: behind it no call gets to its end. So one call in
//! [`PATIENT_EVERY`] is given the ceiling. If such calls succeed, their times make the quantile known, and the limit grows. If not, it
//! stays for all others as it was while the dependency lived.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::AdaptiveTimeoutConfig;
use super::samples::{Quantile, Samples};
use crate::sync::nanos;

/// How many parts the window has.
pub(super) const BUCKETS: usize = 10;

/// While calls are cut off, one of so many is given the ceiling.
const PATIENT_EVERY: u64 = 16;

/// What is clearly more, as a factor.
const CLEARLY: f64 = 1.2;

/// The largest step, as a factor.
const STEP: f64 = 1.5;

/// The ceiling where there is no dependency whose timeout it would be.
const CEILING: Duration = Duration::from_secs(30);

/// Why an [`AdaptiveTimeout`](crate::AdaptiveTimeout) has the limit that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdaptiveTimeoutRule {
    /// The ceiling: there were too few samples yet.
    TooFewSamples,
    /// The factor times the quantile.
    Quantile,
    /// The floor: the factor times the quantile is less.
    Floor,
    /// The ceiling: the factor times the quantile is more.
    Ceiling,
    /// On its way to the factor times the quantile: it grows at most by half, and shrinks at most by a third, in each tenth of
    /// the window.
    Step,
    /// As before: the newest calls and the whole window do not agree that it should be clearly more, or clearly less.
    Held,
    /// As before: so many of the newest calls were cut off that their quantile is not known. One call in 16 is given the
    /// ceiling, to find out.
    CutOff,
}

/// The limit of an [`AdaptiveTimeout`](crate::AdaptiveTimeout), and what it was taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveTimeoutStats {
    /// The limit.
    pub limit: Duration,
    /// Why it is that.
    pub rule: AdaptiveTimeoutRule,
    /// The numbers that it goes by, the ceiling among them.
    pub config: AdaptiveTimeoutConfig,
    /// The quantile of the run times in the window, when the limit was last looked at. `None` if it was not known.
    pub quantile: Option<Duration>,
    /// How many calls of the window have succeeded, so that their run times are samples.
    pub samples: u64,
    /// How many calls of the window were cut off at a limit. Calls that failed before are not counted here.
    pub timeouts: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    /// The ceiling is set. That of a dependency may be below the floor, and then counts.
    config: AdaptiveTimeoutConfig,
    ceiling: Duration,
    /// How long a bucket takes.
    bucket_nanos: u64,
    /// The newest first.
    buckets: VecDeque<Samples>,
    /// The number of the newest, since the beginning of time.
    newest: u64,
    /// `None`: it is the ceiling.
    limit: Option<Duration>,
    rule: AdaptiveTimeoutRule,
    quantile: Option<Duration>,
    /// How many have asked while calls are cut off.
    asked: u64,
}

impl Machine {
    /// The configuration is valid.
    pub(super) fn new(config: AdaptiveTimeoutConfig) -> Self {
        let ceiling = config.ceiling.unwrap_or(CEILING.max(config.floor));
        Self {
            config: AdaptiveTimeoutConfig {
                ceiling: Some(ceiling),
                ..config
            },
            ceiling,
            bucket_nanos: (nanos(config.window) / BUCKETS as u64).max(1),
            buckets: (0..BUCKETS).map(|_| Samples::default()).collect(),
            newest: 0,
            limit: None,
            rule: AdaptiveTimeoutRule::TooFewSamples,
            quantile: None,
            asked: 0,
        }
    }

    /// The limit of a call that is made at this time.
    pub(super) fn limit(&mut self, now: Duration) -> Duration {
        self.advance(now);
        let Some(limit) = self.limit else {
            return self.ceiling;
        };
        if self.rule != AdaptiveTimeoutRule::CutOff {
            return limit;
        }
        let is_patient = self.asked % PATIENT_EVERY == 0;
        self.asked += 1;
        if is_patient { self.ceiling } else { limit }
    }

    pub(super) fn succeed(&mut self, now: Duration, run_time: Duration) {
        self.advance(now);
        self.buckets[0].succeed(run_time);
    }

    pub(super) fn cut_off(&mut self, now: Duration, after: Duration) {
        self.advance(now);
        self.buckets[0].cut_off(after);
    }

    /// There was a call, of which nothing more is known.
    pub(super) fn other(&mut self, now: Duration) {
        self.advance(now);
        self.buckets[0].other();
    }

    pub(super) fn stats(&mut self, now: Duration) -> AdaptiveTimeoutStats {
        self.advance(now);
        let count = |of: fn(&Samples) -> u64| self.buckets.iter().map(of).sum();
        AdaptiveTimeoutStats {
            limit: self.limit.unwrap_or(self.ceiling),
            rule: self.rule,
            config: self.config,
            quantile: self.quantile,
            samples: count(Samples::successes),
            timeouts: count(Samples::timeouts),
        }
    }

    fn minimum(&self) -> u64 {
        self.config.minimum_samples as u64
    }

    /// Ends the buckets whose time is over.
    fn advance(&mut self, now: Duration) {
        let number = nanos(now) / self.bucket_nanos;
        // A thread that read the clock earlier may come later.
        let passed = number.saturating_sub(self.newest);
        if passed == 0 {
            return;
        }
        self.newest = number;
        self.decide();
        for _ in 0..passed.min(BUCKETS as u64) {
            self.buckets.pop_back();
            self.buckets.push_front(Samples::default());
        }
        // Half, so that a dependency with just enough calls does not go back and forth.
        let seen: u64 = self.buckets.iter().map(Samples::seen).sum();
        if seen.saturating_mul(2) < self.minimum() {
            self.limit = None;
            self.rule = AdaptiveTimeoutRule::TooFewSamples;
            self.quantile = None;
        }
    }

    fn decide(&mut self) {
        let minimum = self.minimum();
        let is_enough = |samples: &Samples| samples.successes() >= minimum;
        let mut recent = Samples::default();
        for bucket in &self.buckets {
            recent.add(bucket);
            if is_enough(&recent) {
                break;
            }
        }
        let quantile = |samples: &Samples| samples.quantile(self.config.quantile, minimum);
        let (whole, recent) = (quantile(&sum(&self.buckets)), quantile(&recent));
        self.quantile = match whole {
            Quantile::Known(time) => Some(time),
            _ => None,
        };
        let (limit, rule) = match (whole, recent) {
            (Quantile::Known(whole), Quantile::Known(recent)) => self.next(whole, recent),
            _ if self.limit.is_none() => return,
            (_, Quantile::Beyond) => (self.limit, AdaptiveTimeoutRule::CutOff),
            _ => (self.limit, AdaptiveTimeoutRule::Held),
        };
        if self.rule != rule {
            self.asked = 0;
        }
        (self.limit, self.rule) = (limit, rule);
    }

    /// The limit that follows from the quantiles of the whole window and of the newest calls.
    fn next(&self, whole: Duration, recent: Duration) -> (Option<Duration>, AdaptiveTimeoutRule) {
        let (least, most) = (whole.min(recent), whole.max(recent));
        let Some(limit) = self.limit else {
            let (limit, rule) = self.target(most);
            return (Some(limit), rule);
        };
        let grows = self.target(least).0 > times(limit, CLEARLY);
        let shrinks = self.target(most).0 < times(limit, 1.0 / CLEARLY);
        let ((target, rule), step) = if grows {
            (self.target(least), times(limit, STEP))
        } else if shrinks {
            (self.target(most), times(limit, 1.0 / STEP))
        } else {
            return (Some(limit), AdaptiveTimeoutRule::Held);
        };
        let is_too_far = if grows { target > step } else { target < step };
        if is_too_far {
            (Some(step), AdaptiveTimeoutRule::Step)
        } else {
            (Some(target), rule)
        }
    }

    /// The limit for a quantile, between floor and ceiling.
    fn target(&self, quantile: Duration) -> (Duration, AdaptiveTimeoutRule) {
        let target = times(quantile, self.config.factor);
        let floor = self.config.floor.min(self.ceiling);
        if target > self.ceiling {
            (self.ceiling, AdaptiveTimeoutRule::Ceiling)
        } else if target < floor {
            (floor, AdaptiveTimeoutRule::Floor)
        } else {
            (target, AdaptiveTimeoutRule::Quantile)
        }
    }
}

fn sum<'a>(buckets: impl IntoIterator<Item = &'a Samples>) -> Samples {
    let mut sum = Samples::default();
    for bucket in buckets {
        sum.add(bucket);
    }
    sum
}

fn times(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AdaptiveTimeoutRule as Rule;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Ten samples are enough, and a bucket takes a second.
    fn config() -> AdaptiveTimeoutConfig {
        AdaptiveTimeoutConfig::new()
            .quantile(0.9)
            .factor(2.0)
            .floor(millis(10))
            .ceiling(10 * SECOND)
            .minimum_samples(10)
            .window(10 * SECOND)
    }

    fn machine(limit: Option<Duration>) -> Machine {
        Machine {
            limit,
            ..Machine::new(config())
        }
    }

    /// The table of the essay, with limits that are twice the quantile.
    #[test]
    fn the_limit_moves_only_if_both_views_agree() {
        let table = [
            // limit, whole window, newest calls: the next limit, and why
            (None, 100, 100, 200, Rule::Quantile),
            (None, 100, 300, 600, Rule::Quantile),
            (None, 1, 1, 10, Rule::Floor),
            (None, 9_000, 100, 10_000, Rule::Ceiling),
            (Some(200), 100, 100, 200, Rule::Held),
            (Some(200), 119, 119, 200, Rule::Held),
            (Some(200), 130, 125, 250, Rule::Quantile),
            (Some(200), 130, 1_000, 260, Rule::Quantile),
            (Some(200), 1_000, 130, 260, Rule::Quantile),
            (Some(200), 1_000, 1_000, 300, Rule::Step),
            (Some(200), 1_000, 100, 200, Rule::Held),
            (Some(200), 100, 1_000, 200, Rule::Held),
            (Some(200), 84, 84, 200, Rule::Held),
            (Some(200), 70, 80, 160, Rule::Quantile),
            (Some(200), 80, 10, 160, Rule::Quantile),
            (Some(300), 50, 50, 200, Rule::Step),
            (Some(300), 50, 150, 300, Rule::Held),
            (Some(14), 1, 1, 10, Rule::Floor),
            (Some(8_000), 9_000, 9_000, 10_000, Rule::Ceiling),
        ];
        for (limit, whole, recent, expected, rule) in table {
            let machine = machine(limit.map(millis));
            let next = machine.next(millis(whole), millis(recent));
            let case = format!("{limit:?} {whole} {recent}");
            assert_eq!(next.1, rule, "{case}");
            assert_eq!(next.0.unwrap().as_millis(), expected, "{case}");
        }
    }

    #[test]
    fn the_first_limit_takes_the_minimum_of_samples_and_the_end_of_a_bucket() {
        let mut machine = machine(None);
        for bucket in 1..=9 {
            machine.succeed(bucket * SECOND, millis(100));
        }
        machine.succeed(10 * SECOND, millis(100));
        let stats = machine.stats(10 * SECOND);
        assert_eq!((stats.rule, stats.samples), (Rule::TooFewSamples, 10));
        assert_eq!(machine.limit(10 * SECOND), 10 * SECOND);
        let stats = machine.stats(11 * SECOND);
        assert_eq!((stats.rule, stats.samples), (Rule::Quantile, 9));
        assert!(stats.limit >= millis(200) && stats.limit <= millis(225));
        assert_eq!(stats.limit, machine.limit(11 * SECOND));
        assert_eq!(stats.quantile.unwrap() * 2, stats.limit);
    }

    #[test]
    fn calls_that_were_cut_off_are_no_samples() {
        let mut machine = machine(None);
        for i in 0..1_000 {
            machine.cut_off(millis(10 * i), millis(1));
        }
        assert_eq!(machine.stats(10 * SECOND).rule, Rule::TooFewSamples);
        assert_eq!(machine.limit(10 * SECOND), 10 * SECOND);
    }

    #[test]
    fn while_calls_are_cut_off_one_in_sixteen_has_the_ceiling() {
        let mut machine = machine(None);
        (0..10).for_each(|_| machine.succeed(SECOND, millis(100)));
        let limit = machine.limit(2 * SECOND);
        (0..100).for_each(|_| machine.cut_off(2 * SECOND, limit));
        assert_eq!(machine.limit(2 * SECOND), limit, "the bucket has not ended");
        let limits: Vec<_> = (0..160).map(|_| machine.limit(3 * SECOND)).collect();
        assert_eq!(machine.stats(3 * SECOND).rule, Rule::CutOff);
        assert_eq!(machine.stats(3 * SECOND).limit, limit);
        let patient = limits.iter().filter(|limit| **limit == 10 * SECOND);
        assert_eq!(patient.count(), 10);
        assert_eq!(limits.iter().filter(|other| **other == limit).count(), 150);
    }

    #[test]
    fn a_window_with_hardly_a_call_forgets_the_limit() {
        for (calls_since, is_kept) in [(4, false), (5, true)] {
            let mut machine = machine(None);
            (0..10).for_each(|_| machine.succeed(SECOND, millis(100)));
            (0..calls_since).for_each(|_| machine.other(5 * SECOND));
            let stats = machine.stats(12 * SECOND);
            assert_eq!(stats.rule != Rule::TooFewSamples, is_kept, "{calls_since}");
            assert_eq!(stats.limit < 10 * SECOND, is_kept, "{calls_since}");
            assert_eq!(machine.stats(100 * SECOND).rule, Rule::TooFewSamples);
        }
    }

    #[test]
    fn a_thread_that_comes_late_counts_in_the_newest_bucket() {
        let mut machine = machine(None);
        machine.succeed(8 * SECOND, millis(1));
        machine.succeed(2 * SECOND, millis(1));
        assert_eq!(machine.stats(17 * SECOND).samples, 2);
        assert_eq!(machine.stats(18 * SECOND).samples, 0);
    }

    #[test]
    fn numbers_at_both_ends_are_no_trouble() {
        let widest = AdaptiveTimeoutConfig {
            factor: f64::MAX,
            ceiling: Some(Duration::MAX),
            window: Duration::MAX,
            minimum_samples: 1,
            ..config()
        };
        let mut machine = Machine::new(widest);
        machine.succeed(Duration::ZERO, Duration::MAX);
        machine.succeed(Duration::MAX / 2, Duration::ZERO);
        assert_eq!(machine.limit(Duration::MAX), Duration::MAX);
        let mut machine = Machine::new(config().minimum_samples(usize::MAX));
        machine.succeed(SECOND, millis(1));
        assert_eq!(machine.limit(20 * SECOND), 10 * SECOND);
        // A floor above the timeout of a dependency.
        let low = AdaptiveTimeoutConfig {
            ceiling: Some(millis(5)),
            minimum_samples: 1,
            ..config()
        };
        let mut machine = Machine::new(low);
        machine.succeed(SECOND, Duration::ZERO);
        assert_eq!(machine.limit(2 * SECOND), millis(5));
    }
}
