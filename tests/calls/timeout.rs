//! The caller's own limit: it ends the waiting, and never frees a worker that is still at work.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadError, ExecutionResult, ManualClock};

use crate::support::{
    Bomb, Gate, OpenOnDrop, PATIENCE, assert_balanced, bulkhead, config, eventually, occupy,
    seconds, wait, with_clock,
};

#[track_caller]
fn assert_timeout<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: &ExecutionResult<T, E>,
    expected_limit: Duration,
    expected_started: bool,
) {
    match result.error() {
        Some(
            error @ BulkheadError::Timeout {
                bulkhead,
                limit,
                started,
            },
        ) => {
            assert_eq!(&**bulkhead, "test");
            assert_eq!(*limit, expected_limit);
            assert_eq!(*started, expected_started, "{result:?}");
            assert_eq!(error.never_started(), !expected_started);
            assert!(error.is_timeout());
            assert!(!error.is_rejected());
        }
        _ => panic!("not a timeout: {result:?}"),
    }
}

/// Submits with a limit and waits, in a thread of its own.
fn execute_elsewhere<T, E, F>(
    bulkhead: &Arc<Bulkhead>,
    limit: Duration,
    task: F,
) -> Receiver<ExecutionResult<T, E>>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let bulkhead = Arc::clone(bulkhead);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(bulkhead.execute_with_timeout(limit, task));
    });
    receiver
}

/// A task at a gate whose caller has a limit of five seconds, just past.
struct Overrun {
    gate: Gate,
    cancelled: Arc<AtomicBool>,
    result: ExecutionResult<&'static str, &'static str>,
    _opener: OpenOnDrop,
}

fn overrun(
    bulkhead: &Arc<Bulkhead>,
    manual: &ManualClock,
    ends: Result<&'static str, &'static str>,
) -> Overrun {
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let cancelled = Arc::new(AtomicBool::new(false));
    let caller = execute_elsewhere(bulkhead, seconds(5), {
        let (gate, cancelled) = (gate.clone(), Arc::clone(&cancelled));
        move || {
            gate.pass();
            let call = bulkman::current().unwrap();
            cancelled.store(call.is_cancelled(), Ordering::SeqCst);
            ends
        }
    });
    gate.wait_for_arrivals(1);
    manual.advance(seconds(5));
    let result = caller
        .recv_timeout(PATIENCE)
        .expect("the caller comes back");
    Overrun {
        gate,
        cancelled,
        result,
        _opener: opener,
    }
}

#[test]
fn a_value_in_time_is_a_value() {
    let bulkhead = bulkhead(1, 1);
    for limit in [PATIENCE, Duration::MAX] {
        let result = bulkhead.execute_with_timeout(limit, || Ok::<_, Infallible>(7));
        assert_eq!(result.value(), Some(&7));
        let result = bulkhead.execute_with_timeout(limit, || Err::<(), _>("no"));
        assert!(matches!(result.error(), Some(BulkheadError::Failed("no"))));
    }
    assert_eq!(bulkhead.stats().timed_out_executions, 0);
}

#[test]
fn a_caller_whose_task_runs_too_long_comes_back_at_its_limit() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let overrun = overrun(&bulkhead, &manual, Ok("late"));
    assert_timeout(&overrun.result, seconds(5), true);
    assert_eq!(overrun.result.queued_time, Duration::ZERO);
    assert_eq!(overrun.result.execution_time, seconds(5));
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 0, "it did start");
    assert_eq!(stats.active_tasks, 1);
    assert_balanced(&stats);
}

#[test]
fn just_before_its_limit_it_still_waits() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let handle = bulkhead.call().timeout(seconds(5)).run({
        let gate = gate.clone();
        move || gate.pass()
    });
    gate.wait_for_arrivals(1);
    manual.advance(seconds(5) - Duration::from_nanos(1));
    let handle = handle.wait_timeout(Duration::ZERO).expect_err("not yet");
    manual.advance(Duration::from_nanos(1));
    let result = handle.wait_timeout(Duration::ZERO).expect("its limit");
    assert_timeout(&result, seconds(5), true);
}

#[test]
fn the_worker_stays_taken_until_the_task_ends() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let overrun = overrun(&bulkhead, &manual, Ok("late"));
    assert_eq!(bulkhead.available_capacity(), 1);
    let ran = Arc::new(AtomicBool::new(false));
    let queued = bulkhead.run({
        let ran = Arc::clone(&ran);
        move || ran.store(true, Ordering::SeqCst)
    });
    assert!(bulkhead.run(|| ()).is_finished(), "both places are taken");
    let stats = bulkhead.stats();
    assert_eq!((stats.active_tasks, stats.queued_tasks), (1, 1));
    assert!(!ran.load(Ordering::SeqCst));
    overrun.gate.open();
    assert!(wait(queued).is_success());
    assert_eq!(bulkhead.available_capacity(), 2);
}

#[test]
fn callers_that_give_up_never_make_more_than_n_run() {
    let bulkhead = Arc::new(bulkhead(2, 100));
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..200 {
                    let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                    let limit = Duration::from_micros(i % 40);
                    drop(bulkhead.execute_with_timeout(limit, move || {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        for _ in 0..i % 5 {
                            thread::yield_now();
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, Infallible>(())
                    }));
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} at a time");
    eventually("all are done", || bulkhead.stats().in_flight == 0);
    let stats = bulkhead.stats();
    assert_eq!(
        stats.timed_out_executions + stats.successful_executions + stats.rejected_executions,
        800
    );
    assert_balanced(&stats);
    eventually("nothing is abandoned any more", || {
        bulkhead.stats().abandoned_tasks == 0
    });
}

#[test]
fn the_task_is_asked_to_stop() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let overrun = overrun(&bulkhead, &manual, Ok("late"));
    overrun.gate.open();
    eventually("it sees the flag", || {
        overrun.cancelled.load(Ordering::SeqCst)
    });
}

#[test]
fn a_task_in_time_is_not_asked_to_stop() {
    let (bulkhead, _still) = with_clock(config(1, 1));
    let result = bulkhead.execute_with_timeout(seconds(5), || {
        Ok::<_, Infallible>(bulkman::current().unwrap().is_cancelled())
    });
    assert_eq!(result.value(), Some(&false));
}

#[test]
fn a_task_that_runs_on_alone_counts_as_abandoned_and_then_as_what_it_was() {
    for (ends, succeeded, failed) in [(Ok("late"), 1, 0), (Err("late too"), 0, 1)] {
        let (bulkhead, manual) = with_clock(config(1, 1));
        assert_eq!(bulkhead.stats().abandoned_tasks, 0);
        let overrun = overrun(&bulkhead, &manual, ends);
        let stats = bulkhead.stats();
        assert_eq!(stats.abandoned_tasks, 1);
        assert_balanced(&stats);
        overrun.gate.open();
        eventually("it ends", || bulkhead.stats().active_tasks == 0);
        eventually("it is not abandoned any more", || {
            bulkhead.stats().abandoned_tasks == 0
        });
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, succeeded);
        assert_eq!(stats.failed_executions, failed);
        assert_eq!(stats.timed_out_executions, 0);
        assert_balanced(&stats);
    }
}

#[test]
fn a_call_over_its_limit_in_the_queue_never_runs() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let ran = Arc::new(AtomicBool::new(false));
    let caller = execute_elsewhere(&bulkhead, seconds(5), {
        let ran = Arc::clone(&ran);
        move || {
            ran.store(true, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        }
    });
    // A call that is counted as queued may have yet to look at the clock.
    eventually("it is in the queue", || {
        bulkhead.stats().longest_queued.is_some()
    });
    manual.advance(seconds(5));
    let result = caller
        .recv_timeout(PATIENCE)
        .expect("the caller comes back");
    assert_timeout(&result, seconds(5), false);
    assert_eq!(result.queued_time, seconds(5));
    assert_eq!(result.execution_time, Duration::ZERO);
    assert_eq!(
        bulkhead.available_capacity(),
        1,
        "its place is free at once"
    );
    assert_eq!(Arc::strong_count(&ran), 1, "its closure is gone");
    let stats = bulkhead.stats();
    assert_eq!(stats.timed_out_executions, 1);
    assert_balanced(&stats);
    busy.finish();
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn a_detached_call_over_its_limit_in_the_queue_never_runs_either() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let ran = Arc::new(AtomicBool::new(false));
    let inside = Arc::clone(&ran);
    let call = bulkhead.call().timeout(seconds(5));
    drop(call.run(move || inside.store(true, Ordering::SeqCst)));
    manual.advance(seconds(5));
    busy.finish();
    eventually("it is gone", || bulkhead.available_capacity() == 2);
    assert!(!ran.load(Ordering::SeqCst));
    assert_eq!(bulkhead.stats().timed_out_executions, 1);
}

#[test]
fn the_limit_covers_queue_and_run_together() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let handle = bulkhead.call().timeout(seconds(5)).run({
        let gate = gate.clone();
        move || gate.pass()
    });
    manual.advance(seconds(3));
    busy.finish();
    gate.wait_for_arrivals(1);
    manual.advance(seconds(1));
    let handle = handle.wait_timeout(Duration::ZERO).expect_err("not yet");
    manual.advance(seconds(1));
    let result = handle.wait_timeout(Duration::ZERO).expect("3 s + 2 s");
    assert_timeout(&result, seconds(5), true);
    assert_eq!(result.queued_time, seconds(3));
    assert_eq!(result.execution_time, seconds(2));
}

#[test]
fn a_configured_limit_holds_for_every_call_without_one() {
    let (bulkhead, manual) = with_clock(config(1, 4).execution_timeout(seconds(5)));
    let busy = occupy(&bulkhead, 1);
    let by_default = bulkhead.run(|| ());
    let shorter = bulkhead.call().timeout(seconds(2)).run(|| ());
    let longer = bulkhead.call().timeout(seconds(9)).run(|| "longer");
    let never = bulkhead.call().timeout(Duration::MAX).run(|| "never");

    manual.advance(seconds(2));
    let result = shorter.wait_timeout(Duration::ZERO).expect("too late");
    assert_timeout(&result, seconds(2), false);
    let by_default = by_default
        .wait_timeout(Duration::ZERO)
        .expect_err("not yet");

    manual.advance(seconds(3));
    let result = by_default.wait_timeout(Duration::ZERO).expect("too late");
    assert_timeout(&result, seconds(5), false);
    // The running task is over its limit too. The limit ends the wait of its caller, and the task keeps its worker.
    busy.gate.open();
    assert_eq!(wait(longer).value(), Some(&"longer"));
    assert_eq!(wait(never).value(), Some(&"never"));
}

#[test]
fn a_task_can_read_its_deadline() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let deadline = || Ok::<_, Infallible>(bulkman::current().unwrap().deadline());
    manual.advance(seconds(100));
    let expected = manual.now() + seconds(5);
    let result = bulkhead.execute_with_timeout(seconds(5), deadline);
    assert_eq!(result.value(), Some(&Some(expected)));
    for unlimited in [
        bulkhead.execute(deadline),
        bulkhead.call().timeout(Duration::MAX).execute(deadline),
    ] {
        assert_eq!(wait(unlimited).value(), Some(&None));
    }
}

#[test]
fn a_task_can_read_how_long_it_has_left() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    let (sender, receiver) = mpsc::channel();
    let handle = bulkhead.call().timeout(seconds(5)).run(move || {
        let call = bulkman::current().unwrap();
        for step in [0, 2, 3, 10] {
            manual.advance(seconds(step));
            sender.send(call.remaining()).unwrap();
        }
    });
    let seen: Vec<_> = (0..4)
        .map(|_| receiver.recv_timeout(PATIENCE).expect("the task runs"))
        .collect();
    let left = [5, 3, 0, 0].map(|left| Some(seconds(left)));
    assert_eq!(seen, left);
    drop(handle);

    let unlimited = bulkhead.run(|| bulkman::current().unwrap().remaining());
    assert_eq!(wait(unlimited).value(), Some(&None));
}

#[test]
fn on_the_systems_clock_the_deadline_lies_in_the_future() {
    const HOUR: Duration = Duration::from_secs(3600);
    let bulkhead = bulkhead(1, 1);
    let before = Instant::now();
    let result = bulkhead.execute_with_timeout(HOUR, || {
        Ok::<_, Infallible>(bulkman::current().unwrap().deadline().unwrap())
    });
    let deadline = result.into_result().unwrap();
    assert!(deadline >= before + HOUR);
    assert!(deadline <= Instant::now() + HOUR);
}

#[test]
fn a_limit_of_zero_starts_nothing() {
    let (bulkhead, _still) = with_clock(config(1, 1));
    let ran = Arc::new(AtomicBool::new(false));
    for _ in 0..100 {
        let inside = Arc::clone(&ran);
        let result = bulkhead.execute_with_timeout(Duration::ZERO, move || {
            inside.store(true, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
        assert_timeout(&result, Duration::ZERO, false);
    }
    assert!(!ran.load(Ordering::SeqCst));
    assert_eq!(bulkhead.available_capacity(), 2);
    assert_eq!(bulkhead.stats().timed_out_executions, 100);
}

#[test]
fn an_endless_limit_is_no_limit() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let caller = execute_elsewhere(&bulkhead, Duration::MAX, {
        let gate = gate.clone();
        move || {
            gate.pass();
            Ok::<_, Infallible>("at last")
        }
    });
    gate.wait_for_arrivals(1);
    manual.advance(seconds(100 * 365 * 24 * 3600));
    gate.open();
    let result = caller.recv_timeout(PATIENCE).expect("an outcome");
    assert_eq!(result.value(), Some(&"at last"));
}

#[test]
fn a_call_that_is_refused_does_not_time_out() {
    let (bulkhead, _still) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    let result = bulkhead.execute_with_timeout(seconds(5), || Ok::<_, Infallible>(()));
    assert!(result.error().unwrap().is_rejected(), "{result:?}");
    busy.finish();
}

/// A call at a gate, polled once in time and once past its limit.
fn polled_over_its_limit<T: Send + std::fmt::Debug + 'static>(
    bulkhead: &Bulkhead,
    manual: &ManualClock,
    gate: &Gate,
    value: T,
) {
    let mut handle = pin!(bulkhead.call().timeout(seconds(5)).run({
        let gate = gate.clone();
        move || {
            gate.pass();
            value
        }
    }));
    gate.wait_for_arrivals(1);
    let mut context = Context::from_waker(Waker::noop());
    assert!(handle.as_mut().poll(&mut context).is_pending());
    manual.advance(seconds(5));
    match handle.as_mut().poll(&mut context) {
        Poll::Ready(result) => assert_timeout(&result, seconds(5), true),
        Poll::Pending => panic!("its limit has passed, and the poll does not say so"),
    }
}

#[test]
fn a_polled_call_over_its_limit_is_abandoned_like_any_other() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    polled_over_its_limit(&bulkhead, &manual, &gate, "late");
    assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    gate.open();
    eventually("it ends", || bulkhead.stats().in_flight == 0);
    eventually("it is not abandoned any more", || {
        bulkhead.stats().abandoned_tasks == 0
    });
}

#[test]
fn a_late_result_whose_drop_panics_does_no_harm() {
    let (bulkhead, manual) = with_clock(config(1, 1));
    // With a dead worker the drop of the bulkhead would hang; so it would hide why the test fails.
    std::mem::forget(Arc::clone(&bulkhead));

    let gate = Gate::new();
    let caller = execute_elsewhere(&bulkhead, seconds(5), {
        let gate = gate.clone();
        move || {
            gate.pass();
            Ok::<_, Infallible>(Bomb)
        }
    });
    gate.wait_for_arrivals(1);
    manual.advance(seconds(5));
    let result = caller.recv_timeout(PATIENCE);
    assert_timeout(&result.expect("the caller comes back"), seconds(5), true);
    gate.open();
    let next = bulkhead.run(|| ());
    eventually("the worker has survived it", || next.is_finished());
    drop(next);

    let gate = Gate::new();
    polled_over_its_limit(&bulkhead, &manual, &gate, Bomb);
    gate.open();
    let next = bulkhead.run(|| ());
    eventually("the worker has survived it too", || next.is_finished());
    drop(next);
    assert!(bulkhead.shutdown().is_clean());
}
