//! The listeners of a bulkhead hear when its circuit's storage fails, and when it is back.

use std::sync::{Arc, Mutex};
use std::thread;

use bulkman::{Bulkhead, BulkheadEvent};

use super::helpers::{Answer, Line, NAME, SOON, World, trip};
use crate::helpers::rules;
use crate::support::{PATIENCE, eventually, in_time, named};

type Heard = Arc<Mutex<Vec<String>>>;

fn watched(
    line: &Line,
    react: impl Fn(&BulkheadEvent<'_>) + Send + Sync + 'static,
) -> (Bulkhead, Heard) {
    let heard = Heard::default();
    let ear = Arc::clone(&heard);
    let bulkhead = Bulkhead::builder(named(NAME, 1, 1).circuit_breaker(rules()))
        .circuit_storage(line.clone())
        .on_event(move |event| {
            let line = match event {
                BulkheadEvent::StorageTroubleBegan {
                    bulkhead, error, ..
                } => {
                    assert_eq!(*bulkhead, NAME);
                    assert!(!error.is_empty());
                    "began"
                }
                BulkheadEvent::StorageTroubleEnded { bulkhead, .. } => {
                    assert_eq!(*bulkhead, NAME);
                    "ended"
                }
                _ => return,
            };
            assert_eq!(thread::current().name(), Some("bulkman-circuits"));
            ear.lock().unwrap().push(line.to_owned());
            react(event);
        })
        .build()
        .unwrap();
    (bulkhead, heard)
}

#[test]
fn an_outage_is_told_once_when_it_begins_and_once_when_it_ends() {
    let world = World::new();
    let (_, line) = world.peer(SOON);
    let (bulkhead, heard) = watched(&line, |_| {});
    for outage in 1..=3 {
        line.all_answer(Answer::Error);
        eventually("it has begun", || {
            heard.lock().unwrap().len() == 2 * outage - 1
        });
        // It goes on, and several attempts fail.
        bulkhead.circuit_breaker().unwrap().trip();
        let asked = world.shelf.loads();
        line.all_answer(Answer::Panic);
        eventually("it is still down", || line.is_down());
        line.all_answer(Answer::Right);
        eventually("it has ended", || heard.lock().unwrap().len() == 2 * outage);
        assert!(world.shelf.loads() >= asked);
    }
    let heard = heard.lock().unwrap();
    let pairs = ["began", "ended"].repeat(3);
    assert_eq!(*heard, pairs);
}

#[test]
fn a_bulkhead_that_is_built_in_an_outage_hears_of_it() {
    let world = World::new();
    let (breaker, line) = world.peer(SOON);
    line.all_answer(Answer::Error);
    trip(&breaker);
    eventually("the outage", || line.is_down());
    let (_bulkhead, heard) = watched(&line, |_| {});
    eventually("it has heard", || *heard.lock().unwrap() == ["began"]);
}

/// The thread of the storage tells it, so a listener that panics must not end that thread.
#[test]
fn a_listener_that_panics_ends_no_synchronizer() {
    let world = World::new();
    let (_, line) = world.peer(SOON);
    let (_bulkhead, heard) = watched(&line, |_| panic!("the listener's own panic"));
    for outage in 1..=2 {
        line.all_answer(Answer::Error);
        eventually("it has begun", || {
            heard.lock().unwrap().len() == 2 * outage - 1
        });
        line.all_answer(Answer::Right);
        eventually("it has ended", || heard.lock().unwrap().len() == 2 * outage);
    }
}

#[test]
fn a_listener_may_shut_the_bulkhead_down_when_the_storage_fails() {
    let world = World::new();
    let (_, line) = world.peer(SOON);
    let itself: Arc<Mutex<std::sync::Weak<Bulkhead>>> = Arc::default();
    let inside = Arc::clone(&itself);
    let (bulkhead, _) = watched(&line, move |_| {
        if let Some(bulkhead) = inside.lock().unwrap().upgrade() {
            bulkhead.shutdown();
        }
    });
    let bulkhead = Arc::new(bulkhead);
    *itself.lock().unwrap() = Arc::downgrade(&bulkhead);
    line.all_answer(Answer::Error);
    in_time(move || assert!(bulkhead.wait_closed(PATIENCE)));
}
