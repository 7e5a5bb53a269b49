//! A shutdown waits for a producer that runs, up to its limit, and cancels one that is queued.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadError, ExecutionStream};

use crate::support::{assert_balanced, bulkhead, eventually, in_time, occupy};

fn endless(bulkhead: &bulkman::Bulkhead) -> ExecutionStream<i32, (), ()> {
    bulkhead.execute_stream(|sink| {
        for n in 0.. {
            if sink.send(n).is_err() {
                break;
            }
        }
        Ok(())
    })
}

#[test]
fn it_lets_a_stream_come_to_its_end() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let mut stream = bulkhead.execute_stream(|sink| {
            (0..1_000).for_each(|n| sink.send(n).unwrap());
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item(), Some(0));
        let other = Arc::clone(&bulkhead);
        let closing = thread::spawn(move || other.shutdown());
        assert_eq!(stream.items().count(), 999);
        assert!(closing.join().unwrap().is_clean());
        assert!(stream.finish().is_success());
    });
}

#[test]
fn with_a_limit_it_leaves_a_producer_that_waits_for_room() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream = endless(&bulkhead);
        assert_eq!(stream.next_item(), Some(0));
        let report = bulkhead.shutdown_timeout(Duration::from_millis(1));
        assert_eq!(report.still_running.len(), 1);
        assert_eq!(report.still_running[0].execution_id, stream.execution_id());
        // The stream goes on.
        assert!(stream.items().take(100).eq(1..101));
        assert!(stream.finish().is_success());
        eventually("nothing runs", || bulkhead.stats().in_flight == 0);
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn a_queued_stream_is_cancelled() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        let busy = occupy(&bulkhead, 1);
        let mut stream = endless(&bulkhead);
        bulkhead.shutdown_now();
        assert_eq!(stream.next_item(), None);
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::Cancelled {
                by_shutdown: true,
                ..
            })
        ));
        busy.finish();
    });
}

#[test]
fn the_drop_of_stream_and_bulkhead_ends() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut stream = endless(&bulkhead);
        assert_eq!(stream.next_item(), Some(0));
        // Declared last, dropped first.
    });
}
