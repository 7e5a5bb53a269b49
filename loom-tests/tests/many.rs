//! A thread that waits for several calls, against their ends, limits and cancels; and a call for each item of an iterator.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkman::model::advance;
use bulkman::{Bulkhead, BulkheadError, HandleSet, Waitable, wait_all, wait_any};
use loom::thread;
use support::{assert_balanced, bulkhead, config, explore, explore_deep};

const LIMIT: Duration = Duration::from_secs(1);

/// G2: each call ends just before, while or after the waiting thread looks. No wake-up is lost and no result comes twice.
#[test]
fn two_calls_of_one_worker_against_their_set() {
    explore("a set of two", 2, || {
        let bulkhead = bulkhead(1, 1);
        let mut set = HandleSet::new();
        set.insert(1, bulkhead.run(|| 1));
        set.insert(2, bulkhead.run(|| 2));
        let mut keys = Vec::new();
        for (key, result) in &mut set {
            assert_eq!(result.into_result().expect("it ran"), key);
            keys.push(key);
        }
        keys.sort_unstable();
        assert_eq!(keys, [1, 2]);
        assert_balanced(&bulkhead.stats());
    });
}

/// G2: the calls of two workers end at the same time.
#[test]
fn two_calls_of_two_bulkheads_against_their_set() {
    explore("a set of two bulkheads", 1, || {
        let (one, other) = (bulkhead(1, 0), bulkhead(1, 0));
        let mut set = HandleSet::new();
        set.insert(1, one.run(|| ()));
        set.insert(2, other.run(|| ()));
        assert_eq!(set.by_ref().map(|(key, _)| key).sum::<i32>(), 3);
        assert!(set.is_empty());
    });
}

/// G2, G4: the task ends, or its caller's limit passes. The set gives one of them, and the wake-up after that is for
/// nobody.
#[test]
fn the_end_of_a_call_in_a_set_against_its_limit() {
    explore("a set with a limit", 2, || {
        let bulkhead = bulkhead(1, 1);
        let mut set = HandleSet::new();
        let task = || advance(LIMIT);
        set.insert("limited", bulkhead.call().timeout(LIMIT).run(task));
        set.insert("endless", bulkhead.run(|| ()));
        let mut results: Vec<_> = set.by_ref().collect();
        assert!(set.next_timeout(Duration::ZERO).is_none());
        results.sort_unstable_by_key(|(key, _)| *key);
        assert!(results[0].1.is_success());
        match results[1].1.error() {
            None | Some(BulkheadError::Timeout { .. }) => {}
            Some(other) => panic!("{other}"),
        }
        assert!(bulkhead.shutdown().is_clean());
        assert_balanced(&bulkhead.stats());
    });
}

/// G5: a queued call expires before the eyes of the set, or the worker takes it.
#[test]
fn a_queued_call_in_a_set_against_its_queue_timeout() {
    explore("a set with a queue timeout", 1, || {
        let bulkhead = Bulkhead::new(config(1, 1).queue_timeout(LIMIT)).unwrap();
        drop(bulkhead.run(|| ()));
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        let mut set = HandleSet::new();
        set.insert(
            (),
            bulkhead.run(move || flag.store(true, Ordering::Relaxed)),
        );
        let time = thread::spawn(|| advance(LIMIT));
        let ((), result) = set.next().expect("one call");
        assert_eq!(result.is_success(), ran.load(Ordering::Relaxed));
        time.join().unwrap();
    });
}

/// G2, G8: a shutdown cancels what the set waits for, in another thread.
#[test]
fn a_set_against_a_shutdown() {
    explore("a set against shutdown", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let mut set = HandleSet::new();
        set.insert((), bulkhead.run(|| ()));
        let other = Arc::clone(&bulkhead);
        let closing = thread::spawn(move || drop(other.shutdown_now()));
        assert_eq!(set.by_ref().count(), 1);
        closing.join().unwrap();
        assert!(bulkhead.shutdown().is_clean());
        assert_balanced(&bulkhead.stats());
    });
}

/// G2: the handle that is left keeps its result, and the waker of the first wait is no harm to the second.
#[test]
fn any_and_then_the_other() {
    explore("wait for any", 1, || {
        let (one, other) = (bulkhead(1, 0), bulkhead(1, 0));
        let (mut text, mut number) = (one.run(|| "text"), other.run(|| 7));
        let both: [&mut dyn Waitable; 2] = [&mut text, &mut number];
        match wait_any(both) {
            Some(0) => {
                assert!(text.is_finished());
                assert_eq!(wait_any([&mut number]), Some(0));
            }
            Some(1) => assert!(number.is_finished()),
            found => panic!("{found:?}"),
        }
        assert_eq!(text.wait().value(), Some(&"text"));
        assert_eq!(number.wait().value(), Some(&7));
    });
}

/// G2: all of them, one of which ends at its limit.
#[test]
fn all_against_a_limit() {
    explore_deep("wait for all", 2, || {
        let bulkhead = bulkhead(1, 1);
        let mut handles = [
            bulkhead.run(|| advance(LIMIT)),
            bulkhead.call().timeout(LIMIT).run(|| ()),
        ];
        wait_all(&mut handles);
        let [first, second] = handles;
        assert!(first.wait().is_success());
        match second.wait().error() {
            None | Some(BulkheadError::Timeout { .. }) => {}
            Some(other) => panic!("{other}"),
        }
    });
}

/// G9: a worker waits for a set of its own bulkhead, whose call the other worker may take.
#[test]
fn a_worker_helps_its_set_while_another_takes_the_call() {
    explore("a nested set", 1, || {
        let bulkhead = Arc::new(bulkhead(2, 0));
        let inside = Arc::clone(&bulkhead);
        let outer = bulkhead.run(move || {
            let mut set = HandleSet::new();
            set.insert(3, inside.run(|| ()));
            set.map(|(key, _)| key).sum::<i32>()
        });
        assert_eq!(outer.wait().into_result().expect("no deadlock"), 3);
        assert_balanced(&bulkhead.stats());
    });
}

/// G1, G2: another caller takes the only place before or after, and the item is run, and not refused.
#[test]
fn items_against_another_caller() {
    explore("items for one place", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let calling = thread::spawn(move || {
            let call = other.call().wait_for_capacity(Duration::MAX).run(|| ());
            assert!(call.wait().is_success());
        });
        let mut results = bulkhead.run_map([7], |n| n);
        let result = results.next().expect("one item");
        assert_eq!(result.into_result().expect("never refused"), 7);
        assert!(results.next().is_none());
        calling.join().unwrap();
        assert_eq!(bulkhead.stats().rejected_executions, 0);
        assert_eq!(bulkhead.available_capacity(), 1);
    });
}

/// G8: items against a shutdown: each has a result, and none waits for ever.
#[test]
fn items_against_a_shutdown() {
    explore("items against shutdown", 1, || {
        let bulkhead = Arc::new(bulkhead(1, 0));
        let other = Arc::clone(&bulkhead);
        let closing = thread::spawn(move || assert!(other.shutdown().is_clean()));
        let results: Vec<_> = bulkhead.run_map(1..3, |n| n).collect();
        assert_eq!(results.len(), 2);
        for result in results {
            assert!(result.is_success() || result.error().is_some_and(|e| e.is_rejected()));
        }
        closing.join().unwrap();
    });
}
