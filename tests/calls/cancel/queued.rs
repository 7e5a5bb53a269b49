//! Cancelling a queued task: it never runs, and its place is free at once.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self};
use std::sync::{Arc, Mutex};
use std::thread;

use bulkman::{Bulkhead, ExecutionHandle};

use super::helpers::assert_cancelled;
use crate::helpers::looking_waker;
use crate::support::{PATIENCE, Trace, assert_balanced, bulkhead, occupy, poll_once, wait};

#[test]
fn a_queued_task_that_is_cancelled_never_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    assert!(queued.cancel());
    assert!(queued.is_finished());
    assert_cancelled(&wait(queued));
    busy.finish();
    // The worker has passed the place where it was.
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(!trace.ran());
    let stats = bulkhead.stats();
    assert_eq!(stats.cancelled_executions, 1);
    assert_eq!(stats.total_executions, 2);
    assert_balanced(&stats);
}

#[test]
fn its_closure_is_dropped_before_cancel_returns() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    assert!(!trace.is_dropped());
    assert!(queued.cancel());
    assert!(trace.is_dropped());
    busy.finish();
}

#[test]
fn a_cancelled_task_frees_its_place_at_once() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| "first");
    assert!(bulkhead.run(|| ()).is_finished(), "it is full");
    assert!(queued.cancel());
    assert_eq!(bulkhead.available_capacity(), 1);
    let next = bulkhead.run(|| "second");
    assert!(!next.is_finished(), "the place of a cancelled call is free");
    busy.finish();
    assert_eq!(wait(next).value(), Some(&"second"));
}

#[test]
fn a_second_cancel_changes_nothing() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    assert!(queued.cancel());
    for _ in 0..10 {
        assert!(!queued.cancel());
    }
    assert_eq!(
        bulkhead.available_capacity(),
        1,
        "one place, given back once"
    );
    assert_eq!(bulkhead.stats().cancelled_executions, 1);
    assert_cancelled(&wait(queued));
    busy.finish();
}

#[test]
fn of_many_who_cancel_the_same_call_one_succeeds() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    for _ in 0..200 {
        let queued = bulkhead.run(|| ());
        let succeeded = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| succeeded.fetch_add(queued.cancel().into(), Ordering::Relaxed));
            }
        });
        assert_eq!(succeeded.into_inner(), 1);
        assert_cancelled(&wait(queued));
        assert_eq!(bulkhead.available_capacity(), 1);
    }
    busy.finish();
}

#[test]
fn the_closure_may_use_the_bulkhead_while_it_is_dropped() {
    struct Uses(Arc<Bulkhead>, mpsc::Sender<u64>);
    impl Drop for Uses {
        fn drop(&mut self) {
            drop(self.0.run(|| ()));
            let _ = self.1.send(self.0.stats().submitted_executions);
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 2));
    let busy = occupy(&bulkhead, 1);
    let (sender, receiver) = mpsc::channel();
    let uses = Uses(Arc::clone(&bulkhead), sender);
    let queued = bulkhead.run(move || drop(uses));
    thread::spawn(move || queued.cancel());
    let submitted = receiver.recv_timeout(PATIENCE).expect("no lock is held");
    assert_eq!(submitted, 3);
    busy.finish();
}

#[test]
fn a_waiter_elsewhere_is_told() {
    // One end waits as a future, the other cancels.
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let busy = occupy(&bulkhead, 1);
        let queued = Arc::new(Mutex::new(Box::pin(bulkhead.run(|| ()))));
        let (sender, receiver) = mpsc::channel();
        let waiter = Arc::clone(&queued);
        thread::spawn(move || {
            let result = pollster::block_on(std::future::poll_fn(|context| {
                waiter.lock().unwrap().as_mut().poll(context)
            }));
            let _ = sender.send(result);
        });
        assert!(queued.lock().unwrap().cancel());
        let result = receiver
            .recv_timeout(PATIENCE)
            .expect("the waiter is woken");
        assert_cancelled(&result);
        busy.finish();
    }
}

#[test]
fn everything_is_in_order_by_the_time_a_waiter_is_told() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let mut queued = bulkhead.run(trace.task());
    let (waker, receiver) = looking_waker(&bulkhead, &queued, &trace, |stats| {
        stats.cancelled_executions
    });
    assert!(poll_once(&mut queued, &waker).is_pending());
    assert!(queued.cancel());
    // Only our own trace is left, the cancel is counted, and the place is free.
    assert_eq!(receiver.try_recv(), Ok((1, 1, 1)));
    assert_cancelled(&wait(queued));
    busy.finish();
}

#[test]
fn a_task_can_cancel_a_queued_call_of_its_own_bulkhead() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel::<ExecutionHandle<&'static str, Infallible>>();
    let canceller = bulkhead.run(move || {
        let queued = receiver.recv_timeout(PATIENCE).unwrap();
        (queued.cancel(), queued)
    });
    let trace = Trace::default();
    sender.send(bulkhead.run(trace.task())).unwrap();
    let (cancelled, queued) = wait(canceller).into_result().unwrap();
    assert!(cancelled);
    assert_cancelled(&wait(queued));
    assert!(!trace.ran());
}
