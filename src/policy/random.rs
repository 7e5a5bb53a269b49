//! Random numbers that a test can repeat.

use std::sync::Arc;

use crate::sync::{self, AtomicU64, Ordering};

/// SplitMix64 that several threads share. Clones draw from one sequence.
///
/// Steele, Lea and Flood: Fast splittable pseudorandom number generators (2014).
#[derive(Clone, Debug)]
pub(super) struct Random(Arc<AtomicU64>);

impl Random {
    pub(super) fn new() -> Self {
        Self::from_seed(sync::random_seed())
    }

    pub(super) fn from_seed(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    pub(super) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        // ORDERING: Relaxed. Each draw takes a number of its own; nothing else is handed over.
        let next = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number from 0 to `limit`, both included.
    pub(super) fn up_to(&self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * (u128::from(limit) + 1);
        u64::try_from(wide >> 64).unwrap_or(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence() {
        // The first numbers of the authors' own program for the seed 1234567.
        let random = Random::from_seed(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_up_to_a_limit_reach_both_ends() {
        let random = Random::from_seed(3);
        let drawn: Vec<u64> = (0..200).map(|_| random.up_to(3)).collect();
        for number in 0..=3 {
            assert!(drawn.contains(&number), "{number}");
        }
        assert!(drawn.iter().all(|number| *number <= 3));
        assert_eq!(random.up_to(0), 0);
        let _ = random.up_to(u64::MAX);
    }
}
