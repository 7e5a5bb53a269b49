//! The rules of a circuit that threads read without its lock: one word, which a change of rules replaces as a whole.

use std::time::Duration;

use super::config::CircuitBreakerConfig;
use crate::sync::nanos;

/// `limit of a slow call in nanoseconds << 3 | one bit for each of three answers`.
///
/// A limit that the bits cannot hold is none: it is longer than 73 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveRules(u64);

const LIMIT_SHIFT: u32 = 3;
const NO_LIMIT: u64 = u64::MAX >> LIMIT_SHIFT;

const TIMEOUTS_ARE_FAILURES: u64 = 0b001;
const CANCELLED_CALLS_ARE_NEUTRAL: u64 = 0b010;
const REFUSES_QUEUED_WHEN_OPEN: u64 = 0b100;

impl LiveRules {
    pub(super) fn of(config: &CircuitBreakerConfig) -> Self {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let limit = config.slow_call_duration.map_or(NO_LIMIT, nanos);
        Self(
            limit.min(NO_LIMIT) << LIMIT_SHIFT
                | bit(config.timeouts_are_failures, TIMEOUTS_ARE_FAILURES)
                | bit(
                    config.cancelled_calls_are_neutral,
                    CANCELLED_CALLS_ARE_NEUTRAL,
                )
                | bit(config.refuse_queued_when_open, REFUSES_QUEUED_WHEN_OPEN),
        )
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// The length of a call counts.
    #[inline]
    pub(super) fn measures_calls(self) -> bool {
        self.0 >> LIMIT_SHIFT != NO_LIMIT
    }

    /// Whether a call that ran for `time` was slow.
    #[inline]
    pub(super) fn is_slow(self, time: Duration) -> bool {
        self.measures_calls() && nanos(time) > self.0 >> LIMIT_SHIFT
    }

    #[inline]
    pub(crate) fn timeouts_are_failures(self) -> bool {
        self.0 & TIMEOUTS_ARE_FAILURES != 0
    }

    #[inline]
    pub(crate) fn cancelled_calls_are_neutral(self) -> bool {
        self.0 & CANCELLED_CALLS_ARE_NEUTRAL != 0
    }

    #[inline]
    pub(crate) fn refuses_queued_when_open(self) -> bool {
        self.0 & REFUSES_QUEUED_WHEN_OPEN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANO: Duration = Duration::from_nanos(1);
    const LONGEST: Duration = Duration::from_nanos(NO_LIMIT - 1);

    #[test]
    fn a_call_is_slow_that_ran_for_longer_than_the_limit() {
        let rules = CircuitBreakerConfig::default();
        for (limit, time, is_slow) in [
            (None, Duration::MAX, false),
            (Some(NANO), Duration::ZERO, false),
            (Some(NANO), NANO, false),
            (Some(NANO), 2 * NANO, true),
            (Some(NANO), Duration::MAX, true),
            (Some(LONGEST), LONGEST, false),
            (Some(LONGEST), LONGEST + NANO, true),
            (Some(LONGEST + NANO), Duration::MAX, false),
            (Some(Duration::MAX), Duration::MAX, false),
        ] {
            let live = LiveRules::of(&CircuitBreakerConfig {
                slow_call_duration: limit,
                ..rules.clone()
            });
            assert_eq!(live.is_slow(time), is_slow, "{time:?} of {limit:?}");
            let is_limited = limit.is_some_and(|limit| limit <= LONGEST);
            assert_eq!(live.measures_calls(), is_limited, "{limit:?}");
        }
    }

    #[test]
    fn each_answer_has_a_bit_of_its_own() {
        for limit in [None, Some(NANO), Some(Duration::MAX)] {
            for answers in 0..8 {
                let is_set = |bit| answers & bit != 0;
                let live = LiveRules::of(&CircuitBreakerConfig {
                    slow_call_duration: limit,
                    timeouts_are_failures: is_set(1),
                    cancelled_calls_are_neutral: is_set(2),
                    refuse_queued_when_open: is_set(4),
                    ..CircuitBreakerConfig::default()
                });
                assert_eq!(LiveRules::from_word(live.word()), live);
                assert_eq!(live.timeouts_are_failures(), is_set(1));
                assert_eq!(live.cancelled_calls_are_neutral(), is_set(2));
                assert_eq!(live.refuses_queued_when_open(), is_set(4));
            }
        }
    }
}
