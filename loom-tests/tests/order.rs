//! Entries keep their order while others are removed from among them.
//!
//! The real channel by itself, as in `sleeping_workers.rs`.

mod support;

use std::sync::Arc;

use bulkman::model::{ModelChannel, ModelWorker};
use loom::sync::Mutex;
use loom::thread;
use support::explore;

const TOMBSTONE: usize = 0;

/// The guide to `Bulkhead`: calls run in the order in which they came.
#[test]
fn removals_against_sends() {
    explore("removals against sends", 3, || {
        let line = Arc::new(ModelChannel::new(8));
        line.send(1);
        line.send(TOMBSTONE);
        let other = Arc::clone(&line);
        let removing = thread::spawn(move || {
            other.remove(TOMBSTONE);
            other.remove(TOMBSTONE);
        });
        line.send(2);
        line.send(3);
        removing.join().unwrap();
        let mut me = ModelWorker::this_thread();
        let order = [1, 2, 3].map(|_| line.take(&mut me));
        assert_eq!(order, [1, 2, 3], "one was overtaken");
        assert_eq!(line.try_take(), None);
    });
}

/// A worker overtakes an entry at most once, however often entries are removed.
#[test]
fn removals_against_a_worker() {
    explore("removals against a worker", 1, || {
        let line = Arc::new(ModelChannel::new(8));
        line.send(1);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let worker = {
            let (line, taken) = (Arc::clone(&line), Arc::clone(&taken));
            thread::spawn(move || {
                let mut me = ModelWorker::this_thread();
                for _ in 0..3 {
                    let entry = line.take(&mut me);
                    taken.lock().unwrap().push(entry);
                }
            })
        };
        let other = Arc::clone(&line);
        let removing = thread::spawn(move || {
            other.remove(TOMBSTONE);
            other.remove(TOMBSTONE);
        });
        line.send(2);
        line.send(3);
        removing.join().unwrap();
        worker.join().unwrap();
        let taken = taken.lock().unwrap();
        let place = taken.iter().position(|entry| *entry == 1);
        assert!(place.is_some_and(|place| place <= 1), "{taken:?}");
    });
}

/// Two workers that may fall asleep while an entry is on its way into the front: both come for one.
#[test]
fn a_removal_against_two_workers() {
    explore("a removal against two workers", 1, || {
        let line = Arc::new(ModelChannel::new(8));
        let workers = [(), ()].map(|()| {
            let line = Arc::clone(&line);
            thread::spawn(move || line.take(&mut ModelWorker::this_thread()))
        });
        let other = Arc::clone(&line);
        let removing = thread::spawn(move || other.remove(TOMBSTONE));
        line.send(1);
        line.send(1);
        removing.join().unwrap();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(line.try_take(), None);
    });
}

/// A snapshot looks for the oldest call. Nothing is lost or overtaken for it, and the worker that sleeps hears of the entry.
#[test]
fn a_look_at_the_first_entry_against_a_worker_and_sends() {
    explore("a look at the first entry", 2, || {
        let line = Arc::new(ModelChannel::new(8));
        line.send(TOMBSTONE);
        line.send(1);
        let worker = {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                let mut me = ModelWorker::this_thread();
                let mut taken = Vec::new();
                while taken.len() < 2 {
                    taken.extend(Some(line.take(&mut me)).filter(|entry| *entry != TOMBSTONE));
                }
                taken
            })
        };
        let other = Arc::clone(&line);
        let looking = thread::spawn(move || other.first_but(TOMBSTONE));
        line.send(2);
        let first = looking.join().unwrap();
        assert!(first.is_none_or(|first| first != TOMBSTONE), "{first:?}");
        let mut taken = worker.join().unwrap();
        // The worker may overtake the entry on its way into the front.
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        assert_eq!(line.try_take(), None);
    });
}
