//! What 1,000 bulkheads of 10 workers take: threads, resident memory and time, with all workers there from the start, and with
//! workers that start when there is work for them.
//!
//! ```sh
//! cargo bench --bench threads_on_demand              # some seconds
//! cargo bench --bench threads_on_demand -- --quick   # 50 bulkheads
//! ```
//!
//! Each way runs in a process of its own, since memory that was once used does not all go back to the system. A burst is one
//! call on each bulkhead, at the same time.

use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bulkman::{Bulkhead, BulkheadConfig};

const WORKERS: usize = 10;
const IDLE: Duration = Duration::from_millis(300);
const CHILD: &str = "BULKMAN_BENCH_CHILD";

fn main() {
    let quick = env::args().any(|arg| arg == "--quick");
    let bulkheads = if quick { 50 } else { 1_000 };
    match env::var(CHILD).as_deref() {
        Ok("all") => measure("all from the start", bulkheads, None),
        Ok(_) => measure("on demand", bulkheads, Some(IDLE)),
        Err(_) => {
            println!(
                "{bulkheads} bulkheads of {WORKERS} workers; resident memory without that of an empty process\n"
            );
            println!("| workers | when | threads | resident | took |");
            println!("|---|---|--:|--:|--:|");
            for way in ["all", "demand"] {
                let this = env::current_exe().expect("this program");
                let status = Command::new(this)
                    .args(env::args().skip(1))
                    .env(CHILD, way)
                    .status();
                assert!(status.expect("a process").success(), "{way}");
            }
        }
    }
}

fn measure(way: &str, bulkheads: usize, idle_timeout: Option<Duration>) {
    let empty = status("VmRSS:");
    let row = |when: &str, took: Duration| {
        println!(
            "| {way} | {when} | {} | {:.1} MB | {took:.1?} |",
            status("Threads:") - 1,
            status("VmRSS:").saturating_sub(empty) as f64 / 1024.0,
        );
    };
    let begun = Instant::now();
    let all: Vec<_> = (0..bulkheads)
        .map(|number| {
            let mut config =
                BulkheadConfig::new(format!("partner-{number}")).max_concurrent_calls(WORKERS);
            config.idle_timeout = idle_timeout;
            Bulkhead::new(config).expect("the system starts that many threads")
        })
        .collect();
    row("built", begun.elapsed());
    let begun = Instant::now();
    let calls: Vec<_> = all.iter().map(|bulkhead| bulkhead.run(|| ())).collect();
    for call in calls {
        assert!(call.wait().is_success());
    }
    row("after a burst", begun.elapsed());
    if idle_timeout.is_some() {
        let begun = Instant::now();
        while status("Threads:") > 1 {
            thread::sleep(IDLE / 10);
        }
        row("idle again", begun.elapsed());
    }
    let begun = Instant::now();
    for bulkhead in &all {
        bulkhead.close();
    }
    drop(all);
    row("dropped", begun.elapsed());
}

/// A number of `/proc/self/status`, 0 where there is none.
fn status(field: &str) -> u64 {
    let all = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = all.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
