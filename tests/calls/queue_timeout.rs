//! A call that waited too long in the queue never starts. A worker or a waiter notices it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, ExecutionHandle, ExecutionResult};
use bulkman::{Call, ManualClock};

use crate::helpers::looking_waker;
use crate::support::{
    PATIENCE, Trace, assert_balanced, config, eventually, occupy, poll_once, seconds, wait,
    with_clock,
};

const NANOSECOND: Duration = Duration::from_nanos(1);

/// One worker, one place to wait, at most five seconds.
fn five_seconds() -> (Arc<Bulkhead>, ManualClock) {
    with_clock(config(1, 1).queue_timeout(seconds(5)))
}

/// Waits in a thread of its own. The deadline is a point in time, so it does not matter whether
/// the clock moves before or after that thread has gone to sleep.
fn wait_elsewhere<T, E>(handle: ExecutionHandle<T, E>) -> Receiver<ExecutionResult<T, E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(handle.wait());
    });
    receiver
}

#[track_caller]
fn assert_queue_timeout<T: std::fmt::Debug>(
    result: &ExecutionResult<T, Infallible>,
    expected_queued_for: Duration,
    expected_limit: Duration,
) {
    match result.error() {
        Some(
            error @ BulkheadError::QueueTimeout {
                bulkhead,
                queued_for,
                limit,
            },
        ) => {
            assert_eq!(&**bulkhead, "test");
            assert_eq!(*queued_for, expected_queued_for);
            assert_eq!(*limit, expected_limit);
            assert!(error.is_timeout());
            assert!(error.never_started());
            assert!(!error.is_rejected());
            assert_eq!(result.queued_time, expected_queued_for);
            assert_eq!(result.execution_time, Duration::ZERO);
        }
        _ => panic!("not a queue timeout: {result:?}"),
    }
}

#[test]
fn a_worker_that_comes_too_late_never_starts_the_task() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    drop(bulkhead.run(trace.task()));
    manual.advance(seconds(5));
    // Nobody waits for it, so nobody has noticed.
    assert_eq!(bulkhead.available_capacity(), 0);
    assert!(!trace.is_dropped());
    busy.finish();

    // The place is free first, then the closure is dropped.
    eventually("the worker has thrown it away", || trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 2);
    assert!(!trace.ran());
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 1);
    assert_eq!(stats.total_executions, 1, "only the one that was running");
    assert_balanced(&stats);
    assert_eq!(wait(bulkhead.run(|| 7)).value(), Some(&7));
}

#[test]
fn what_the_worker_noticed_is_what_the_handle_says_later() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    manual.advance(seconds(7));
    busy.finish();
    eventually("the worker has come to it", || queued.is_finished());
    assert!(trace.is_dropped());
    // Later times change nothing.
    manual.advance(seconds(100));
    assert_queue_timeout(&wait(queued), seconds(7), seconds(5));
    assert!(!trace.ran());
}

#[test]
fn the_waiter_notices_at_the_deadline_while_the_worker_is_busy() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = wait_elsewhere(bulkhead.run(trace.task()));
    assert!(bulkhead.run(|| ()).is_finished(), "it is full");
    manual.advance(seconds(5));

    let result = queued.recv_timeout(PATIENCE).expect("the waiter wakes up");
    assert_queue_timeout(&result, seconds(5), seconds(5));
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1, "the place is free again");
    let next = bulkhead.run(|| "next");
    assert!(!next.is_finished(), "the next caller was refused");
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 1);
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 1));
    assert_balanced(&stats);

    busy.finish();
    assert_eq!(wait(next).value(), Some(&"next"));
    assert!(!trace.ran());
}

#[test]
fn a_manual_clock_that_passes_a_day_is_noticed_at_once() {
    let day = seconds(86_400);
    let (bulkhead, manual) = with_clock(config(1, 1).queue_timeout(day));
    let busy = occupy(&bulkhead, 1);
    // Most of them sleep by the time that the clock moves.
    for _ in 0..20 {
        let queued = wait_elsewhere(bulkhead.run(|| ()));
        thread::yield_now();
        manual.advance(day);
        let result = queued.recv_timeout(PATIENCE).expect("the waiter wakes up");
        assert!(result.error().unwrap().is_timeout());
    }
    busy.finish();
}

#[test]
fn a_short_look_notices_too() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    let queued = queued.wait_timeout(Duration::ZERO).expect_err("not yet");
    manual.advance(seconds(5));
    let result = queued.wait_timeout(Duration::ZERO).expect("too late");
    assert_queue_timeout(&result, seconds(5), seconds(5));
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn a_poll_notices_too() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let mut queued = pin!(bulkhead.run(trace.task()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(queued.as_mut().poll(&mut context).is_pending());
    manual.advance(seconds(5));
    match queued.as_mut().poll(&mut context) {
        Poll::Ready(result) => assert_queue_timeout(&result, seconds(5), seconds(5)),
        Poll::Pending => panic!("it is too late to start, and the poll does not say so"),
    }
    assert!(trace.is_dropped());
    assert_eq!(bulkhead.available_capacity(), 1);
    busy.finish();
}

#[test]
fn an_awaited_call_is_woken_by_the_worker_that_comes_to_it() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| ());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(pollster::block_on(queued));
    });
    manual.advance(seconds(5));
    busy.finish();
    let result = receiver.recv_timeout(PATIENCE).expect("the future ends");
    assert_queue_timeout(&result, seconds(5), seconds(5));
}

#[test]
fn everything_is_in_order_by_the_time_the_waiter_is_told() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let mut queued = bulkhead.run(trace.task());
    let (waker, receiver) = looking_waker(&bulkhead, &queued, &trace, |stats| {
        stats.timed_out_executions
    });
    assert!(poll_once(&mut queued, &waker).is_pending());
    manual.advance(seconds(5));
    busy.finish();
    // Only our own trace is left, the expiry is counted, and the places are free.
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok((1, 1, 2)));
    assert_queue_timeout(&wait(queued), seconds(5), seconds(5));
}

/// The clock moves and the worker gets free at the same moment, while a waiter watches. The first of the two decides,
/// and there is one outcome.
#[test]
fn worker_and_waiter_agree() {
    let (bulkhead, manual) = five_seconds();
    let mut ran = 0;
    let mut expired = 0;
    for round in 0..300 {
        let busy = occupy(&bulkhead, 1);
        let trace = Trace::default();
        let queued = wait_elsewhere(bulkhead.run(trace.task()));
        let mover = thread::spawn({
            let manual = manual.clone();
            move || {
                for _ in 0..round % 7 {
                    thread::yield_now();
                }
                manual.advance(seconds(5));
            }
        });
        busy.gate.open();
        let result = queued.recv_timeout(PATIENCE).expect("an outcome");
        mover.join().unwrap();
        match result.error() {
            None => {
                assert!(trace.ran());
                ran += 1;
            }
            Some(_) => {
                assert_queue_timeout(&result, seconds(5), seconds(5));
                assert!(!trace.ran());
                expired += 1;
            }
        }
        assert!(trace.is_dropped());
        busy.finish();
        assert_eq!(bulkhead.available_capacity(), 2, "round {round}");
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, expired);
    assert_eq!(stats.successful_executions, ran + 300);
    assert_balanced(&stats);
}

#[test]
fn just_before_the_deadline_it_still_runs() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| "in time");
    manual.advance(seconds(5) - NANOSECOND);
    let queued = queued.wait_timeout(Duration::ZERO).expect_err("not yet");
    busy.finish();
    let result = wait(queued);
    assert_eq!(result.value(), Some(&"in time"));
    assert_eq!(result.queued_time, seconds(5) - NANOSECOND);
    assert_eq!(bulkhead.stats().timed_out_executions, 0);
}

#[test]
fn at_the_deadline_itself_it_is_too_late() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let trace = Trace::default();
    let queued = bulkhead.run(trace.task());
    manual.advance(seconds(5));
    busy.finish();
    eventually("the worker has come to it", || queued.is_finished());
    assert_queue_timeout(&wait(queued), seconds(5), seconds(5));
    assert!(!trace.ran());
}

#[test]
fn a_task_that_has_started_is_not_concerned() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    manual.advance(seconds(1_000));
    let running = wait_elsewhere(bulkhead.run(|| ()));
    // The one behind it expires, the one that runs does not.
    manual.advance(seconds(5));
    let queued = running.recv_timeout(PATIENCE).unwrap();
    assert_queue_timeout(&queued, seconds(5), seconds(5));
    busy.finish();
    assert_eq!(bulkhead.stats().successful_executions, 1);
}

#[test]
fn each_call_can_have_a_limit_of_its_own() {
    let (bulkhead, manual) = with_clock(config(1, 3).queue_timeout(seconds(5)));
    let busy = occupy(&bulkhead, 1);
    let shorter = bulkhead.call().queue_timeout(seconds(1)).run(|| "shorter");
    let configured = bulkhead.call().run(|| "configured");
    let longer = bulkhead.call().queue_timeout(seconds(10)).run(|| "longer");

    manual.advance(seconds(1));
    let shorter = shorter.wait_timeout(Duration::ZERO).expect("too late");
    assert_queue_timeout(&shorter, seconds(1), seconds(1));
    let configured = configured
        .wait_timeout(Duration::ZERO)
        .expect_err("not yet");

    manual.advance(seconds(4));
    let configured = configured.wait_timeout(Duration::ZERO).expect("too late");
    assert_queue_timeout(&configured, seconds(5), seconds(5));

    busy.finish();
    assert_eq!(wait(longer).value(), Some(&"longer"));
    assert_eq!(bulkhead.stats().timed_out_executions, 2);
}

#[test]
fn a_call_can_have_a_limit_where_none_is_configured() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.call().queue_timeout(seconds(2)).run(|| ());
    manual.advance(seconds(3));
    let result = queued.wait_timeout(Duration::ZERO).expect("too late");
    assert_queue_timeout(&result, seconds(3), seconds(2));
    busy.finish();
}

#[test]
fn without_a_limit_a_call_waits_for_ever() {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    for config in [config(1, 1), config(1, 1).queue_timeout(Duration::MAX)] {
        let (bulkhead, manual) = with_clock(config);
        let busy = occupy(&bulkhead, 1);
        let queued = bulkhead.run(|| "at last");
        manual.advance(CENTURY);
        let queued = queued.wait_timeout(Duration::ZERO).expect_err("not yet");
        busy.finish();
        let result = wait(queued);
        assert_eq!(result.value(), Some(&"at last"));
        assert_eq!(result.queued_time, CENTURY);
    }
}

#[test]
fn one_call_can_wait_for_ever_where_a_limit_is_configured() {
    let (bulkhead, manual) = five_seconds();
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.call().queue_timeout(Duration::MAX).run(|| "ran");
    manual.advance(seconds(1_000_000));
    busy.finish();
    assert_eq!(wait(queued).value(), Some(&"ran"));
}

/// Sets both limits on a call; the outcome is looked at by a waiter, and by a worker, both late.
fn outcomes_with(
    limits: impl Fn(Call<'_>) -> Call<'_>,
) -> Vec<ExecutionResult<&'static str, Infallible>> {
    let by_waiter = {
        let (bulkhead, manual) = with_clock(config(1, 1));
        let busy = occupy(&bulkhead, 1);
        let queued = limits(bulkhead.call()).run(|| "ran");
        manual.advance(seconds(10));
        let result = queued.wait_timeout(Duration::ZERO).expect("too late");
        busy.finish();
        result
    };
    let by_worker = {
        let (bulkhead, manual) = with_clock(config(1, 1));
        let busy = occupy(&bulkhead, 1);
        let queued = limits(bulkhead.call()).run(|| "ran");
        manual.advance(seconds(10));
        busy.finish();
        eventually("the worker has come to it", || queued.is_finished());
        let stats = bulkhead.stats();
        assert_eq!(stats.timed_out_executions, 1);
        assert_balanced(&stats);
        wait(queued)
    };
    vec![by_waiter, by_worker]
}

#[test]
fn the_limit_that_passes_first_names_the_error() {
    for result in outcomes_with(|call| call.queue_timeout(seconds(3)).timeout(seconds(4))) {
        assert_queue_timeout(&result, seconds(10), seconds(3));
    }
    for result in outcomes_with(|call| call.queue_timeout(seconds(4)).timeout(seconds(3))) {
        match result.error() {
            Some(
                error @ BulkheadError::Timeout {
                    limit,
                    started: false,
                    ..
                },
            ) => {
                assert_eq!(*limit, seconds(3));
                assert!(error.never_started());
                assert!(error.is_timeout());
            }
            _ => panic!("{result:?}"),
        }
        assert_eq!(result.queued_time, seconds(10));
    }
}

#[test]
fn many_expired_calls_leave_room_for_as_many_others() {
    let (bulkhead, manual) = with_clock(config(1, 8).queue_timeout(seconds(5)));
    let busy = occupy(&bulkhead, 1);
    for round in 0..1_000 {
        let queued: Vec<_> = (0..8).map(|i| bulkhead.run(move || i)).collect();
        assert!(queued.iter().all(|h| !h.is_finished()), "round {round}");
        manual.advance(seconds(5));
        for handle in queued {
            let result = handle.wait_timeout(Duration::ZERO).expect("too late");
            assert_queue_timeout(&result, seconds(5), seconds(5));
        }
    }
    let last: Vec<_> = (0..8).map(|i| bulkhead.run(move || i)).collect();
    busy.finish();
    for (i, handle) in last.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 8_000);
    assert_eq!(stats.rejected_executions, 0);
    assert_balanced(&stats);
}
