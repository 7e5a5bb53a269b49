//! What a producer sends is what its consumer gets, in order, and the outcome comes last.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::{BulkheadError, ExecutionStream};

use crate::support::{Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, eventually, in_time};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn items_in_order_and_then_the_value() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream = bulkhead.execute_stream(|sink| {
            for n in 0..10_000 {
                sink.send(n).unwrap();
            }
            Ok::<_, ()>("all")
        });
        let id = stream.execution_id();
        assert!(stream.items().eq(0..10_000));
        assert!(stream.next_item().is_none());
        assert!(stream.is_finished());
        let result = stream.finish();
        assert_eq!(result.execution_id, id);
        assert_eq!(result.into_result().unwrap(), "all");
        assert_balanced(&bulkhead.stats());
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

#[test]
fn the_channel_holds_no_more_than_it_is_told_to() {
    in_time(|| {
        for (capacity, most) in [(0, 1), (1, 1), (3, 3)] {
            let bulkhead = bulkhead(1, 0);
            let sent = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&sent);
            let call = bulkhead.call();
            let mut stream = call.execute_stream_with_capacity(capacity, move |sink| {
                for n in 0..100 {
                    sink.send(n).unwrap();
                    counter.fetch_add(1, Ordering::SeqCst);
                }
                Ok::<_, ()>(())
            });
            for taken in 0..100 {
                eventually("it fills up", || {
                    sent.load(Ordering::SeqCst) >= (taken + most).min(100)
                });
                // The item that is taken next is in the channel too.
                assert!(sent.load(Ordering::SeqCst) <= taken + most);
                assert_eq!(stream.next_item(), Some(taken));
            }
            assert!(stream.finish().is_success());
        }
    });
}

#[test]
fn in_a_loop_with_a_question_mark_an_error_comes_last() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let stream = bulkhead.execute_stream(|sink| {
            sink.send(1).unwrap();
            sink.send(2).unwrap();
            Err::<(), _>("the connection broke")
        });
        let mut items = Vec::new();
        let read = || -> Result<(), BulkheadError<&str>> {
            for item in stream {
                items.push(item?);
            }
            Ok(())
        };
        assert!(matches!(
            read(),
            Err(BulkheadError::Failed("the connection broke"))
        ));
        assert_eq!(items, [1, 2]);
    });
}

#[test]
fn in_a_loop_a_good_end_is_no_item() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let stream = bulkhead.execute_stream(|sink| {
            sink.send(1).unwrap();
            Ok::<_, ()>(())
        });
        let mut results = stream.into_iter();
        assert!(matches!(results.next(), Some(Ok(1))));
        assert!(results.next().is_none());
        assert!(results.next().is_none());
    });
}

#[test]
fn items_before_a_panic_are_given() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream: ExecutionStream<_, (), ()> = bulkhead.execute_stream(|sink| {
            sink.send(1).unwrap();
            panic!("in the middle");
        });
        assert_eq!(stream.items().collect::<Vec<_>>(), [1]);
        match stream.finish().into_result() {
            Err(BulkheadError::Panicked(panic)) => assert_eq!(panic.message(), "in the middle"),
            other => panic!("{other:?}"),
        }
        assert!(bulkhead.run(|| ()).wait().is_success(), "the worker lives");
    });
}

#[test]
fn a_refused_stream_has_no_items() {
    let bulkhead = bulkhead(1, 0);
    bulkhead.shutdown();
    let mut stream = bulkhead.execute_stream(|sink| {
        sink.send(1).unwrap();
        Ok::<_, ()>(())
    });
    assert!(stream.is_finished());
    assert_eq!(stream.next_item(), None);
    assert!(
        stream
            .finish()
            .error()
            .is_some_and(BulkheadError::is_rejected)
    );
}

#[test]
fn waiting_for_an_item_with_a_limit() {
    let bulkhead = bulkhead(1, 0);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let mut stream = bulkhead.execute_stream(move |sink| {
        gate.pass();
        sink.send(1).unwrap();
        Ok::<_, ()>(())
    });
    assert_eq!(stream.next_item_timeout(SHORT), None);
    assert_eq!(stream.next_item_timeout(Duration::ZERO), None);
    assert!(!stream.is_finished());
    drop(opener);
    assert_eq!(stream.next_item_timeout(PATIENCE), Some(1));
    assert_eq!(stream.next_item_timeout(PATIENCE), None);
    assert!(stream.is_finished());
}

#[test]
fn threads_of_the_task_send_too() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream = bulkhead.execute_stream(|sink| {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..100).for_each(|n| sink.send(n).unwrap()));
                }
            });
            Ok::<_, ()>(())
        });
        assert_eq!(stream.items().sum::<i32>(), 4 * 4_950);
        assert!(stream.finish().is_success());
    });
}

#[test]
fn the_producer_knows_its_call() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream = bulkhead.call().operation("export").execute_stream(|sink| {
            let call = bulkman::current().unwrap();
            sink.send((call.execution_id(), call.operation().map(String::from)))
                .unwrap();
            Ok::<_, ()>(())
        });
        let expected = (stream.execution_id(), Some(String::from("export")));
        assert_eq!(stream.next_item(), Some(expected));
    });
}
