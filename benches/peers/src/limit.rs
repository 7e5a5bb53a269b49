//! The machine's limit: two threads that do nothing but hand a turn to each other and back. No queue, no task, no
//! result. One pair sleeps and wakes, which no pool can beat that does so for each call. The other two are always
//! awake: one looks without a pause, which takes a core for each side, and one lets others run between its looks, which
//! is the most that a shared core allows. A pool that tries before it goes to sleep comes out in between.
//!
//! And the smallest pool that keeps the times of a call: see [`Small`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::candidate::Candidate;
use crate::pools::{Pool, task};

/// The side that has the turn.
type Turn = Arc<AtomicU32>;

const CALLER: u32 = 0;
const WORKER: u32 = 1;
/// The worker sleeps until it is unparked.
const REST: u32 = 2;
const END: u32 = 3;

/// Each side sleeps until the other one wakes it: a futex underneath, where the system has one.
pub struct Parked {
    turn: Turn,
    worker: Thread,
}

impl Parked {
    pub const NAME: &'static str = "limit: a parked hand-off";

    /// The calling thread is the caller for good.
    pub fn start() -> Self {
        let turn = Turn::new(AtomicU32::new(CALLER));
        let caller = thread::current();
        let worker = thread::spawn({
            let turn = Turn::clone(&turn);
            move || {
                loop {
                    match turn.load(Ordering::Acquire) {
                        WORKER => {
                            turn.store(CALLER, Ordering::Release);
                            caller.unpark();
                        }
                        END => break,
                        _ => thread::park(),
                    }
                }
            }
        });
        Self {
            turn,
            worker: worker.thread().clone(),
        }
    }
}

impl Candidate for Parked {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn run(&mut self, calls: usize) -> Duration {
        let began = Instant::now();
        for _ in 0..calls {
            self.turn.store(WORKER, Ordering::Release);
            self.worker.unpark();
            while self.turn.load(Ordering::Acquire) != CALLER {
                thread::park();
            }
        }
        began.elapsed()
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.turn.store(END, Ordering::Release);
        self.worker.unpark();
    }
}

/// Each side looks at one flag, and between two looks does nothing or lets others run. Between its rounds the worker
/// sleeps, to leave its core to others.
pub struct Looking {
    name: &'static str,
    pause: fn(),
    turn: Turn,
    worker: Thread,
}

impl Looking {
    pub const WITHOUT_A_PAUSE: &'static str = "limit: a flag, both looking";
    pub const YIELDING: &'static str = "limit: a flag, both yielding";

    pub fn without_a_pause() -> Self {
        Self::start(Self::WITHOUT_A_PAUSE, std::hint::spin_loop)
    }

    pub fn yielding() -> Self {
        Self::start(Self::YIELDING, thread::yield_now)
    }

    fn start(name: &'static str, pause: fn()) -> Self {
        let turn = Turn::new(AtomicU32::new(REST));
        let worker = thread::spawn({
            let turn = Turn::clone(&turn);
            move || {
                loop {
                    match turn.load(Ordering::Acquire) {
                        WORKER => turn.store(CALLER, Ordering::Release),
                        REST => thread::park(),
                        END => break,
                        _ => pause(),
                    }
                }
            }
        });
        Self {
            name,
            pause,
            turn,
            worker: worker.thread().clone(),
        }
    }

    fn hand_over(&self) {
        self.turn.store(WORKER, Ordering::Release);
        while self.turn.load(Ordering::Acquire) != CALLER {
            (self.pause)();
        }
    }
}

impl Candidate for Looking {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, calls: usize) -> Duration {
        self.turn.store(CALLER, Ordering::Release);
        self.worker.unpark();
        self.hand_over();
        let began = Instant::now();
        for _ in 0..calls {
            self.hand_over();
        }
        let took = began.elapsed();
        self.turn.store(REST, Ordering::Release);
        took
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.turn.store(END, Ordering::Release);
        self.worker.unpark();
    }
}

/// One allocation a call, which holds task, result and three times, through a bounded channel. No ids, limits, ledger,
/// cancelling or panics: what any pool pays that says how long a call waited and ran.
pub struct Small(crossbeam_channel::Sender<Arc<dyn Job>>);

trait Job: Send + Sync {
    fn run(&self);
}

struct Cell<F> {
    submitted: Instant,
    inner: Mutex<(Stage<F>, Option<Thread>)>,
}

enum Stage<F> {
    Queued(F),
    Away,
    Finished(u64, [Duration; 2]),
}

/// The same cell as the caller sees it.
pub trait Pending {
    fn wait(&self) -> u64;
}

impl<F: FnOnce() -> u64 + Send> Job for Cell<F> {
    fn run(&self) {
        let started = Instant::now();
        let stage = std::mem::replace(&mut self.inner.lock().expect("no panics").0, Stage::Away);
        let Stage::Queued(task) = stage else { return };
        let value = task();
        let times = [started - self.submitted, started.elapsed()];
        let mut inner = self.inner.lock().expect("no panics");
        inner.0 = Stage::Finished(value, times);
        let waiter = inner.1.take();
        drop(inner);
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }
}

impl<F: Send> Pending for Cell<F> {
    fn wait(&self) -> u64 {
        loop {
            let mut inner = self.inner.lock().expect("no panics");
            if let Stage::Finished(value, times) = &inner.0 {
                std::hint::black_box(times);
                return *value;
            }
            inner.1 = Some(thread::current());
            drop(inner);
            thread::park();
        }
    }
}

impl Pool for Small {
    const NAME: &'static str = "limit: a cell with its times";
    type Handle = Arc<dyn Pending>;

    fn start(workers: usize, places: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded::<Arc<dyn Job>>(places);
        for _ in 0..workers {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.into_iter().for_each(|job| job.run()));
        }
        Self(sender)
    }

    fn submit(&self) -> Self::Handle {
        let cell = Arc::new(Cell {
            submitted: Instant::now(),
            inner: Mutex::new((Stage::Queued(task), None)),
        });
        let job = Arc::clone(&cell) as Arc<dyn Job>;
        assert!(self.0.send(job).is_ok(), "the workers live");
        cell
    }

    fn wait(&self, handle: Self::Handle) {
        std::hint::black_box(handle.wait());
    }
}
