//! bulkman beside other thread pools, on the same work in the same run. For Linux, where a thread can be placed.
//!
//! ```sh
//! cd benches/peers
//! cargo run --release              # 25 rounds, printed; about a minute
//! cargo run --release -- 3         # a first look
//! cargo run --release -- --write   # and written into README.md, benches/README.md and benches/chart.svg
//! ```
//!
//! The candidates take turns round by round, so that a change of the machine's load hits all of them. Threads are
//! placed: caller and workers on a core each, all on one core, or wherever the scheduler puts them. Medians over the
//! rounds, and ratios of medians within a run, count; absolute times move with the machine.

mod arguments;
mod report;

use std::process::Command;

use arguments::Arguments;
use bulkman_peers::candidate::{Candidate, Work};
use bulkman_peers::candidates::{Entry, all};
use bulkman_peers::place::{BusyCores, Place};
use bulkman_peers::python::Venv;
use report::{Allocations, CHART, DETAILS, README, Report, Row, Section, machine, write_into};

fn main() {
    let arguments = Arguments::get();
    keep_freed_memory();
    // Before anything runs, so that the load is that of others.
    let machine = machine::describe();
    let allocations = count_allocations();
    let python = Venv::get();
    if let Err(why) = &python {
        eprintln!("without Python's bulkman: {why}");
    }
    let mut sections = Vec::new();
    for (work, workers, calls) in [
        (Work::OneByOne, 1, 2_000),
        (Work::Batch, 2, 50_000),
        (Work::NowAndThen, 2, 100),
        (Work::Refused, 1, 100_000),
    ] {
        let places = [
            Place::two_cores(),
            Some(Place::one_core()),
            Some(Place::scheduler()),
        ];
        let places = places.into_iter().flatten().filter(|place| match work {
            Work::OneByOne | Work::Batch => true,
            // All cores are busy, or the caller does it alone.
            Work::NowAndThen | Work::Refused => *place == Place::scheduler(),
        });
        for place in places {
            let entries = all(work, workers, &place, &python);
            let _busy = (work == Work::NowAndThen).then(BusyCores::start);
            let rows = measure(entries, calls, arguments.rounds);
            eprintln!("measured: {work:?}, {}", place.name);
            sections.push(Section {
                work,
                place: place.name,
                rows,
            });
        }
    }
    let report = Report {
        rounds: arguments.rounds,
        machine,
        sections,
        allocations,
    };
    println!("{}", report.full());
    if arguments.write {
        write_into(README, &report.short());
        write_into(DETAILS, &report.full());
        std::fs::write(CHART, report.chart()).expect("the chart can be written");
    }
}

/// Starts this program anew if the C library would give memory back to the system between rounds: whether it does
/// depends on which block was freed last, and page faults of some 80 ns a call would be one candidate's bad luck.
fn keep_freed_memory() {
    const SETTINGS: [&str; 2] = ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"];
    if SETTINGS.iter().all(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("a path"));
    again.args(std::env::args_os().skip(1));
    for name in SETTINGS {
        again.env(name, "1000000000");
    }
    let status = again.status().expect("it starts again");
    std::process::exit(status.code().unwrap_or(1));
}

/// So many rounds, in which each candidate has its turn, forth and back, so that none always follows the same one.
fn measure(entries: Vec<Entry>, calls: usize, rounds: usize) -> Vec<Row> {
    let mut taking_part = Vec::new();
    for (name, entry) in entries {
        let (candidate, times) = match entry {
            Ok(candidate) => (Some(candidate), Ok(Vec::new())),
            Err(why) => (None, Err(why)),
        };
        taking_part.push((name, candidate, times));
    }
    for round in 0..rounds {
        let mut turns: Vec<_> = taking_part.iter_mut().collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (_, candidate, times) in turns {
            if let (Some(candidate), Ok(times)) = (candidate, times) {
                times.push(turn(candidate.as_mut(), calls));
            }
        }
    }
    let row = |(name, _, times)| Row::new(name, times);
    taking_part.into_iter().map(row).collect()
}

/// Nanoseconds a call. A fifth of the calls first, untimed: the one before may just be going to sleep.
fn turn(candidate: &mut dyn Candidate, calls: usize) -> f64 {
    let calls = candidate.share_of(calls);
    candidate.run(calls / 5);
    candidate.run(calls).as_nanos() as f64 / calls as f64
}

/// Runs the program that counts, of which cargo makes sure that it is there.
fn count_allocations() -> Result<Allocations, String> {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_owned());
    let output = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--bin", "allocations"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    Allocations::parse(&String::from_utf8_lossy(&output.stdout))
        .ok_or("allocations were not counted".to_owned())
}
