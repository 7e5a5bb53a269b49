//! Who is compared, on what.

use std::time::{Duration, Instant};

use crate::limit::{Looking, Parked, Small};
use crate::place::Place;
use crate::pools::{Bulkman, ByHand, Pool, Rayon, RustyPool, ThreadPool, Tokio};
use crate::python::{Python, Venv};

/// What is measured, with a task that does nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Submits one task and waits for its result, again and again.
    OneByOne,
    /// Submits all tasks, keeps their handles, and then waits for all.
    Batch,
    /// Submits to a pool that is full.
    Refused,
}

/// Somebody who does that work.
pub trait Candidate {
    fn name(&self) -> &'static str;

    /// How long so many calls took in all.
    fn run(&mut self, calls: usize) -> Duration;

    /// How many of the calls that are asked of everybody this one makes in a round.
    fn share_of(&self, calls: usize) -> usize {
        calls
    }
}

/// Why there is no candidate that refuses.
pub const UNBOUNDED: &str = "takes every call";

/// A candidate, or the reason why there is none.
pub type Entry = (&'static str, Result<Box<dyn Candidate>, String>);

/// Everybody for this work, started in this place. bulkman comes first.
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
        if place.caller != place.workers {
            let looking = place.start(Looking::start);
            entries.push((Looking::NAME, Ok(boxed(looking))));
        }
    }
    entries
}

fn boxed<C: Candidate + 'static>(candidate: C) -> Box<dyn Candidate> {
    Box::new(candidate)
}

fn entry<P: Pool + 'static>(work: Work, workers: usize) -> Entry {
    let candidate = match work {
        Work::OneByOne | Work::Batch => {
            let pool = P::start(workers, 100_000);
            // Pools that start threads late start them here, where the workers belong.
            pool.batch(1_000);
            let round = if work == Work::Batch {
                P::batch
            } else {
                one_by_one
            };
            Ok(boxed(Timed { pool, round }))
        }
        Work::Refused => match P::start_full() {
            Some(pool) => Ok(boxed(Timed {
                pool,
                round: refused,
            })),
            None => Err(UNBOUNDED.to_owned()),
        },
    };
    (P::NAME, candidate)
}

struct Timed<P> {
    pool: P,
    round: fn(&P, usize),
}

impl<P: Pool> Candidate for Timed<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn run(&mut self, calls: usize) -> Duration {
        let began = Instant::now();
        (self.round)(&self.pool, calls);
        began.elapsed()
    }
}

/// Also what `bin/allocations.rs` counts.
pub fn one_by_one<P: Pool>(pool: &P, calls: usize) {
    for _ in 0..calls {
        pool.wait(pool.submit());
    }
}

fn refused<P: Pool>(pool: &P, calls: usize) {
    for _ in 0..calls {
        assert!(pool.is_refused(), "a full pool refuses");
    }
}
