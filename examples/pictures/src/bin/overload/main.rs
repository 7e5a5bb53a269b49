//! A healthy dependency beside one that hangs, from light load to three times too much: how many calls of the healthy one are
//! answered in time, and how long they take.
//!
//! ```text
//! cargo run --release --bin overload                 # measures for a good minute, and prints a table
//! cargo run --release --bin overload -- --write      # and writes overload.svg
//! cargo run --release --bin overload -- --quick      # two loads, for a moment: does it still run?
//! ```
//!
//! A service has 64 threads that serve requests. Four of five requests call the healthy dependency, which takes 20 ms and serves 8
//! calls at a time: 400 a second. Every fifth request calls one that hangs, until its client gives up after a second. Whoever
//! made a request waits half a second for the answer. Requests come at random moments, whether or not the
//! service keeps up with them. All of it is real threads and real time.

mod chart;
mod dependency;
mod load;
mod point;
mod ways;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dependency::Dependencies;
use load::{Measured, Plan};
use point::Point;
use ways::Way;

/// In multiples of what the healthy dependency serves.
const LOADS: [f64; 9] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (is_quick, writes) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, false),
        ["--quick"] => (true, false),
        ["--write"] => (false, true),
        _ => return Err("it takes --write, or --quick, or nothing".into()),
    };
    let plan = if is_quick {
        Plan {
            warm_up: Duration::from_millis(200),
            measured: Duration::from_millis(400),
        }
    } else {
        Plan {
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs(2),
        }
    };
    let loads: &[f64] = if is_quick { &[0.25, 2.0] } else { &LOADS };
    println!(
        "{:>5}  {:<24}{:>9}{:>9}{:>9}{:>10}{:>10}",
        "load", "", "offered", "in time", "refused", "p50", "p99"
    );
    // Before it makes load itself.
    let machine = machine();
    let mut points = Vec::new();
    for &load in loads {
        for way in Way::ALL {
            let point = measure(way, load, plan)?;
            println!("{point}");
            points.push(point);
        }
    }
    println!("{machine}");
    let svg = chart::draw(&points, &machine)?;
    if writes {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("overload.svg");
        fs::write(&path, svg)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

fn measure(way: Way, load: f64, plan: Plan) -> Result<Point, Box<dyn Error>> {
    let dependencies = Dependencies::new();
    let service = way.service(&dependencies)?;
    let end_calls = || dependencies.end_calls();
    let Measured { offered, ends } = load::run(&*service, load, plan, end_calls);
    Ok(Point::new(way, load, offered, &ends, plan.measured))
}

fn machine() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model
        .and_then(|rest| rest.split_once(':'))
        .map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy = busy.split(' ').next().unwrap_or_default();
    format!(
        "{}, {cores} cores; load {busy}",
        model.unwrap_or("unknown processor")
    )
}
