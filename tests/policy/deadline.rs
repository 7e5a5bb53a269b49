//! One deadline for everything below.

use std::time::{Duration, Instant};

use bulkman::policy::{Deadline, remaining};
use bulkman::{
    Bulkhead, BulkheadConfig, BulkheadError, ContextVar, ManualClock, SemaphoreBulkhead,
};

use crate::support::{HOUR, SECOND, in_time, seconds, wait, with_clock};

#[test]
fn it_counts_down_to_zero() {
    let clock = ManualClock::new();
    let deadline = Deadline::after_on(clock.clone(), seconds(3));
    for (passed, left) in [(0, 3), (1, 2), (1, 1), (1, 0), (1, 0)] {
        clock.advance(seconds(passed));
        assert_eq!(deadline.remaining(), Some(seconds(left)));
        assert_eq!(deadline.is_over(), left == 0);
    }
}

#[test]
fn a_limit_beyond_the_clock_is_never() {
    let never = Deadline::after(Duration::MAX);
    assert_eq!(never.remaining(), None);
    assert!(!never.is_over());
    never.with(|| assert_eq!(remaining(), None));
    assert!(Deadline::at(Instant::now()).is_over());
}

#[test]
fn a_scope_has_it_and_gives_it_back() {
    let clock = ManualClock::new();
    let deadline = Deadline::after_on(clock.clone(), seconds(3));
    assert_eq!(remaining(), None);
    deadline.with(|| {
        assert_eq!(remaining(), Some(seconds(3)));
        assert!(Deadline::current().is_some());
        clock.advance(SECOND);
        assert_eq!(remaining(), Some(seconds(2)));
    });
    assert_eq!(remaining(), None);
    assert!(Deadline::current().is_none());
}

#[test]
fn an_inner_one_only_shortens() {
    let clock = ManualClock::new();
    let after = |limit| Deadline::after_on(clock.clone(), limit);
    for (outer, inner, expected) in [
        (Some(3), Some(5), Some(3)),
        (Some(5), Some(3), Some(3)),
        (Some(3), None, Some(3)),
        (None, Some(3), Some(3)),
        (None, None, None),
    ] {
        let limit = |n: Option<u64>| n.map_or(Duration::MAX, seconds);
        let seen = after(limit(outer)).with(|| after(limit(inner)).with(remaining));
        assert_eq!(seen, expected.map(seconds), "{outer:?} {inner:?}");
    }
}

#[test]
fn tasks_and_their_own_calls_have_it() {
    let clock = ManualClock::new();
    let deadline = Deadline::after_on(clock, seconds(3));
    let outer = Bulkhead::new(BulkheadConfig::new("outer")).unwrap();
    let inner = Bulkhead::new(BulkheadConfig::new("inner")).unwrap();
    let handle = deadline.with(|| outer.run(move || inner.run(remaining).wait().into_result()));
    let left = wait(handle).into_result().unwrap();
    assert_eq!(left.unwrap(), Some(seconds(3)));
    assert_eq!(wait(outer.run(remaining)).value(), Some(&None));
}

static REQUEST: ContextVar<u32> = ContextVar::new();

/// What a call has of its caller: the time left, the scope, and a value.
fn inherited() -> (Option<Duration>, bool, Option<u32>) {
    (remaining(), Deadline::current().is_some(), REQUEST.get())
}

#[test]
fn a_detached_call_of_a_task_leaves_it_behind() {
    let deadline = Deadline::after_on(ManualClock::new(), seconds(3));
    let outer = Bulkhead::new(BulkheadConfig::new("outer")).unwrap();
    let inner = Bulkhead::new(BulkheadConfig::new("inner")).unwrap();
    let here = SemaphoreBulkhead::new(BulkheadConfig::new("here")).unwrap();
    let task = move || {
        let on_a_worker = wait(inner.call().detached().run(inherited));
        let in_this_thread = here.call().detached().run(inherited);
        let detached = [
            on_a_worker.into_result().unwrap(),
            in_this_thread.into_result().unwrap(),
        ];
        (detached, inherited())
    };
    let handle = REQUEST.with(7, || deadline.with(|| outer.run(task)));
    let (detached, own) = wait(handle).into_result().unwrap();
    assert_eq!(detached, [(None, false, Some(7)); 2]);
    assert_eq!(own, (Some(seconds(3)), true, Some(7)), "the task's own");
}

#[test]
fn outside_of_tasks_a_detached_call_has_it() {
    let deadline = Deadline::after_on(ManualClock::new(), seconds(3));
    let bulkhead = Bulkhead::new(BulkheadConfig::new("outside")).unwrap();
    let handle = deadline.with(|| bulkhead.call().detached().run(remaining));
    assert_eq!(wait(handle).value(), Some(&Some(seconds(3))));
}

#[test]
fn the_callers_limit_of_the_running_call_counts_too() {
    let (bulkhead, clock) = with_clock(BulkheadConfig::new("limited"));
    let deadline = Deadline::after_on(clock, seconds(3));
    for (limit, expected) in [(2, 2), (4, 3)] {
        let call = bulkhead.call().timeout(seconds(limit));
        let handle = deadline.with(|| call.run(remaining));
        assert_eq!(wait(handle).value(), Some(&Some(seconds(expected))));
    }
}

#[test]
fn a_call_within_a_deadline_ends_with_it() {
    let (bulkhead, clock) = with_clock(BulkheadConfig::new("within").execution_timeout(HOUR));
    let limit = |deadline: &Deadline| {
        let handle = bulkhead
            .call()
            .within(deadline)
            .run(|| bulkman::current().and_then(|call| call.remaining()));
        wait(handle)
    };
    let two = Deadline::after_on(clock.clone(), seconds(2));
    assert_eq!(limit(&two).value(), Some(&Some(seconds(2))));
    let never = Deadline::after_on(clock.clone(), Duration::MAX);
    assert_eq!(
        limit(&never).value(),
        Some(&Some(HOUR)),
        "the configured one stays"
    );
    clock.advance(seconds(2));
    let over = limit(&two).into_result();
    assert!(matches!(
        over,
        Err(BulkheadError::Timeout { started: false, .. })
    ));
}

#[test]
fn it_serves_calls_in_their_callers_threads_too() {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(BulkheadConfig::new("here"))
        .clock(clock.clone())
        .build()
        .unwrap();
    let deadline = Deadline::after_on(clock, seconds(2));
    let left = bulkhead.call().within(&deadline).run(remaining);
    assert_eq!(left.value(), Some(&Some(seconds(2))));
}

#[test]
fn guards_can_be_dropped_in_any_order() {
    let clock = ManualClock::new();
    let enter = |n| Deadline::after_on(clock.clone(), seconds(n)).enter();
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut guards = [30, 20, 10].map(|n| Some(enter(n)));
        for dropped in order {
            guards[dropped] = None;
            let left = guards.iter().rposition(Option::is_some);
            let expected = left.map(|guard| seconds([30, 20, 10][guard]));
            assert_eq!(remaining(), expected, "{order:?}, {dropped}");
        }
    }
}

#[test]
fn it_is_gone_after_a_panic() {
    in_time(|| {
        let deadline = Deadline::after(SECOND);
        let panicked = std::panic::catch_unwind(|| deadline.with(|| panic!("inside")));
        assert!(panicked.is_err());
        assert_eq!(remaining(), None);
    });
}
