//! Streams: the producer and its consumer at a channel of one place, against each other's end, cancels and limits.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkman::model::advance;
use bulkman::{Bulkhead, BulkheadError, ExecutionStream, StreamSink};
use loom::thread;
use support::{assert_balanced, bulkhead, explore};

const LIMIT: Duration = Duration::from_secs(1);

fn stream<T: Send + 'static>(
    bulkhead: &Bulkhead,
    f: impl FnOnce(&StreamSink<i32>) -> T + Send + 'static,
) -> ExecutionStream<i32, T, ()> {
    let call = bulkhead.call();
    call.execute_stream_with_capacity(1, |sink| Ok(f(sink)))
}

/// Sends as many as it can, up to `n`.
fn send(sink: &StreamSink<i32>, n: i32) -> i32 {
    (0..n).take_while(|item| sink.send(*item).is_ok()).count() as i32
}

/// G2: no wake-up is lost at a full or an empty channel, and no item.
#[test]
fn items_against_their_consumer() {
    explore("a stream", 2, || {
        let bulkhead = bulkhead(1, 0);
        let mut stream = stream(&bulkhead, |sink| send(sink, 2));
        assert!(stream.items().eq(0..2));
        assert_eq!(stream.finish().value(), Some(&2));
        assert_balanced(&bulkhead.stats());
    });
}

/// G2: a consumer that goes lets go a producer that waits for room, or is about to.
#[test]
fn a_full_channel_against_the_drop_of_the_stream() {
    explore("a dropped stream", 2, || {
        let bulkhead = bulkhead(1, 0);
        let item = Arc::new(());
        let clone = Arc::clone(&item);
        let call = bulkhead.call();
        let stream = call.execute_stream_with_capacity(1, move |sink| {
            while sink.send(Arc::clone(&clone)).is_ok() {}
            Ok::<_, ()>(())
        });
        drop(stream);
        assert!(bulkhead.shutdown().is_clean());
        assert_eq!(Arc::strong_count(&item), 1, "each item is dropped");
        assert_balanced(&bulkhead.stats());
    });
}

/// G2, G6: the same for a cancel. The items that were sent stay.
#[test]
fn a_full_channel_against_a_cancel() {
    explore("a cancelled stream", 2, || {
        let bulkhead = bulkhead(1, 0);
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let mut stream = stream(&bulkhead, move |sink| {
            while sink.send(0).is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let never_ran = stream.cancel();
        let taken = stream.items().count();
        let result = stream.finish();
        assert_eq!(result.is_success(), !never_ran);
        assert_eq!(taken, sent.load(Ordering::Relaxed));
    });
}

/// G2: a producer that waits for room comes back at its caller's limit, and its consumer hears that items are missing.
#[test]
fn a_full_channel_against_the_callers_limit() {
    explore("a full stream with a limit", 2, || {
        let bulkhead = bulkhead(1, 0);
        let call = bulkhead.call().timeout(LIMIT);
        let mut stream = call.execute_stream_with_capacity(1, |sink| Ok::<_, ()>(send(sink, 2)));
        let time = thread::spawn(|| advance(LIMIT));
        let taken = stream.items().count();
        match stream.finish().result {
            Ok(sent) => assert_eq!((taken, sent), (2, 2), "a good end hides no missing item"),
            Err(BulkheadError::Timeout { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        time.join().unwrap();
        assert!(bulkhead.shutdown().is_clean());
        assert_balanced(&bulkhead.stats());
    });
}

/// G2: a consumer that waits for an item leaves at its limit, and the producer hears of it.
#[test]
fn an_empty_channel_against_the_callers_limit() {
    explore("an empty stream with a limit", 2, || {
        let bulkhead = bulkhead(1, 0);
        let call = bulkhead.call().timeout(LIMIT);
        let mut stream = call.execute_stream_with_capacity(1, |sink| {
            advance(LIMIT);
            Ok::<_, ()>(send(sink, 1))
        });
        assert_eq!(
            stream.next_item(),
            None,
            "the time was over before the item"
        );
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::Timeout { .. })
        ));
        assert!(bulkhead.shutdown().is_clean());
        assert_balanced(&bulkhead.stats());
    });
}

/// G2: a consumer that has had enough waits for the end of a producer that has not.
#[test]
fn finishing_against_the_next_item() {
    explore("a finished stream", 2, || {
        let bulkhead = bulkhead(1, 0);
        let mut stream = stream(&bulkhead, |sink| send(sink, 3));
        assert_eq!(stream.next_item(), Some(0));
        let sent = *stream.finish().value().expect("it had begun");
        assert!((1..=3).contains(&sent));
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G9: the consumer is a worker, and the other worker may begin the producer before it does itself.
#[test]
fn a_stream_of_the_own_bulkhead() {
    explore("a nested stream", 1, || {
        let bulkhead = Arc::new(bulkhead(2, 0));
        let inside = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            let mut stream = stream(&inside, |sink| send(sink, 2));
            stream.items().count()
        });
        assert_eq!(outer.wait().into_result().expect("no deadlock"), 2);
        assert_balanced(&bulkhead.stats());
    });
}

/// G8: a queued stream is cancelled by a shutdown, or runs.
#[test]
fn a_stream_against_a_shutdown() {
    explore("a stream against shutdown", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let mut stream = stream(&bulkhead, |sink| send(sink, 2));
        let other = Arc::clone(&bulkhead);
        let closing = thread::spawn(move || drop(other.shutdown_now()));
        let taken = stream.items().count();
        let result = stream.finish();
        assert_eq!(taken, if result.is_success() { 2 } else { 0 });
        closing.join().unwrap();
    });
}
