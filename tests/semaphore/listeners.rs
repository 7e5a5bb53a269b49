//! Listeners hear events in the thread of the caller.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadEvent, BulkheadState, ManualClock, SemaphoreBulkhead};

use super::helpers::{Inside, assert_idle, queued};
use crate::support::{config, in_time};

#[test]
fn listeners_hear_of_everything_in_the_callers_thread() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 1))
        .clock(ManualClock::new())
        .listener(move |event: &BulkheadEvent<'_>| {
            let name = match event {
                BulkheadEvent::Rejected { operation, .. } => format!("rejected {operation:?}"),
                BulkheadEvent::Started { call, .. } => {
                    let me = bulkman::current().expect("it is its turn");
                    assert_eq!(me.execution_id(), call.execution_id);
                    format!("started {:?}", call.operation)
                }
                BulkheadEvent::Finished { outcome, .. } => format!("finished {outcome:?}"),
                BulkheadEvent::Expired { queued_time, .. } => format!("expired {queued_time:?}"),
                BulkheadEvent::Cancelled { .. } => "cancelled".into(),
                BulkheadEvent::CallerTimedOut { limit, started, .. } => {
                    format!("the caller left after {limit:?}, {started}")
                }
                BulkheadEvent::ShuttingDown { bulkhead, .. } => {
                    format!("{bulkhead} is shutting down")
                }
                BulkheadEvent::Admitted { call, .. } => format!("admitted {:?}", call.operation),
                BulkheadEvent::SaturationBegan { .. } => "full".into(),
                BulkheadEvent::SaturationEnded { rejected, .. } => {
                    format!("room again after {rejected}")
                }
                BulkheadEvent::CancellingQueue { queued, .. } => format!("cancelling {queued}"),
                BulkheadEvent::ShutDown { .. } => "shut down".into(),
                _ => "another".into(),
            };
            ear.lock().unwrap().push((thread::current().id(), name));
            panic!("nobody minds");
        })
        .build()
        .unwrap();
    let heard = || {
        let all = std::mem::take(&mut *heard.lock().unwrap());
        all.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let here = thread::current().id();

    let _ = bulkhead.call().operation("a").run(|| ());
    let _ = bulkhead.execute(|| Err::<(), _>(()));
    let _ = bulkhead.run(|| -> () { panic!("on purpose") });
    let (threads, events) = heard();
    assert!(threads.iter().all(|thread| *thread == here));
    assert_eq!(
        events,
        [
            "admitted Some(\"a\")",
            "started Some(\"a\")",
            "finished Succeeded",
            "admitted None",
            "started None",
            "finished Failed",
            "admitted None",
            "started None",
            "finished Panicked"
        ]
    );
    thread::scope(|scope| {
        let inside = Inside::new(scope, &bulkhead, 1);
        heard();
        let _ = bulkhead.call().queue_timeout(Duration::ZERO).run(|| ());
        let _ = bulkhead.call().timeout(Duration::ZERO).run(|| ());
        let waiting = scope.spawn(|| bulkhead.run(|| ()));
        queued(&bulkhead, 1);
        let _ = bulkhead.call().operation("b").run(|| ());
        let _ = bulkhead.shutdown_now();
        let cancelled_in = waiting.thread().id();
        assert!(waiting.join().unwrap().error().is_some());
        let (threads, events) = heard();
        let in_the_waiting_thread: Vec<_> = threads
            .iter()
            .zip(&events)
            .filter(|(thread, _)| **thread == cancelled_in)
            .map(|(_, event)| event.as_str())
            .collect();
        assert_eq!(in_the_waiting_thread, ["admitted None", "cancelled"]);
        let told_here = threads.iter().filter(|thread| **thread == here).count();
        assert_eq!(told_here, events.len() - 2);
        assert_eq!(
            events,
            [
                "admitted None",
                "expired 0ns",
                "admitted None",
                "expired 0ns",
                "the caller left after 0ns, false",
                "admitted None",
                "full",
                "rejected Some(\"b\")",
                "test is shutting down",
                "cancelling 1",
                "room again after 1",
                "cancelled"
            ]
        );
        inside.finish();
        let (threads, events) = heard();
        assert_eq!(events, ["finished Succeeded", "shut down"]);
        assert!(threads.iter().all(|thread| *thread != here));
    });
    assert_idle(&bulkhead);
}

/// A listener that makes a call, or shuts the bulkhead down, waits for nothing that it holds itself.
#[test]
fn listeners_may_use_their_bulkhead() {
    let itself = Arc::new(Mutex::new(std::sync::Weak::<SemaphoreBulkhead>::new()));
    let seen = Arc::clone(&itself);
    let depth = Mutex::new(0);
    let bulkhead = SemaphoreBulkhead::builder(config(1, 4))
        .listener(move |event: &BulkheadEvent<'_>| {
            let Some(bulkhead) = seen.lock().unwrap().upgrade() else {
                return;
            };
            if std::mem::replace(&mut *depth.lock().unwrap(), 1) == 0 {
                assert!(bulkhead.run(|| ()).is_success());
                if matches!(event, BulkheadEvent::Finished { .. }) {
                    bulkhead.shutdown();
                }
                *depth.lock().unwrap() = 0;
            }
        })
        .build()
        .unwrap();
    let bulkhead = Arc::new(bulkhead);
    *itself.lock().unwrap() = Arc::downgrade(&bulkhead);
    let stats = in_time(move || {
        assert!(bulkhead.run(|| ()).is_success());
        bulkhead.stats()
    });
    assert_eq!(stats.state, BulkheadState::ShutDown);
    assert_eq!(stats.in_flight, 0, "{stats}");
}
