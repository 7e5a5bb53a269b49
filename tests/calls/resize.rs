//! Other limits while the bulkhead works.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bulkman::{
    BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, ManualClock, RejectReason,
};

use crate::support::{
    Gate, OpenOnDrop, PATIENCE, SECOND, assert_balanced, bulkhead, config, eventually, in_time,
    named, occupy, threads_named, wait,
};

/// How many workers there are, once all that leave have left.
fn eventually_workers(bulkhead: &Bulkhead, n: u64) {
    eventually("that many workers", || bulkhead.stats().worker_threads == n);
}

#[test]
fn more_workers_take_the_calls_that_wait() {
    let bulkhead = bulkhead(1, 2);
    let first = occupy(&bulkhead, 1);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let waiting = [(); 2].map(|()| {
        let gate = gate.clone();
        bulkhead.run(move || gate.pass())
    });
    bulkhead.resize(3, 2).unwrap();
    gate.wait_for_arrivals(2);
    assert_eq!(bulkhead.stats().worker_threads, 3);
    drop(opener);
    for handle in waiting {
        assert!(wait(handle).is_success());
    }
    first.finish();
}

#[test]
fn exactly_as_many_calls_fit_as_the_new_limits_say() {
    for (from, to) in [
        ((1, 0), (3, 4)),
        ((3, 4), (1, 0)),
        ((2, 5), (2, 0)),
        ((2, 0), (2, 50)),
        ((4, 0), (1, 9)),
        ((1, 9), (4, 0)),
        ((2, 2), (2, 2)),
    ] {
        let bulkhead = bulkhead(from.0, from.1);
        bulkhead.resize(to.0, to.1).unwrap();
        assert_eq!(bulkhead.available_capacity(), to.0 + to.1);
        let busy = occupy(&bulkhead, to.0);
        let queued: Vec<_> = (0..to.1).map(|_| bulkhead.run(|| ())).collect();
        let rejected = bulkhead.try_run(|| ()).expect_err("it is full");
        assert!(
            matches!(
                rejected.reason,
                RejectReason::Full { max_concurrent_calls, max_queue_size, .. }
                    if (max_concurrent_calls, max_queue_size) == to
            ),
            "{rejected}"
        );
        let stats = bulkhead.stats();
        assert_eq!(stats.active_tasks, to.0 as u64);
        assert_eq!(stats.max_concurrent_calls, to.0 as u64);
        assert_eq!(stats.max_queue_size, to.1 as u64);
        assert_balanced(&stats);
        busy.finish();
        for handle in queued {
            assert!(wait(handle).is_success(), "from {from:?} to {to:?}");
        }
        eventually_workers(&bulkhead, to.0 as u64);
    }
}

#[test]
fn no_call_that_was_admitted_is_lost_when_there_is_room_for_fewer() {
    let bulkhead = bulkhead(2, 8);
    let busy = occupy(&bulkhead, 2);
    let queued: Vec<_> = (0..8).map(|i| bulkhead.run(move || i)).collect();
    bulkhead.resize(1, 1).unwrap();
    assert_eq!(bulkhead.available_capacity(), 0);
    assert!(
        bulkhead.try_run(|| ()).is_err(),
        "no room until it is below"
    );
    let stats = bulkhead.stats();
    assert_eq!((stats.active_tasks, stats.queued_tasks), (2, 8));
    busy.finish();
    for (i, handle) in queued.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
    eventually("both places are free", || {
        bulkhead.available_capacity() == 2
    });
    eventually_workers(&bulkhead, 1);
    assert_balanced(&bulkhead.stats());
}

#[test]
fn a_call_that_comes_later_starts_only_when_fewer_run() {
    let bulkhead = bulkhead(3, 5);
    bulkhead.resize(1, 7).unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..8)
        .map(|_| {
            let running = Arc::clone(&running);
            bulkhead.run(move || {
                assert_eq!(running.fetch_add(1, SeqCst), 0, "one at a time");
                thread::yield_now();
                running.fetch_sub(1, SeqCst);
            })
        })
        .collect();
    for handle in handles {
        assert!(wait(handle).is_success());
    }
}

#[test]
fn a_busy_worker_leaves_when_its_task_has_ended() {
    let bulkhead = Arc::new(bulkhead(3, 3));
    let busy = occupy(&bulkhead, 3);
    bulkhead.resize(1, 3).unwrap();
    assert_eq!(bulkhead.stats().worker_threads, 3, "all of them are busy");
    busy.finish();
    eventually_workers(&bulkhead, 1);
    let still_works = wait(bulkhead.run(|| 7));
    assert_eq!(still_works.value(), Some(&7));
}

#[test]
fn a_caller_that_waits_for_a_place_gets_a_new_one() {
    let bulkhead = Arc::new(bulkhead(1, 0));
    let busy = occupy(&bulkhead, 1);
    let waiting = {
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || wait(bulkhead.call().wait_for_capacity(PATIENCE).run(|| 7)))
    };
    // Whether it waits already or is yet to come.
    bulkhead.resize(2, 0).unwrap();
    let result = in_time(move || waiting.join().unwrap());
    assert_eq!(result.value(), Some(&7));
    busy.finish();
}

#[test]
fn indices_and_names_of_workers_that_have_left_are_used_again() {
    let hooks = Arc::new(Mutex::new(Vec::new()));
    let (started, stopped) = (Arc::clone(&hooks), Arc::clone(&hooks));
    let bulkhead = Bulkhead::builder(config(2, 2))
        .worker_name(|index| format!("resized-{index}"))
        .on_worker_start(move |index| {
            let name = thread::current().name().map(String::from);
            assert_eq!(name, Some(format!("resized-{index}")));
            started.lock().unwrap().push((index, true));
        })
        .on_worker_stop(move |index| stopped.lock().unwrap().push((index, false)))
        .build()
        .unwrap();
    for n in [4, 1, 3, 6, 2] {
        bulkhead.resize(n, 2).unwrap();
        eventually_workers(&bulkhead, n as u64);
        eventually("and they say so", || {
            let hooks = hooks.lock().unwrap();
            let up = hooks.iter().filter(|(_, is_start)| *is_start).count();
            2 * up - hooks.len() == n
        });
    }
    drop(bulkhead);
    let hooks = hooks.lock().unwrap();
    // Of each index: start, stop, start, stop, and never two at a time.
    for index in 0..6 {
        let mut of_index = hooks.iter().filter(|(i, _)| *i == index);
        let alternates = of_index
            .clone()
            .zip(0..)
            .all(|((_, up), i)| *up == (i % 2 == 0));
        assert!(alternates, "worker {index}: {hooks:?}");
        assert!(of_index.next_back().is_some_and(|(_, up)| !up));
    }
    assert!(hooks.iter().all(|(index, _)| *index < 6), "{hooks:?}");
}

#[test]
fn the_threads_come_and_go() {
    let bulkhead = Bulkhead::new(named("comings", 2, 0)).unwrap();
    eventually("two threads", || threads_named("comings-") == 2);
    bulkhead.resize(20, 0).unwrap();
    eventually("twenty threads", || threads_named("comings-") == 20);
    assert!(occupy(&bulkhead, 20).handles.len() == 20);
    bulkhead.resize(1, 0).unwrap();
    eventually("one thread", || threads_named("comings-") == 1);
    let config = bulkhead.config();
    assert_eq!(config.max_concurrent_calls, 2, "what it was built from");
    assert_eq!(bulkhead.max_concurrent_calls(), 1);
    assert_eq!(bulkhead.max_queue_size(), 0);
}

#[test]
fn limits_out_of_range_are_errors_and_change_nothing() {
    let bulkhead = bulkhead(2, 3);
    for (n, q, text) in [
        (0, 3, "max_concurrent_calls is 0, it must be at least 1"),
        (
            65_537,
            3,
            "max_concurrent_calls is 65537, it must be at most 65536",
        ),
        (
            2,
            usize::MAX,
            "must be at most 16777216 together with max_concurrent_calls",
        ),
    ] {
        let error = bulkhead.resize(n, q).expect_err(text);
        let message = error.to_string();
        assert!(message.contains(text), "{message}");
        assert!(message.contains("`test`"), "{message}");
        assert!(matches!(error, BuildError::InvalidValue { .. }));
    }
    assert_eq!(
        (bulkhead.max_concurrent_calls(), bulkhead.max_queue_size()),
        (2, 3)
    );
    assert!(wait(bulkhead.run(|| ())).is_success());
}

#[test]
fn a_name_that_no_new_worker_can_have_is_an_error_and_changes_nothing() {
    let bulkhead = Bulkhead::builder(config(1, 1))
        .worker_name(|index| {
            if index < 2 {
                format!("w{index}")
            } else {
                String::new()
            }
        })
        .build()
        .unwrap();
    let error = bulkhead.resize(3, 1).expect_err("a blank name");
    assert!(error.to_string().contains("worker_name"), "{error}");
    assert_eq!(bulkhead.max_concurrent_calls(), 1);
    bulkhead.resize(2, 1).unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());
}

#[test]
fn after_a_shutdown_it_takes_no_change() {
    let bulkhead = bulkhead(2, 3);
    bulkhead.shutdown();
    let error = bulkhead.resize(4, 4).expect_err("it is shut down");
    assert!(matches!(error, BuildError::ShutDown { .. }));
    assert_eq!(
        error.to_string(),
        "bulkhead `test` is shut down and takes no change"
    );
    assert_eq!(bulkhead.max_concurrent_calls(), 2);
    assert_eq!(bulkhead.available_capacity(), 0);
}

#[test]
fn a_shutdown_after_a_change_loses_nothing() {
    for n in [1, 4] {
        let bulkhead = bulkhead(2, 20);
        let busy = occupy(&bulkhead, 2);
        let queued: Vec<_> = (0..20).map(|_| bulkhead.run(|| ())).collect();
        bulkhead.resize(n, 20).unwrap();
        bulkhead.close();
        busy.finish();
        assert!(bulkhead.wait_closed(PATIENCE));
        assert!(bulkhead.shutdown().is_clean());
        assert_eq!(bulkhead.stats().worker_threads, 0);
        for handle in queued {
            assert!(wait(handle).is_success());
        }
    }
}

#[test]
fn a_task_a_hook_and_a_listener_may_change_the_limits() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let bulkhead = Arc::new_cyclic(|me: &std::sync::Weak<Bulkhead>| {
        let (me, heard) = (me.clone(), Arc::clone(&heard));
        Bulkhead::builder(config(1, 1))
            .on_event(move |event| {
                if let BulkheadEvent::Resized {
                    bulkhead,
                    max_concurrent_calls,
                    max_queue_size,
                    concurrent_calls_before,
                    queue_size_before,
                    ..
                } = event
                {
                    assert_eq!(*bulkhead, "test");
                    heard.lock().unwrap().push([
                        *concurrent_calls_before,
                        *queue_size_before,
                        *max_concurrent_calls,
                        *max_queue_size,
                    ]);
                    if *max_concurrent_calls == 2 {
                        me.upgrade().unwrap().resize(3, 1).unwrap();
                    }
                }
            })
            .build()
            .unwrap()
    });
    let inner = Arc::clone(&bulkhead);
    let result = wait(bulkhead.run(move || inner.resize(2, 5)));
    assert!(result.into_result().unwrap().is_ok());
    assert_eq!(*heard.lock().unwrap(), [[1, 1, 2, 5], [2, 5, 3, 1]]);
    eventually_workers(&bulkhead, 3);
    // The same limits again are no change.
    bulkhead.resize(3, 1).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[test]
fn changes_of_several_threads_are_told_one_at_a_time_and_in_their_order() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let told = Arc::clone(&heard);
    let builder = Bulkhead::builder(config(1, 1)).on_event(move |event| {
        if let BulkheadEvent::Resized {
            max_concurrent_calls,
            concurrent_calls_before,
            ..
        } = event
        {
            told.lock()
                .unwrap()
                .push((*concurrent_calls_before, *max_concurrent_calls));
            gate.pass();
        }
    });
    let bulkhead = Arc::new(builder.build().unwrap());
    let other = {
        let bulkhead = Arc::clone(&bulkhead);
        thread::spawn(move || bulkhead.resize(2, 1).unwrap())
    };
    opener.0.wait_for_arrivals(1);
    // The listener is in its first call still.
    bulkhead.resize(3, 1).unwrap();
    bulkhead.resize(1, 1).unwrap();
    assert_eq!(*heard.lock().unwrap(), [(1, 2)]);
    drop(opener);
    other.join().unwrap();
    assert_eq!(*heard.lock().unwrap(), [(1, 2), (2, 3), (3, 1)]);
    bulkhead.resize(4, 1).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 4);
}

#[test]
fn a_queue_that_grows_far_beyond_its_first_size_keeps_the_order() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut handles = Vec::new();
    for q in [1, 3, 10, 400, 1_000, 20, 1_200] {
        bulkhead.resize(1, q).unwrap();
        while handles.len() < q {
            let (order, number) = (Arc::clone(&order), handles.len());
            let handle = bulkhead.try_run(move || order.lock().unwrap().push(number));
            handles.push(handle.expect("there is room"));
        }
    }
    // Some leave out of turn, beyond the allowance for what they leave behind.
    let mut cancelled = 0;
    for handle in handles.iter().step_by(3) {
        cancelled += usize::from(handle.cancel());
    }
    assert_eq!(cancelled, 400);
    busy.finish();
    for handle in handles {
        drop(wait(handle));
    }
    let order = order.lock().unwrap();
    let expected = (0..1_200).filter(|number| number % 3 != 0);
    assert!(order.iter().copied().eq(expected), "{order:?}");
    assert_balanced(&bulkhead.stats());
}

#[test]
fn changes_at_any_rate_lose_no_call() {
    let bulkhead = Arc::new(
        Bulkhead::new(
            BulkheadConfig::new("test")
                .max_concurrent_calls(2)
                .max_queue_size(2)
                .queue_timeout(Duration::from_secs(60)),
        )
        .unwrap(),
    );
    let over = Arc::new(AtomicUsize::new(0));
    let resizer = {
        let (bulkhead, over) = (Arc::clone(&bulkhead), Arc::clone(&over));
        thread::spawn(move || {
            let mut changes = 0;
            while over.load(SeqCst) < 2 {
                for (n, q) in [(4, 0), (1, 9), (3, 1), (1, 0), (2, 2), (8, 100)] {
                    bulkhead.resize(n, q).unwrap();
                    changes += 1;
                }
            }
            changes
        })
    };
    let callers = [(); 2].map(|()| {
        let (bulkhead, over) = (Arc::clone(&bulkhead), Arc::clone(&over));
        thread::spawn(move || {
            for round in 0..2_000 {
                let call = bulkhead.call().wait_for_capacity(PATIENCE);
                let result = wait(call.run(move || round));
                assert_eq!(result.into_result().unwrap(), round);
            }
            over.fetch_add(1, SeqCst);
        })
    });
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(resizer.join().unwrap() > 0);
    let stats = bulkhead.stats();
    assert_eq!((stats.successful_executions, stats.in_flight), (4_000, 0));
    assert_balanced(&stats);
}

#[test]
fn other_limits_in_time_hold_for_calls_that_come_later() {
    let clock = ManualClock::new();
    let config = config(1, 10).queue_timeout(10 * SECOND);
    let bulkhead = Bulkhead::builder(config)
        .clock(clock.clone())
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    let before = bulkhead.run(|| ());
    bulkhead.set_queue_timeout(SECOND).unwrap();
    bulkhead.set_execution_timeout(5 * SECOND).unwrap();
    let after = bulkhead.run(|| ());
    let own = bulkhead.call().queue_timeout(4 * SECOND).run(|| ());
    bulkhead.set_queue_timeout(None).unwrap();
    let without = bulkhead.run(|| ());
    bulkhead.set_execution_timeout(None).unwrap();
    let without_any = bulkhead.run(|| ());
    clock.advance(SECOND);
    let error = wait(after).into_result().unwrap_err();
    assert!(
        matches!(error, BulkheadError::QueueTimeout { limit: SECOND, .. }),
        "{error}"
    );
    clock.advance(3 * SECOND);
    let error = wait(own).into_result().unwrap_err();
    assert!(matches!(error, BulkheadError::QueueTimeout { limit, .. } if limit == 4 * SECOND));
    clock.advance(SECOND);
    let error = wait(without).into_result().unwrap_err();
    assert!(matches!(error, BulkheadError::Timeout { limit, .. } if limit == 5 * SECOND));
    assert!(!before.is_finished() && !without_any.is_finished());
    clock.advance(5 * SECOND);
    let error = wait(before).into_result().unwrap_err();
    assert!(matches!(error, BulkheadError::QueueTimeout { limit, .. } if limit == 10 * SECOND));
    drop(busy);
    assert!(wait(without_any).is_success());
}

#[test]
fn a_wrapped_closure_goes_by_the_limits_of_the_moment_and_by_its_own() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config(1, 1))
        .clock(clock)
        .build()
        .unwrap();
    let remaining = |()| Ok::<_, ()>(bulkman::current().unwrap().remaining());
    let wrapped = bulkhead.wrap(remaining);
    let with_own = bulkhead.call().timeout(SECOND).wrap(remaining);
    for limit in [None, Some(5 * SECOND), Some(2 * SECOND), None] {
        bulkhead.set_execution_timeout(limit).unwrap();
        assert_eq!(wrapped(()).into_result().unwrap(), limit);
        assert_eq!(with_own(()).into_result().unwrap(), Some(SECOND));
    }
}

#[test]
fn limits_in_time_of_zero_and_after_a_shutdown_are_errors() {
    let bulkhead = bulkhead(1, 1);
    for error in [
        bulkhead.set_queue_timeout(Duration::ZERO).unwrap_err(),
        bulkhead.set_execution_timeout(Duration::ZERO).unwrap_err(),
    ] {
        assert!(error.to_string().contains("of `test`"), "{error}");
        assert!(matches!(error, BuildError::InvalidValue { .. }));
    }
    bulkhead.set_queue_timeout(Duration::MAX).unwrap();
    assert!(wait(bulkhead.run(|| ())).is_success());
    bulkhead.shutdown();
    let error = bulkhead.set_queue_timeout(SECOND).unwrap_err();
    assert!(matches!(error, BuildError::ShutDown { .. }));
}
