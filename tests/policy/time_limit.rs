//! Calls that are waited for no longer than a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkman::policy::{Deadline, TimeoutManager, remaining};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, ManualClock};

use crate::helpers::millis;
use crate::support::{Gate, HOUR, OpenOnDrop, Over, eventually, in_time, seconds, with_clock};

fn manager(workers: usize, queue: usize) -> (TimeoutManager, Arc<Bulkhead>, ManualClock) {
    let config = BulkheadConfig::new("limited")
        .max_concurrent_calls(workers)
        .max_queue_size(queue);
    let (bulkhead, clock) = with_clock(config);
    (TimeoutManager::new(Arc::clone(&bulkhead)), bulkhead, clock)
}

/// A task that tells what is left to it.
fn left() -> Result<Option<Duration>, String> {
    Ok(remaining())
}

#[test]
fn a_call_in_time_gives_its_value() {
    let (manager, _, _) = manager(1, 0);
    let result = manager.wait_for(seconds(5), left);
    assert_eq!(result.value(), Some(&Some(seconds(5))));
    let failed = manager.wait_for(seconds(5), || Err::<(), _>("its own"));
    assert_eq!(failed.error().unwrap().failed(), Some(&"its own"));
}

#[test]
fn a_call_that_takes_too_long_is_left() {
    let (manager, _bulkhead, clock) = manager(1, 0);
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let result = in_time(move || {
        manager.wait_for(seconds(5), move || {
            clock.advance(seconds(5));
            gate.pass();
            Ok::<_, String>(())
        })
    });
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Timeout { started: true, .. })
    ));
}

#[test]
fn a_short_limit_passes_while_a_call_with_a_longer_one_runs() {
    let (manager, bulkhead, clock) = manager(2, 0);
    let watched = Arc::clone(&bulkhead);
    let patient = move || {
        let other_is_left_and_over = || {
            let stats = watched.stats();
            (stats.caller_timeouts_started, stats.active_tasks) == (1, 1)
        };
        eventually("the other ends", other_is_left_and_over);
        Ok::<_, String>(1)
    };
    let watched = Arc::clone(&bulkhead);
    let late = move || {
        clock.advance(seconds(2));
        let its_caller_left = || watched.stats().caller_timeouts_started == 1;
        eventually("its caller leaves", its_caller_left);
        Ok(2)
    };
    type Task = Box<dyn FnOnce() -> Result<u32, String> + Send>;
    let calls: [(Duration, Task); 2] = [(HOUR, Box::new(patient)), (seconds(1), Box::new(late))];
    let results = in_time(move || manager.gather(calls));
    assert_eq!(results[0].value(), Some(&1));
    assert!(matches!(
        results[1].error(),
        Some(BulkheadError::Timeout { started: true, .. })
    ));
}

#[test]
fn the_limit_counts_for_the_wait_for_a_place_too() {
    let (manager, bulkhead, clock) = manager(1, 0);
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let at_the_gate = gate.clone();
    drop(bulkhead.run(move || at_the_gate.pass()));
    gate.wait_for_arrivals(1);
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            // The clock goes on while the call waits for a place.
            while !over.load(Ordering::Relaxed) {
                clock.advance(millis(100));
                std::thread::yield_now();
            }
        });
        in_time(move || manager.wait_for(seconds(5), left))
    });
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Full {
            waited: Some(_),
            ..
        })
    ));
}

#[test]
fn the_earliest_limit_counts() {
    for (around, own, expected) in [(3, 5, 3), (9, 5, 5), (9, 99, 9), (99, 99, 10)] {
        let (bulkhead, clock) =
            with_clock(BulkheadConfig::new("limits").execution_timeout(seconds(10)));
        let manager = TimeoutManager::new(bulkhead);
        let deadline = Deadline::after_on(clock, seconds(around));
        let result = deadline.with(|| manager.wait_for(seconds(own), left));
        assert_eq!(
            result.value(),
            Some(&Some(seconds(expected))),
            "{around} {own}"
        );
    }
}

#[test]
fn results_are_in_the_order_of_the_calls() {
    let (manager, _, _) = manager(2, 1);
    let limits = [9, 3, 7, 3, 1, 8, 2, 5, 4, 6];
    let results = in_time(move || {
        let calls = limits.iter().enumerate();
        manager.gather(calls.map(|(n, limit)| {
            let task = move || Ok::<_, String>((n, remaining()));
            (seconds(*limit), task)
        }))
    });
    assert_eq!(results.len(), 10, "with three places");
    for (n, result) in results.into_iter().enumerate() {
        let expected = (n, Some(seconds(limits[n])));
        assert_eq!(result.into_result().unwrap(), expected);
    }
}

#[test]
fn one_that_fails_leaves_the_others_alone() {
    let (manager, _bulkhead, clock) = manager(4, 0);
    let gate = Gate::new();
    let open = OpenOnDrop(gate.clone());
    type Task = Box<dyn FnOnce() -> Result<u32, String> + Send>;
    let calls: Vec<(Duration, Task)> = vec![
        (HOUR, Box::new(|| Ok(1))),
        (HOUR, Box::new(|| Err("its own".into()))),
        (HOUR, Box::new(|| panic!("a task"))),
        (
            seconds(1),
            Box::new(move || {
                clock.advance(seconds(1));
                gate.pass();
                Ok(4)
            }),
        ),
    ];
    let results = in_time(move || manager.gather(calls));
    drop(open);
    assert_eq!(results[0].value(), Some(&1));
    assert!(matches!(results[1].error(), Some(BulkheadError::Failed(_))));
    assert!(matches!(
        results[2].error(),
        Some(BulkheadError::Panicked(_))
    ));
    assert!(matches!(
        results[3].error(),
        Some(BulkheadError::Timeout { .. })
    ));
}

#[test]
fn no_calls_give_no_results() {
    let (manager, _, _) = manager(1, 0);
    let none = Vec::<(Duration, fn() -> Result<(), String>)>::new();
    assert!(manager.gather(none).is_empty());
}

#[test]
fn a_task_gathers_on_its_own_bulkhead() {
    let (manager, bulkhead, _) = manager(1, 4);
    let inner = manager.clone();
    let sum = in_time(move || {
        bulkhead
            .run(move || {
                let results = inner.gather((0..4).map(|n| (HOUR, move || Ok::<_, String>(n))));
                results
                    .into_iter()
                    .filter_map(|r| r.into_result().ok())
                    .sum::<u32>()
            })
            .wait()
    });
    assert_eq!(sum.value(), Some(&6));
    drop(manager);
}

#[test]
fn limits_of_zero_and_of_ever() {
    let (manager, _, _) = manager(1, 1);
    let result = manager.wait_for(Duration::MAX, left);
    assert_eq!(result.value(), Some(&None));
    let result = manager.wait_for(Duration::ZERO, left);
    assert!(result.error().is_some_and(BulkheadError::never_started));
}
