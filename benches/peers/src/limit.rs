//! The machine's limit: two threads that do nothing but hand a turn to each other and back. No queue, no task, no
//! result. One pair sleeps and wakes, which no pool can beat that does so for each call; the other pair is always
//! awake. A pool that looks again for a while before it goes to sleep comes out between the two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::candidates::Candidate;

/// Whose turn it is.
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

/// Each side looks at one flag without a pause. Between its rounds the worker sleeps, to leave its core to others.
pub struct Looking {
    turn: Turn,
    worker: Thread,
}

impl Looking {
    pub const NAME: &'static str = "limit: a flag, both looking";

    pub fn start() -> Self {
        let turn = Turn::new(AtomicU32::new(REST));
        let worker = thread::spawn({
            let turn = Turn::clone(&turn);
            move || {
                loop {
                    match turn.load(Ordering::Acquire) {
                        WORKER => turn.store(CALLER, Ordering::Release),
                        REST => thread::park(),
                        END => break,
                        _ => std::hint::spin_loop(),
                    }
                }
            }
        });
        Self {
            turn,
            worker: worker.thread().clone(),
        }
    }

    fn hand_over(&self) {
        self.turn.store(WORKER, Ordering::Release);
        while self.turn.load(Ordering::Acquire) != CALLER {
            std::hint::spin_loop();
        }
    }
}

impl Candidate for Looking {
    fn name(&self) -> &'static str {
        Self::NAME
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
