//! The calls of a short time, and the quantile of their run times, if it is known.
//!
//! A call that succeeded says how long it took. A call that was cut off at a limit says only that it would have taken longer: its
//! time is censored. To leave such calls out would make the slow ones vanish, and the limit that cuts them off could only
//! shrink. To count them with the time at which they were cut off would let a limit of several times that time grow without
//! end. So the quantile is that of the product-limit estimator:
//!
//! Kaplan and Meier: Nonparametric estimation from incomplete observations (1958).
//!
//! Of the calls that have run for a time t, some share succeeds at t. The product of the rest over all t is the share of calls
//! that take longer. A call that was cut off at t counts among those that ran until t, and then no more. Where too many are cut
//! off, the quantile is not known: it lies beyond.
//!
//! A call that failed before its limit says nothing of how long a success takes. It is left out, and only counted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stats::{bucket_of, top_of};
use crate::sync::nanos;

/// Calls by how long they ran, in the buckets of [`Distribution`](crate::Distribution): a time is known to an eighth.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    bins: BTreeMap<usize, Bin>,
    succeeded: u64,
    cut_off: u64,
    /// Of these nothing is known but that there were calls: they failed, or may still be running.
    others: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    succeeded: u64,
    cut_off: u64,
}

/// What some calls say about the quantile of their run times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantile {
    /// They are too few.
    TooFew,
    /// It is longer than the calls ran: too many of them did not succeed.
    Beyond,
    Known(Duration),
}

impl Samples {
    pub(super) fn succeed(&mut self, run_time: Duration) {
        self.bin(run_time).succeeded += 1;
        self.succeeded += 1;
    }

    pub(super) fn cut_off(&mut self, after: Duration) {
        self.bin(after).cut_off += 1;
        self.cut_off += 1;
    }

    pub(super) fn other(&mut self) {
        self.others += 1;
    }

    fn bin(&mut self, time: Duration) -> &mut Bin {
        self.bins.entry(bucket_of(nanos(time))).or_default()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (bucket, bin) in &other.bins {
            let sum = self.bins.entry(*bucket).or_default();
            sum.succeeded += bin.succeeded;
            sum.cut_off += bin.cut_off;
        }
        self.succeeded += other.succeeded;
        self.cut_off += other.cut_off;
        self.others += other.others;
    }

    pub(super) fn successes(&self) -> u64 {
        self.succeeded
    }

    pub(super) fn timeouts(&self) -> u64 {
        self.cut_off
    }

    /// All whose times are known, or known to be longer.
    fn ended(&self) -> u64 {
        self.succeeded + self.cut_off
    }

    /// All that were told of.
    pub(super) fn seen(&self) -> u64 {
        self.ended() + self.others
    }

    /// `minimum`: how many successes it takes.
    pub(super) fn quantile(&self, quantile: f64, minimum: u64) -> Quantile {
        if self.succeeded < minimum {
            return if self.ended() < minimum {
                Quantile::TooFew
            } else {
                Quantile::Beyond
            };
        }
        let mut running = self.ended();
        let mut longer = 1.0;
        for (bucket, bin) in &self.bins {
            if bin.succeeded > 0 {
                longer *= 1.0 - bin.succeeded as f64 / running as f64;
                // The allowance is for the rounding of a product of many shares.
                if longer <= 1.0 - quantile + 1e-9 {
                    return Quantile::Known(Duration::from_nanos(top_of(*bucket)));
                }
            }
            running -= bin.succeeded + bin.cut_off;
        }
        Quantile::Beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times of the calls that succeeded, and of those that did not, with how many of each.
    type Calls<'a> = &'a [(u64, u64)];

    fn samples(succeeded: Calls<'_>, cut_off: Calls<'_>) -> Samples {
        let mut samples = Samples::default();
        for &(millis, times) in succeeded {
            (0..times).for_each(|_| samples.succeed(Duration::from_millis(millis)));
        }
        for &(millis, times) in cut_off {
            (0..times).for_each(|_| samples.cut_off(Duration::from_millis(millis)));
        }
        samples
    }

    fn known(millis: u64) -> Quantile {
        let bucket = bucket_of(nanos(Duration::from_millis(millis)));
        Quantile::Known(Duration::from_nanos(top_of(bucket)))
    }

    #[test]
    fn the_quantile_of_successes_and_of_calls_that_were_cut_off() {
        let table: &[(&str, Calls<'_>, Calls<'_>, f64, Quantile)] = &[
            ("none", &[], &[], 0.9, Quantile::TooFew),
            ("too few", &[(10, 9)], &[], 0.9, Quantile::TooFew),
            ("just enough", &[(10, 10)], &[], 0.9, known(10)),
            (
                "the quantile of plain times",
                &[(10, 90), (50, 10)],
                &[],
                0.9,
                known(10),
            ),
            ("one above it", &[(10, 89), (50, 11)], &[], 0.9, known(50)),
            ("the median", &[(10, 50), (50, 50)], &[], 0.5, known(10)),
            (
                "those that were cut off at once say nothing",
                &[(10, 90), (50, 10)],
                &[(1, 5_000)],
                0.9,
                known(10),
            ),
            ("a few are cut off", &[(10, 95)], &[(60, 5)], 0.9, known(10)),
            (
                "too many are cut off",
                &[(10, 80)],
                &[(60, 20)],
                0.9,
                Quantile::Beyond,
            ),
            ("all are cut off", &[], &[(60, 100)], 0.9, Quantile::Beyond),
            (
                "few, and all of them cut off",
                &[],
                &[(60, 5)],
                0.9,
                Quantile::TooFew,
            ),
            (
                "few successes among many that were cut off",
                &[(10, 3)],
                &[(1, 100)],
                0.9,
                Quantile::Beyond,
            ),
            // Those that were given more time tell how long the others would have taken.
            (
                "slow since, seen by those with more time",
                &[(200, 12)],
                &[(60, 180)],
                0.9,
                known(200),
            ),
            (
                "half slow, seen by a few",
                &[(10, 100), (200, 6)],
                &[(60, 94)],
                0.9,
                known(200),
            ),
            (
                "dying, also with more time",
                &[(10, 50)],
                &[(60, 180), (10_000, 12)],
                0.9,
                Quantile::Beyond,
            ),
        ];
        for (what, succeeded, cut_off, quantile, expected) in table {
            let samples = samples(succeeded, cut_off);
            assert_eq!(samples.quantile(*quantile, 10), *expected, "{what}");
        }
    }

    #[test]
    fn the_numbers_of_two_times_add_up() {
        let mut all = samples(&[(10, 5)], &[(60, 1)]);
        let mut other = samples(&[(10, 4), (20, 1)], &[]);
        other.other();
        all.add(&other);
        assert_eq!((all.successes(), all.timeouts(), all.seen()), (10, 1, 12));
        assert_eq!(all.quantile(0.5, 10), known(10));
    }

    #[test]
    fn times_at_both_ends_have_a_place() {
        let mut samples = Samples::default();
        samples.succeed(Duration::ZERO);
        samples.cut_off(Duration::MAX);
        samples.succeed(Duration::MAX);
        assert_eq!(samples.quantile(0.3, 1), Quantile::Known(Duration::ZERO));
        assert!(matches!(samples.quantile(0.99, 1), Quantile::Beyond));
    }
}
