//! A call sees the deadline and the cancel of the task that makes it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::{
    Bulkhead, BulkheadError, CancelReason, CircuitBreakerConfig, CurrentExecution, ManualClock,
    SemaphoreBulkhead, current,
};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, bulkhead, config, eventually, in_time, named, seconds,
    wait, with_clock,
};

fn me() -> CurrentExecution {
    current().expect("in a task")
}

fn remaining() -> Option<Duration> {
    me().remaining()
}

/// Two bulkheads with threads that go by one clock.
fn two() -> (Arc<Bulkhead>, Arc<Bulkhead>, ManualClock) {
    let (outer, clock) = with_clock(named("outer", 2, 4));
    let inner = Bulkhead::builder(named("inner", 2, 4))
        .clock(clock.clone())
        .build()
        .unwrap();
    (outer, Arc::new(inner), clock)
}

fn semaphore(clock: &ManualClock) -> SemaphoreBulkhead {
    SemaphoreBulkhead::builder(config(2, 2))
        .clock(clock.clone())
        .build()
        .unwrap()
}

// ---- deadlines

#[test]
fn the_nearer_deadline_holds() {
    let (outer, inner, clock) = two();
    let seen = outer.call().timeout(seconds(10)).run(move || {
        clock.advance(seconds(4));
        let limit = |limit: u64| {
            let call = inner.call().timeout(seconds(limit));
            wait(call.run(|| (me().deadline(), remaining())))
                .into_result()
                .unwrap()
        };
        let own = me().deadline();
        let unlimited = wait(inner.run(|| (me().deadline(), remaining())));
        let (deadline, left) = unlimited.into_result().unwrap();
        assert_eq!((deadline, left), (own, Some(seconds(6))));
        assert_eq!(limit(20), (own, Some(seconds(6))));
        assert_eq!(limit(3).1, Some(seconds(3)), "its own is nearer");
        true
    });
    assert_eq!(wait(seen).value(), Some(&true));
}

#[test]
fn it_goes_through_all_levels_and_both_kinds() {
    let (outer, inner, clock) = two();
    let cache = Arc::new(semaphore(&clock));
    let gate = Arc::new(semaphore(&clock));
    let seen = outer.call().timeout(seconds(10)).run(move || {
        assert_eq!(cache.run(remaining).value(), Some(&Some(seconds(10))));
        let nested = cache.call().timeout(seconds(5)).run(|| {
            assert_eq!(cache.run(remaining).value(), Some(&Some(seconds(5))));
            gate.run(|| wait(inner.run(move || (remaining(), me().is_cancelled()))))
        });
        let nested = nested.into_result().unwrap().into_result().unwrap();
        assert_eq!(nested.into_result().unwrap(), (Some(seconds(5)), false));
        // The limit of the call that is over is gone.
        assert_eq!(cache.run(remaining).value(), Some(&Some(seconds(10))));
        assert_eq!(remaining(), Some(seconds(10)));
    });
    assert!(wait(seen).is_success());
}

#[test]
fn a_nested_call_on_the_same_worker_inherits_too() {
    let (bulkhead, clock) = with_clock(config(1, 4));
    let of_task = Arc::clone(&bulkhead);
    let seen = bulkhead.call().timeout(seconds(9)).run(move || {
        let innermost = Arc::clone(&of_task);
        let below = of_task.call().timeout(seconds(7)).run(move || {
            clock.advance(SECOND);
            let deepest = innermost.run(remaining).wait().into_result().unwrap();
            (remaining(), deepest)
        });
        below.wait().into_result().unwrap()
    });
    assert_eq!(
        in_time(|| wait(seen)).value(),
        Some(&(Some(seconds(6)), Some(seconds(6))))
    );
}

#[test]
fn when_the_outer_limit_passes_the_inner_call_is_told() {
    let (outer, inner, clock) = two();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let call = outer.call().timeout(SECOND);
    let handle = call.run(move || {
        let seen = inner.run(move || {
            gate.pass();
            (me().is_cancelled(), me().cancel_reason(), remaining())
        });
        wait(seen).into_result().unwrap()
    });
    clock.advance(SECOND);
    drop(opener);
    // The caller has left by now, or takes the result.
    let expected = (
        true,
        Some(CancelReason::DeadlinePassed),
        Some(Duration::ZERO),
    );
    match wait(handle).into_result() {
        Ok(seen) => assert_eq!(seen, expected),
        Err(error) => assert!(error.is_timeout(), "{error}"),
    }
}

#[test]
fn clocks_of_their_own_are_translated() {
    let (outer, outers_clock) = with_clock(named("outer", 1, 1));
    let (inner, inners_clock) = with_clock(named("inner", 1, 1));
    outers_clock.advance(seconds(1_000));
    let of_task = inners_clock;
    let seen = outer.call().timeout(seconds(10)).run(move || {
        let handle = inner.run(move || {
            let before = remaining();
            of_task.advance(seconds(500));
            (before, remaining())
        });
        wait(handle).into_result().unwrap()
    });
    // The outer call has as long as before, however much of the other clock's time has passed.
    let all = Some(seconds(10));
    assert_eq!(wait(seen).value(), Some(&(all, all)));
}

#[test]
fn what_happens_to_a_call_depends_on_its_own_limits_alone() {
    let rules = CircuitBreakerConfig::default().failure_threshold(1);
    let (outer, clock) = with_clock(named("outer", 1, 1));
    let inner = Bulkhead::builder(named("inner", 1, 2).circuit_breaker(rules))
        .clock(clock.clone())
        .build();
    let inner = Arc::new(inner.unwrap());
    let of_task = Arc::clone(&inner);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let at_gate = gate.clone();
    let handles = outer.call().timeout(SECOND).run(move || {
        let runs = of_task.run(move || at_gate.pass());
        (runs, of_task.run(|| "not lost"))
    });
    let (runs, queued) = wait(handles).into_result().unwrap();
    gate.wait_for_arrivals(1);
    clock.advance(seconds(2));
    let Err(runs) = runs.wait_timeout(Duration::ZERO) else {
        panic!("the wait has no limit of its own");
    };
    drop(opener);
    assert!(wait(runs).is_success());
    assert_eq!(wait(queued).value(), Some(&"not lost"), "nor has the queue");
    assert!(inner.is_healthy(), "and the circuit heard of no failure");
}

// ---- cancels

/// Waits in a task until it is told to stop.
fn until_cancelled() -> Option<CancelReason> {
    eventually("the call is cancelled", || me().is_cancelled());
    me().cancel_reason()
}

#[test]
fn the_cancel_of_the_outer_call_is_told_to_the_inner_one() {
    let (outer, inner, _) = two();
    let begun = Gate::new();
    let at_begin = begun.clone();
    let handle = outer.run(move || {
        let handle = inner.run(move || {
            at_begin.pass();
            until_cancelled()
        });
        wait(handle).into_result().unwrap()
    });
    begun.open();
    begun.wait_for_arrivals(1);
    assert!(!handle.cancel(), "it runs");
    assert_eq!(wait(handle).value(), Some(&Some(CancelReason::Cancelled)));
}

#[test]
fn it_goes_through_semaphores_and_several_levels() {
    let (outer, inner, clock) = two();
    let cache = Arc::new(semaphore(&clock));
    let begun = Gate::new();
    let at_begin = begun.clone();
    let of_task = Arc::clone(&outer);
    let handle = outer.run(move || {
        let limited = cache.call().timeout(seconds(100)).run(|| {
            let handle = inner.run(move || {
                // Back on the first bulkhead, which has another worker.
                let innermost = of_task.run(move || {
                    at_begin.pass();
                    until_cancelled()
                });
                wait(innermost).into_result().unwrap()
            });
            wait(handle).into_result().unwrap()
        });
        limited.into_result().unwrap()
    });
    begun.open();
    begun.wait_for_arrivals(1);
    handle.cancel();
    assert_eq!(wait(handle).value(), Some(&Some(CancelReason::Cancelled)));
}

#[test]
fn a_cancel_stays_after_the_outer_task_has_ended() {
    let (outer, inner, _) = two();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let (at_gate, of_task) = (gate, Arc::clone(&inner));
    let handle = outer.run(move || {
        let handle = of_task.run(move || {
            at_gate.pass();
            me().cancel_reason()
        });
        assert_eq!(until_cancelled(), Some(CancelReason::Cancelled));
        handle
    });
    eventually("it runs", || outer.stats().active_tasks == 1);
    handle.cancel();
    let inner = wait(handle).into_result().unwrap();
    drop(opener);
    assert_eq!(wait(inner).value(), Some(&Some(CancelReason::Cancelled)));
}

#[test]
fn after_the_outer_task_has_ended_nothing_more_comes_from_there() {
    let (outer, inner, _) = two();
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let (at_gate, of_task) = (gate, Arc::clone(&inner));
    let handle = outer.run(move || {
        drop(of_task.run(|| ()));
        of_task.run(move || {
            at_gate.pass();
            me().cancel_reason()
        })
    });
    eventually("its worker is free again", || {
        handle.is_finished() && wait(outer.run(|| ())).is_success()
    });
    // The worker that ran it has gone on when both workers have run something else.
    let both = Gate::new();
    let busy = [(); 2].map(|()| {
        let both = both.clone();
        outer.run(move || both.pass())
    });
    both.wait_for_arrivals(2);
    both.open();
    busy.into_iter()
        .for_each(|busy| assert!(wait(busy).is_success()));
    assert!(!handle.cancel(), "it is over");
    let inner = wait(handle).into_result().unwrap();
    drop(opener);
    assert_eq!(wait(inner).value(), Some(&None));
}

#[test]
fn a_cancel_of_the_inner_call_is_no_cancel_of_the_outer_one() {
    let (outer, inner, _) = two();
    let seen = outer.run(move || {
        let handle = inner.run(until_cancelled);
        eventually("it runs", || inner.stats().active_tasks == 1);
        handle.cancel();
        (wait(handle).into_result().unwrap(), me().is_cancelled())
    });
    let seen = wait(seen).into_result().unwrap();
    assert_eq!(seen, (Some(CancelReason::Cancelled), false));
}

#[test]
fn an_error_after_an_inherited_cancel_is_neutral() {
    let rules = CircuitBreakerConfig::default().failure_threshold(1);
    let inner = Arc::new(Bulkhead::new(named("inner", 1, 1).circuit_breaker(rules)).unwrap());
    let outer = bulkhead(1, 1);
    let of_task = Arc::clone(&inner);
    let handle = outer.run(move || {
        let stops = of_task.execute(|| Err::<(), _>(until_cancelled()));
        wait(stops).is_success()
    });
    eventually("it runs", || inner.stats().active_tasks == 1);
    handle.cancel();
    assert_eq!(wait(handle).value(), Some(&false));
    assert!(inner.is_healthy(), "the dependency has done nothing wrong");
    let fails = wait(inner.execute(|| Err::<(), _>("down")));
    assert!(matches!(fails.error(), Some(BulkheadError::Failed("down"))));
    assert!(!inner.is_healthy());
}

// ---- what inherits nothing

#[test]
fn a_detached_call_inherits_nothing() {
    let (outer, inner, clock) = two();
    let cache = semaphore(&clock);
    let handle = outer.call().timeout(seconds(10)).run(move || {
        let seen = || (remaining(), me().is_cancelled());
        until_cancelled();
        let on_a_worker = wait(inner.call().detached().run(seen));
        let here = cache.call().detached().run(|| {
            // Nor does a call that it makes itself.
            (seen(), wait(inner.run(seen)).into_result().unwrap())
        });
        let limited = inner.call().detached().timeout(seconds(3)).run(remaining);
        let values = (
            on_a_worker.into_result().unwrap(),
            here.into_result().unwrap(),
        );
        (values, wait(limited).into_result().unwrap())
    });
    eventually("it runs", || outer.stats().active_tasks == 1);
    handle.cancel();
    let nothing = (None, false);
    let seen = wait(handle).into_result().unwrap();
    assert_eq!(seen, ((nothing, (nothing, nothing)), Some(seconds(3))));
}

#[test]
fn calls_outside_of_tasks_and_from_threads_of_a_task_inherit_nothing() {
    let (outer, inner, _) = two();
    let seen = outer.call().timeout(seconds(10)).run(move || {
        let from_thread = thread::scope(|scope| {
            let asks = scope.spawn(|| wait(inner.run(remaining)).into_result().unwrap());
            asks.join().unwrap()
        });
        (
            from_thread,
            wait(inner.run(remaining)).into_result().unwrap(),
        )
    });
    assert_eq!(wait(seen).value(), Some(&(None, Some(seconds(10)))));
    let next = wait(outer.run(remaining));
    assert_eq!(next.value(), Some(&None), "nor does the worker remember it");
}

#[test]
fn a_job_that_submits_itself_again_keeps_none_of_its_forerunners() {
    struct Round(Arc<Bulkhead>, Arc<()>, u32);

    fn again(Round(bulkhead, alive, left): Round) {
        // Two at the most: this one, and the one that made it and may be ending.
        assert!(
            Arc::strong_count(&alive) <= 3,
            "{}",
            Arc::strong_count(&alive)
        );
        if left > 0 {
            let next = Round(Arc::clone(&bulkhead), Arc::clone(&alive), left - 1);
            // Its closure is gone when it runs, but its cell is there as long as somebody refers to it.
            drop(bulkhead.call().operation("again").run(move || again(next)));
        }
    }

    let bulkhead = Arc::new(bulkhead(1, 1));
    let alive = Arc::new(());
    let first = Round(Arc::clone(&bulkhead), Arc::clone(&alive), 10_000);
    drop(bulkhead.run(move || again(first)));
    assert!(bulkhead.wait_idle(PATIENCE));
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// The callback for its end still runs, in the worker's thread, when somebody cancels the outer call.
#[test]
fn a_cancel_after_the_outer_call_has_ended_comes_too_late_for_inner_calls() {
    let (outer, inner) = (bulkhead(1, 0), Arc::new(bulkhead(1, 0)));
    let [callback, task] = [(), ()].map(|()| Gate::new());
    let _openers = [&callback, &task].map(|gate| OpenOnDrop(gate.clone()));
    let (made, inner_call) = std::sync::mpsc::channel();
    let may_end = Gate::new();
    let _opener = OpenOnDrop(may_end.clone());
    let ends = may_end.clone();
    let pass = task.clone();
    let inside = Arc::clone(&inner);
    let call = outer.run(move || {
        let call = inside.run(move || {
            pass.pass();
            me().is_cancelled()
        });
        made.send(call).unwrap();
        ends.pass();
    });
    let pass = callback.clone();
    call.on_finish(move |_| pass.pass());
    let cancel_handle = call.cancel_handle();
    may_end.open();
    callback.wait_for_arrivals(1);
    assert!(cancel_handle.is_finished());
    assert!(!cancel_handle.cancel());
    task.open();
    let was_cancelled = wait(inner_call.recv().unwrap()).into_result().unwrap();
    assert!(!was_cancelled);
    callback.open();
    assert!(wait(call).is_success());
}
