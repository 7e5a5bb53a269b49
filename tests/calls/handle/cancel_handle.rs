//! Cancel handles: for others than the one who waits, whatever becomes of the handle and the call.

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bulkman::{Bulkhead, BulkheadError, CancelHandle, CancelReason};

use super::helpers::at_a_gate;
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, Trace, assert_balanced, bulkhead, config, eventually,
    occupy, wait, with_clock,
};

#[test]
fn it_is_plain_data_about_a_call_of_any_type() {
    fn is_plain<T: Clone + Send + Sync + Debug + UnwindSafe + RefUnwindSafe + 'static>() {}
    is_plain::<CancelHandle>();
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let text = bulkhead.run(|| String::from("text"));
    let number = bulkhead.execute(|| Err::<(), _>(7));
    let all = [text.cancel_handle(), number.cancel_handle()];
    assert_eq!(all[0].execution_id(), text.execution_id());
    assert_eq!(all[1].execution_id(), number.execution_id());
    assert!(all.iter().all(CancelHandle::cancel));
    busy.finish();
}

#[test]
fn it_cancels_a_queued_call_while_a_thread_is_blocked_in_wait() {
    for _ in 0..50 {
        let bulkhead = bulkhead(1, 1);
        let busy = occupy(&bulkhead, 1);
        let trace = Trace::default();
        let handle = bulkhead.run(trace.task());
        let call = handle.cancel_handle();
        let (begins, begun) = mpsc::channel();
        let waiting = thread::spawn(move || {
            begins.send(()).unwrap();
            wait(handle)
        });
        begun.recv_timeout(PATIENCE).unwrap();
        assert!(call.cancel());
        assert!(call.is_finished());
        assert!(!call.is_started());
        assert!(trace.is_dropped(), "its closure is gone");
        assert_eq!(bulkhead.available_capacity(), 1, "and its place is free");
        let result = waiting.join().unwrap();
        assert!(matches!(
            result.error(),
            Some(BulkheadError::Cancelled {
                by_shutdown: false,
                ..
            })
        ));
        assert!(!trace.ran());
        busy.finish();
    }
}

#[test]
fn it_asks_a_running_task_to_stop_while_a_thread_is_blocked_in_wait() {
    let bulkhead = bulkhead(1, 0);
    let (starts, started) = mpsc::channel();
    let handle = bulkhead.run(move || {
        starts.send(()).unwrap();
        let me = bulkman::current().unwrap();
        eventually("it is cancelled", || me.is_cancelled());
        me.cancel_reason()
    });
    let call = handle.cancel_handle();
    let waiting = thread::spawn(move || wait(handle));
    started.recv_timeout(PATIENCE).unwrap();
    assert!(call.is_started());
    assert!(!call.cancel(), "it has started");
    let reason = waiting.join().unwrap().into_result().unwrap();
    assert_eq!(reason, Some(CancelReason::Cancelled));
    assert!(call.is_started() && call.is_finished());
}

#[test]
fn it_works_when_the_handle_has_been_dropped() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let handle = bulkhead.run(trace.task());
    let call = handle.cancel_handle();
    drop(handle);
    assert!(!call.is_finished());
    assert!(call.cancel());
    assert!(call.is_finished());
    assert!(trace.is_dropped());
    busy.finish();
    assert_balanced(&bulkhead.stats());
    assert!(!trace.ran());
}

#[test]
fn it_works_when_the_handle_has_been_waited_for() {
    let bulkhead = bulkhead(1, 0);
    for _ in 0..1_000 {
        let handle = bulkhead.run(|| ());
        let call = handle.cancel_handle();
        let id = handle.execution_id();
        assert!(wait(handle).is_success());
        // At once: a waiter has no outcome of a call that is not shown as finished.
        assert!(call.is_finished());
        assert!(call.is_started());
        assert!(!call.cancel());
        assert_eq!(call.execution_id(), id);
    }
}

#[test]
fn that_of_a_refused_call_has_nothing_to_cancel() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let handle = bulkhead.run(|| ());
    let call = handle.cancel_handle();
    for _ in 0..2 {
        assert!(call.is_finished());
        assert!(!call.is_started());
        assert!(!call.cancel());
        assert_eq!(call.execution_id(), handle.execution_id());
    }
    busy.finish();
}

#[test]
fn of_many_cancels_of_a_call_one_gives_true() {
    for _ in 0..100 {
        let bulkhead = bulkhead(1, 1);
        let busy = occupy(&bulkhead, 1);
        let handle = bulkhead.run(|| ());
        let call = handle.cancel_handle();
        let cancelled = AtomicUsize::new(0);
        thread::scope(|scope| {
            for call in [call.clone(), call.clone(), call.clone()] {
                let cancelled = &cancelled;
                scope.spawn(move || cancelled.fetch_add(call.cancel().into(), Ordering::SeqCst));
            }
        });
        assert_eq!(cancelled.into_inner(), 1);
        assert!(!call.cancel(), "a second cancel");
        assert!(!handle.cancel(), "also by the handle");
        assert_eq!(bulkhead.stats().cancelled_executions, 1);
        assert!(matches!(
            wait(handle).error(),
            Some(BulkheadError::Cancelled { .. })
        ));
        busy.finish();
    }
}

#[test]
fn whether_a_call_has_started_is_the_same_for_all_who_ask() {
    let (bulkhead, clock) = with_clock(config(1, 2));
    let (opener, running) = at_a_gate(&bulkhead, ());
    eventually("it runs", || running.is_started());
    let cancelled = bulkhead.run(|| ());
    let expired = bulkhead.call().queue_timeout(SECOND).run(|| ());
    let refused = bulkhead.run(|| ());
    let look = |handle: &bulkman::ExecutionHandle<(), _>| {
        let call = handle.cancel_handle();
        assert_eq!(call.is_started(), handle.is_started());
        assert_eq!(call.is_finished(), handle.is_finished());
        (call.is_started(), call.is_finished())
    };
    assert_eq!(look(&running), (true, false));
    assert_eq!(look(&cancelled), (false, false));
    assert!(cancelled.cancel());
    assert_eq!(look(&cancelled), (false, true));
    let call = expired.cancel_handle();
    clock.advance(SECOND);
    assert!(expired.wait().error().is_some());
    assert_eq!((call.is_started(), call.is_finished()), (false, true));
    assert_eq!(look(&refused), (false, true));
    drop(opener);
    eventually("it ends", || running.is_finished());
    assert_eq!(look(&running), (true, true));
}

#[test]
fn a_caller_that_left_at_its_limit_leaves_the_call_unfinished() {
    for awaited in [false, true] {
        let (bulkhead, clock) = with_clock(config(1, 0));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let (ends, ended) = mpsc::channel();
        let mut handle = bulkhead.call().timeout(SECOND).run(move || {
            let me = bulkman::current().unwrap();
            at_gate.pass();
            ends.send(me.cancel_reason()).unwrap();
        });
        gate.wait_for_arrivals(1);
        let call = handle.cancel_handle();
        clock.advance(SECOND);
        let later = if awaited {
            let result = pollster::block_on(&mut handle);
            assert!(result.error().unwrap().is_timeout());
            assert!(handle.is_finished(), "there is nothing to wait for");
            assert!(!handle.cancel());
            Some(handle.cancel_handle())
        } else {
            assert!(handle.wait().error().unwrap().is_timeout());
            None
        };
        for call in later.iter().chain([&call]) {
            assert!(call.is_started());
            assert!(!call.is_finished(), "the task runs on");
            assert!(!call.cancel());
        }
        drop(opener);
        ended.recv_timeout(PATIENCE).unwrap();
        eventually("the task has ended", || call.is_finished());
    }
}

#[test]
fn it_keeps_no_closure_and_no_result() {
    let bulkhead = bulkhead(1, 1);
    let token = Arc::new(());
    let (opener, blocker) = at_a_gate(&bulkhead, ());
    let queued = {
        let token = Arc::clone(&token);
        bulkhead.run(move || token)
    };
    let cancelled = queued.cancel_handle();
    assert!(cancelled.cancel());
    assert_eq!(Arc::strong_count(&token), 1, "the closure is gone");
    drop((opener, queued));
    assert!(wait(blocker).is_success());

    let detached = {
        let token = Arc::clone(&token);
        bulkhead.run(move || token)
    };
    let call = detached.cancel_handle();
    drop(detached);
    eventually("the result is gone", || {
        call.is_finished() && Arc::strong_count(&token) == 1
    });
}

#[test]
fn it_keeps_no_worker() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stopped);
    let bulkhead = Bulkhead::builder(config(2, 2))
        .on_worker_stop(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    let handle = bulkhead.run(|| ());
    let call = handle.cancel_handle();
    drop(bulkhead);
    assert_eq!(stopped.load(Ordering::SeqCst), 2);
    drop(handle);
    assert!(call.is_finished());
    assert!(!call.cancel());
}

#[test]
fn a_handle_that_cancels_when_it_is_dropped_has_one_too() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    let call = guard.cancel_handle();
    assert!(!guard.is_started());
    drop(guard);
    assert!(call.is_finished());
    assert!(!call.cancel(), "the guard has done it");
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    assert!(guard.cancel_handle().cancel());
    assert!(guard.is_finished());
    assert!(guard.wait().error().is_some());
    busy.finish();
    let guard = bulkhead.run(|| ()).cancel_on_drop();
    eventually("it ends", || guard.is_finished());
    assert!(guard.is_started());
    assert!(guard.wait().is_success());
}

#[test]
fn dropping_it_does_nothing() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let handle = bulkhead.run(|| 7);
    drop(handle.cancel_handle());
    busy.finish();
    assert_eq!(wait(handle).value(), Some(&7));
}

#[test]
fn a_task_may_hold_the_cancel_handle_of_its_own_call() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel::<CancelHandle>();
    let handle = bulkhead.run(move || {
        let me = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(me.is_started() && !me.is_finished());
        assert!(!me.cancel());
        bulkman::current().unwrap().is_cancelled()
    });
    sender.send(handle.cancel_handle()).unwrap();
    assert_eq!(wait(handle).value(), Some(&true));
}

#[test]
fn debug_output_names_the_call() {
    let bulkhead = bulkhead(1, 1);
    let (_opener, handle) = at_a_gate(&bulkhead, ());
    eventually("it runs", || handle.is_started());
    let text = format!("{:?}", handle.cancel_handle());
    let id = handle.execution_id();
    assert_eq!(
        text,
        format!("CancelHandle {{ execution_id: {id}, is_started: true, is_finished: false }}")
    );
}
