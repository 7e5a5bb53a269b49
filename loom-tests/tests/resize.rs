//! Limits that change, and workers that come and go: places, slots, the channel's room, and the workers at it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bulkman::model::{ModelChannel, ModelSlots, ModelWorker};
use bulkman::{Bulkhead, BulkheadEvent, SemaphoreBulkhead};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use support::{assert_adds_up, config, explore, explore_deep};

fn semaphore(n: usize, q: usize) -> Arc<SemaphoreBulkhead> {
    Arc::new(SemaphoreBulkhead::new(config(n, q)).unwrap())
}

// ---- places

/// G1: when the change to fewer has returned, nobody is admitted by the old limits.
#[test]
fn fewer_places_against_a_caller() {
    explore("fewer places against a caller", 3, || {
        let bulkhead = semaphore(2, 0);
        let inside = Arc::new(AtomicUsize::new(0));
        let caller = {
            let (bulkhead, inside) = (Arc::clone(&bulkhead), Arc::clone(&inside));
            thread::spawn(move || {
                if let Ok(guard) = bulkhead.try_acquire() {
                    inside.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            })
        };
        bulkhead.resize(1, 0).unwrap();
        if let Ok(guard) = bulkhead.try_acquire() {
            for _ in 0..2 {
                assert_eq!(inside.load(Ordering::SeqCst), 0, "the only place is taken");
                thread::yield_now();
            }
            drop(guard);
        }
        caller.join().unwrap();
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// The same while the one place that is left is taken: a caller that has looked at the old limits is not admitted by them.
#[test]
fn a_look_at_the_old_limits_against_the_change() {
    explore("a look at the old limits", 3, || {
        let bulkhead = semaphore(2, 0);
        let guard = bulkhead.try_acquire().unwrap();
        let caller = {
            let bulkhead = Arc::clone(&bulkhead);
            // It keeps its place for ever, if it gets one.
            thread::spawn(move || bulkhead.try_acquire().map(std::mem::forget).is_ok())
        };
        bulkhead.resize(1, 0).unwrap();
        let at_the_change = bulkhead.stats().in_flight;
        let is_admitted = caller.join().unwrap();
        assert!(at_the_change == 2 || !is_admitted, "admitted since");
        drop(guard);
        bulkhead.shutdown_now();
    });
}

/// G1: a caller that waits for a place gets one that is new.
#[test]
fn more_places_against_a_caller_that_waits_for_one() {
    explore("more places against a waiting caller", 2, || {
        let bulkhead = semaphore(1, 0);
        let guard = bulkhead.try_acquire().unwrap();
        let caller = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                let call = bulkhead.call().wait_for_capacity(Duration::MAX);
                assert!(call.run(|| ()).is_success());
            })
        };
        bulkhead.resize(2, 0).unwrap();
        caller.join().unwrap();
        drop(guard);
        assert_eq!(bulkhead.available_capacity(), 2);
    });
}

/// G10: the ledger adds up while the limits change and calls come and go.
#[test]
fn snapshot_against_fewer_places_and_a_call() {
    explore_deep("snapshot against fewer places", 2, || {
        let bulkhead = semaphore(2, 0);
        let caller = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || {
                for _ in 0..2 {
                    assert!(bulkhead.run(|| ()).is_success());
                }
            })
        };
        let resizer = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.resize(1, 0).unwrap())
        };
        let stats = bulkhead.stats();
        assert_adds_up(&stats);
        assert!(stats.in_flight <= 2, "{stats}");
        caller.join().unwrap();
        resizer.join().unwrap();
        let stats = bulkhead.stats();
        assert_adds_up(&stats);
        assert_eq!((stats.successful_executions, stats.in_flight), (2, 0));
    });
}

/// G8: a change against the close: either it holds, or it is refused.
#[test]
fn more_places_against_close() {
    explore("more places against close", 3, || {
        let bulkhead = semaphore(1, 0);
        let closer = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.close())
        };
        let changed = bulkhead.resize(2, 0).is_ok();
        if let Ok(guard) = bulkhead.try_acquire() {
            assert!(changed);
            drop(guard);
        }
        closer.join().unwrap();
        assert!(bulkhead.resize(3, 0).is_err());
        assert!(bulkhead.wait_closed(Duration::ZERO));
    });
}

/// G4, G8: the same while a call waits: if the change is refused, the call waits for the one slot that there is.
#[test]
fn more_slots_against_close_and_a_call_that_waits() {
    explore("more slots against close", 2, || {
        let bulkhead = semaphore(1, 1);
        let is_over = Arc::new(AtomicUsize::new(0));
        let guard = bulkhead.try_acquire().expect("one slot");
        let waiter = {
            let (bulkhead, is_over) = (Arc::clone(&bulkhead), Arc::clone(&is_over));
            thread::spawn(move || {
                let call = bulkhead.run(|| is_over.load(Ordering::SeqCst) == 1);
                call.into_result().unwrap_or(true)
            })
        };
        let resizer = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.resize(2, 1).is_ok())
        };
        bulkhead.close();
        let changed = resizer.join().unwrap();
        is_over.store(1, Ordering::SeqCst);
        drop(guard);
        let waited = waiter.join().unwrap();
        assert!(changed || waited, "two at a time, and N is 1");
    });
}

/// A saturation ends when half of the new places are free, whichever comes first: more places, or one that comes back.
#[test]
fn more_places_against_one_that_comes_back() {
    explore("more places against one that comes back", 3, || {
        let ends = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&ends);
        let builder = SemaphoreBulkhead::builder(config(3, 0)).on_event(move |event| {
            if let BulkheadEvent::SaturationEnded { .. } = event {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        let bulkhead = Arc::new(builder.build().unwrap());
        let mut guards = [(); 3].map(|()| bulkhead.try_acquire().ok());
        assert!(bulkhead.try_acquire().is_err(), "it is full");
        let resizer = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || bulkhead.resize(4, 0).unwrap())
        };
        drop(guards[2].take());
        resizer.join().unwrap();
        assert_eq!(ends.load(std::sync::atomic::Ordering::SeqCst), 1);
        drop(guards);
    });
}

// ---- slots

/// G1, G4: fewer slots than before, while others take and give back: in the end there are as many as there are to be.
#[test]
fn fewer_slots_against_one_that_comes_back() {
    explore("fewer slots against one that comes back", 3, || {
        let slots = Arc::new(ModelSlots::new(2));
        let other = Arc::clone(&slots);
        let user = thread::spawn(move || {
            let slot = other.take(|| ());
            other.give_back(slot);
        });
        slots.resize(1);
        user.join().unwrap();
        let slot = slots.try_take().expect("one slot");
        assert_eq!(slots.try_take(), None, "and no other");
        slots.give_back(slot);
        slots.resize(3);
        let taken = [(); 3].map(|()| slots.try_take().expect("three slots"));
        assert_eq!(slots.try_take(), None);
        taken.into_iter().for_each(|slot| slots.give_back(slot));
    });
}

/// G2: callers wait, one slot goes and one comes: each gets a slot in the end.
#[test]
fn slots_that_go_and_come_against_callers_in_line() {
    for unfair in [false, true] {
        let scenario = if unfair {
            || go_and_come(ModelSlots::unfair(2))
        } else {
            || go_and_come(ModelSlots::new(2))
        };
        explore_deep("slots that go and come", 2, scenario);
    }
}

fn go_and_come(slots: ModelSlots) {
    let slots = Arc::new(slots);
    let user = |slots: &Arc<ModelSlots>| {
        let slots = Arc::clone(slots);
        thread::spawn(move || {
            let slot = slots.take(|| ());
            slots.give_back(slot);
        })
    };
    let held = [(); 2].map(|()| slots.try_take().unwrap());
    let users = [user(&slots), user(&slots)];
    slots.resize(1);
    slots.give_back(held[0]);
    slots.resize(2);
    slots.give_back(held[1]);
    for user in users {
        user.join().unwrap();
    }
    let taken = [(); 2].map(|()| slots.try_take().expect("two slots"));
    assert_eq!(slots.try_take(), None);
    assert_ne!(taken[0], taken[1]);
}

// ---- the channel's room

/// G1: entries keep their order, and none is lost, while a larger channel comes behind the first.
#[test]
fn more_room_against_a_sender_and_a_worker() {
    explore("more room against a sender and a worker", 2, || {
        let line = Arc::new(ModelChannel::new(2));
        let grower = {
            let line = Arc::clone(&line);
            thread::spawn(move || line.reserve(4))
        };
        let sender = {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                line.send(0);
                line.send(1);
            })
        };
        let mut me = ModelWorker::this_thread();
        assert_eq!(line.take(&mut me), 0);
        assert_eq!(line.take(&mut me), 1);
        grower.join().unwrap();
        sender.join().unwrap();
    });
}

/// The same for entries in both channels, of which some are removed.
#[test]
fn a_removal_from_two_channels_against_a_worker() {
    explore("a removal from two channels", 2, || {
        let line = Arc::new(ModelChannel::new(2));
        line.send(0);
        line.send(1);
        line.reserve(4);
        line.send(2);
        line.send(3);
        let remover = {
            let line = Arc::clone(&line);
            thread::spawn(move || line.remove(2))
        };
        let mut me = ModelWorker::this_thread();
        let mut taken = vec![line.take(&mut me), line.take(&mut me), line.take(&mut me)];
        remover.join().unwrap();
        // The worker may have been quicker than the removal.
        taken.extend(line.try_take());
        taken.sort_unstable();
        assert!(taken == [0, 1, 3] || taken == [0, 1, 2, 3], "{taken:?}");
    });
}

// ---- workers

/// A channel whose workers are threads that it starts. They count what they take.
struct Crew {
    line: ModelChannel,
    taken: Mutex<usize>,
    changed: Condvar,
    /// How many workers have left.
    left: Mutex<usize>,
    one_left: Condvar,
    running: AtomicUsize,
    /// How many entries may be worked on at the same time.
    at_most: usize,
    threads: std::sync::Mutex<Vec<thread::JoinHandle<()>>>,
}

/// The last entry of all: each worker passes it on, and ends.
const STOP: usize = 9;

impl Crew {
    fn new(workers: usize, idle_timeout: Option<Duration>, at_most: usize) -> Arc<Self> {
        let crew = Arc::new(Self {
            line: ModelChannel::with_workers(6, workers, idle_timeout),
            taken: Mutex::new(0),
            changed: Condvar::new(),
            left: Mutex::new(0),
            one_left: Condvar::new(),
            running: AtomicUsize::new(0),
            at_most,
            threads: std::sync::Mutex::default(),
        });
        let weak = Arc::downgrade(&crew);
        crew.line.start_by(move || {
            let crew = weak.upgrade().expect("the model holds it");
            let worker = Arc::clone(&crew);
            let thread = thread::spawn(move || worker.work());
            crew.threads.lock().unwrap().push(thread);
            true
        });
        crew
    }

    fn work(&self) {
        let mut me = ModelWorker::started();
        loop {
            match self.line.take_or_leave(&mut me) {
                None => {
                    self.line.has_left();
                    *self.left.lock().unwrap() += 1;
                    return self.one_left.notify_all();
                }
                Some(STOP) => return self.line.send(STOP),
                Some(_) => {
                    let others = self.running.fetch_add(1, Ordering::SeqCst);
                    assert!(others < self.at_most, "too many at a time");
                    self.running.fetch_sub(1, Ordering::SeqCst);
                    *self.taken.lock().unwrap() += 1;
                    self.changed.notify_all();
                }
            }
        }
    }

    /// Waits for all that have started. None starts any more.
    fn join(&self) {
        loop {
            let thread = self.threads.lock().unwrap().pop();
            match thread {
                Some(thread) => thread.join().unwrap(),
                None => break,
            }
        }
    }

    fn wait_for(&self, taken: usize) {
        let mut now = self.taken.lock().unwrap();
        while *now < taken {
            now = self.changed.wait(now).unwrap();
        }
    }
}

/// G2: an entry is sent while the only worker falls asleep, and leaves at once because its idle timeout is over.
#[test]
fn a_send_against_a_worker_that_leaves() {
    explore("a send against a worker that leaves", 2, || {
        let crew = Crew::new(1, Some(Duration::ZERO), 1);
        crew.line.send(0);
        crew.line.send(0);
        crew.wait_for(2);
        crew.line.stop();
        crew.join();
    });
}

/// The same with two senders.
#[test]
fn two_senders_against_a_worker_that_leaves() {
    explore("two senders against a worker that leaves", 1, || {
        let crew = Crew::new(1, Some(Duration::ZERO), 1);
        let other = Arc::clone(&crew);
        let sender = thread::spawn(move || other.line.send(0));
        crew.line.send(0);
        sender.join().unwrap();
        crew.wait_for(2);
        crew.line.stop();
        crew.join();
    });
}

/// G1, G4: when the change to one worker has returned, entries that come later are taken one after the other, and all of
/// them are.
#[test]
fn sends_after_a_change_to_fewer_workers() {
    explore("sends after a change to fewer workers", 1, || {
        let crew = Crew::new(2, None, 1);
        crew.line.set_workers(2);
        crew.line.set_workers(1);
        crew.line.send(0);
        crew.line.send(0);
        crew.wait_for(2);
        crew.line.send(STOP);
        crew.join();
    });
}

/// A worker that is about to fall asleep leaves at once if there are too many by then.
#[test]
fn a_change_to_fewer_workers_against_two_that_fall_asleep() {
    explore("fewer workers against two that fall asleep", 2, || {
        let crew = Crew::new(2, None, 1);
        crew.line.set_workers(2);
        crew.line.set_workers(1);
        {
            let mut left = crew.left.lock().unwrap();
            while *left == 0 {
                left = crew.one_left.wait(left).unwrap();
            }
        }
        crew.line.send(STOP);
        crew.join();
    });
}

/// G2: a change to fewer workers while both take entries that were sent before: none is lost.
#[test]
fn a_change_to_fewer_workers_against_entries() {
    explore("a change to fewer workers against entries", 1, || {
        let crew = Crew::new(2, None, 2);
        crew.line.set_workers(2);
        crew.line.send(0);
        crew.line.send(0);
        crew.line.set_workers(1);
        crew.wait_for(2);
        crew.line.send(STOP);
        crew.join();
    });
}

/// G4: the same while both have an entry, and then one comes: the worker that is the first to end its entry leaves, and does not
/// take another beside that of the one that stays.
#[test]
fn a_send_after_a_change_to_fewer_workers_that_are_busy() {
    // One thread is both workers: only the order of the calls counts.
    loom::model(|| {
        let line = Arc::new(ModelChannel::with_workers(4, 2, None));
        line.start_by(|| true);
        line.set_workers(2);
        let mut first = ModelWorker::started();
        let mut second = ModelWorker::started();
        line.send(0);
        line.send(1);
        assert_eq!(line.take_or_leave(&mut first), Some(0));
        assert_eq!(line.take_or_leave(&mut second), Some(1));
        line.set_workers(1);
        line.send(2);
        assert_eq!(line.take_or_leave(&mut first), None, "it leaves");
        line.has_left();
        assert_eq!(line.take_or_leave(&mut second), Some(2));
        assert_eq!(line.workers(), 1);
    });
}

/// G1: more workers are wanted while entries wait: each that is needed starts.
#[test]
fn more_workers_on_demand_against_an_entry() {
    explore("more workers on demand", 2, || {
        let line = Arc::new(ModelChannel::with_workers(4, 1, Some(Duration::MAX)));
        let meeting = Arc::new((Mutex::new(0), Condvar::new()));
        let weak = Arc::downgrade(&line);
        let there = Arc::clone(&meeting);
        line.start_by(move || {
            let line = weak.upgrade().expect("the model holds it");
            let meeting = Arc::clone(&there);
            thread::spawn(move || {
                let mut me = ModelWorker::started();
                // A task that ends when two run.
                line.take(&mut me);
                let (present, changed) = &*meeting;
                let mut present = present.lock().unwrap();
                *present += 1;
                changed.notify_all();
                while *present < 2 {
                    present = changed.wait(present).unwrap();
                }
            });
            true
        });
        line.send(0);
        let other = Arc::clone(&line);
        let resizer = thread::spawn(move || other.set_workers(2));
        line.send(0);
        resizer.join().unwrap();
        let (present, changed) = &*meeting;
        let mut present = present.lock().unwrap();
        while *present < 2 {
            present = changed.wait(present).unwrap();
        }
    });
}

/// G2: the system refuses every thread: whoever finds that there is no worker takes the entries out. None stays.
#[test]
fn two_senders_when_no_thread_starts() {
    explore("no thread starts", 3, || {
        let line = Arc::new(ModelChannel::with_workers(4, 2, Some(Duration::MAX)));
        let refused = Arc::new(AtomicUsize::new(0));
        let (weak, count) = (Arc::downgrade(&line), Arc::clone(&refused));
        line.start_by(move || {
            let line = weak.upgrade().expect("the model holds it");
            if line.has_not_started() {
                while line.try_take().is_some() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            false
        });
        let other = Arc::clone(&line);
        let sender = thread::spawn(move || other.send(0));
        line.send(0);
        sender.join().unwrap();
        assert_eq!(refused.load(Ordering::SeqCst), 2, "both are ended");
        assert_eq!(line.workers(), 0);
    });
}

// ---- a whole bulkhead

/// G8: a bulkhead whose workers start on demand and leave at once, against its shutdown.
#[test]
fn shutdown_against_a_worker_that_leaves() {
    explore("shutdown against a worker that leaves", 1, || {
        let config = config(1, 1).idle_timeout(Duration::ZERO + Duration::from_nanos(1));
        let bulkhead = Bulkhead::new(config).unwrap();
        let first = bulkhead.run(|| 7);
        bulkman::model::advance(Duration::from_nanos(1));
        assert_eq!(first.wait().into_result().unwrap(), 7);
        let second = bulkhead.run(|| 8);
        assert!(bulkhead.shutdown().is_clean());
        assert_eq!(second.wait().into_result().unwrap(), 8);
        let stats = bulkhead.stats();
        assert_eq!((stats.in_flight, stats.worker_threads), (0, 0));
    });
}
