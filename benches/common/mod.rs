//! What the benches share: settings, bulkheads, and where their threads run.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each bench uses its own part of it"
)]

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::{Barrier, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig};
use criterion::Criterion;

/// Longer than any wait of a bench that goes well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// About a second and a half for each bench, so that all of them take a few minutes.
pub fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .nresamples(5_000)
}

pub fn config(n: usize, q: usize) -> BulkheadConfig {
    BulkheadConfig::new("bench")
        .max_concurrent_calls(n)
        .max_queue_size(q)
}

/// A bulkhead whose threads run where the scheduler puts them.
pub fn bulkhead(n: usize, q: usize) -> Bulkhead {
    Place::Scheduler
        .bulkhead(config(n, q))
        .expect("the scheduler always has a place")
}

/// The task of all benches: nothing.
pub fn task() -> u64 {
    black_box(7)
}

/// Keeps one worker of a bulkhead busy until the sender goes.
pub fn occupy(bulkhead: &Bulkhead) -> mpsc::Sender<()> {
    let (release, until_released) = mpsc::channel();
    let (started, has_started) = mpsc::channel();
    drop(bulkhead.run(move || {
        let _ = started.send(());
        let _ = until_released.recv();
    }));
    has_started.recv().expect("the worker starts");
    release
}

/// How long `calls` calls take, from several threads that each make one after another.
pub fn from_threads(threads: u64, calls: u64, call: impl Fn() + Sync) -> Duration {
    let gate = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        for thread in 0..threads {
            let share = calls / threads + u64::from(thread < calls % threads);
            let (gate, call) = (&gate, &call);
            scope.spawn(move || {
                gate.wait();
                for _ in 0..share {
                    call();
                }
                gate.wait();
            });
        }
        gate.wait();
        let began = Instant::now();
        gate.wait();
        began.elapsed()
    })
}

/// Where the threads of a bench run. A hand-off between two threads costs many times more on two idle
/// cores than on one, so the scheduler's choice alone would say little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Caller and workers share one core.
    OneCore,
    /// The caller has one core, the workers have another.
    TwoCores,
    /// Wherever the scheduler puts them.
    Scheduler,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::OneCore, Self::TwoCores, Self::Scheduler];

    pub fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one core",
            Self::TwoCores => "two cores",
            Self::Scheduler => "scheduler",
        }
    }

    /// Starts a bulkhead with its workers in this place, and moves the calling thread to its own.
    /// `None` if that cannot be done here.
    pub fn bulkhead(self, config: BulkheadConfig) -> Option<Bulkhead> {
        self.start(|| Bulkhead::new(config).expect("a valid configuration"))
    }

    /// Runs `start` where the workers belong, since threads inherit their place, and then moves the
    /// calling thread to where the caller belongs.
    pub fn start<T>(self, start: impl FnOnce() -> T) -> Option<T> {
        let cores = cores();
        let (workers, caller) = match (self, cores) {
            (Self::OneCore, [first, ..]) => (*first, *first),
            (Self::TwoCores, [first, second, ..]) => (*second, *first),
            (Self::Scheduler, _) => {
                // Without `taskset` nothing was moved before.
                let _ = move_to(cores);
                return Some(start());
            }
            _ => return self.not_here("there are not enough cores"),
        };
        if !move_to(&[workers]) {
            return self.not_here("`taskset` is missing");
        }
        let started = start();
        move_to(&[caller]);
        Some(started)
    }

    fn not_here<T>(self, why: &str) -> Option<T> {
        eprintln!("left out, {}: {why}", self.name());
        None
    }
}

/// The cores that this process may use, as it found them.
fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.map_or(Vec::new(), |list| {
            list.trim().split(',').flat_map(range).collect()
        })
    })
}

/// "3" or "0-7".
fn range(part: &str) -> std::ops::RangeInclusive<usize> {
    let (from, to) = part.split_once('-').unwrap_or((part, part));
    let number = |text: &str| text.parse().expect("a core's number");
    number(from)..=number(to)
}

/// Moves the calling thread to these cores, with the program `taskset`; whether that went well.
fn move_to(cores: &[usize]) -> bool {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else {
        return false;
    };
    let Some(id) = thread.file_name() else {
        return false;
    };
    let list: Vec<_> = cores.iter().map(usize::to_string).collect();
    let status = Command::new("taskset")
        .args(["--pid", "--cpu-list", &list.join(",")])
        .arg(id)
        .stdout(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
