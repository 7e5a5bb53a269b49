//! A task that takes items from a stream of its own bulkhead never waits for the worker that it occupies.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bulkman::{BulkheadError, CancelReason};

use crate::helpers::on_a_worker;
use crate::support::{bulkhead, in_time};

#[test]
fn the_only_worker_runs_the_producer_first() {
    let (sum, value) = on_a_worker(1, 1, |bulkhead| {
        let call = bulkhead.call();
        let mut stream = call.execute_stream_with_capacity(1, |sink| {
            for n in 0..1_000 {
                sink.send(n).unwrap();
            }
            Ok::<_, ()>("all")
        });
        (stream.items().sum::<i32>(), stream.finish().into_result())
    });
    assert_eq!((sum, value.unwrap()), (499_500, "all"));
}

#[test]
fn also_with_a_limit_for_an_item() {
    on_a_worker(1, 1, |bulkhead| {
        let mut stream = bulkhead.execute_stream(|sink| {
            (0..100).for_each(|n| sink.send(n).unwrap());
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item_timeout(Duration::ZERO), Some(0));
        assert_eq!(stream.items().count(), 99);
    });
}

#[test]
fn all_workers_at_a_time() {
    crate::support::in_time(|| {
        let bulkhead = std::sync::Arc::new(bulkhead(2, 20));
        let inner = std::sync::Arc::clone(&bulkhead);
        let sums = bulkhead
            .run_map(0..20, move |_| {
                let mut stream = inner.execute_stream(|sink| {
                    (0..100).for_each(|n| sink.send(n).unwrap());
                    Ok::<_, ()>(())
                });
                stream.items().sum::<i32>()
            })
            .map(|result| result.into_result().unwrap())
            .collect::<Vec<_>>();
        assert_eq!(sums, [4_950; 20]);
    });
}

#[test]
fn a_producer_without_an_end_ends_at_its_limit() {
    on_a_worker(1, 1, |bulkhead| {
        let limit = Duration::from_millis(5);
        let call = bulkhead.call().timeout(limit);
        let mut stream = call.execute_stream(|sink| {
            loop {
                std::thread::yield_now();
                if let Err(error) = sink.send(()) {
                    assert_eq!(error.reason, CancelReason::DeadlinePassed);
                    return Ok::<_, ()>(());
                }
            }
        });
        let _before_the_limit = stream.items().count();
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::Timeout { .. })
        ));
    });
}

#[test]
fn a_queued_producer_that_is_too_late_is_not_run() {
    on_a_worker(1, 1, |bulkhead| {
        let call = bulkhead.call().queue_timeout(Duration::ZERO);
        let mut stream = call.execute_stream(|sink| {
            sink.send(()).unwrap();
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item(), None);
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::QueueTimeout { .. })
        ));
    });
}

#[test]
fn a_cancel_of_the_reading_task_hides_no_items() {
    in_time(|| {
        let (outer, inner) = (bulkhead(1, 0), Arc::new(bulkhead(1, 0)));
        let (cancelled, wait) = mpsc::channel();
        let reading = outer.run(move || {
            let call = inner.call();
            let mut stream = call.execute_stream_with_capacity(1, |sink| {
                let sent = (0..100).take_while(|n| sink.send(*n).is_ok()).count();
                let is_cancelled = bulkman::current().unwrap().is_cancelled();
                Ok::<_, ()>((sent, is_cancelled))
            });
            wait.recv().unwrap();
            let taken = stream.items().count();
            (taken, stream.finish().into_result())
        });
        assert!(!reading.cancel(), "it runs");
        cancelled.send(()).unwrap();
        let (taken, outcome) = reading.wait().into_result().unwrap();
        // The producer can see the cancel, and it is the reader's own matter whether to go.
        assert_eq!((taken, outcome.unwrap()), (100, (100, true)));
    });
}

#[test]
fn a_stream_that_is_nested_too_deep_ends_with_an_error() {
    in_time(|| {
        let config = crate::support::config(1, 1).max_nested_calls(0);
        let bulkhead = Arc::new(bulkman::Bulkhead::new(config).unwrap());
        let inside = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            let mut stream = inside.execute_stream(|sink| {
                sink.send(()).unwrap();
                Ok::<_, ()>(())
            });
            (stream.items().count(), stream.finish().result)
        });
        let (taken, result) = outer.wait().into_result().unwrap();
        assert_eq!(taken, 0);
        assert!(
            matches!(result, Err(BulkheadError::TooDeep { .. })),
            "{result:?}"
        );
    });
}

#[test]
fn finishing_a_queued_stream_runs_nothing() {
    on_a_worker(1, 1, |bulkhead| {
        let stream = bulkhead.execute_stream(|sink| {
            sink.send(()).unwrap();
            Ok::<_, ()>(())
        });
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::Cancelled { .. })
        ));
    });
}
