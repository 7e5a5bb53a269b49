//! The limits of a call hold while its producer waits for room, and while its consumer waits for an item.

use std::sync::mpsc;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, BulkheadEvent, CancelReason, ExecutionStream, ManualClock};

use crate::support::{
    Gate, HOUR, OpenOnDrop, SECOND, assert_balanced, bulkhead, config, eventually, in_time, occupy,
    with_clock,
};

const SHORT: Duration = Duration::from_millis(20);

fn timed_out<T, E>(result: &bulkman::ExecutionResult<T, E>) -> bool {
    matches!(
        result.result,
        Err(BulkheadError::Timeout { started: true, .. })
    )
}

#[test]
fn a_consumer_that_waits_leaves_at_the_limit() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 0));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let (tell, told) = mpsc::channel();
        let mut stream = bulkhead.call().timeout(SECOND).execute_stream(move |sink| {
            sink.send(1).unwrap();
            gate.pass();
            tell.send(sink.send(2)).unwrap();
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item(), Some(1));
        clock.advance(SECOND);
        assert_eq!(stream.next_item(), None);
        assert!(stream.is_finished());
        assert!(timed_out(&stream.finish()));
        assert_eq!(bulkhead.stats().abandoned_tasks, 1);
        drop(opener);
        let error = told.recv().unwrap().unwrap_err();
        assert_eq!(
            (error.item, error.reason),
            (2, CancelReason::DeadlinePassed)
        );
        bulkhead.shutdown();
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn a_producer_that_waits_for_room_comes_back_at_the_limit() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 0));
        let (tell, told) = mpsc::channel();
        let call = bulkhead.call().timeout(SECOND);
        let mut stream = call.execute_stream_with_capacity(2, move |sink| {
            for n in 0.. {
                if let Err(error) = sink.send(n) {
                    tell.send(error).unwrap();
                    break;
                }
            }
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item(), Some(0));
        clock.advance(HOUR);
        let error = told.recv().unwrap();
        assert_eq!(error.reason, CancelReason::DeadlinePassed);
        // What was sent in time is there. That some is missing shows, though the task has ended well.
        assert_eq!(stream.items().count() + 1, error.item);
        let result = stream.finish();
        assert!(timed_out(&result), "{result:?}");
        match result.error() {
            Some(BulkheadError::Timeout { limit, .. }) => assert_eq!(*limit, SECOND),
            other => panic!("{other:?}"),
        }
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn a_cut_off_stream_ends_with_an_error_in_a_loop() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 0));
        let stream = bulkhead
            .call()
            .timeout(SECOND)
            .execute_stream_with_capacity(1, |sink| {
                while sink.send(()).is_ok() {}
                Ok::<_, ()>(())
            });
        eventually("it runs", || bulkhead.stats().active_tasks == 1);
        clock.advance(HOUR);
        eventually("it has ended", || bulkhead.stats().active_tasks == 0);
        let last = stream.into_iter().last().expect("an error at least");
        assert!(matches!(last, Err(BulkheadError::Timeout { .. })));
    });
}

/// Once each, also if the consumer has left before.
#[test]
fn the_timeout_of_a_cut_off_stream_is_counted_and_told() {
    for consumer_waits in [false, true] {
        in_time(move || {
            let (tell, told) = mpsc::channel();
            let clock = ManualClock::new();
            let bulkhead = Bulkhead::builder(config(1, 0))
                .clock(clock.clone())
                .listener(move |event: &BulkheadEvent<'_>| {
                    if let BulkheadEvent::CallerTimedOut { limit, started, .. } = event {
                        tell.send((*limit, *started)).unwrap();
                    }
                })
                .build()
                .unwrap();
            let gate = Gate::new();
            let opener = OpenOnDrop(gate.clone());
            let call = bulkhead.call().timeout(SECOND);
            let mut stream = call.execute_stream(move |sink| {
                gate.pass();
                while sink.send(()).is_ok() {}
                Ok::<_, ()>(())
            });
            eventually("it runs", || bulkhead.stats().active_tasks == 1);
            clock.advance(SECOND);
            if consumer_waits {
                assert_eq!(stream.next_item(), None);
            }
            drop(opener);
            eventually("it has ended", || bulkhead.stats().in_flight == 0);
            assert_eq!(stream.items().count(), 0);
            assert!(timed_out(&stream.finish()));
            assert_eq!(bulkhead.stats().caller_timeouts_started, 1);
            assert_eq!(told.try_iter().collect::<Vec<_>>(), [(SECOND, true)]);
        });
    }
}

#[test]
fn a_limit_that_passes_after_the_last_item_cuts_nothing_off() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 0));
        let mut stream = bulkhead.call().timeout(SECOND).execute_stream(|sink| {
            sink.send(1).unwrap();
            Ok::<_, ()>("whole")
        });
        eventually("it has ended", || {
            bulkhead.stats().successful_executions == 1
        });
        clock.advance(HOUR);
        assert_eq!(stream.items().count(), 1);
        assert_eq!(stream.finish().into_result().unwrap(), "whole");
    });
}

#[test]
fn a_queued_stream_expires_before_its_consumers_eyes() {
    in_time(|| {
        let bulkhead = bulkhead(1, 2);
        let busy = occupy(&bulkhead, 1);
        let mut stream: ExecutionStream<(), _, _> = bulkhead
            .call()
            .queue_timeout(SHORT)
            .execute_stream(|_| Ok::<_, ()>(()));
        assert_eq!(stream.next_item(), None);
        assert!(matches!(
            stream.finish().result,
            Err(BulkheadError::QueueTimeout { .. })
        ));
        let stream: ExecutionStream<(), _, _> = bulkhead
            .call()
            .timeout(SHORT)
            .execute_stream(|_| Ok::<_, ()>(()));
        let results: Vec<_> = stream.into_iter().collect();
        assert!(matches!(
            results[..],
            [Err(BulkheadError::Timeout { started: false, .. })]
        ));
        busy.finish();
    });
}

#[test]
fn the_queue_timeout_is_over_once_the_producer_runs() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 0).queue_timeout(SECOND));
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let mut stream = bulkhead.execute_stream(move |sink| {
            gate.pass();
            sink.send(1).unwrap();
            Ok::<_, ()>(())
        });
        assert_eq!(stream.next_item_timeout(SHORT), None);
        eventually("it runs", || bulkhead.stats().active_tasks == 1);
        clock.advance(HOUR);
        assert_eq!(stream.next_item_timeout(SHORT), None);
        drop(opener);
        assert_eq!(stream.items().count(), 1);
        assert!(stream.finish().is_success());
    });
}
