//! A bulkhead that is full says so once, and once when it has room again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadEvent, ExecutionHandle, ManualClock};

use crate::support::{
    Gate, OpenOnDrop, Over, PATIENCE, SECOND, assert_balanced, config, eventually, in_time, occupy,
    wait,
};

/// `Some`: a saturation has ended.
type Told = Arc<Mutex<Vec<Option<(Duration, u64)>>>>;

fn watched(n: usize, q: usize) -> (Bulkhead, Told, ManualClock) {
    let (told, clock) = (Told::default(), ManualClock::new());
    let ear = Arc::clone(&told);
    let bulkhead = Bulkhead::builder(config(n, q))
        .clock(clock.clone())
        .on_event(move |event| {
            let line = match event {
                BulkheadEvent::SaturationBegan {
                    bulkhead,
                    max_concurrent_calls,
                    max_queue_size,
                    ..
                } => {
                    assert_eq!(*bulkhead, "test");
                    assert_eq!((*max_concurrent_calls, *max_queue_size), (n, q));
                    None
                }
                BulkheadEvent::SaturationEnded {
                    lasted, rejected, ..
                } => Some((*lasted, *rejected)),
                _ => return,
            };
            ear.lock().unwrap().push(line);
        })
        .build()
        .unwrap();
    (bulkhead, told, clock)
}

fn fill(bulkhead: &Bulkhead, q: usize) -> Vec<ExecutionHandle<(), std::convert::Infallible>> {
    (0..q).map(|_| bulkhead.run(|| ())).collect()
}

#[test]
fn it_begins_with_the_first_refusal_and_ends_when_half_of_the_places_are_free() {
    let (bulkhead, told, clock) = watched(2, 4);
    let busy = occupy(&bulkhead, 2);
    let queued = fill(&bulkhead, 4);
    assert!(told.lock().unwrap().is_empty(), "full, but nobody minds");
    for _ in 0..3 {
        assert!(bulkhead.try_run(|| ()).is_err());
    }
    assert_eq!(*told.lock().unwrap(), [None]);
    clock.advance(7 * SECOND);
    for handle in &queued[..2] {
        assert!(handle.cancel());
    }
    assert_eq!(told.lock().unwrap().len(), 1, "four of six are taken");
    // It hovers around full.
    let mut again = fill(&bulkhead, 2);
    assert!(bulkhead.try_run(|| ()).is_err());
    again.iter().for_each(|handle| assert!(handle.cancel()));
    again.clear();
    assert_eq!(told.lock().unwrap().len(), 1);
    assert!(queued[2].cancel());
    assert_eq!(*told.lock().unwrap(), [None, Some((7 * SECOND, 4))]);

    // The next one counts by itself.
    let queued = fill(&bulkhead, 3);
    assert_eq!(told.lock().unwrap().len(), 2);
    assert!(bulkhead.try_run(|| ()).is_err());
    clock.advance(SECOND);
    busy.finish();
    // What a place that comes back has to tell is told before the outcome of its call, and perhaps after the bulkhead is idle.
    for handle in queued {
        assert!(wait(handle).is_success());
    }
    assert_eq!(told.lock().unwrap()[2..], [None, Some((SECOND, 1))]);
}

#[test]
fn a_call_that_waited_for_a_place_in_vain_begins_one_and_one_that_is_refused_otherwise_does_not() {
    let (bulkhead, told, _clock) = watched(1, 0);
    let busy = occupy(&bulkhead, 1);
    let waited = bulkhead.call().wait_for_capacity(Duration::ZERO);
    assert!(waited.try_run(|| ()).is_err());
    assert_eq!(*told.lock().unwrap(), [None]);
    busy.finish();
    assert_eq!(told.lock().unwrap().len(), 2);
    let busy = occupy(&bulkhead, 1);
    bulkhead.close();
    assert!(bulkhead.try_run(|| ()).is_err());
    busy.finish();
    assert_eq!(told.lock().unwrap().len(), 2, "shut down is not full");
}

#[test]
fn more_places_end_it() {
    let (bulkhead, told, _clock) = watched(1, 1);
    let busy = occupy(&bulkhead, 1);
    let _queued = fill(&bulkhead, 1);
    assert!(bulkhead.try_run(|| ()).is_err());
    bulkhead.resize(1, 2).unwrap();
    assert_eq!(told.lock().unwrap().len(), 1, "two of three are taken");
    bulkhead.resize(1, 3).unwrap();
    assert_eq!(told.lock().unwrap().len(), 2);
    busy.finish();
}

/// Beginnings and ends come in turn, whatever threads tell them, and the last one is an end.
#[test]
fn beginnings_and_ends_alternate_under_load() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&told);
    let bulkhead = Bulkhead::builder(config(2, 1))
        .on_event(move |event| match event {
            BulkheadEvent::SaturationBegan { .. } => ear.lock().unwrap().push(true),
            BulkheadEvent::SaturationEnded { .. } => ear.lock().unwrap().push(false),
            _ => {}
        })
        .build()
        .unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ends = Over(&over);
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop((bulkhead.run(|| ()), bulkhead.run(|| ())));
                }
            });
        }
        eventually("many saturations", || told.lock().unwrap().len() > 200);
        drop(ends);
    });
    // After its threads nobody tells anything.
    assert!(bulkhead.shutdown().is_clean());
    let told = told.lock().unwrap();
    assert_eq!(told.len() % 2, 0, "each has ended");
    let in_turn = |(number, is_begin): (usize, &bool)| *is_begin == (number % 2 == 0);
    assert!(told.iter().enumerate().all(in_turn));
    assert_balanced(&bulkhead.stats());
}

/// What a listener does when it hears of it.
fn with_reaction(
    n: usize,
    react: impl Fn(&BulkheadEvent<'_>, &Bulkhead) + Send + Sync + 'static,
) -> Arc<Bulkhead> {
    let slot: Arc<OnceLock<std::sync::Weak<Bulkhead>>> = Arc::default();
    let inside = Arc::clone(&slot);
    let bulkhead = Bulkhead::builder(config(n, 0))
        .on_event(move |event| {
            if let Some(bulkhead) = inside.get().and_then(std::sync::Weak::upgrade) {
                react(event, &bulkhead);
            }
        })
        .build()
        .unwrap();
    let bulkhead = Arc::new(bulkhead);
    slot.set(Arc::downgrade(&bulkhead)).unwrap();
    bulkhead
}

#[test]
fn a_listener_may_call_the_bulkhead_when_it_is_full_and_when_it_has_room() {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answers);
    let bulkhead = with_reaction(1, move |event, bulkhead| {
        if matches!(
            event,
            BulkheadEvent::SaturationBegan { .. } | BulkheadEvent::SaturationEnded { .. }
        ) {
            let waits = bulkhead.call().wait_for_capacity(PATIENCE);
            heard
                .lock()
                .unwrap()
                .push(waits.run(|| ()).wait().is_success());
        }
    });
    in_time(move || {
        let busy = occupy(&bulkhead, 1);
        assert!(bulkhead.try_run(|| ()).is_err());
        busy.finish();
        assert_eq!(*answers.lock().unwrap(), [false, true]);
    });
}

#[test]
fn a_listener_may_shut_the_bulkhead_down_when_it_is_full_or_has_room() {
    for at_begin in [true, false] {
        let ended = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ended);
        let bulkhead = with_reaction(1, move |event, bulkhead| {
            let is_it = match event {
                BulkheadEvent::SaturationBegan { .. } => at_begin,
                BulkheadEvent::SaturationEnded { .. } => !at_begin,
                BulkheadEvent::ShutDown { .. } => {
                    counter.fetch_add(1, Ordering::SeqCst);
                    false
                }
                _ => false,
            };
            if is_it {
                drop(bulkhead.shutdown());
            }
        });
        in_time(move || {
            let busy = occupy(&bulkhead, 1);
            assert!(bulkhead.try_run(|| ()).is_err());
            busy.finish();
            assert!(bulkhead.wait_closed(PATIENCE));
            assert_eq!(ended.load(Ordering::SeqCst), 1);
        });
    }
}

#[test]
fn a_listener_that_panics_ends_no_saturation_and_no_worker() {
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let bulkhead = Bulkhead::builder(config(1, 0))
        .on_event(move |event| {
            if matches!(
                event,
                BulkheadEvent::SaturationBegan { .. } | BulkheadEvent::SaturationEnded { .. }
            ) {
                counter.fetch_add(1, Ordering::SeqCst);
                panic!("the listener's own panic");
            }
        })
        .build()
        .unwrap();
    for round in 1..=3 {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let inside = gate.clone();
        let handle = bulkhead.run(move || inside.pass());
        gate.wait_for_arrivals(1);
        assert!(bulkhead.try_run(|| ()).is_err());
        drop(opener);
        assert!(wait(handle).is_success());
        assert_eq!(heard.load(Ordering::SeqCst), 2 * round);
    }
    assert!(bulkhead.shutdown().is_clean());
}
