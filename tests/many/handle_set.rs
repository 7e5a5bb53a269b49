//! A set of handles gives the results of its calls as they end.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{BulkheadError, HandleSet, as_completed};

use crate::helpers::{at_a_gate, on_a_worker};
use crate::support::{
    Bomb, HOUR, PATIENCE, SECOND, assert_balanced, bulkhead, config, in_time, occupy, with_clock,
};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn results_come_in_the_order_in_which_the_calls_end() {
    in_time(|| {
        let bulkhead = bulkhead(3, 0);
        let mut set = HandleSet::new();
        let mut openers = Vec::new();
        for key in 0..3 {
            let (opener, handle) = at_a_gate(&bulkhead, key * 10);
            openers.push(Some(opener));
            set.insert(key, handle);
        }
        for key in [1, 2, 0] {
            openers[key] = None;
            let (found, result) = set.next().expect("three calls");
            assert_eq!((found, result.into_result().unwrap()), (key, key * 10));
        }
        assert!(set.next().is_none());
        assert!(set.is_empty());
    });
}

#[test]
fn calls_of_different_bulkheads() {
    in_time(|| {
        let (one, other) = (bulkhead(1, 0), bulkhead(1, 0));
        let (_never, waiting) = at_a_gate(&one, 1);
        let mut set: HandleSet<_, _, _> = [("one", waiting), ("other", other.run(|| 2))]
            .into_iter()
            .collect();
        let (key, result) = set.next().unwrap();
        assert_eq!((key, result.value()), ("other", Some(&2)));
        assert_eq!(set.len(), 1);
    });
}

#[test]
fn a_refused_call_has_ended_at_once() {
    let bulkhead = bulkhead(1, 0);
    let busy = occupy(&bulkhead, 1);
    let mut set = HandleSet::new();
    set.insert((), bulkhead.run(|| 1));
    let ((), result) = set.next_timeout(Duration::ZERO).expect("it has ended");
    assert!(result.error().is_some_and(BulkheadError::is_rejected));
    busy.finish();
}

#[test]
fn a_call_that_had_ended_before() {
    let bulkhead = bulkhead(1, 0);
    let handle = bulkhead.run(|| 7);
    crate::support::eventually("it has ended", || handle.is_finished());
    let mut set = HandleSet::new();
    set.insert("early", handle);
    let (key, result) = set.next_timeout(Duration::ZERO).expect("it has ended");
    assert_eq!((key, result.value()), ("early", Some(&7)));
}

#[test]
fn calls_may_be_added_between_results() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let mut set = HandleSet::new();
        set.insert(0, bulkhead.run(|| ()));
        let mut seen = Vec::new();
        while let Some((key, _)) = set.next() {
            seen.push(key);
            if key < 100 {
                set.insert(key + 1, bulkhead.run(|| ()));
            }
        }
        assert_eq!(seen, (0..=100).collect::<Vec<_>>());
    });
}

#[test]
fn a_wait_with_a_limit_keeps_the_calls() {
    let bulkhead = bulkhead(1, 0);
    let (opener, handle) = at_a_gate(&bulkhead, 1);
    let mut set = HandleSet::new();
    set.insert((), handle);
    assert!(set.next_timeout(SHORT).is_none());
    assert!(set.next_deadline(Instant::now()).is_none());
    assert_eq!(set.len(), 1);
    drop(opener);
    let ((), result) = set.next_timeout(PATIENCE).expect("the gate is open");
    assert_eq!(result.value(), Some(&1));
}

#[test]
fn an_endless_limit() {
    in_time(|| {
        let bulkhead = bulkhead(1, 0);
        let mut set = HandleSet::new();
        set.insert((), bulkhead.run(|| 1));
        assert!(set.next_timeout(Duration::MAX).is_some());
        assert!(set.next_timeout(Duration::MAX).is_none(), "it is empty");
    });
}

#[test]
fn what_is_left_comes_back_in_order() {
    let bulkhead = bulkhead(1, 3);
    let (opener, first) = at_a_gate(&bulkhead, 0);
    let mut set = HandleSet::new();
    set.insert(0, first);
    for key in 1..4 {
        set.insert(key, bulkhead.run(move || key));
    }
    assert!(set.next_timeout(SHORT).is_none());
    let left = set.into_remaining();
    drop(opener);
    let left: Vec<_> = left
        .into_iter()
        .map(|(key, handle)| (key, crate::support::wait(handle).into_result().unwrap()))
        .collect();
    assert_eq!(left, [(0, 0), (1, 1), (2, 2), (3, 3)]);
}

#[test]
fn dropping_it_detaches_its_calls() {
    let bulkhead = bulkhead(1, 1);
    let ran = Arc::new(AtomicBool::new(false));
    let (opener, first) = at_a_gate(&bulkhead, ());
    let mut set = HandleSet::new();
    set.insert(0, first);
    let flag = Arc::clone(&ran);
    set.insert(1, bulkhead.run(move || flag.store(true, Ordering::SeqCst)));
    drop(set);
    drop(opener);
    bulkhead.shutdown();
    assert!(ran.load(Ordering::SeqCst));
}

/// A running call that ends when it is told to would let the next one start.
#[test]
fn cancel_all_begins_with_the_last() {
    struct Dropped(usize, mpsc::Sender<usize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.1.send(self.0).expect("the test waits for it");
        }
    }
    let bulkhead = bulkhead(1, 3);
    let busy = occupy(&bulkhead, 1);
    let (sender, dropped) = mpsc::channel();
    let call = |key| {
        let in_task = Dropped(key, sender.clone());
        (key, bulkhead.run(move || drop(in_task)))
    };
    let set: HandleSet<_, _, _> = (0..3).map(call).collect();
    assert_eq!(set.cancel_all(), 3);
    assert_eq!(dropped.try_iter().collect::<Vec<_>>(), [2, 1, 0]);
    busy.finish();
}

#[test]
fn cancel_all_frees_the_queue_at_once() {
    let bulkhead = bulkhead(1, 3);
    let busy = occupy(&bulkhead, 1);
    let mut set: HandleSet<_, _, _> = (0..3).map(|key| (key, bulkhead.run(|| ()))).collect();
    assert_eq!(set.cancel_all(), 3);
    assert_eq!(bulkhead.available_capacity(), 3);
    let cancelled = |result: &BulkheadError<Infallible>| {
        matches!(
            result,
            BulkheadError::Cancelled {
                by_shutdown: false,
                ..
            }
        )
    };
    let mut keys = HashSet::new();
    for (key, result) in &mut set {
        assert!(result.error().is_some_and(cancelled));
        keys.insert(key);
    }
    assert_eq!(keys.len(), 3);
    busy.finish();
}

// ---- limits

#[test]
fn a_running_call_ends_at_its_callers_limit() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        let (_opener, busy) = at_a_gate(&bulkhead, 0);
        let queued = bulkhead.call().timeout(SHORT).run(|| 1);
        let mut set = HandleSet::new();
        set.insert("busy", busy);
        set.insert("queued", queued);
        let (key, result) = set.next().unwrap();
        assert_eq!(key, "queued");
        assert!(matches!(
            result.result,
            Err(BulkheadError::Timeout { started: false, .. })
        ));
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn the_callers_limit_holds_while_the_task_runs() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(2, 0));
        let gate = crate::support::Gate::new();
        let _opener = crate::support::OpenOnDrop(gate.clone());
        let mut set = HandleSet::new();
        let inside = gate.clone();
        set.insert(
            "limited",
            bulkhead.call().timeout(SECOND).run(move || inside.pass()),
        );
        let other = gate.clone();
        set.insert("endless", bulkhead.run(move || other.pass()));
        gate.wait_for_arrivals(2);
        clock.advance(SECOND);
        let (key, result) = set.next().unwrap();
        assert_eq!(key, "limited");
        assert!(matches!(
            result.result,
            Err(BulkheadError::Timeout { started: true, .. })
        ));
        assert_eq!(bulkhead.stats().abandoned_tasks, 1);
    });
}

#[test]
fn the_queue_timeout_holds_by_the_bulkheads_clock() {
    in_time(|| {
        let (bulkhead, clock) = with_clock(config(1, 2).queue_timeout(SECOND));
        let busy = occupy(&bulkhead, 1);
        let mut set = HandleSet::new();
        for key in 0..2 {
            set.insert(key, bulkhead.run(|| ()));
        }
        assert!(set.next_timeout(SHORT).is_none(), "its clock stands still");
        clock.advance(HOUR);
        for (_, result) in &mut set {
            assert!(matches!(
                result.result,
                Err(BulkheadError::QueueTimeout { .. })
            ));
        }
        busy.finish();
    });
}

#[test]
fn a_limit_of_one_call_is_noticed_among_ends_of_others() {
    in_time(|| {
        let (slow, clock) = with_clock(config(1, 1));
        let busy = occupy(&slow, 1);
        let quick = bulkhead(1, 10);
        let mut set = HandleSet::new();
        set.insert(usize::MAX, slow.call().timeout(SECOND).run(|| 0));
        clock.advance(SECOND);
        // There is always another result, and still this one comes.
        for key in 0.. {
            set.insert(key, quick.run(|| 0));
            let (found, result) = set.next().unwrap();
            if found == usize::MAX {
                assert!(result.error().is_some_and(BulkheadError::is_timeout));
                break;
            }
        }
        busy.finish();
    });
}

// ---- many, and at once

#[test]
fn fifty_thousand_calls() {
    in_time(|| {
        let bulkhead = bulkhead(2, 50_000);
        let mut set: HandleSet<_, _, _> = (0..50_000_u64)
            .map(|key| (key, bulkhead.run(move || key)))
            .collect();
        let mut sum = 0;
        for (key, result) in &mut set {
            let value = result.into_result().unwrap();
            assert_eq!(key, value);
            sum += value;
        }
        assert_eq!(sum, 49_999 * 50_000 / 2);
        assert_balanced(&bulkhead.stats());
    });
}

#[test]
fn it_can_be_sent_to_another_thread() {
    in_time(|| {
        let bulkhead = bulkhead(1, 1);
        let (opener, handle) = at_a_gate(&bulkhead, 5);
        let mut set = HandleSet::new();
        set.insert((), handle);
        assert!(set.next_timeout(Duration::ZERO).is_none());
        let other = thread::spawn(move || set.next().map(|((), result)| result.into_result()));
        drop(opener);
        assert_eq!(other.join().unwrap().unwrap().unwrap(), 5);
    });
}

#[test]
fn a_panic_in_the_drop_of_a_result_harms_no_other() {
    in_time(|| {
        let bulkhead = bulkhead(1, 10);
        let mut set = HandleSet::new();
        set.insert(0, bulkhead.run(|| Some(Bomb)));
        set.insert(1, bulkhead.run(|| None));
        let (_, first) = set.next().unwrap();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(first)));
        assert!(dropped.is_err());
        assert!(set.next().unwrap().1.is_success());
    });
}

#[test]
fn a_panicking_task_is_one_of_the_results() {
    in_time(|| {
        let bulkhead = bulkhead(1, 2);
        let handles = (0..3).map(|n| bulkhead.run(move || assert_ne!(n, 1)));
        let panicked = as_completed(handles)
            .filter(|result| matches!(result.result, Err(BulkheadError::Panicked(_))))
            .count();
        assert_eq!(panicked, 1);
    });
}

#[test]
fn as_completed_knows_how_many_are_left() {
    in_time(|| {
        let bulkhead = bulkhead(2, 10);
        let handles: Vec<_> = (0..5).map(|n| bulkhead.run(move || n)).collect();
        let mut results = as_completed(handles);
        assert_eq!(results.len(), 5);
        assert!(results.next().is_some());
        assert_eq!(results.len(), 4);
        assert_eq!(results.count(), 4);
    });
}

// ---- shutdown

#[test]
fn a_shutdown_ends_the_wait() {
    in_time(|| {
        let bulkhead = Arc::new(bulkhead(1, 3));
        let busy = occupy(&bulkhead, 1);
        let mut set: HandleSet<_, _, _> = (0..3).map(|key| (key, bulkhead.run(|| ()))).collect();
        let other = Arc::clone(&bulkhead);
        let closing = thread::spawn(move || other.shutdown_now());
        for (_, result) in &mut set {
            assert!(matches!(
                result.result,
                Err(BulkheadError::Cancelled {
                    by_shutdown: true,
                    ..
                })
            ));
        }
        closing.join().unwrap();
        busy.finish();
    });
}

// ---- on a worker of the same bulkhead

#[test]
fn the_only_worker_runs_what_it_waits_for() {
    let values = on_a_worker(1, 3, |bulkhead| {
        let mut set: HandleSet<_, _, _> = (0..3)
            .map(|key| (key, bulkhead.run(move || key * 2)))
            .collect();
        let first = set.next_timeout(Duration::from_nanos(1)).expect("run here");
        let mut values = vec![(first.0, first.1.into_result().unwrap())];
        values.extend(set.map(|(key, result)| (key, result.into_result().unwrap())));
        values
    });
    assert_eq!(values, [(0, 0), (1, 2), (2, 4)], "the oldest first");
}

#[test]
fn a_set_that_moves_to_a_worker_is_helped_there() {
    in_time(|| {
        let bulkhead = bulkhead(1, 3);
        let (give, take) = mpsc::channel::<HandleSet<_, _, _>>();
        // It is the only worker, and the set's calls are queued behind it.
        let emptied = bulkhead.run(move || {
            let set = take.recv().unwrap();
            set.map(|(key, _)| key).collect::<Vec<_>>()
        });
        give.send((0..3).map(|key| (key, bulkhead.run(|| ()))).collect())
            .unwrap();
        assert_eq!(emptied.wait().into_result().unwrap(), [0, 1, 2]);
    });
}

#[test]
fn a_worker_waits_for_calls_of_another_bulkhead() {
    let value = on_a_worker(1, 0, |_| {
        let other = bulkhead(1, 1);
        let mut set = HandleSet::new();
        set.insert(1, other.run(|| 1));
        set.insert(2, other.run(|| 2));
        set.map(|(key, _)| key).sum::<i32>()
    });
    assert_eq!(value, 3);
}

#[test]
fn a_queued_call_that_is_too_late_is_not_run_by_its_waiting_worker() {
    on_a_worker(1, 3, |bulkhead| {
        let mut set = HandleSet::new();
        set.insert(
            "late",
            bulkhead.call().queue_timeout(Duration::ZERO).run(|| ()),
        );
        set.insert("good", bulkhead.run(|| ()));
        let results: Vec<_> = set
            .map(|(key, result)| (key, result.is_success()))
            .collect();
        assert_eq!(results.len(), 2);
        assert!(results.contains(&("late", false)));
        assert!(results.contains(&("good", true)));
    });
}
