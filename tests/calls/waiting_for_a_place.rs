//! `wait_for_capacity`: a caller that waits for a place gets one, or is told why not.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CapturedContext, ContextPropagator, ExecutionResult};

use crate::support::{
    PATIENCE, assert_balanced, bulkhead, config, eventually, occupy, seconds, wait, with_clock,
};

const FOR_EVER: Duration = Duration::MAX;

/// A caller in a thread of its own that waits for a place, and then for its result.
struct Caller(Receiver<ExecutionResult<&'static str, Infallible>>);

impl Caller {
    /// Returns when the caller is about to knock. Whether it sleeps by then cannot be seen from
    /// outside, so tests that need it asleep go through many rounds.
    fn start(bulkhead: &Arc<Bulkhead>, limit: Duration) -> Self {
        let bulkhead = Arc::clone(bulkhead);
        let (sender, receiver) = mpsc::channel();
        let (about_to, knock) = mpsc::channel();
        thread::spawn(move || {
            about_to.send(()).unwrap();
            let call = bulkhead.call().wait_for_capacity(limit);
            let result = call.run(|| "got in").wait();
            let _ = sender.send(result);
        });
        knock.recv_timeout(PATIENCE).expect("the thread starts");
        Self(receiver)
    }

    fn result(self) -> ExecutionResult<&'static str, Infallible> {
        self.0
            .recv_timeout(PATIENCE)
            .expect("the caller comes back")
    }

    fn gets_in(self) {
        let result = self.result();
        assert_eq!(result.value(), Some(&"got in"), "{result:?}");
    }
}

#[test]
fn a_manual_clock_that_passes_a_day_is_noticed_at_once() {
    let day = seconds(86_400);
    let (bulkhead, manual) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    // Most of them sleep by the time that the clock moves.
    for _ in 0..20 {
        let (done, result) = mpsc::channel();
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || {
            let call = bulkhead.call().wait_for_capacity(day).run(|| ());
            done.send(call.wait()).unwrap();
        });
        eventually("the caller is let go", || {
            manual.advance(day);
            thread::yield_now();
            !matches!(result.try_recv(), Err(TryRecvError::Empty))
        });
    }
    busy.finish();
}

#[test]
fn a_caller_gets_the_place_of_a_task_that_ends() {
    for _ in 0..100 {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let busy = occupy(&bulkhead, 1);
        let caller = Caller::start(&bulkhead, FOR_EVER);
        busy.finish();
        caller.gets_in();
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    }
}

#[test]
fn a_caller_gets_the_place_of_a_call_that_is_cancelled() {
    for _ in 0..100 {
        let bulkhead = Arc::new(bulkhead(1, 1));
        let busy = occupy(&bulkhead, 1);
        let queued = bulkhead.run(|| ());
        let caller = Caller::start(&bulkhead, FOR_EVER);
        assert!(queued.cancel());
        // It is in, although the only worker is as busy as before.
        eventually("the caller is queued", || {
            bulkhead.stats().queued_tasks == 1
        });
        busy.finish();
        caller.gets_in();
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    }
}

#[test]
fn a_caller_gets_the_place_of_a_call_that_expires() {
    for _ in 0..30 {
        let (bulkhead, manual) = with_clock(config(1, 1));
        let busy = occupy(&bulkhead, 1);
        let queued = bulkhead.call().queue_timeout(seconds(5)).run(|| ());
        let waiter = thread::spawn(move || queued.wait());
        let caller = Caller::start(&bulkhead, FOR_EVER);
        manual.advance(seconds(5));
        eventually("one has expired, the other is queued", || {
            let stats = bulkhead.stats();
            stats.timed_out_executions == 1 && stats.queued_tasks == 1
        });
        assert!(waiter.join().unwrap().error().unwrap().is_timeout());
        busy.finish();
        caller.gets_in();
        assert_eq!(bulkhead.stats().rejected_executions, 0);
    }
}

#[test]
fn a_place_that_is_free_is_taken_without_waiting() {
    let (bulkhead, _still) = with_clock(config(1, 1));
    let busy = occupy(&bulkhead, 1);
    for limit in [Duration::ZERO, seconds(1), FOR_EVER] {
        let queued = bulkhead.call().wait_for_capacity(limit).run(|| ());
        assert!(!queued.is_finished(), "refused with a limit of {limit:?}");
        assert!(queued.cancel());
    }
    busy.finish();
}

#[test]
fn a_caller_that_waited_in_vain_is_refused_and_told_how_long_it_waited() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    let caller = Caller::start(&bulkhead, seconds(10));
    // Its time begins when it knocks, at one of these ticks.
    let mut passed = seconds(0);
    let mut result = None;
    eventually("the caller gives up", || {
        manual.advance(seconds(1));
        passed += seconds(1);
        result = caller.0.try_recv().ok();
        result.is_some()
    });
    let result = result.unwrap();
    assert!(passed >= seconds(10), "it gave up after {passed:?}");
    match result.into_result() {
        Err(BulkheadError::Full {
            max_concurrent_calls: 1,
            max_queue_size: 0,
            waited: Some(waited),
            ..
        }) => assert!(waited >= seconds(10) && waited <= passed, "{waited:?}"),
        other => panic!("{other:?}"),
    }
    let stats = bulkhead.stats();
    assert_eq!(stats.rejected_full, 1);
    assert_balanced(&stats);
    busy.finish();
    assert_eq!(bulkhead.available_capacity(), 1);
}

#[test]
fn the_limit_over_all_ends_the_wait_for_a_place_too() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    let (sender, receiver) = mpsc::channel();
    let caller = Arc::clone(&bulkhead);
    thread::spawn(move || {
        let call = caller.call().timeout(seconds(3));
        let result = call.wait_for_capacity(FOR_EVER).run(|| ()).wait();
        let _ = sender.send(result);
    });
    let mut result = None;
    eventually("its limit passes", || {
        manual.advance(seconds(1));
        result = receiver.try_recv().ok();
        result.is_some()
    });
    let result = result.unwrap();
    assert!(result.error().unwrap().never_started(), "{result:?}");
    busy.finish();
}

/// Whether a caller began to wait before the clock moved cannot be seen from outside, so this goes
/// through as many rounds as it takes until one of them did.
#[test]
fn the_wait_for_a_place_counts_towards_the_limit_over_all() {
    const LIMIT: Duration = Duration::from_secs(1_000);
    let (bulkhead, manual) = with_clock(config(1, 0));
    eventually("a call whose limit began before it got its place", || {
        let busy = occupy(&bulkhead, 1);
        let (sender, receiver) = mpsc::channel();
        let caller = Arc::clone(&bulkhead);
        thread::spawn(move || {
            let call = caller.call().timeout(LIMIT).wait_for_capacity(FOR_EVER);
            let handle = call.run(|| bulkman::current().unwrap().deadline().unwrap());
            let _ = sender.send(handle.wait());
        });
        for _ in 0..10 {
            thread::yield_now();
        }
        manual.advance(seconds(1));
        let freed_at = manual.now();
        busy.finish();
        let result = receiver.recv_timeout(PATIENCE).expect("it gets in");
        result.into_result().unwrap() < freed_at + LIMIT
    });
}

#[test]
fn a_caller_without_a_limit_outlasts_any_time() {
    let (bulkhead, manual) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    let caller = Caller::start(&bulkhead, FOR_EVER);
    for _ in 0..100 {
        manual.advance(seconds(365 * 24 * 3600));
        thread::yield_now();
        assert!(matches!(caller.0.try_recv(), Err(TryRecvError::Empty)));
    }
    busy.finish();
    caller.gets_in();
}

#[test]
fn a_shutdown_refuses_those_who_wait() {
    for _ in 0..100 {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let busy = occupy(&bulkhead, 1);
        let callers = [
            Caller::start(&bulkhead, FOR_EVER),
            Caller::start(&bulkhead, PATIENCE * 10),
        ];
        let report = bulkhead.shutdown_now();
        assert_eq!(report.still_running.len(), 1);
        for caller in callers {
            // They come back although the task goes on.
            let result = caller.result();
            assert!(
                matches!(result.error(), Some(BulkheadError::ShutDown { .. })),
                "{result:?}"
            );
        }
        assert_eq!(bulkhead.stats().rejected_shut_down, 2);
        busy.finish();
    }
}

#[test]
fn a_patient_shutdown_refuses_those_who_wait_before_it_is_done() {
    let bulkhead = Arc::new(bulkhead(1, 0));
    let busy = occupy(&bulkhead, 1);
    let caller = Caller::start(&bulkhead, FOR_EVER);
    let ending = thread::spawn({
        let bulkhead = Arc::clone(&bulkhead);
        move || bulkhead.shutdown()
    });
    let result = caller.result();
    assert!(
        matches!(result.error(), Some(BulkheadError::ShutDown { .. })),
        "{result:?}"
    );
    busy.finish();
    assert!(ending.join().unwrap().is_clean());
}

#[test]
fn a_limit_of_zero_fails_fast() {
    let (bulkhead, _still) = with_clock(config(1, 0));
    let busy = occupy(&bulkhead, 1);
    let refused = bulkhead.call().wait_for_capacity(Duration::ZERO).run(|| ());
    match wait(refused).into_result() {
        Err(BulkheadError::Full { waited, .. }) => assert_eq!(waited, Some(Duration::ZERO)),
        other => panic!("{other:?}"),
    }
    busy.finish();
}

#[test]
fn the_closure_comes_back_after_a_wait_in_vain() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let text = String::from("moved in");
    let call = bulkhead.call().wait_for_capacity(Duration::from_millis(1));
    let rejected = match call.try_execute(move || Ok::<_, Infallible>(text)) {
        Err(rejected) => rejected,
        Ok(_) => panic!("it was full"),
    };
    match rejected.reason {
        bulkman::RejectReason::Full { waited, .. } => {
            assert!(waited.unwrap() >= Duration::from_millis(1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((rejected.task)(), Ok("moved in".into()));
    busy.finish();
}

#[test]
fn on_a_worker_of_its_own_it_never_waits() {
    let bulkhead = Arc::new(bulkhead(1, 0));
    let own = Arc::clone(&bulkhead);
    let outer = bulkhead.run(move || own.call().wait_for_capacity(FOR_EVER).run(|| ()).wait());
    // The place that it would wait for is its own.
    let inner = wait(outer).into_result().unwrap();
    assert!(
        matches!(inner.error(), Some(BulkheadError::Full { .. })),
        "{inner:?}"
    );
}

/// Asks for a second place while its thread is about to submit a call and holds the first.
struct Asks {
    bulkhead: Arc<OnceLock<Weak<Bulkhead>>>,
    got: mpsc::Sender<ExecutionResult<(), Infallible>>,
}

impl ContextPropagator for Asks {
    fn capture(&self) -> CapturedContext {
        let bulkhead = self.bulkhead.get().and_then(Weak::upgrade).unwrap();
        let second = bulkhead.call().wait_for_capacity(FOR_EVER).run(|| ());
        self.got.send(second.wait()).unwrap();
        CapturedContext::new(|| Box::new(()))
    }
}

#[test]
fn in_a_propagator_of_its_own_it_never_waits() {
    let (got, seconds) = mpsc::channel();
    let itself: Arc<OnceLock<Weak<Bulkhead>>> = Arc::default();
    let propagator = Asks {
        bulkhead: Arc::clone(&itself),
        got,
    };
    let builder = Bulkhead::builder(config(1, 0)).context_propagator(propagator);
    let bulkhead = Arc::new(builder.build().unwrap());
    itself.set(Arc::downgrade(&bulkhead)).unwrap();
    let first = thread::spawn(move || wait(bulkhead.run(|| "first")).into_result().unwrap());
    let second = seconds.recv_timeout(PATIENCE).expect("no hang");
    assert!(
        matches!(second.error(), Some(BulkheadError::Full { .. })),
        "{second:?}"
    );
    assert_eq!(first.join().unwrap(), "first");
}

#[test]
fn on_a_worker_of_another_bulkhead_it_does_wait() {
    for _ in 0..50 {
        let near = bulkhead(1, 0);
        let far = Arc::new(bulkhead(1, 0));
        let busy = occupy(&far, 1);
        let (about_to, knock) = mpsc::channel();
        let there = Arc::clone(&far);
        let outer = near.run(move || {
            about_to.send(()).unwrap();
            let call = there.call().wait_for_capacity(FOR_EVER);
            call.run(|| "from afar").wait().into_result().unwrap()
        });
        knock.recv_timeout(PATIENCE).unwrap();
        busy.finish();
        assert_eq!(wait(outer).value(), Some(&"from afar"));
    }
}

#[test]
fn of_many_who_wait_each_gets_in_exactly_once() {
    const CALLERS: u64 = 12;
    const CALLS: u64 = 200;
    for (n, q) in [(1, 0), (2, 1)] {
        let bulkhead = bulkhead(n, q);
        let ran = Arc::new(AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    for _ in 0..CALLS {
                        let ran = Arc::clone(&ran);
                        let call = bulkhead.call().wait_for_capacity(FOR_EVER);
                        let handle = call.run(move || ran.fetch_add(1, Ordering::Relaxed));
                        assert!(wait(handle).is_success());
                    }
                });
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), CALLERS * CALLS);
        let stats = bulkhead.stats();
        assert_eq!(stats.successful_executions, CALLERS * CALLS);
        assert_eq!(stats.rejected_executions, 0);
        assert_balanced(&stats);
        assert_eq!(bulkhead.available_capacity(), n + q);
    }
}

/// Callers that give up, callers that never wait and calls that are cancelled take part in the same
/// scramble. A wake-up that reaches somebody who is just leaving must not be lost to those who stay.
#[test]
fn those_who_give_up_take_no_place_from_those_who_stay() {
    let bulkhead = bulkhead(1, 1);
    let got_in = AtomicUsize::new(0);
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let call = bulkhead.call().wait_for_capacity(FOR_EVER);
                    let result = wait(call.run(thread::yield_now));
                    assert!(result.is_success(), "{result:?}");
                    got_in.fetch_add(1, Ordering::Relaxed);
                }
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
        for i in 0..4 {
            let (bulkhead, over) = (&bulkhead, &over);
            scope.spawn(move || {
                let mut round = 0_u64;
                while over.load(Ordering::Relaxed) < 4 {
                    round += 1;
                    let limit = Duration::from_micros((i * 37 + round * 13) % 120);
                    let handle = bulkhead.call().wait_for_capacity(limit).run(|| ());
                    match round % 3 {
                        0 => drop(handle.cancel()),
                        1 => drop(wait(handle)),
                        _ => drop(handle),
                    }
                }
            });
        }
    });
    assert_eq!(got_in.into_inner(), 4 * 300);
    eventually("all places are free", || bulkhead.available_capacity() == 2);
    assert_balanced(&bulkhead.stats());
}
