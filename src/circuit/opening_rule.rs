//! What a closed circuit remembers of its calls, and when that opens it.
//!
//! | rule | remembered | opens |
//! |---|---|---|
//! | failures in a row | the length of the run, and when it last grew | at `failure_threshold` |
//! | a rate over the last n calls | one entry for each call | at the rate, from `minimum_calls` on |
//! | a rate over a period | ten buckets of counts | at the rate, from `minimum_calls` on |
//!
//! When the rules change, what is remembered stays if the new rule remembers the same, and else it begins anew:
//!
//! | from, to | stays |
//! |---|---|
//! | failures in a row, the same | the run |
//! | the last n calls, the last m calls | the last m of them |
//! | a period, the same period | the buckets |
//! | any other | nothing |
//!
//! A remembered call keeps what it counted as when it ended. Rules that do not count slow calls apart ignore which were slow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::config::{CircuitBreakerConfig, CircuitWindow};
use super::state::CircuitChangeReason;

/// One call that the circuit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountedCall {
    pub(super) failed: bool,
    /// Only set where slow calls are counted apart from failures.
    pub(super) slow: bool,
}

/// How many calls, and how many of them failed or were slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: usize,
    pub(super) failures: usize,
    pub(super) slow_calls: usize,
}

#[derive(Debug)]
pub(super) enum RecentCalls {
    Run(Run),
    Calls(CallWindow),
    Time(Box<TimeWindow>),
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Run {
    failures: usize,
    /// When the last of them came. Only used if there is one.
    last: Option<Instant>,
}

/// The last calls, oldest first.
#[derive(Debug, Default)]
pub(super) struct CallWindow {
    last: VecDeque<CountedCall>,
    counts: Counts,
}

/// The calls of a period, which moves on by a tenth of itself.
#[derive(Clone, Debug)]
pub(super) struct TimeWindow {
    /// How long one bucket lasts.
    bucket: Duration,
    buckets: [Counts; Self::BUCKETS],
    newest: usize,
    /// When the newest bucket began; `None` before the first call.
    began: Option<Instant>,
    /// The sum of all buckets.
    counts: Counts,
}

impl Counts {
    #[inline]
    fn add(&mut self, call: CountedCall) {
        self.calls += 1;
        self.failures += usize::from(call.failed);
        self.slow_calls += usize::from(call.slow);
    }

    #[inline]
    fn remove(&mut self, call: CountedCall) {
        self.calls -= 1;
        self.failures -= usize::from(call.failed);
        self.slow_calls -= usize::from(call.slow);
    }

    fn share(self, part: usize) -> Option<f64> {
        (self.calls > 0).then(|| part as f64 / self.calls as f64)
    }

    pub(super) fn failure_rate(self) -> Option<f64> {
        self.share(self.failures)
    }

    pub(super) fn slow_call_rate(self) -> Option<f64> {
        self.share(self.slow_calls)
    }

    /// Whether the share of slow calls reaches its limit.
    #[inline]
    pub(super) fn are_slow(self, rules: &CircuitBreakerConfig) -> bool {
        self.reaches(self.slow_calls, rules.slow_call_rate)
    }

    /// Whether the share of `part` reaches `limit`, which is greater than zero.
    #[inline]
    fn reaches(self, part: usize, limit: Option<f64>) -> bool {
        part > 0 && limit.is_some_and(|limit| part as f64 / self.calls as f64 >= limit)
    }

    /// Counts slow calls apart only if the rules do.
    pub(super) fn go_by(&mut self, rules: &CircuitBreakerConfig) {
        if rules.slow_call_rate.is_none() {
            self.slow_calls = 0;
        }
    }

    /// Why these calls open the circuit, if they do.
    #[inline]
    fn verdict(self, rules: &CircuitBreakerConfig) -> Option<CircuitChangeReason> {
        if self.calls < rules.calls_to_judge() {
            None
        } else if self.reaches(self.failures, rules.failure_rate) {
            Some(CircuitChangeReason::FailureRate)
        } else if self.are_slow(rules) {
            Some(CircuitChangeReason::SlowCalls)
        } else {
            None
        }
    }
}

impl RecentCalls {
    pub(super) fn none(rules: &CircuitBreakerConfig) -> Self {
        match (rules.failure_rate, rules.window) {
            (None, _) => Self::Run(Run::default()),
            (Some(_), CircuitWindow::Calls(_)) => Self::Calls(CallWindow::default()),
            (Some(_), CircuitWindow::Time(period)) => Self::Time(Box::new(TimeWindow::new(period))),
        }
    }

    /// Goes on with what these rules can use, and forgets the rest.
    pub(super) fn go_by(&mut self, rules: &CircuitBreakerConfig) {
        let fresh = Self::none(rules);
        match (&mut *self, &fresh) {
            (Self::Run(_), Self::Run(_)) => {}
            (Self::Calls(window), Self::Calls(_)) => window.go_by(rules),
            (Self::Time(window), Self::Time(same)) if window.bucket == same.bucket => {
                window.go_by(rules);
            }
            _ => *self = fresh,
        }
    }

    /// Counts a call. The answer is why the circuit opens, if it does.
    pub(super) fn add(
        &mut self,
        call: CountedCall,
        now: Instant,
        rules: &CircuitBreakerConfig,
    ) -> Option<CircuitChangeReason> {
        match self {
            Self::Run(run) => {
                run.add(call, now, rules.max_failure_gap);
                (run.failures >= rules.failure_threshold)
                    .then_some(CircuitChangeReason::FailuresInARow)
            }
            Self::Calls(window) => {
                if let CircuitWindow::Calls(size) = rules.window {
                    window.add(call, size);
                }
                window.counts.verdict(rules)
            }
            Self::Time(window) => {
                window.add(call, now);
                window.counts.verdict(rules)
            }
        }
    }

    /// No failure is remembered, and no success has to be.
    pub(super) fn is_clean(&self) -> bool {
        matches!(self, Self::Run(run) if run.failures == 0)
    }

    /// The counts at `now`. Of a run of failures: that run.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        match self {
            Self::Run(run) => Counts {
                calls: run.failures,
                failures: run.failures,
                slow_calls: 0,
            },
            Self::Calls(window) => window.counts,
            Self::Time(window) => {
                let mut window = window.clone();
                window.move_on(now);
                window.counts
            }
        }
    }

    /// The last calls, at most `limit`, oldest first; true is a success.
    pub(super) fn successes(&self, limit: usize) -> Vec<bool> {
        match self {
            Self::Run(run) => vec![false; run.failures.min(limit)],
            Self::Calls(window) => {
                let surplus = window.last.len().saturating_sub(limit);
                let last = window.last.iter().skip(surplus);
                last.map(|call| !call.failed).collect()
            }
            Self::Time(window) => window.successes(limit),
        }
    }
}

impl Run {
    fn add(&mut self, call: CountedCall, now: Instant, max_gap: Duration) {
        if !call.failed {
            self.failures = 0;
            return;
        }
        let is_too_late = |last| now.saturating_duration_since(last) > max_gap;
        if self.failures > 0 && self.last.is_some_and(is_too_late) {
            self.failures = 0;
        }
        self.failures += 1;
        self.last = Some(now);
    }
}

impl CallWindow {
    fn go_by(&mut self, rules: &CircuitBreakerConfig) {
        if let CircuitWindow::Calls(size) = rules.window {
            let surplus = self.last.len().saturating_sub(size);
            for oldest in self.last.drain(..surplus) {
                self.counts.remove(oldest);
            }
            self.last.shrink_to(size);
        }
        if rules.slow_call_rate.is_none() {
            for call in &mut self.last {
                call.slow = false;
            }
        }
        self.counts.go_by(rules);
    }

    #[inline]
    fn add(&mut self, call: CountedCall, size: usize) {
        if self.last.len() >= size {
            if let Some(oldest) = self.last.pop_front() {
                self.counts.remove(oldest);
            }
        }
        self.last.push_back(call);
        self.counts.add(call);
    }
}

impl TimeWindow {
    const BUCKETS: usize = 10;

    fn go_by(&mut self, rules: &CircuitBreakerConfig) {
        for counts in self.buckets.iter_mut().chain([&mut self.counts]) {
            counts.go_by(rules);
        }
    }

    fn new(period: Duration) -> Self {
        Self {
            bucket: period / Self::BUCKETS as u32,
            buckets: [Counts::default(); Self::BUCKETS],
            newest: 0,
            began: None,
            counts: Counts::default(),
        }
    }

    fn add(&mut self, call: CountedCall, now: Instant) {
        self.move_on(now);
        self.buckets[self.newest].add(call);
        self.counts.add(call);
    }

    /// Forgets what is older than the period. A time before the newest bucket counts as that bucket's.
    fn move_on(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        // A valid period is at least a millisecond.
        let steps = passed.as_nanos() / self.bucket.as_nanos().max(1);
        if steps >= Self::BUCKETS as u128 {
            self.buckets = Default::default();
            self.counts = Counts::default();
            self.began = Some(now);
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % Self::BUCKETS;
            let oldest = std::mem::take(&mut self.buckets[self.newest]);
            self.counts.calls -= oldest.calls;
            self.counts.failures -= oldest.failures;
            self.counts.slow_calls -= oldest.slow_calls;
        }
        // Not later than `now`.
        self.began = Some(began + self.bucket * steps as u32);
    }

    /// The order within a bucket is not known: its failures are spread evenly.
    fn successes(&self, limit: usize) -> Vec<bool> {
        let mut newest_first = Vec::new();
        for age in 0..Self::BUCKETS {
            let Counts {
                calls, failures, ..
            } = self.buckets[(self.newest + Self::BUCKETS - age) % Self::BUCKETS];
            let room = limit - newest_first.len();
            let failures_before = |call: usize| call as u128 * failures as u128 / calls as u128;
            newest_first.extend(
                (0..calls)
                    .rev()
                    .take(room)
                    .map(|call| failures_before(call + 1) == failures_before(call)),
            );
        }
        newest_first.reverse();
        newest_first
    }
}
