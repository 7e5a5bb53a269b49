//! How long to wait before the next attempt: arithmetic alone, without a clock or a lock.

use std::time::Duration;

use super::random::Random;
use crate::sync::nanos;

/// How the pause before an attempt is spread, so that callers who failed together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// Any time from nothing to the whole pause, all equally likely. The default: it spreads callers the most.
    #[default]
    Full,
    /// The whole pause, always.
    None,
}

/// Pauses that grow by a factor from attempt to attempt, up to a cap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) factor: f64,
    pub(super) max: Duration,
    pub(super) jitter: Jitter,
}

impl Backoff {
    /// The pause after the failed attempt `attempt`, counted from 1.
    pub(super) fn delay(&self, attempt: u32, random: &Random) -> Duration {
        let whole = self.without_jitter(attempt);
        match self.jitter {
            Jitter::None => whole,
            Jitter::Full => Duration::from_nanos(random.up_to(nanos(whole))),
        }
    }

    fn without_jitter(&self, attempt: u32) -> Duration {
        let growths = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(growths);
        // The comparison is also false for infinity, and for zero times infinity, which is no number.
        if seconds < self.max.as_secs_f64() {
            Duration::try_from_secs_f64(seconds).unwrap_or(self.max)
        } else if self.first.is_zero() {
            Duration::ZERO
        } else {
            self.max
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(first: u64, factor: f64, max: u64, jitter: Jitter) -> Backoff {
        Backoff {
            first: Duration::from_millis(first),
            factor,
            max: Duration::from_millis(max),
            jitter,
        }
    }

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_cap() {
        let random = Random::from_seed(1);
        for (first, factor, max, expected) in [
            (100, 2.0, 1_000, [100, 200, 400, 800, 1_000, 1_000]),
            (100, 1.0, 1_000, [100, 100, 100, 100, 100, 100]),
            (50, 3.0, 10_000, [50, 150, 450, 1_350, 4_050, 10_000]),
            (700, 2.0, 500, [500, 500, 500, 500, 500, 500]),
            (0, 2.0, 500, [0, 0, 0, 0, 0, 0]),
            (100, 2.0, 0, [0, 0, 0, 0, 0, 0]),
        ] {
            let backoff = backoff(first, factor, max, Jitter::None);
            let pauses: Vec<u128> = (1..=6)
                .map(|attempt| backoff.delay(attempt, &random).as_millis())
                .collect();
            assert_eq!(pauses, expected, "{backoff:?}");
        }
    }

    #[test]
    fn full_jitter_takes_any_part_of_the_pause() {
        let random = Random::from_seed(7);
        let backoff = backoff(1_000, 2.0, 60_000, Jitter::Full);
        for attempt in 1..=5 {
            let whole = backoff.without_jitter(attempt);
            let pauses: Vec<Duration> = (0..500).map(|_| backoff.delay(attempt, &random)).collect();
            assert!(pauses.iter().all(|pause| *pause <= whole));
            for tenth in 0..10 {
                let (low, high) = (whole * tenth / 10, whole * (tenth + 1) / 10);
                let inside = pauses.iter().filter(|pause| (low..high).contains(pause));
                assert!(inside.count() > 20, "attempt {attempt}, tenth {tenth}");
            }
        }
    }

    #[test]
    fn extremes_stay_below_the_cap() {
        let random = Random::from_seed(1);
        let huge = Backoff {
            first: Duration::MAX,
            factor: f64::MAX,
            max: Duration::MAX,
            jitter: Jitter::None,
        };
        assert_eq!(huge.delay(1, &random), Duration::MAX);
        assert_eq!(huge.delay(u32::MAX, &random), Duration::MAX);
        let capped = backoff(1, 2.0, 60_000, Jitter::None);
        assert_eq!(capped.delay(u32::MAX, &random), Duration::from_secs(60));
        assert_eq!(capped.delay(0, &random), Duration::from_millis(1));
        let nothing = backoff(0, 10.0, 60_000, Jitter::None);
        assert_eq!(nothing.delay(u32::MAX, &random), Duration::ZERO);
    }
}
