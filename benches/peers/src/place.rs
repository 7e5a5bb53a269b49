//! Where the threads of a comparison run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of the caller and of the workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub name: &'static str,
    pub caller: Vec<usize>,
    pub workers: Vec<usize>,
}

impl Place {
    /// Caller and workers on a core each; `None` if there is only one.
    pub fn two_cores() -> Option<Self> {
        let all = allowed();
        let first = *all.first()?;
        // Not the other half of the same core, where the machine has such.
        let half = siblings(first);
        let second = all
            .iter()
            .find(|&&core| core != first && !half.contains(&core));
        let second = *second.or(all.get(1))?;
        Some(Self {
            name: "two cores",
            caller: vec![first],
            workers: vec![second],
        })
    }

    /// All threads on one core.
    pub fn one_core() -> Self {
        let first = allowed()[..1].to_vec();
        Self {
            name: "one core",
            caller: first.clone(),
            workers: first,
        }
    }

    /// Wherever the scheduler puts them.
    pub fn scheduler() -> Self {
        Self {
            name: "scheduler",
            caller: allowed(),
            workers: allowed(),
        }
    }

    /// Runs `start` on the workers' cores, which the threads that it starts inherit, and then moves the calling
    /// thread to the caller's.
    pub fn start<T>(&self, start: impl FnOnce() -> T) -> T {
        move_to(&self.workers);
        let started = start();
        move_to(&self.caller);
        started
    }
}

/// A thread on each core that has always something to do.
pub struct BusyCores {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyCores {
    pub fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let busy = |core| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                move_to(&[core]);
                while !over.load(Ordering::Relaxed) {}
            })
        };
        let threads = allowed().into_iter().map(busy).collect();
        Self { over, threads }
    }
}

impl Drop for BusyCores {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The cores that this process was given, in order.
fn allowed() -> Vec<usize> {
    use std::sync::OnceLock;
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    let first_seen = || {
        let set = sched_getaffinity(None).expect("the system says where a thread may run");
        (0..CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect()
    };
    ALLOWED.get_or_init(first_seen).clone()
}

/// The hardware threads of the same core, as "0,4" or "0-1"; nothing if the system does not say.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.trim()
        .split([',', '-'])
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn move_to(cores: &[usize]) {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    sched_setaffinity(None, &set).expect("a thread may run where its process may");
}
