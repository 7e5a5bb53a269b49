//! All candidates: bulkman, the other pools, and the limits of the machine.

use std::time::{Duration, Instant};

use crate::candidate::{Candidate, Work};
use crate::limit::{Looking, Parked, Small};
use crate::place::Place;
use crate::pools::{Bulkman, ByHand, Pool, Rayon, RustyPool, ThreadPool, Tokio};
use crate::python::{Python, Venv};

const PAUSE: Duration = Duration::from_micros(500);

/// Why there is no candidate that refuses.
pub const UNBOUNDED: &str = "takes every call";

/// A candidate, or the reason why there is none.
pub type Entry = (&'static str, Result<Box<dyn Candidate>, String>);

/// All candidates for this work, started in this place. bulkman comes first.
pub fn all(work: Work, workers: usize, place: &Place, python: &Result<Venv, String>) -> Vec<Entry> {
    let mut entries = place.start(|| {
        vec![
            entry::<Bulkman>(work, workers),
            entry::<ByHand>(work, workers),
            entry::<Rayon>(work, workers),
            entry::<RustyPool>(work, workers),
            entry::<ThreadPool>(work, workers),
            entry::<Tokio>(work, workers),
        ]
    });
    let started = python.as_ref().map_err(String::clone);
    let started = started.and_then(|venv| Python::start(venv, work, workers, place));
    entries.push((Python::NAME, started.map(boxed)));
    if work != Work::Refused {
        entries.push(place.start(|| entry::<Small>(work, workers)));
    }
    if work == Work::OneByOne {
        let parked = place.start(Parked::start);
        entries.push((Parked::NAME, Ok(boxed(parked))));
        let looking = place.start(if place.caller == place.workers {
            Looking::yielding
        } else {
            Looking::without_a_pause
        });
        entries.push((looking.name(), Ok(boxed(looking))));
    }
    entries
}

fn boxed<C: Candidate + 'static>(candidate: C) -> Box<dyn Candidate> {
    Box::new(candidate)
}

fn entry<P: Pool + 'static>(work: Work, workers: usize) -> Entry {
    let candidate = match work {
        Work::OneByOne | Work::Batch | Work::NowAndThen => {
            let pool = P::start(workers, 100_000);
            // Pools that start threads late start them here, where the workers belong.
            pool.batch(1_000);
            let round: Round<P> = match work {
                Work::Batch => |pool, calls| timed(|| pool.batch(calls)),
                Work::NowAndThen => now_and_then,
                _ => |pool, calls| timed(|| one_by_one(pool, calls)),
            };
            Ok(boxed(Timed { pool, round }))
        }
        Work::Refused => match P::start_full() {
            Some(pool) => {
                let round: Round<P> = |pool, calls| timed(|| refused(pool, calls));
                Ok(boxed(Timed { pool, round }))
            }
            None => Err(UNBOUNDED.to_owned()),
        },
    };
    (P::NAME, candidate)
}

/// How long so many calls took in all.
type Round<P> = fn(&P, usize) -> Duration;

struct Timed<P> {
    pool: P,
    round: Round<P>,
}

impl<P: Pool> Candidate for Timed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn run(&mut self, calls: usize) -> Duration {
        (self.round)(&self.pool, calls)
    }
}

fn timed(round: impl FnOnce()) -> Duration {
    let began = Instant::now();
    round();
    began.elapsed()
}

/// Also what `bin/allocations.rs` counts.
pub fn one_by_one<P: Pool>(pool: &P, calls: usize) {
    for _ in 0..calls {
        pool.wait(pool.submit());
    }
}

fn now_and_then<P: Pool>(pool: &P, calls: usize) -> Duration {
    let call = |_| {
        std::thread::sleep(PAUSE);
        timed(|| pool.wait(pool.submit()))
    };
    (0..calls).map(call).sum()
}

fn refused<P: Pool>(pool: &P, calls: usize) {
    for _ in 0..calls {
        assert!(pool.is_refused(), "a full pool refuses");
    }
}
