//! A consumer that goes away, cancels or finishes ends the producer at its next item, also while it waits for room.

use std::sync::{Arc, mpsc};

use bulkman::{Bulkhead, BulkheadError, CancelReason, ExecutionStream, StreamSendError};

use crate::support::{Bomb, Trace, assert_balanced, bulkhead, eventually, in_time, occupy};

/// A producer without an end. It tells how many items it has sent, and why it could send no more.
fn endless(
    bulkhead: &Bulkhead,
    capacity: usize,
) -> (
    ExecutionStream<usize, usize, ()>,
    mpsc::Receiver<StreamSendError<usize>>,
) {
    let (tell, told) = mpsc::channel();
    let stream = bulkhead
        .call()
        .execute_stream_with_capacity(capacity, move |sink| {
            for n in 0.. {
                if let Err(error) = sink.send(n) {
                    let _ = tell.send(error);
                    return Ok(n);
                }
            }
            unreachable!("it has no end")
        });
    (stream, told)
}

/// Waits until the producer stands at a full channel, as far as that can be seen.
fn runs(bulkhead: &Bulkhead) {
    eventually("the producer runs", || bulkhead.stats().active_tasks == 1);
}

#[test]
fn dropping_the_stream() {
    in_time(|| {
        for capacity in [1, 5] {
            let bulkhead = bulkhead(1, 0);
            let (mut stream, told) = endless(&bulkhead, capacity);
            assert_eq!(stream.next_item(), Some(0));
            drop(stream);
            let error = told.recv().unwrap();
            assert_eq!(error.reason, CancelReason::Cancelled);
            assert!(error.item <= capacity + 1);
            bulkhead.shutdown();
            assert_balanced(&bulkhead.stats());
        }
    });
}

#[test]
fn dropping_the_results_of_a_loop() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let (stream, told) = endless(&bulkhead, 2);
        for item in stream {
            if item.unwrap() == 10 {
                break;
            }
        }
        assert_eq!(told.recv().unwrap().reason, CancelReason::Cancelled);
    });
}

#[test]
fn finishing_early_gives_the_tasks_own_outcome() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let (mut stream, told) = endless(&bulkhead, 2);
        let taken: Vec<_> = stream.items().take(3).collect();
        assert_eq!(taken, [0, 1, 2]);
        let sent = stream.finish().into_result().unwrap();
        assert_eq!(told.recv().unwrap().item, sent, "the item came back");
    });
}

#[test]
fn cancelling_keeps_what_was_sent() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let (mut stream, told) = endless(&bulkhead, 3);
        runs(&bulkhead);
        assert!(!stream.cancel(), "it runs");
        let returned = told.recv().unwrap().item;
        assert_eq!(stream.items().count(), returned);
        assert_eq!(stream.finish().into_result().unwrap(), returned);
    });
}

#[test]
fn cancelling_a_queued_stream() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let task = trace.task();
    let mut stream: ExecutionStream<(), _, ()> = bulkhead.execute_stream(move |_| Ok(task()));
    assert!(stream.cancel());
    assert!(trace.is_dropped() && !trace.ran());
    assert_eq!(bulkhead.available_capacity(), 1);
    assert_eq!(stream.next_item(), None);
    let result = stream.finish();
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Cancelled { .. })
    ));
    busy.finish();
}

#[test]
fn dropping_or_finishing_a_queued_stream_cancels_it() {
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let submit = || {
        let task = trace.task();
        bulkhead.execute_stream::<(), _, (), _>(move |_| Ok(task()))
    };
    drop(submit());
    let result = submit().finish();
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Cancelled { .. })
    ));
    assert!(trace.is_dropped() && !trace.ran());
    assert_eq!(bulkhead.available_capacity(), 2);
    busy.finish();
}

#[test]
fn items_that_nobody_takes_are_dropped_with_the_stream() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let item = Arc::new(());
        let clone = Arc::clone(&item);
        let mut stream = bulkhead.execute_stream(move |sink| {
            while sink.send(Arc::clone(&clone)).is_ok() {}
            Ok::<_, ()>(())
        });
        assert!(stream.next_item().is_some());
        drop(stream);
        bulkhead.shutdown();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn a_panic_in_the_drop_of_an_item_is_its_consumers() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let (sent, wait) = mpsc::channel();
        let stream = bulkhead.execute_stream(move |sink| {
            sink.send(Bomb).unwrap();
            sent.send(()).unwrap();
            Ok::<_, ()>(())
        });
        wait.recv().unwrap();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(stream)));
        assert!(dropped.is_err());
        assert!(bulkhead.run(|| ()).wait().is_success());
        eventually("its place is free", || bulkhead.available_capacity() == 1);
    });
}

#[test]
fn the_circuit_takes_a_cancelled_stream_for_neutral() {
    in_time(|| {
        let rules = crate::support::rules(1, 1, crate::support::HOUR);
        let config = crate::support::config(1, 0).circuit_breaker(rules);
        let bulkhead = Bulkhead::new(config).unwrap();
        let mut stream = bulkhead.execute_stream(|sink| {
            for n in 0.. {
                sink.send(n)?;
            }
            Ok::<(), StreamSendError<i32>>(())
        });
        assert_eq!(stream.next_item(), Some(0));
        assert!(matches!(
            stream.finish().error(),
            Some(BulkheadError::Failed(_))
        ));
        assert!(bulkhead.is_healthy());
    });
}
