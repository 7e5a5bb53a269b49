//! Awaiting a call: a handle is a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError};

use super::helpers::{CountsWakes, Tells, at_a_gate, poll};
use crate::support::{PATIENCE, bulkhead, eventually, occupy, wait};

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
