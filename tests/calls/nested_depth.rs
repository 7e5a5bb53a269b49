//! Nested waits end with a typed error long before a worker's stack does.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bulkman::{
    BuildError, Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, ExecutionResult,
    SemaphoreBulkhead,
};

use crate::support::{Gate, OpenOnDrop, Trace, assert_balanced, config, in_time, wait};

/// How many calls could be nested, and the error that the innermost task got.
type Depth = (usize, Option<BulkheadError<Infallible>>);

fn down(bulkhead: &Arc<Bulkhead>) -> Depth {
    let inner = Arc::clone(bulkhead);
    match bulkhead.run(move || down(&inner)).wait().into_result() {
        Ok((levels, error)) => (levels + 1, error),
        Err(error) => (0, Some(error)),
    }
}

/// The depth that a task of the bulkhead gets to.
fn depth(bulkhead: &Arc<Bulkhead>) -> Depth {
    let inner = Arc::clone(bulkhead);
    wait(bulkhead.run(move || down(&inner)))
        .into_result()
        .unwrap()
}

fn is_too_deep<T>(result: &ExecutionResult<T, Infallible>, limit: usize) -> bool {
    matches!(
        result.error(),
        Some(BulkheadError::TooDeep { max_nested_calls, .. }) if *max_nested_calls == limit
    )
}

#[test]
fn the_default_limit_holds_on_a_default_stack() {
    let bulkhead = Arc::new(Bulkhead::new(config(1, 500)).unwrap());
    let (levels, error) = in_time(move || depth(&bulkhead));
    assert_eq!(levels, 64);
    let error = error.unwrap();
    assert!(error.never_started() && error.is_rejected() && !error.is_timeout());
    assert_eq!(
        error.to_string(),
        "bulkhead `test` did not run a nested call: 64 calls wait for each other on this worker already"
    );
}

#[test]
fn each_level_has_room_for_a_task_of_its_own() {
    fn down(bulkhead: &Arc<Bulkhead>) -> usize {
        let inner = Arc::clone(bulkhead);
        let room = std::hint::black_box([1_u8; 8 << 10]);
        let below = bulkhead.run(move || down(&inner)).wait();
        below
            .value()
            .map_or(0, |levels| levels + usize::from(room[7]))
    }

    let bulkhead = Arc::new(Bulkhead::new(config(1, 500)).unwrap());
    let levels = in_time(move || {
        let inner = Arc::clone(&bulkhead);
        wait(bulkhead.run(move || down(&inner)))
            .into_result()
            .unwrap()
    });
    assert_eq!(levels, 64);
}

#[test]
fn the_limit_can_be_set_with_a_stack_to_match() {
    for (limit, bytes) in [(0, None), (1, None), (7, None), (1_000, Some(64 << 20))] {
        let mut config = config(1, 2_000).max_nested_calls(limit);
        config.stack_size = bytes;
        let bulkhead = Arc::new(Bulkhead::new(config).unwrap());
        let (levels, error) = in_time(move || depth(&bulkhead));
        assert_eq!(levels, limit);
        assert!(matches!(error, Some(BulkheadError::TooDeep { .. })));
    }
}

#[test]
fn places_run_out_before_the_limit_as_before() {
    let bulkhead = Arc::new(Bulkhead::new(config(1, 5)).unwrap());
    let (levels, error) = in_time(move || depth(&bulkhead));
    assert_eq!(levels, 5);
    assert!(matches!(error, Some(BulkheadError::Full { .. })));
}

#[test]
fn a_call_beyond_the_limit_leaves_nothing_behind_and_is_counted_and_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let bulkhead = Bulkhead::builder(config(1, 1).max_nested_calls(0))
        .listener({
            let told = Arc::clone(&told);
            move |event: &BulkheadEvent<'_>| {
                if let BulkheadEvent::TooDeep {
                    call,
                    max_nested_calls: 0,
                    ..
                } = event
                {
                    told.lock().unwrap().push(call.execution_id);
                }
            }
        })
        .build()
        .unwrap();
    let bulkhead = Arc::new(bulkhead);
    for _ in 0..3 {
        let (of_task, trace) = (Arc::clone(&bulkhead), Trace::default());
        let inside = trace.clone();
        let outer = bulkhead.run(move || {
            let handle = of_task.run(inside.task());
            let id = handle.execution_id();
            let result = handle.wait();
            assert_eq!(of_task.available_capacity(), 1, "its place is free");
            (result, id)
        });
        let (result, id) = wait(outer).into_result().unwrap();
        assert!(is_too_deep(&result, 0));
        assert!(!trace.ran() && trace.is_dropped());
        assert_eq!(told.lock().unwrap().pop(), Some(id));
    }
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!(stats.refused_in_queue_executions, 3);
    assert_eq!((stats.successful_executions, stats.in_flight), (3, 0));
}

#[test]
fn every_way_to_wait_meets_the_limit() {
    let bulkhead = Arc::new(Bulkhead::new(config(1, 4).max_nested_calls(0)).unwrap());
    let of_task = Arc::clone(&bulkhead);
    let results = bulkhead.run(move || {
        let timed = of_task.run(|| ()).wait_timeout(std::time::Duration::MAX);
        [
            of_task.run(|| ()).wait(),
            timed.expect("it has ended"),
            pollster::block_on(of_task.run(|| ())),
            of_task.run(|| ()).cancel_on_drop().wait(),
        ]
    });
    for result in in_time(|| wait(results)).into_result().unwrap() {
        assert!(is_too_deep(&result, 0));
    }
}

#[test]
fn a_call_that_nobody_waits_for_there_is_not_concerned() {
    let bulkhead = Arc::new(Bulkhead::new(config(1, 2).max_nested_calls(0)).unwrap());
    let of_task = Arc::clone(&bulkhead);
    let handle = wait(bulkhead.run(move || of_task.run(|| "ran")));
    assert_eq!(wait(handle.into_result().unwrap()).value(), Some(&"ran"));
}

#[test]
fn a_call_that_another_worker_has_begun_is_waited_for() {
    let bulkhead = Arc::new(Bulkhead::new(config(2, 2).max_nested_calls(0)).unwrap());
    let of_task = Arc::clone(&bulkhead);
    let outer = bulkhead.run(move || {
        let gate = Gate::new();
        let opener = OpenOnDrop(gate.clone());
        let at_gate = gate.clone();
        let inner = of_task.run(move || {
            at_gate.pass();
            "ran elsewhere"
        });
        gate.wait_for_arrivals(1);
        drop(opener);
        inner.wait()
    });
    let result = in_time(|| wait(outer)).into_result().unwrap();
    assert_eq!(result.value(), Some(&"ran elsewhere"));
}

#[test]
fn after_a_deep_call_the_worker_starts_anew() {
    let bulkhead = Arc::new(Bulkhead::new(config(1, 20).max_nested_calls(3)).unwrap());
    for _ in 0..3 {
        let bulkhead = Arc::clone(&bulkhead);
        assert_eq!(in_time(move || depth(&bulkhead)).0, 3);
    }
    let of_task = Arc::clone(&bulkhead);
    let panics = bulkhead.run(move || {
        let inner: ExecutionResult<(), _> = of_task.run(|| panic!("inner")).wait();
        assert!(!inner.is_success());
        down(&of_task).0
    });
    assert_eq!(wait(panics).value(), Some(&3));
}

#[test]
fn calls_of_a_semaphore_have_no_such_limit() {
    fn down(semaphore: &SemaphoreBulkhead, levels: u32) -> u32 {
        if levels == 0 {
            return 0;
        }
        let result = semaphore.run(|| down(semaphore, levels - 1));
        result.into_result().expect("there is a place for each") + 1
    }

    let semaphore = SemaphoreBulkhead::new(config(1, 200).max_nested_calls(0)).unwrap();
    assert_eq!(down(&semaphore, 100), 100);
}

// ---- the stack itself

/// Uses so many kilobytes of the stack.
fn dig(kilobytes: usize) -> usize {
    let here = std::hint::black_box([1_u8; 1024]);
    if kilobytes == 0 {
        0
    } else {
        dig(kilobytes - 1) + usize::from(here[500])
    }
}

#[test]
fn workers_have_the_stack_that_was_asked_for() {
    let bulkhead = Bulkhead::new(config(2, 2).stack_size(32 << 20)).unwrap();
    assert_eq!(
        wait(bulkhead.run(|| dig(8 << 10))).value(),
        Some(&(8 << 10))
    );
}

#[test]
fn the_smallest_stack_is_enough_for_a_small_task() {
    let bulkhead = Bulkhead::new(config(1, 2).stack_size(BulkheadConfig::MIN_STACK_SIZE)).unwrap();
    let text = wait(bulkhead.run(|| format!("{:?}", std::thread::current().name())));
    assert!(text.value().unwrap().contains("bulkman-test-0"));
    let panics: ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("in a small stack")));
    assert!(matches!(panics.error(), Some(BulkheadError::Panicked(_))));
}

#[test]
fn a_stack_that_is_too_small_or_too_large_is_an_error_before_any_thread_starts() {
    for bytes in [0, 1, (64 << 10) - 1, (1 << 30) + 1, usize::MAX] {
        let config = config(1, 1).stack_size(bytes);
        for error in [
            Bulkhead::new(config.clone()).map(drop).unwrap_err(),
            SemaphoreBulkhead::new(config.clone())
                .map(drop)
                .unwrap_err(),
            config.validate().unwrap_err(),
        ] {
            match error {
                BuildError::InvalidValue { field, value, .. } => {
                    assert_eq!((field, value), ("stack_size", bytes.to_string()));
                }
                other => panic!("{other}"),
            }
        }
    }
    assert!(config(1, 1).stack_size(1 << 30).validate().is_ok());
}
