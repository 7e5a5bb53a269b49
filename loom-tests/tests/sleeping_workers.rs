//! Workers that search, sleep and are woken (`thread_pool/sleep.rs`): no entry is left without a worker that could take it.
//!
//! The real channel by itself, since two workers of a whole bulkhead are too many interleavings.

mod support;

use std::sync::Arc;

use bulkman::model::{ModelChannel, ModelWorker};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use support::explore;

/// A line, and the hall where those meet who have taken from it: tasks that end only when all of them run, which
/// takes a worker for each.
struct Hall {
    line: ModelChannel,
    present: Mutex<usize>,
    changed: Condvar,
}

impl Hall {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            line: ModelChannel::new(4),
            present: Mutex::new(0),
            changed: Condvar::new(),
        })
    }

    /// A worker that takes so many entries and then runs a task that waits for the others.
    fn worker(self: &Arc<Self>, entries: usize) -> JoinHandle<()> {
        let hall = Arc::clone(self);
        thread::spawn(move || {
            let mut me = ModelWorker::this_thread();
            for _ in 0..entries {
                hall.line.take(&mut me);
            }
            hall.meet();
        })
    }

    fn meet(&self) {
        let mut present = self.present.lock().unwrap();
        *present += 1;
        self.changed.notify_all();
        while *present < 2 {
            present = self.changed.wait(present).unwrap();
        }
    }
}

fn join(workers: [JoinHandle<()>; 2]) {
    for worker in workers {
        worker.join().unwrap();
    }
}

/// G1: two calls run at the same time, whatever the workers are just doing.
#[test]
fn two_sends_against_two_workers_going_to_sleep() {
    explore("two sends, going to sleep", 2, || {
        let hall = Hall::new();
        let workers = [1, 1].map(|entries| hall.worker(entries));
        hall.line.send(0);
        hall.line.send(0);
        join(workers);
    });
}

/// The same when both are asleep.
#[test]
fn two_sends_against_two_workers_asleep() {
    explore("two sends, asleep", 2, || {
        let hall = Hall::new();
        let workers = [1, 1].map(|entries| hall.worker(entries));
        thread::yield_now();
        hall.line.send(0);
        hall.line.send(0);
        join(workers);
    });
}

/// The same when one has something else to do first.
#[test]
fn three_sends_against_two_workers() {
    explore("three sends", 1, || {
        let hall = Hall::new();
        let workers = [1, 2].map(|entries| hall.worker(entries));
        thread::yield_now();
        hall.line.send(0);
        hall.line.send(0);
        hall.line.send(0);
        join(workers);
    });
}

/// The same with senders that race.
#[test]
fn two_senders_against_two_workers() {
    explore("two senders", 1, || {
        let hall = Hall::new();
        let workers = [1, 1].map(|entries| hall.worker(entries));
        let other = Arc::clone(&hall);
        let sender = thread::spawn(move || other.line.send(0));
        hall.line.send(0);
        sender.join().unwrap();
        join(workers);
    });
}

/// The same while a sweep takes an entry out, perhaps under the eyes of one who was called for it, and puts it back.
#[test]
fn a_sweep_against_two_workers() {
    explore("sweep", 1, || {
        let hall = Hall::new();
        let workers = [1, 1].map(|entries| hall.worker(entries));
        let other = Arc::clone(&hall);
        let sweep = thread::spawn(move || {
            if let Some(entry) = other.line.try_take() {
                other.line.send(entry);
            }
        });
        hall.line.send(0);
        hall.line.send(0);
        sweep.join().unwrap();
        join(workers);
    });
}

/// G8: two calls that need each other, and then the stop token, which each worker passes on: all end.
#[test]
fn the_stop_token_against_two_workers() {
    const MEET: usize = 1;
    const STOP: usize = 2;
    explore("stop token", 1, || {
        let hall = Hall::new();
        let workers = [(), ()].map(|()| {
            let hall = Arc::clone(&hall);
            thread::spawn(move || {
                let mut me = ModelWorker::this_thread();
                while hall.line.take(&mut me) == MEET {
                    hall.meet();
                }
                hall.line.send(STOP);
            })
        });
        for entry in [MEET, MEET, STOP] {
            hall.line.send(entry);
        }
        join(workers);
        assert_eq!(hall.line.try_take(), Some(STOP));
        assert_eq!(hall.line.try_take(), None);
    });
}
