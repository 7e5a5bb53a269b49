//! What listeners hear of the whole bulkhead comes in turn, whatever threads tell it: beginnings and ends of a saturation, and
//! the phases of a shutdown.

mod support;

use std::sync::{Arc, Mutex};

use bulkman::{Bulkhead, BulkheadEvent, SemaphoreBulkhead};
use loom::thread;
use support::{assert_balanced, config, explore};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Full,
    Room,
    ShuttingDown,
    ShutDown,
}

/// No primitive of the model: the checker need not explore who writes first.
type Heard = Arc<Mutex<Vec<Told>>>;

fn listener(heard: &Heard) -> impl Fn(&BulkheadEvent<'_>) + Send + Sync + 'static {
    let heard = Arc::clone(heard);
    move |event| {
        let told = match event {
            BulkheadEvent::SaturationBegan { .. } => Told::Full,
            BulkheadEvent::SaturationEnded { .. } => Told::Room,
            BulkheadEvent::ShuttingDown { .. } => Told::ShuttingDown,
            BulkheadEvent::ShutDown { .. } => Told::ShutDown,
            _ => return,
        };
        // A listener takes its time: other threads come in between.
        thread::yield_now();
        heard.lock().unwrap().push(told);
    }
}

fn semaphore(n: usize, q: usize) -> (Arc<SemaphoreBulkhead>, Heard) {
    let heard = Heard::default();
    let bulkhead = SemaphoreBulkhead::builder(config(n, q)).on_event(listener(&heard));
    (Arc::new(bulkhead.build().unwrap()), heard)
}

/// All calls are over.
fn assert_in_turn(heard: &Heard, refused: u64) {
    let heard = heard.lock().unwrap();
    let in_turn = [Told::Full, Told::Room].iter().cycle().take(heard.len());
    assert!(heard.iter().eq(in_turn), "{heard:?}");
    assert_eq!(heard.len() % 2, 0, "it has room, and said so: {heard:?}");
    assert_eq!(
        refused > 0,
        !heard.is_empty(),
        "{refused} refused: {heard:?}"
    );
    assert!(heard.len() as u64 / 2 <= refused);
}

fn callers(n: usize, q: usize, calls: [usize; 2]) {
    let (bulkhead, heard) = semaphore(n, q);
    let threads = calls.map(|calls| {
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || (0..calls).for_each(|_| drop(bulkhead.run(|| ()))))
    });
    drop(bulkhead.run(|| ()));
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_in_turn(&heard, stats.rejected_full);
}

#[test]
fn a_refusal_while_the_only_place_comes_back() {
    explore("saturation of one place", 3, || {
        let (bulkhead, heard) = semaphore(1, 0);
        let other = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || drop(bulkhead.run(|| ())))
        };
        drop(bulkhead.run(|| ()));
        other.join().unwrap();
        assert_in_turn(&heard, bulkhead.stats().rejected_full);
    });
}

#[test]
fn three_callers_and_one_place() {
    explore("saturation of one place, three callers", 2, || {
        callers(1, 0, [1, 1]);
    });
}

/// Two places come back at the same time, and either of them is enough.
#[test]
fn three_callers_and_two_places() {
    explore("saturation of two places", 2, || callers(2, 0, [1, 1]));
}

#[test]
fn a_close_while_the_last_call_ends() {
    explore("phases of a shutdown", 3, || {
        let (bulkhead, heard) = semaphore(1, 0);
        let caller = {
            let bulkhead = Arc::clone(&bulkhead);
            thread::spawn(move || drop(bulkhead.run(|| ())))
        };
        bulkhead.shutdown();
        assert_eq!(*heard.lock().unwrap(), [Told::ShuttingDown, Told::ShutDown]);
        caller.join().unwrap();
    });
}

#[test]
fn two_shutdowns_of_a_thread_pool() {
    explore("phases of two shutdowns", 2, || {
        let heard = Heard::default();
        let bulkhead = Bulkhead::builder(config(1, 0)).on_event(listener(&heard));
        let bulkhead = Arc::new(bulkhead.build().unwrap());
        let handle = bulkhead.run(|| ());
        let other = {
            let (bulkhead, heard) = (Arc::clone(&bulkhead), Arc::clone(&heard));
            thread::spawn(move || {
                bulkhead.shutdown();
                assert_eq!(*heard.lock().unwrap(), [Told::ShuttingDown, Told::ShutDown]);
            })
        };
        bulkhead.shutdown();
        assert_eq!(*heard.lock().unwrap(), [Told::ShuttingDown, Told::ShutDown]);
        other.join().unwrap();
        drop(handle.wait());
    });
}
