//! Random pauses, so that the processes of a fleet do not all ask their storage at the same moment.

use std::time::Duration;

use crate::sync;

/// Shortens pauses at random. Each synchronizer has its own sequence.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new() -> Self {
        Self::from_seed(sync::random_seed())
    }

    fn from_seed(seed: u64) -> Self {
        // The generator stays at zero for ever.
        Self(seed.max(1))
    }

    /// Between `share` of the pause and the whole pause, `share` being between 0 and 1.
    pub(super) fn shorten(&mut self, pause: Duration, share: f64) -> Duration {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let random = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        pause.mul_f64((share + (1.0 - share) * random).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_over_their_range() {
        let pause = Duration::from_secs(2);
        for seed in [0, 1, 7, u64::MAX] {
            let mut jitter = Jitter::from_seed(seed);
            let pauses: Vec<f64> = (0..1_000)
                .map(|_| jitter.shorten(pause, 0.5).as_secs_f64())
                .collect();
            assert!(pauses.iter().all(|pause| (1.0..=2.0).contains(pause)));
            for tenth in 0..10 {
                let low = 1.0 + f64::from(tenth) / 10.0;
                let inside = pauses
                    .iter()
                    .filter(|pause| (low..low + 0.1).contains(*pause));
                assert!(inside.count() > 50, "seed {seed}, from {low} s");
            }
        }
    }

    #[test]
    fn two_sequences_differ() {
        let pause = Duration::from_secs(1);
        let (mut one, mut two) = (Jitter::new(), Jitter::new());
        let mut equal = 0;
        for _ in 0..100 {
            let apart = one.shorten(pause, 0.8).abs_diff(two.shorten(pause, 0.8));
            equal += usize::from(apart < Duration::from_micros(1));
        }
        assert!(equal < 10, "{equal} of 100 are equal");
    }

    #[test]
    fn extremes() {
        let mut jitter = Jitter::new();
        assert_eq!(jitter.shorten(Duration::ZERO, 0.5), Duration::ZERO);
        let years = Duration::from_secs(100 * 365 * 86_400);
        assert!(jitter.shorten(years, 0.5) <= years);
    }
}
