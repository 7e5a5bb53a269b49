//! The handle: every way to wait for a call, and what happens when nobody does.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Bomb, Gate, OpenOnDrop, PATIENCE};
use crate::support::{assert_balanced, bulkhead, eventually, occupy, wait};
use bulkman::{Bulkhead, BulkheadError, ExecutionHandle};

/// A call that ends when the gate opens.
fn at_a_gate<T: Send + 'static>(
    bulkhead: &Bulkhead,
    value: T,
) -> (OpenOnDrop, ExecutionHandle<T, Infallible>) {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = bulkhead.run(move || {
        gate.pass();
        value
    });
    (opener, handle)
}

#[test]
fn wait_gives_the_value() {
    let bulkhead = bulkhead(2, 2);
    let result = bulkhead.run(|| String::from("a value")).wait();
    assert!(result.is_success());
    assert!(result.error().is_none());
    assert_eq!(&*result.bulkhead_name, "test");
    assert_eq!(result.into_result().unwrap(), "a value");
}

#[test]
fn wait_gives_the_tasks_own_error() {
    let bulkhead = bulkhead(1, 1);
    let result = bulkhead.execute(|| Err::<(), _>(String::from("no"))).wait();
    assert!(!result.is_success());
    assert!(result.value().is_none());
    let error = result.into_result().unwrap_err();
    assert_eq!(error.failed().map(String::as_str), Some("no"));
    assert!(!error.never_started());
}

#[test]
fn wait_blocks_until_the_task_ends() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let (opener, handle) = at_a_gate(&bulkhead, 7);
        let waiter = thread::spawn(move || wait(handle));
        drop(opener);
        assert_eq!(waiter.join().unwrap().value(), Some(&7));
    }
}

#[test]
fn wait_timeout_gives_the_handle_back_and_it_works_again() {
    let bulkhead = bulkhead(1, 1);
    let (opener, mut handle) = at_a_gate(&bulkhead, 7);
    let id = handle.execution_id();
    for limit in [0, 0, 1, 500] {
        handle = handle
            .wait_timeout(Duration::from_micros(limit))
            .expect_err("the task is at its gate");
        assert_eq!(handle.execution_id(), id);
        assert!(!handle.is_finished());
    }
    drop(opener);
    let result = handle.wait_timeout(PATIENCE).expect("an outcome");
    assert_eq!(result.value(), Some(&7));
    assert_eq!(result.execution_id, id);
}

#[test]
fn wait_timeout_of_zero_takes_a_finished_outcome() {
    let bulkhead = bulkhead(1, 1);
    let handle = bulkhead.run(|| 7);
    eventually("it has finished", || handle.is_finished());
    let result = handle.wait_timeout(Duration::ZERO).expect("it is there");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn a_deadline_in_the_past_is_one_look() {
    let past = Instant::now();
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    let handle = handle.wait_deadline(past).expect_err("not yet");
    drop(opener);
    eventually("it has finished", || handle.is_finished());
    let result = handle.wait_deadline(past).expect("it is there");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn a_deadline_in_the_future_is_waited_for() {
    let bulkhead = bulkhead(1, 1);
    let (_opener, handle) = at_a_gate(&bulkhead, 7);
    let deadline = Instant::now() + Duration::from_millis(3);
    let handle = handle.wait_deadline(deadline).expect_err("not yet");
    assert!(Instant::now() >= deadline, "it gave up too early");
    drop(handle);
}

#[test]
fn an_endless_wait_timeout_waits_for_the_outcome() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, 7);
    let waiter = thread::spawn(move || handle.wait_timeout(Duration::MAX));
    drop(opener);
    let result = waiter.join().unwrap().expect("no overflow, no early end");
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn is_finished_turns_true_and_stays_true() {
    let bulkhead = bulkhead(1, 1);
    let (opener, running) = at_a_gate(&bulkhead, ());
    let queued = bulkhead.run(|| ());
    assert!(!running.is_finished());
    assert!(!queued.is_finished());
    drop(opener);
    eventually("both have finished", || {
        running.is_finished() && queued.is_finished()
    });
    assert!(running.is_finished());
    assert!(wait(running).is_success());
}

#[test]
fn the_id_is_the_same_everywhere_and_different_for_every_call() {
    let bulkhead = bulkhead(2, 50);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..50 {
        let handle = bulkhead.run(|| bulkman::current().unwrap().execution_id());
        let id = handle.execution_id();
        let result = wait(handle);
        assert_eq!(result.execution_id, id);
        assert_eq!(result.value(), Some(&id));
        assert!(ids.insert(id), "{id} appeared twice");
    }
}

#[test]
fn the_handle_of_a_refused_call_is_resolved_already() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let refuse = || bulkhead.execute(|| Ok::<_, &str>(1));
    assert!(refuse().is_finished());
    let id = refuse().execution_id();
    assert_ne!(id, refuse().execution_id(), "it has an id of its own");

    let handle = refuse();
    let id = handle.execution_id();
    let result = handle.wait();
    assert_eq!(result.execution_id, id);
    assert_eq!(result.queued_time, Duration::ZERO);
    assert_eq!(result.execution_time, Duration::ZERO);
    assert!(result.error().unwrap().is_rejected());
    for result in [
        refuse().wait_timeout(Duration::ZERO),
        refuse().wait_timeout(Duration::MAX),
        refuse().wait_deadline(Instant::now()),
        Ok(pollster::block_on(refuse())),
        refuse()
            .cancel_on_drop()
            .wait_timeout(Duration::ZERO)
            .map_err(|guard| guard.into_handle()),
    ] {
        let result = result.expect("it is resolved");
        assert!(result.error().unwrap().is_rejected(), "{result:?}");
    }
    busy.finish();
}

#[test]
fn the_closure_of_a_refused_call_is_dropped_at_once() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let token = Arc::new(());
    let inside = Arc::clone(&token);
    let handle = bulkhead.run(move || drop(inside));
    assert_eq!(Arc::strong_count(&token), 1);
    drop(handle);
    busy.finish();
}

#[test]
fn a_task_whose_handle_is_dropped_still_runs() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let busy = occupy(&bulkhead, 1);
    drop(bulkhead.run(move || sender.send("ran").unwrap()));
    busy.finish();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok("ran"));
    eventually("it is counted", || {
        bulkhead.stats().successful_executions == 2
    });
}

/// Says in which thread it was dropped.
struct Tells(mpsc::Sender<Option<String>>);

impl Drop for Tells {
    fn drop(&mut self) {
        let name = thread::current().name().map(String::from);
        let _ = self.0.send(name);
    }
}

#[test]
fn a_result_that_nobody_waits_for_is_dropped_on_the_worker() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let (opener, handle) = at_a_gate(&bulkhead, Tells(sender));
    drop(handle);
    drop(opener);
    let dropped_on = receiver.recv_timeout(PATIENCE).expect("it is dropped");
    assert_eq!(dropped_on.as_deref(), Some("bulkman-test-0"));
}

#[test]
fn a_result_that_is_there_already_goes_with_the_handle() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let (opener, handle) = at_a_gate(&bulkhead, Tells(sender));
    drop(opener);
    eventually("it has finished", || handle.is_finished());
    drop(handle);
    let here = thread::current().name().map(String::from);
    assert_eq!(receiver.try_recv(), Ok(here));
}

#[test]
fn a_result_that_nobody_waits_for_may_panic_when_it_is_dropped() {
    let bulkhead = Arc::new(bulkhead(1, 1));
    // With a dead worker the drop of the bulkhead would hang; so it would hide why the test fails.
    std::mem::forget(Arc::clone(&bulkhead));
    for round in 0..5 {
        let (opener, handle) = at_a_gate(&bulkhead, Bomb);
        drop(handle);
        drop(opener);
        let next = bulkhead.run(move || round);
        eventually("the worker has survived it", || next.is_finished());
        assert_eq!(wait(next).value(), Some(&round));
        assert_eq!(bulkhead.available_capacity(), 2);
    }
    assert_balanced(&bulkhead.stats());
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn a_running_task_whose_handle_is_dropped_counts_as_abandoned_until_it_ends() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..20 {
        let gate = Gate::new();
        let _opener = OpenOnDrop(gate.clone());
        let handle = bulkhead.run({
            let gate = gate.clone();
            move || gate.pass()
        });
        gate.wait_for_arrivals(1);
        assert_eq!(bulkhead.stats().abandoned_tasks, 0);
        drop(handle);
        assert_eq!(bulkhead.stats().abandoned_tasks, 1);
        gate.open();
        eventually("it ends", || bulkhead.stats().in_flight == 0);
        eventually("nothing is abandoned", || {
            bulkhead.stats().abandoned_tasks == 0
        });
    }
}

#[test]
fn a_queued_task_whose_handle_is_dropped_counts_as_abandoned_once_it_runs() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    drop(handle);
    assert_eq!(bulkhead.stats().abandoned_tasks, 0, "it does not run yet");
    busy.finish();
    eventually("it runs", || bulkhead.stats().abandoned_tasks == 1);
    drop(opener);
    eventually("it ends", || bulkhead.stats().abandoned_tasks == 0);
}

#[test]
fn a_forgotten_handle_keeps_no_place() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..100 {
        let token = Arc::new(());
        let inside = Arc::clone(&token);
        std::mem::forget(bulkhead.run(move || drop(inside)));
        eventually("its place is free", || bulkhead.available_capacity() == 2);
        assert_eq!(Arc::strong_count(&token), 1, "its closure is gone");
    }
    assert_eq!(bulkhead.stats().successful_executions, 100);
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
fn a_handle_can_be_sent_to_another_thread() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel::<ExecutionHandle<i32, Infallible>>();
    let waiter = thread::spawn(move || receiver.into_iter().map(wait).collect::<Vec<_>>());
    for i in 0..10 {
        let handle = bulkhead
            .call()
            .wait_for_capacity(Duration::MAX)
            .run(move || i);
        sender.send(handle).unwrap();
    }
    drop(sender);
    let results = waiter.join().unwrap();
    let values = results.into_iter().map(|result| result.into_result());
    assert!(values.map(Result::unwrap).eq(0..10));
}

#[test]
fn a_handle_outlives_its_bulkhead() {
    let bulkhead = bulkhead(1, 3);
    let handles: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
    drop(bulkhead);
    for (i, handle) in handles.into_iter().enumerate() {
        assert!(handle.is_finished(), "the drop runs what is queued");
        assert!(!handle.cancel());
        assert_eq!(wait(handle).value(), Some(&i));
    }
}

#[test]
fn debug_output_names_the_call() {
    let bulkhead = bulkhead(1, 1);
    let (opener, handle) = at_a_gate(&bulkhead, ());
    let id = handle.execution_id().to_string();
    let text = format!("{handle:?}");
    assert!(text.contains("ExecutionHandle"), "{text}");
    assert!(text.contains(&id), "{text}");
    assert!(text.contains("is_finished: false"), "{text}");
    let guard = handle.cancel_on_drop();
    let text = format!("{guard:?}");
    assert!(
        text.contains("CancelOnDrop") && text.contains(&id),
        "{text}"
    );
    drop(opener);
    let mut handle = guard.into_handle();
    eventually("it has finished", || handle.is_finished());
    assert!(format!("{handle:?}").contains("is_finished: true"));
    let result = pollster::block_on(&mut handle);
    assert!(result.is_success());
    // What is left of it can still be looked at.
    assert!(format!("{handle:?}").contains("is_finished: true"));
}

// ---- as a future

#[test]
fn await_gives_the_value() {
    let bulkhead = bulkhead(1, 1);
    let result = pollster::block_on(async { bulkhead.run(|| 7).await });
    assert_eq!(result.value(), Some(&7));
}

#[test]
fn await_gives_the_error() {
    let bulkhead = bulkhead(1, 1);
    let result = pollster::block_on(async { bulkhead.execute(|| Err::<(), _>("no")).await });
    assert!(matches!(result.error(), Some(BulkheadError::Failed("no"))));
}

#[test]
fn await_gives_the_refusal() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let result = pollster::block_on(async { bulkhead.run(|| ()).await });
    assert!(matches!(result.error(), Some(BulkheadError::Full { .. })));
    busy.finish();
}

#[test]
fn await_gives_the_panic() {
    let bulkhead = bulkhead(1, 1);
    let task = || -> i32 { std::panic::resume_unwind(Box::new("out of order")) };
    let result = pollster::block_on(bulkhead.run(task));
    match result.into_result() {
        Err(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "out of order"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn await_wakes_up_when_the_call_is_cancelled() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let mut queued = bulkhead.run(|| ());
    let waker = CountsWakes::new();
    assert!(poll(&mut queued, &waker).is_pending());
    assert!(queued.cancel());
    assert_eq!(waker.count(), 1);
    match poll(&mut queued, &waker) {
        Poll::Ready(result) => assert!(matches!(
            result.error(),
            Some(BulkheadError::Cancelled { .. })
        )),
        Poll::Pending => panic!("it is cancelled"),
    }
    busy.finish();
}

#[derive(Default)]
struct CountsWakes(AtomicUsize);

impl CountsWakes {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountsWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Arc<CountsWakes>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(waker));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn the_last_waker_is_woken_and_no_other() {
    let bulkhead = bulkhead(1, 1);
    for polls in 1..6 {
        let (opener, mut handle) = at_a_gate(&bulkhead, 7);
        let wakers: Vec<_> = (0..polls).map(|_| CountsWakes::new()).collect();
        for waker in &wakers {
            assert!(poll(&mut handle, waker).is_pending());
        }
        drop(opener);
        let (last, others) = wakers.split_last().unwrap();
        eventually("the last waker is woken", || last.count() == 1);
        match poll(&mut handle, last) {
            Poll::Ready(result) => assert_eq!(result.value(), Some(&7)),
            Poll::Pending => panic!("woken, and there is nothing"),
        }
        for waker in others {
            assert_eq!(waker.count(), 0);
            assert_eq!(Arc::strong_count(waker), 1, "it was let go when replaced");
        }
        assert_eq!(last.count(), 1);
        eventually("the last waker is let go", || Arc::strong_count(last) == 1);
    }
}

#[test]
fn a_finished_call_is_ready_at_the_first_poll() {
    let bulkhead = bulkhead(1, 1);
    let mut handle = bulkhead.run(|| 7);
    eventually("it has finished", || handle.is_finished());
    let waker = CountsWakes::new();
    assert!(poll(&mut handle, &waker).is_ready());
    assert_eq!(waker.count(), 0);
}

#[test]
fn the_place_is_free_and_the_call_counted_when_the_waker_is_woken() {
    struct Looks(Arc<Bulkhead>, mpsc::Sender<(usize, u64)>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let free = self.0.available_capacity();
            let counted = self.0.stats().successful_executions;
            let _ = self.1.send((free, counted));
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 0));
    let (sender, receiver) = mpsc::channel();
    let looks = Waker::from(Arc::new(Looks(Arc::clone(&bulkhead), sender)));
    for round in 1..=50 {
        let (opener, mut handle) = at_a_gate(&bulkhead, ());
        let mut context = Context::from_waker(&looks);
        assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
        drop(opener);
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok((1, round)));
        assert!(wait(handle).is_success());
    }
}

#[test]
fn a_waker_that_panics_does_no_harm() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("a bad executor"));
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 1));
    std::mem::forget(Arc::clone(&bulkhead));
    let (opener, mut handle) = at_a_gate(&bulkhead, 7);
    let waker = Waker::from(Arc::new(Panics));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
    drop(opener);
    let next = bulkhead.run(|| ());
    eventually("the worker has survived it", || next.is_finished());
    assert_eq!(wait(handle).value(), Some(&7), "the outcome is there");
    drop(next);
    assert!(bulkhead.shutdown().is_clean());
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn polling_after_ready_panics() {
    let bulkhead = bulkhead(1, 1);
    let mut handle = bulkhead.run(|| ());
    assert!(pollster::block_on(&mut handle).is_success());
    let _ = poll(&mut handle, &CountsWakes::new());
}

#[test]
fn a_polled_out_handle_is_finished_and_cannot_be_cancelled() {
    let bulkhead = bulkhead(1, 1);
    let mut handle = bulkhead.run(|| ());
    assert!(pollster::block_on(&mut handle).is_success());
    assert!(handle.is_finished());
    assert!(!handle.cancel());
    assert_eq!(bulkhead.stats().abandoned_tasks, 0);
}

#[test]
fn a_future_can_move_to_another_thread_between_polls() {
    let bulkhead = bulkhead(1, 1);
    for _ in 0..50 {
        let (opener, mut handle) = at_a_gate(&bulkhead, 7);
        let left_behind = CountsWakes::new();
        assert!(poll(&mut handle, &left_behind).is_pending());
        let (sender, receiver) = mpsc::channel();
        let mover = thread::spawn(move || {
            // Polled once more here before the task may end, so that this thread's waker counts.
            assert!(poll(&mut handle, &CountsWakes::new()).is_pending());
            sender.send(()).unwrap();
            pollster::block_on(handle)
        });
        receiver.recv_timeout(PATIENCE).unwrap();
        drop(opener);
        assert_eq!(mover.join().unwrap().value(), Some(&7));
        assert_eq!(left_behind.count(), 0);
    }
}

#[test]
fn a_polled_handle_can_still_be_waited_for() {
    let bulkhead = bulkhead(1, 1);
    let (opener, mut handle) = at_a_gate(&bulkhead, 7);
    let waker = CountsWakes::new();
    assert!(poll(&mut handle, &waker).is_pending());
    let handle = handle.wait_timeout(Duration::ZERO).expect_err("not yet");
    let waiter = thread::spawn(move || wait(handle));
    drop(opener);
    assert_eq!(waiter.join().unwrap().value(), Some(&7));
}

#[test]
fn a_future_that_is_dropped_detaches_the_call() {
    let bulkhead = bulkhead(1, 1);
    let (sender, receiver) = mpsc::channel();
    let waker = CountsWakes::new();
    let (opener, mut handle) = at_a_gate(&bulkhead, Tells(sender));
    assert!(poll(&mut handle, &waker).is_pending());
    drop(handle);
    assert_eq!(Arc::strong_count(&waker), 1, "its waker goes with it");
    drop(opener);
    let dropped_on = receiver.recv_timeout(PATIENCE).expect("it is dropped");
    assert_eq!(dropped_on.as_deref(), Some("bulkman-test-0"));
    assert_eq!(waker.count(), 0);
}

#[test]
fn many_calls_can_be_awaited_at_once() {
    let bulkhead = bulkhead(2, 62);
    let calls: Vec<_> = (0..64).map(|i| bulkhead.run(move || i)).collect();
    let values = pollster::block_on(async {
        let mut values = Vec::new();
        for call in calls {
            values.push(call.await.into_result().unwrap());
        }
        values
    });
    assert!(values.into_iter().eq(0..64));
}
