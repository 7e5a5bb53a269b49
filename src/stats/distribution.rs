//! Durations counted in buckets that widen with the value: one writer, many readers, no lock.

use std::fmt;
use std::time::Duration;
// Not from `sync`: each bucket stands for itself and no decision rests on one, so there is nothing for a
// model to explore.
use std::sync::atomic::{AtomicU64, Ordering};

/// 8 buckets for each power of two: a bucket is at most an eighth as wide as its values.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;
/// Values of 2^42 ns (73 minutes) and more share the last bucket; mean and maximum stay exact.
const TOP_BITS: u32 = 42;
const BUCKETS: usize = ((TOP_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

pub(crate) fn bucket_of(nanos: u64) -> usize {
    if nanos < SUB {
        return nanos as usize;
    }
    let power = 63 - nanos.leading_zeros();
    let sub = (nanos >> (power - SUB_BITS)) & (SUB - 1);
    let bucket = (u64::from(power - SUB_BITS + 1) << SUB_BITS) + sub;
    (bucket as usize).min(BUCKETS - 1)
}

/// The largest value that falls into the bucket.
pub(crate) fn top_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let power = bucket / SUB - 1;
    ((SUB + bucket % SUB + 1) << power) - 1
}

/// Written by one thread, or by many with [`record_of_many`](Recorder::record_of_many) alone; read by any.
pub(crate) struct Recorder {
    total_nanos: AtomicU64,
    max_nanos: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

/// Adds to a number that no other thread writes: a plain load and store, no locked instruction.
fn bump(number: &AtomicU64, by: u64) {
    let value = number.load(Ordering::Relaxed);
    number.store(value.saturating_add(by), Ordering::Relaxed);
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            total_nanos: AtomicU64::new(0),
            max_nanos: AtomicU64::new(0),
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// To be called by the one writer only.
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        bump(&self.buckets[bucket_of(nanos)], 1);
        bump(&self.total_nanos, nanos);
        if nanos > self.max_nanos.load(Ordering::Relaxed) {
            // A read-modify-write, because `forget_max` writes here too.
            self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// As [`record`](Self::record), for a recorder that any thread writes to.
    pub(crate) fn record_of_many(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // ORDERING: Relaxed. Each number stands for itself.
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.total_nanos.fetch_add(nanos, Ordering::Relaxed);
        if nanos > self.max_nanos.load(Ordering::Relaxed) {
            self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    pub(crate) fn forget_max(&self) {
        self.max_nanos.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, sum: &mut Distribution) {
        for (counted, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *counted += bucket.load(Ordering::Relaxed);
        }
        let total = self.total_nanos.load(Ordering::Relaxed);
        sum.total_nanos += u128::from(total);
        let max = self.max_nanos.load(Ordering::Relaxed);
        sum.max_nanos = sum.max_nanos.max(max);
    }
}

/// How long something took, over many calls: count, sum, mean, maximum, quantiles and a histogram.
///
/// Quantiles come from buckets: [`quantile`](Self::quantile) is at most an eighth above the exact
/// value, and never above the maximum. Count, sum, mean and maximum are exact.
///
/// The distributions of several bulkheads or processes can be [added up](Self::merge):
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let [reads, writes] = ["reads", "writes"].map(|name| Bulkhead::new(BulkheadConfig::new(name)).unwrap());
/// reads.run(|| ()).wait();
/// writes.run(|| ()).wait();
/// let mut run_time = reads.stats().run_time;
/// run_time.merge(&writes.stats().run_time);
/// assert_eq!(run_time.count(), 2);
/// assert_eq!(run_time.count_at_most(Duration::from_secs(60)), 2);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Distribution {
    total_nanos: u128,
    max_nanos: u64,
    buckets: Box<[u64]>,
}

impl Distribution {
    pub(crate) fn empty() -> Self {
        Self {
            total_nanos: 0,
            max_nanos: 0,
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    /// Leaves what came after `earlier`, a reading of the same recorders.
    pub(crate) fn subtract(&mut self, earlier: &Self) {
        for (now, before) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*before);
        }
        self.total_nanos = self.total_nanos.saturating_sub(earlier.total_nanos);
    }

    /// Adds what another one has recorded.
    pub fn merge(&mut self, other: &Self) {
        for (sum, counted) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.saturating_add(*counted);
        }
        self.total_nanos = self.total_nanos.saturating_add(other.total_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All recorded durations together; what is longer than 584 years reads as that.
    #[must_use]
    pub fn sum(&self) -> Duration {
        nanos_to_duration(self.total_nanos)
    }

    /// How many durations were at most `bound`: one cumulative bucket of a histogram.
    ///
    /// A duration up to an eighth below `bound` may not be counted, one above it never is. From 73 minutes on the answer
    /// is the same for each `bound` less than [`max`](Self::max).
    #[must_use]
    pub fn count_at_most(&self, bound: Duration) -> u64 {
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        if bound >= self.max_nanos {
            return self.count();
        }
        let whole = bucket_of(bound.saturating_add(1));
        self.buckets[..whole].iter().sum()
    }

    /// The arithmetic mean; zero if nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let nanos = self
            .total_nanos
            .checked_div(u128::from(self.count()))
            .unwrap_or(0);
        nanos_to_duration(nanos).min(self.max())
    }

    /// The longest duration; zero if nothing was recorded.
    #[must_use]
    pub fn max(&self) -> Duration {
        if self.count() == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.max_nanos)
    }

    /// The duration that the share `q` of all recorded ones did not exceed: 0.5 is the median, 0.99
    /// the 99th percentile. Zero if nothing was recorded; `q` is held between 0 and 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        let q = if q.is_nan() { 0.0 } else { q.clamp(0.0, 1.0) };
        let rank = (q * count as f64).ceil() as u64;
        let rank = rank.clamp(1, count.max(1));
        let mut below = 0;
        for (bucket, counted) in self.buckets.iter().enumerate() {
            below += counted;
            if below >= rank {
                return self.upper_end(bucket);
            }
        }
        Duration::ZERO
    }

    /// The longest duration that can be in the bucket.
    fn upper_end(&self, bucket: usize) -> Duration {
        let top = if bucket == BUCKETS - 1 {
            self.max_nanos
        } else {
            top_of(bucket).min(self.max_nanos)
        };
        Duration::from_nanos(top)
    }

    /// The ranges in which there are any durations: the number of the range, how many, and the longest that can be in it.
    #[cfg(feature = "metrics")]
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (usize, u64, Duration)> {
        let all = self.buckets.iter().enumerate();
        all.filter(|(_, counted)| **counted > 0)
            .map(|(bucket, counted)| (bucket, *counted, self.upper_end(bucket)))
    }
}

#[cfg(feature = "config")]
impl serde::Serialize for Distribution {
    /// Times in seconds. `buckets` has a pair for each bucket that is not empty: the largest time that falls into it, and how
    /// many fell into it. Buckets are the same everywhere, so those of a fleet can be added up.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let counted = self.buckets.iter().enumerate();
        let buckets: Vec<(f64, u64)> = counted
            .filter(|(_, counted)| **counted > 0)
            .map(|(bucket, counted)| (Duration::from_nanos(top_of(bucket)).as_secs_f64(), *counted))
            .collect();
        let mut fields = serializer.serialize_struct("Distribution", 5)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum().as_secs_f64())?;
        fields.serialize_field("mean", &self.mean().as_secs_f64())?;
        fields.serialize_field("max", &self.max().as_secs_f64())?;
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

fn nanos_to_duration(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("count", &self.count())
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        let mut values: Vec<u64> = (0..5_000).collect();
        values.extend((3..TOP_BITS).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1]));
        for value in values {
            let bucket = bucket_of(value);
            let top = top_of(bucket);
            assert!(value <= top, "{value} above its bucket's top {top}");
            assert!(
                bucket == 0 || value > top_of(bucket - 1),
                "{value} too high"
            );
            assert!(top - value <= value / 8, "{value} reads as {top}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(top_of(BUCKETS - 1), (1 << TOP_BITS) - 1);
    }

    #[test]
    fn summary_of_a_known_sample() {
        let recorder = Recorder::new();
        for micros in 1..=100 {
            recorder.record(Duration::from_micros(micros));
        }
        let mut seen = Distribution::empty();
        recorder.add_to(&mut seen);
        assert_eq!(seen.count(), 100);
        assert_eq!(seen.mean(), Duration::from_nanos(50_500));
        assert_eq!(seen.max(), Duration::from_micros(100));
        for (q, exact) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100), (7.0, 100)] {
            let exact = Duration::from_micros(exact);
            let read = seen.quantile(q);
            assert!(read >= exact && read <= exact * 9 / 8, "{q}: {read:?}");
        }
        assert_eq!(seen.quantile(f64::NAN), seen.quantile(0.0));
    }

    fn distribution(nanos: impl IntoIterator<Item = u64>) -> Distribution {
        let recorder = Recorder::new();
        for nanos in nanos {
            recorder.record(Duration::from_nanos(nanos));
        }
        let mut seen = Distribution::empty();
        recorder.add_to(&mut seen);
        seen
    }

    #[test]
    fn cumulative_counts_grow_and_miss_at_most_an_eighth_below_their_bound() {
        let values: Vec<u64> = (0..4_000).map(|i| i * i % 100_003).collect();
        let seen = distribution(values.iter().copied());
        let exact = |bound: u64| values.iter().filter(|value| **value <= bound).count() as u64;
        let mut before = 0;
        for bound in (0..110_000).step_by(37) {
            let read = seen.count_at_most(Duration::from_nanos(bound));
            assert!(before <= read && read <= exact(bound), "{bound}: {read}");
            let surely = (bound - bound / 8).saturating_sub(1);
            assert!(read >= exact(surely), "{bound}: {read}");
            before = read;
        }
        for bound in 0..8 {
            let read = distribution(0..100).count_at_most(Duration::from_nanos(bound));
            assert_eq!(read, bound + 1, "small bounds are exact");
        }
        assert_eq!(seen.count_at_most(Duration::MAX), 4_000);
        assert_eq!(
            distribution([u64::MAX]).count_at_most(Duration::from_secs(10_000)),
            0
        );
    }

    #[test]
    fn distributions_add_up() {
        let mut both = distribution([1, 2, 3]);
        both.merge(&distribution([1_000, 5]));
        assert_eq!(both, distribution([5, 1_000, 3, 2, 1]));
        assert_eq!(both.sum(), Duration::from_nanos(1_011));
        both.merge(&Distribution::empty());
        assert_eq!(both.count(), 5);
    }

    #[test]
    fn an_empty_distribution_is_all_zero() {
        let empty = Distribution::empty();
        assert_eq!((empty.count(), empty.mean()), (0, Duration::ZERO));
        assert_eq!(empty.quantile(0.5), Duration::ZERO);
        assert_eq!(
            (empty.sum(), empty.count_at_most(Duration::MAX)),
            (Duration::ZERO, 0)
        );
    }

    #[test]
    fn huge_durations_share_the_last_bucket_and_keep_their_maximum() {
        let recorder = Recorder::new();
        recorder.record(Duration::MAX);
        let mut seen = Distribution::empty();
        recorder.add_to(&mut seen);
        assert_eq!(seen.quantile(0.5), seen.max());
        assert_eq!(seen.max(), Duration::from_nanos(u64::MAX));
    }
}
