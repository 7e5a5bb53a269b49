//! What is known of one way at one load.

use std::fmt;
use std::time::Duration;

use super::ways::{Answer, PATIENCE, Way};

pub struct Point {
    pub way: Way,
    pub load: f64,
    /// Calls of the healthy dependency in a second.
    pub offered: f64,
    /// Of these, those whose value came in time.
    pub in_time: f64,
    pub refused: f64,
    /// How long those took that were not refused. `None`: that many had no value by the end.
    pub median: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Point {
    pub fn new(
        way: Way,
        load: f64,
        offered: usize,
        ends: &[(Answer, Duration)],
        measured: Duration,
    ) -> Self {
        let per_second = |calls: usize| calls as f64 / measured.as_secs_f64();
        let mut times: Vec<Duration> = ends
            .iter()
            .filter(|(answer, _)| *answer == Answer::Value)
            .map(|(_, time)| *time)
            .collect();
        times.sort();
        let in_time = times.iter().filter(|time| **time <= PATIENCE).count();
        let refused = ends
            .iter()
            .filter(|(answer, _)| *answer == Answer::Refused)
            .count();
        let accepted = offered - refused;
        let quantile = |share: f64| times.get((share * accepted as f64) as usize).copied();
        Self {
            way,
            load,
            offered: per_second(offered),
            in_time: per_second(in_time),
            refused: per_second(refused),
            median: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: Option<Duration>| match time {
            Some(time) => format!("{} ms", time.as_millis()),
            None => "never".to_owned(),
        };
        write!(
            f,
            "{:>5}  {:<24}{:>9.0}{:>9.0}{:>9.0}{:>10}{:>10}",
            self.load,
            self.way.name(),
            self.offered,
            self.in_time,
            self.refused,
            shown(self.median),
            shown(self.p99)
        )
    }
}
