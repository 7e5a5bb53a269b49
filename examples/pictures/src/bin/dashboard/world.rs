//! The bulkheads, and those who call them all the time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bulkman::{BuildError, Bulkhead, BulkheadConfig, BulkheadStats, CircuitBreakerConfig};

use super::dependency::{Dependency, Mood};
use super::keys::Action;
use super::recent::{CURVE, End, Rates, Recent};

/// How many threads call each dependency: more than its bulkhead has places, so that it can be full.
const CALLERS: u32 = 20;
const MOST_WORKERS: usize = 12;

pub struct World {
    pub lines: Vec<Line>,
    pub selected: usize,
    pub began: Instant,
    is_over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
}

/// A dependency, its bulkhead, and what was last seen of them.
pub struct Line {
    pub bulkhead: Arc<Bulkhead>,
    pub dependency: Arc<Dependency>,
    /// Calls a second.
    pub load: Arc<AtomicU32>,
    recent: Arc<Mutex<Recent>>,
    pub stats: BulkheadStats,
    pub rates: Rates,
    /// The p99 of each frame in milliseconds, the newest last.
    pub latency_curve: VecDeque<u64>,
    /// The calls refused in a second, of each frame.
    pub rejected_curve: VecDeque<u64>,
}

impl World {
    pub fn new() -> Result<Self, BuildError> {
        let mut world = Self {
            lines: Vec::new(),
            selected: 0,
            began: Instant::now(),
            is_over: Arc::default(),
            callers: Vec::new(),
        };
        for (name, workers, queue, takes, load) in [
            ("user_db", 4, 8, 12, 120),
            ("search_api", 3, 6, 25, 60),
            ("payments", 2, 4, 40, 25),
            ("thumbnails", 2, 8, 15, 80),
        ] {
            world.add(name, workers, queue, Duration::from_millis(takes), load)?;
        }
        Ok(world)
    }

    fn add(
        &mut self,
        name: &str,
        workers: usize,
        queue: usize,
        takes: Duration,
        load: u32,
    ) -> Result<(), BuildError> {
        let bulkhead = Arc::new(Bulkhead::new(
            BulkheadConfig::new(name)
                .max_concurrent_calls(workers)
                .max_queue_size(queue)
                .queue_timeout(Duration::from_millis(400))
                .execution_timeout(Duration::from_millis(800))
                .circuit_breaker(
                    CircuitBreakerConfig::default()
                        .failure_threshold(8)
                        .isolation_duration(Duration::from_secs(4)),
                ),
        )?);
        let line = Line {
            stats: bulkhead.stats(),
            bulkhead,
            dependency: Arc::new(Dependency::new(takes)),
            load: Arc::new(AtomicU32::new(load)),
            recent: Arc::default(),
            rates: Rates::default(),
            latency_curve: VecDeque::new(),
            rejected_curve: VecDeque::new(),
        };
        for number in 0..CALLERS {
            let caller = line.caller(number, Arc::clone(&self.is_over));
            self.callers.push(thread::spawn(caller));
        }
        self.lines.push(line);
        Ok(())
    }

    /// Takes in what has happened since the last frame.
    pub fn look(&mut self) {
        for line in &mut self.lines {
            line.stats = line.bulkhead.stats();
            line.rates = line.recent.lock().unwrap().rates();
            let p99 = line.rates.p99.map_or(0, |time| time.as_millis() as u64);
            push(&mut line.latency_curve, p99);
            push(&mut line.rejected_curve, line.rates.rejected as u64);
        }
    }

    pub fn act(&mut self, action: Action) {
        let last = self.lines.len() - 1;
        let line = &self.lines[self.selected];
        match action {
            Action::Select(number) => self.selected = number.min(last),
            Action::Up => self.selected = self.selected.saturating_sub(1),
            Action::Down => self.selected = (self.selected + 1).min(last),
            Action::Become(mood) => line.dependency.become_(mood),
            Action::MoreLoad => line.change_load(|load| (load * 5 / 4 + 1).min(2_000)),
            Action::LessLoad => line.change_load(|load| (load * 4 / 5).max(1)),
            Action::MoreWorkers => line.resize(|workers| (workers + 1).min(MOST_WORKERS)),
            Action::FewerWorkers => line.resize(|workers| (workers - 1).max(1)),
            Action::ResetCircuit => {
                if let Some(circuit) = line.bulkhead.circuit_breaker() {
                    circuit.reset();
                }
            }
            Action::Quit => {}
        }
    }
}

impl Line {
    fn change_load(&self, change: impl Fn(u32) -> u32) {
        let load = change(self.load.load(Ordering::Relaxed));
        self.load.store(load, Ordering::Relaxed);
    }

    fn resize(&self, change: impl Fn(usize) -> usize) {
        let workers = change(self.bulkhead.max_concurrent_calls());
        // What the system refuses leaves it as it is, which the picture shows.
        let _ = self
            .bulkhead
            .resize(workers, self.bulkhead.max_queue_size());
    }

    /// One of the threads that call it.
    fn caller(&self, number: u32, is_over: Arc<AtomicBool>) -> impl FnOnce() + Send + 'static {
        let bulkhead = Arc::clone(&self.bulkhead);
        let dependency = Arc::clone(&self.dependency);
        let recent = Arc::clone(&self.recent);
        let load = Arc::clone(&self.load);
        move || {
            let pause = |load: u32| Duration::from_secs(1) * CALLERS / load;
            // Not all of them at once.
            let first = load.load(Ordering::Relaxed);
            thread::sleep(pause(first) * number / CALLERS);
            let mut next = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let dependency = Arc::clone(&dependency);
                let result = bulkhead.execute(move || dependency.call()).wait();
                let end = End::of(result.error());
                recent.lock().unwrap().add(end, began.elapsed());
                next = (next + pause(load.load(Ordering::Relaxed))).max(Instant::now());
                // In short naps, so that the end and another load are soon noticed.
                while Instant::now() < next && !is_over.load(Ordering::Relaxed) {
                    let left = next.saturating_duration_since(Instant::now());
                    thread::sleep(left.min(Duration::from_millis(100)));
                }
            }
        }
    }
}

fn push(curve: &mut VecDeque<u64>, value: u64) {
    curve.push_back(value);
    if curve.len() > CURVE {
        curve.pop_front();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for line in &self.lines {
            line.dependency.become_(Mood::Dead);
        }
        for caller in self.callers.drain(..) {
            let _ = caller.join();
        }
    }
}
