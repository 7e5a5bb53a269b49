//! bulkman beside other thread pools, on the same work in the same run.
//!
//! The candidates alternate round by round, so that a change of the machine's mood hits all of them.
//! Threads are placed: all on one core, caller and workers on two cores, or wherever the scheduler
//! likes. Medians over the rounds, and ratios of medians within a run, are what counts; absolute times
//! move with the machine.

mod candidates;
mod report;

use std::time::Instant;

use candidates::{Candidate, all};
use report::Row;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Where the threads of a comparison run.
#[derive(Clone, Copy, PartialEq)]
pub enum Placement {
    OneCore,
    TwoCores,
    Scheduler,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one core",
            Self::TwoCores => "two cores",
            Self::Scheduler => "scheduler",
        }
    }

    /// Places the calling thread as a worker; threads that it starts inherit that.
    fn as_worker(self) {
        pin(match self {
            Self::OneCore => &[0],
            Self::TwoCores => &[1],
            Self::Scheduler => &[0, 1],
        });
    }

    fn as_caller(self) {
        pin(match self {
            Self::OneCore | Self::TwoCores => &[0],
            Self::Scheduler => &[0, 1],
        });
    }
}

fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).expect("the machine has two cores");
}

/// What is measured: nanoseconds per call of one round.
struct Work {
    name: &'static str,
    placement: Placement,
    workers: usize,
    calls: usize,
    round: fn(&dyn Candidate, usize),
}

fn one_by_one(candidate: &dyn Candidate, calls: usize) {
    for _ in 0..calls {
        candidate.round_trip();
    }
}

fn all_then_wait(candidate: &dyn Candidate, calls: usize) {
    candidate.batch(calls);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(15, |n| n.parse().expect("rounds"));
    let out = args.next();
    let works = [
        Work {
            name: "execute, wait",
            placement: Placement::TwoCores,
            workers: 1,
            calls: 2_000,
            round: one_by_one,
        },
        Work {
            name: "execute, wait",
            placement: Placement::OneCore,
            workers: 1,
            calls: 5_000,
            round: one_by_one,
        },
        Work {
            name: "execute, wait",
            placement: Placement::Scheduler,
            workers: 2,
            calls: 2_000,
            round: one_by_one,
        },
        Work {
            name: "50,000 handles, then wait",
            placement: Placement::TwoCores,
            workers: 2,
            calls: 50_000,
            round: all_then_wait,
        },
        Work {
            name: "50,000 handles, then wait",
            placement: Placement::OneCore,
            workers: 2,
            calls: 50_000,
            round: all_then_wait,
        },
        Work {
            name: "50,000 handles, then wait",
            placement: Placement::Scheduler,
            workers: 2,
            calls: 50_000,
            round: all_then_wait,
        },
    ];
    let mut rows = Vec::new();
    for work in &works {
        work.placement.as_worker();
        let candidates = all(work.workers);
        for candidate in &candidates {
            // Pools that start threads late start them here, where a worker belongs.
            candidate.batch(1_000);
        }
        work.placement.as_caller();
        let mut times = vec![Vec::new(); candidates.len()];
        for round in 0..rounds + 1 {
            for (candidate, times) in candidates.iter().zip(&mut times) {
                let began = Instant::now();
                (work.round)(candidate.as_ref(), work.calls);
                let nanos = began.elapsed().as_nanos() as f64 / work.calls as f64;
                // The first round only warms up.
                if round > 0 {
                    times.push(nanos);
                }
            }
        }
        for (candidate, times) in candidates.iter().zip(times) {
            rows.push(Row::new(
                work.name,
                work.placement.name(),
                candidate.name(),
                times,
            ));
        }
        eprintln!("measured: {}, {}", work.name, work.placement.name());
    }
    println!("{}", report::table(&rows, rounds));
    if let Some(path) = out {
        std::fs::write(&path, report::chart(&rows)).expect("the chart can be written");
    }
}
