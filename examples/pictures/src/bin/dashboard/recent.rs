//! The ends of the calls of the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bulkman::BulkheadError;

use super::dependency::NoAnswer;

/// How far back the numbers look.
const SPAN: Duration = Duration::from_secs(2);
/// How many frames the curves have.
pub const CURVE: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Failed,
    TimedOut,
    Rejected,
}

impl End {
    pub fn of(error: Option<&BulkheadError<NoAnswer>>) -> Self {
        match error {
            None => Self::Succeeded,
            Some(error) if error.is_rejected() => Self::Rejected,
            Some(error) if error.is_timeout() => Self::TimedOut,
            Some(_) => Self::Failed,
        }
    }
}

#[derive(Default)]
pub struct Recent {
    ends: VecDeque<(Instant, End, Duration)>,
}

/// What the last seconds were like.
#[derive(Clone, Copy, Default)]
pub struct Rates {
    pub succeeded: f64,
    pub failed: f64,
    pub timed_out: f64,
    pub rejected: f64,
    /// Of the calls that were not refused.
    pub median: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Recent {
    pub fn add(&mut self, end: End, took: Duration) {
        self.ends.push_back((Instant::now(), end, took));
    }

    pub fn rates(&mut self) -> Rates {
        let now = Instant::now();
        let is_old = |at: Instant| now.saturating_duration_since(at) > SPAN;
        while self.ends.front().is_some_and(|(at, ..)| is_old(*at)) {
            self.ends.pop_front();
        }
        let per_second = |end| {
            let calls = self.ends.iter().filter(|(_, other, _)| *other == end);
            calls.count() as f64 / SPAN.as_secs_f64()
        };
        let mut times: Vec<Duration> = self
            .ends
            .iter()
            .filter(|(_, end, _)| *end != End::Rejected)
            .map(|(_, _, took)| *took)
            .collect();
        times.sort();
        let quantile = |share: f64| times.get((share * times.len() as f64) as usize).copied();
        Rates {
            succeeded: per_second(End::Succeeded),
            failed: per_second(End::Failed),
            timed_out: per_second(End::TimedOut),
            rejected: per_second(End::Rejected),
            median: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}
