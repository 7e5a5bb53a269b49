//! Listeners hear of each phase of a shutdown, in order, and may do in it what they like.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bulkman::{AnyBulkhead, Bulkhead, BulkheadEvent, SemaphoreBulkhead};

use crate::support::{PATIENCE, config, eventually, in_time, occupy, wait};

type Heard = Arc<Mutex<Vec<String>>>;
type Slot = Arc<OnceLock<Weak<Bulkhead>>>;

fn phase(event: &BulkheadEvent<'_>) -> Option<String> {
    Some(match event {
        BulkheadEvent::ShuttingDown { .. } => "begun".into(),
        BulkheadEvent::CancellingQueue { queued, .. } => format!("cancelling {queued}"),
        BulkheadEvent::Cancelled { .. } => "cancelled".into(),
        BulkheadEvent::ShutDown { bulkhead, .. } => {
            assert_eq!(*bulkhead, "test");
            "ended".into()
        }
        _ => return None,
    })
}

fn heard(react: impl Fn(&str, &Slot) + Send + Sync + 'static) -> (Arc<Bulkhead>, Heard) {
    let (heard, slot) = (Heard::default(), Slot::default());
    let (ear, inside) = (Arc::clone(&heard), Arc::clone(&slot));
    let bulkhead = Bulkhead::builder(config(1, 2)).on_event(move |event| {
        if let Some(phase) = phase(event) {
            ear.lock().unwrap().push(phase.clone());
            react(&phase, &inside);
        }
    });
    let bulkhead = Arc::new(bulkhead.build().unwrap());
    slot.set(Arc::downgrade(&bulkhead)).unwrap();
    (bulkhead, heard)
}

#[test]
fn a_shutdown_begins_and_ends_before_it_returns() {
    let (bulkhead, heard) = heard(|_, _| {});
    bulkhead.shutdown();
    assert_eq!(*heard.lock().unwrap(), ["begun", "ended"]);
    bulkhead.shutdown();
    bulkhead.close();
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[test]
fn a_close_ends_with_the_last_call() {
    let (bulkhead, heard) = heard(|_, _| {});
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    bulkhead.close();
    assert_eq!(*heard.lock().unwrap(), ["begun"]);
    busy.finish();
    assert!(wait(queued).is_success());
    // The place of the last call comes back before its outcome.
    assert_eq!(*heard.lock().unwrap(), ["begun", "ended"]);
}

#[test]
fn the_queue_is_cancelled_once_however_many_shutdowns_there_are() {
    let (bulkhead, heard) = heard(|_, _| {});
    let busy = occupy(&bulkhead, 1);
    let queued = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    bulkhead.shutdown_timeout(Duration::ZERO);
    bulkhead.shutdown_now();
    assert_eq!(
        *heard.lock().unwrap(),
        ["begun", "cancelling 2", "cancelled", "cancelled"]
    );
    drop(queued);
    busy.finish();
    assert!(bulkhead.wait_closed(PATIENCE));
    assert_eq!(heard.lock().unwrap()[4..], ["ended"]);
}

#[test]
fn a_bulkhead_without_threads_has_the_same_phases() {
    let heard = Heard::default();
    let ear = Arc::clone(&heard);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1))
        .on_event(move |event| ear.lock().unwrap().extend(phase(event)))
        .build()
        .unwrap();
    let bulkhead = AnyBulkhead::from(Arc::new(bulkhead));
    bulkhead.shutdown();
    assert_eq!(*heard.lock().unwrap(), ["begun", "ended"]);
}

#[test]
fn a_listener_may_shut_the_bulkhead_down_in_each_phase() {
    for phase in ["begun", "cancelling 1", "ended"] {
        let (bulkhead, heard) = heard(move |heard, slot| {
            if heard == phase {
                if let Some(bulkhead) = slot.get().and_then(Weak::upgrade) {
                    bulkhead.shutdown();
                    bulkhead.shutdown_timeout(PATIENCE);
                    assert!(!bulkhead.wait_closed(PATIENCE) || phase == "ended");
                    assert!(bulkhead.try_run(|| ()).is_err());
                }
            }
        });
        let busy = occupy(&bulkhead, 1);
        let queued = bulkhead.run(|| ());
        let bulkhead = in_time(move || {
            bulkhead.shutdown_now();
            bulkhead
        });
        drop(queued);
        busy.finish();
        assert!(bulkhead.wait_closed(PATIENCE), "{phase}");
        let heard = heard.lock().unwrap();
        assert_eq!(
            *heard,
            ["begun", "cancelling 1", "cancelled", "ended"],
            "{phase}"
        );
    }
}

#[test]
fn a_listener_that_panics_in_each_phase_holds_up_nothing() {
    let (bulkhead, heard) = heard(|_, _| panic!("the listener's own panic"));
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    bulkhead.shutdown_now();
    assert!(wait(queued).error().is_some());
    busy.finish();
    assert!(bulkhead.wait_closed(PATIENCE));
    assert_eq!(
        *heard.lock().unwrap(),
        ["begun", "cancelling 1", "cancelled", "ended"]
    );
}

/// While the first thread tells of the beginning, the others wait for the end as ever.
#[test]
fn several_shutdowns_at_once_tell_of_each_phase_once() {
    for _ in 0..50 {
        let (bulkhead, heard) = heard(|_, _| {});
        let queued = bulkhead.run(|| ());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    bulkhead.shutdown();
                    let heard = heard.lock().unwrap();
                    assert_eq!(*heard, ["begun", "ended"], "told before it returns");
                });
            }
        });
        eventually("the call is over", || queued.is_finished());
    }
}
