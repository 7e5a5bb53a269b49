//! Health: who asks gets an answer, by thresholds, and with honest times however rarely the question comes.

use std::sync::Arc;
use std::time::Duration;

use bulkman::{
    AnyBulkhead, BuildError, Bulkhead, BulkheadConfig, BulkheadRegistry, BulkheadState,
    CircuitBreakerConfig, CommonBulkhead, HealthReason, HealthThresholds, ManualClock,
    SemaphoreBulkhead,
};

use crate::support::{
    HOUR, PATIENCE, SECOND, at_a_gate, config, eventually, occupy, rules, seconds, wait,
};

fn with(config: BulkheadConfig, thresholds: HealthThresholds) -> (Bulkhead, ManualClock) {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder(config)
        .clock(clock.clone())
        .health_thresholds(thresholds)
        .build()
        .unwrap();
    (bulkhead, clock)
}

fn thresholds() -> HealthThresholds {
    HealthThresholds::default()
}

/// What is wrong, in words.
fn words(bulkhead: &impl CommonBulkhead) -> Vec<String> {
    let health = bulkhead.health();
    assert_eq!(health.is_healthy(), health.reasons.is_empty());
    health.reasons.iter().map(ToString::to_string).collect()
}

fn healthy(bulkhead: &impl CommonBulkhead) {
    assert_eq!(words(bulkhead), [""; 0]);
}

#[test]
fn without_thresholds_the_state_decides() {
    let circuit = rules(1, 1, seconds(30));
    let (bulkhead, clock) = with(config(1, 0).circuit_breaker(circuit), thresholds());
    let busy = occupy(&bulkhead, 1);
    assert!(bulkhead.try_run(|| ()).is_err());
    clock.advance(HOUR);
    healthy(&bulkhead);
    bulkhead.circuit_breaker().unwrap().trip();
    assert_eq!(bulkhead.health().reasons, [HealthReason::CircuitOpen]);
    assert_eq!(
        bulkhead.health().to_string(),
        "bulkhead `test` is unhealthy: its circuit is open"
    );
    clock.advance(seconds(30));
    assert_eq!(bulkhead.health().state, BulkheadState::Degraded);
    healthy(&bulkhead);
    busy.finish();
    bulkhead.shutdown();
    assert_eq!(words(&bulkhead), ["it is shut down"]);
}

#[test]
fn a_half_open_circuit_can_be_unhealthy_too() {
    let circuit = rules(1, 1, seconds(30));
    let (bulkhead, clock) = with(
        config(1, 0).circuit_breaker(circuit),
        thresholds().closed_circuit(true),
    );
    bulkhead.circuit_breaker().unwrap().trip();
    clock.advance(seconds(30));
    assert_eq!(words(&bulkhead), ["its circuit is half-open"]);
    bulkhead.circuit_breaker().unwrap().reset();
    healthy(&bulkhead);
}

#[test]
fn one_ask_knows_how_long_the_bulkhead_has_been_full() {
    let (bulkhead, clock) = with(config(1, 2), thresholds().saturated_for(seconds(10)));
    let busy = occupy(&bulkhead, 1);
    let queued = [bulkhead.run(|| ()), bulkhead.run(|| ())];
    clock.advance(HOUR);
    assert!(bulkhead.try_run(|| ()).is_err());
    clock.advance(seconds(9));
    healthy(&bulkhead);
    clock.advance(SECOND);
    assert_eq!(words(&bulkhead), ["it has been full for 10.0s"]);
    assert!(queued[0].cancel());
    assert_eq!(words(&bulkhead).len(), 1, "two of three places are taken");
    assert!(queued[1].cancel());
    healthy(&bulkhead);
    busy.finish();
}

#[test]
fn a_queue_is_long_from_the_first_ask_that_sees_it_until_it_is_half_as_long() {
    let long = thresholds().queue_utilization(0.8, seconds(10));
    // The queue is no longer than N, so a saturation says nothing about it.
    let (bulkhead, clock) = with(config(5, 5), long);
    let busy = occupy(&bulkhead, 5);
    let mut queued: Vec<_> = (0..4).map(|_| bulkhead.run(|| ())).collect();
    clock.advance(HOUR);
    healthy(&bulkhead);
    clock.advance(seconds(9));
    healthy(&bulkhead);
    clock.advance(SECOND);
    let reason = "calls are in its queue of 5, which has been long for 10.0s";
    assert_eq!(words(&bulkhead), [format!("4 {reason}")]);
    assert!(queued.pop().unwrap().cancel());
    assert_eq!(words(&bulkhead), [format!("3 {reason}")], "it hovers");
    assert!(queued.pop().unwrap().cancel());
    healthy(&bulkhead);
    queued.extend((0..2).map(|_| bulkhead.run(|| ())));
    healthy(&bulkhead);
    clock.advance(seconds(10));
    assert_eq!(words(&bulkhead), [format!("4 {reason}")]);
    busy.finish();
}

#[test]
fn of_a_full_queue_one_ask_knows_how_long_it_has_been_long() {
    let long = thresholds().queue_utilization(0.75, seconds(10));
    let (bulkhead, clock) = with(config(1, 4), long);
    let busy = occupy(&bulkhead, 1);
    let queued: Vec<_> = (0..4).map(|_| bulkhead.run(|| ())).collect();
    assert!(bulkhead.try_run(|| ()).is_err());
    clock.advance(seconds(60));
    assert!(queued[0].cancel());
    assert_eq!(
        words(&bulkhead),
        ["3 calls are in its queue of 4, which has been long for 60.0s"]
    );
    busy.finish();
}

#[test]
fn a_queue_that_is_no_longer_than_n_may_have_been_short_in_a_saturation() {
    let long = thresholds().queue_utilization(0.8, seconds(10));
    let (bulkhead, clock) = with(config(5, 5), long);
    let busy = occupy(&bulkhead, 5);
    let mut queued: Vec<_> = (0..5).map(|_| bulkhead.run(|| ())).collect();
    assert!(bulkhead.try_run(|| ()).is_err());
    queued
        .drain(1..)
        .for_each(|handle| assert!(handle.cancel()));
    clock.advance(HOUR);
    queued.extend((0..3).map(|_| bulkhead.run(|| ())));
    healthy(&bulkhead);
    busy.finish();
}

#[test]
fn a_time_of_zero_means_the_moment_and_no_queue_is_never_long() {
    let at_once = thresholds().queue_utilization(1.0, Duration::ZERO);
    let (bulkhead, _clock) = with(config(1, 1), at_once.clone());
    let busy = occupy(&bulkhead, 1);
    healthy(&bulkhead);
    let queued = bulkhead.run(|| ());
    assert_eq!(words(&bulkhead).len(), 1);
    assert!(queued.cancel());
    healthy(&bulkhead);
    busy.finish();
    let (bulkhead, _clock) = with(config(1, 0), at_once);
    let busy = occupy(&bulkhead, 1);
    healthy(&bulkhead);
    busy.finish();
}

#[test]
fn one_ask_knows_how_long_the_oldest_call_has_waited() {
    let (bulkhead, clock) = with(config(1, 2), thresholds().queued_for(seconds(5)));
    let busy = occupy(&bulkhead, 1);
    clock.advance(HOUR);
    healthy(&bulkhead);
    let first = bulkhead.run(|| ());
    clock.advance(seconds(4));
    let _second = bulkhead.run(|| ());
    clock.advance(SECOND);
    assert_eq!(words(&bulkhead), ["a call has been queued for 5.0s"]);
    assert!(first.cancel());
    healthy(&bulkhead);
    busy.finish();
}

#[test]
fn all_workers_are_busy_for_as_long_as_the_youngest_task() {
    let (bulkhead, clock) = with(config(2, 0), thresholds().all_busy_for(seconds(30)));
    let (first, ends) = at_a_gate(&bulkhead, ());
    eventually("it runs", || ends.is_started());
    clock.advance(HOUR);
    healthy(&bulkhead);
    let (_second, goes_on) = at_a_gate(&bulkhead, ());
    eventually("it runs", || goes_on.is_started());
    clock.advance(seconds(29));
    healthy(&bulkhead);
    clock.advance(SECOND);
    assert_eq!(
        words(&bulkhead),
        ["all 2 tasks that it can run have been running for 30.0s or longer"]
    );
    drop(first);
    assert!(wait(ends).is_success());
    healthy(&bulkhead);
}

#[test]
fn abandoned_tasks_are_counted() {
    let (bulkhead, clock) = with(config(2, 0), thresholds().abandoned_tasks(2));
    let busy = occupy(&bulkhead, 2);
    let gate = busy.gate.clone();
    let mut handles = busy.handles;
    drop(handles.pop());
    healthy(&bulkhead);
    drop(handles);
    clock.advance(seconds(7));
    assert_eq!(
        words(&bulkhead),
        ["2 tasks run although their callers have left, the oldest for 7.0s"]
    );
    gate.open();
    assert!(bulkhead.wait_idle(PATIENCE));
    healthy(&bulkhead);
}

fn refuse(bulkhead: &Bulkhead, n: usize) {
    (0..n).for_each(|_| assert!(bulkhead.try_run(|| ()).is_err()));
}

#[test]
fn a_rejection_rate_is_that_of_the_window_or_of_the_time_since_the_ask_before() {
    let rate = thresholds().rejection_rate(0.5, seconds(60));
    let (bulkhead, clock) = with(config(1, 9), rate);
    let busy = occupy(&bulkhead, 1);
    let mut queued: Vec<_> = (0..9).map(|_| bulkhead.run(|| ())).collect();
    refuse(&bulkhead, 9);
    clock.advance(seconds(60));
    healthy(&bulkhead);
    // Ten minutes later: what was before the last ask counts no more.
    clock.advance(seconds(600));
    refuse(&bulkhead, 9);
    healthy(&bulkhead); // fewer than ten calls say nothing
    refuse(&bulkhead, 10);
    clock.advance(seconds(600));
    assert_eq!(words(&bulkhead), ["10 of 10 calls were refused in 600.0s"]);
    clock.advance(seconds(60));
    healthy(&bulkhead);
    queued.clear();
    busy.finish();
}

#[test]
fn an_ask_each_second_does_not_make_the_window_shorter() {
    let rate = thresholds().rejection_rate(1.0, seconds(60));
    let (bulkhead, clock) = with(config(1, 0), rate);
    let busy = occupy(&bulkhead, 1);
    clock.advance(HOUR);
    healthy(&bulkhead);
    refuse(&bulkhead, 20);
    let mut unhealthy = 0;
    for _ in 0..300 {
        clock.advance(SECOND);
        unhealthy += usize::from(!bulkhead.health().is_healthy());
    }
    assert!((60..=120).contains(&unhealthy), "{unhealthy} s");
    busy.finish();
}

#[test]
fn being_shut_down_is_no_rejection() {
    let rate = thresholds().rejection_rate(0.1, seconds(1));
    let (bulkhead, _clock) = with(config(1, 0), rate);
    bulkhead.close();
    refuse(&bulkhead, 50);
    assert_eq!(bulkhead.health().reasons, [HealthReason::ShutDown]);
}

#[test]
fn several_reasons_are_all_told() {
    let (bulkhead, clock) = with(
        config(1, 1).circuit_breaker(CircuitBreakerConfig::default()),
        thresholds()
            .all_busy_for(SECOND)
            .queued_for(SECOND)
            .abandoned_tasks(1),
    );
    let busy = occupy(&bulkhead, 1);
    let gate = busy.gate.clone();
    drop(busy.handles);
    let _queued = bulkhead.run(|| ());
    clock.advance(seconds(2));
    assert_eq!(
        bulkhead.health().to_string(),
        "bulkhead `test` is unhealthy: a call has been queued for 2.0s; all 1 tasks that it can run have been running \
         for 2.0s or longer; 1 tasks run although their callers have left, the oldest for 2.0s"
    );
    gate.open();
}

#[test]
fn a_bulkhead_without_threads_has_the_same_thresholds() {
    let clock = ManualClock::new();
    let bulkhead = SemaphoreBulkhead::builder(config(1, 0))
        .clock(clock.clone())
        .health_thresholds(thresholds().all_busy_for(SECOND).saturated_for(SECOND))
        .build()
        .unwrap();
    let bulkhead = Arc::new(bulkhead);
    let guard = bulkhead.acquire().unwrap();
    let inside = Arc::clone(&bulkhead);
    let refused = std::thread::spawn(move || inside.run(|| ()).error().is_some());
    assert!(refused.join().unwrap());
    clock.advance(SECOND);
    let any = AnyBulkhead::from(Arc::clone(&bulkhead));
    assert_eq!(words(&any).len(), 2);
    assert_eq!(any.health(), bulkhead.health());
    guard.success();
    healthy(&bulkhead);
}

#[test]
fn a_registry_says_why() {
    let registry = BulkheadRegistry::new();
    let clock = ManualClock::new();
    let circuit = CircuitBreakerConfig::default();
    let named = |name: &str| BulkheadConfig::new(name).max_concurrent_calls(1);
    registry.create(named("cache")).unwrap();
    let database = Bulkhead::builder(named("database").circuit_breaker(circuit))
        .clock(clock.clone())
        .health_thresholds(thresholds().all_busy_for(SECOND));
    let database = registry.create(database).unwrap();
    assert!(registry.health().is_healthy());
    let busy = occupy(&database, 1);
    clock.advance(SECOND);
    let health = registry.health();
    assert!(!health.is_healthy());
    let unhealthy: Vec<_> = health.unhealthy().collect();
    assert_eq!(unhealthy, [("database", BulkheadState::Healthy)]);
    assert_eq!(health.reasons["database"].len(), 1);
    let busy_words = "all 1 tasks that it can run have been running for 1.0s or longer";
    assert_eq!(
        health.to_string(),
        format!("1 of 2 bulkheads are healthy: `database` is unhealthy ({busy_words})")
    );
    database.circuit_breaker().unwrap().trip();
    assert_eq!(
        registry.health().to_string(),
        format!("1 of 2 bulkheads are healthy: `database` is isolated ({busy_words})")
    );
    busy.finish();
}

#[test]
fn thresholds_that_are_always_or_never_reached_are_errors() {
    let long = SECOND;
    for (field, bad) in [
        (
            "queue_utilization",
            thresholds().queue_utilization(0.0, long),
        ),
        (
            "queue_utilization",
            thresholds().queue_utilization(-0.5, long),
        ),
        (
            "queue_utilization",
            thresholds().queue_utilization(1.01, long),
        ),
        (
            "queue_utilization",
            thresholds().queue_utilization(f64::NAN, long),
        ),
        (
            "queue_utilization",
            thresholds().queue_utilization(f64::INFINITY, long),
        ),
        ("rejection_rate", thresholds().rejection_rate(0.0, long)),
        ("rejection_rate", thresholds().rejection_rate(80.0, long)),
        (
            "rejection_rate",
            thresholds().rejection_rate(0.5, Duration::ZERO),
        ),
        ("abandoned_tasks", thresholds().abandoned_tasks(0)),
    ] {
        assert!(bad.validate().is_err(), "{bad:?}");
        let built = Bulkhead::builder(config(1, 1)).health_thresholds(bad.clone());
        let Err(BuildError::InvalidValue {
            name, field: named, ..
        }) = built.build()
        else {
            panic!("built with {bad:?}");
        };
        assert_eq!((named, name.as_deref()), (field, Some("test")));
        let built = SemaphoreBulkhead::builder(config(1, 1)).health_thresholds(bad);
        assert!(built.build().is_err());
    }
    for good in [
        thresholds().queue_utilization(1.0, Duration::MAX),
        thresholds().rejection_rate(f64::MIN_POSITIVE, Duration::MAX),
        thresholds().abandoned_tasks(u64::MAX),
        thresholds()
            .all_busy_for(Duration::MAX)
            .queued_for(Duration::ZERO),
    ] {
        let (bulkhead, _clock) = with(config(1, 1), good);
        healthy(&bulkhead);
    }
}

#[test]
fn other_thresholds_hold_from_the_next_ask_on() {
    let clock = ManualClock::new();
    let semaphore = SemaphoreBulkhead::builder(config(1, 0)).clock(clock.clone());
    let semaphore = Arc::new(semaphore.build().unwrap());
    let guard = semaphore.acquire().unwrap();
    let (pool, pool_clock) = with(config(1, 0), thresholds());
    let pool = Arc::new(pool);
    let busy = occupy(&pool, 1);
    for clock in [&clock, &pool_clock] {
        clock.advance(SECOND);
    }
    let both: [AnyBulkhead; 2] = [Arc::clone(&semaphore).into(), Arc::clone(&pool).into()];
    for any in &both {
        healthy(any);
        any.set_health_thresholds(thresholds().all_busy_for(SECOND))
            .unwrap();
        assert_eq!(words(any).len(), 1);
        any.set_health_thresholds(thresholds()).unwrap();
        healthy(any);
    }
    let busy_for = || thresholds().all_busy_for(SECOND);
    semaphore.set_health_thresholds(busy_for()).unwrap();
    pool.set_health_thresholds(busy_for()).unwrap();
    for any in &both {
        assert_eq!(words(any).len(), 1);
    }
    guard.success();
    busy.finish();
}

#[test]
fn what_was_remembered_for_other_thresholds_is_forgotten() {
    let long = |share| thresholds().queue_utilization(share, seconds(10));
    let (bulkhead, clock) = with(config(4, 4), long(0.5));
    let busy = occupy(&bulkhead, 4);
    let mut queued: Vec<_> = (0..2).map(|_| bulkhead.run(|| ())).collect();
    healthy(&bulkhead);
    clock.advance(seconds(10));
    assert_eq!(words(&bulkhead).len(), 1);
    // It was half full, and was never full until now.
    bulkhead.set_health_thresholds(long(1.0)).unwrap();
    queued.extend((0..2).map(|_| bulkhead.run(|| ())));
    healthy(&bulkhead);
    // The same thresholds again are no reason to forget anything.
    clock.advance(seconds(10));
    bulkhead
        .set_health_thresholds(long(1.0).abandoned_tasks(1))
        .unwrap();
    assert_eq!(words(&bulkhead).len(), 1);
    queued.clear();

    refuse(&bulkhead, 10);
    let rate = || thresholds().rejection_rate(0.1, seconds(60));
    bulkhead.set_health_thresholds(rate()).unwrap();
    healthy(&bulkhead);
    refuse(&bulkhead, 10);
    clock.advance(SECOND);
    bulkhead.set_health_thresholds(rate()).unwrap();
    assert_eq!(words(&bulkhead), ["10 of 10 calls were refused in 1.0s"]);
    busy.finish();
}

#[test]
fn thresholds_that_make_no_sense_or_come_after_the_end_change_nothing() {
    let (bulkhead, _clock) = with(config(1, 0), thresholds().all_busy_for(Duration::ZERO));
    let busy = occupy(&bulkhead, 1);
    let bad = bulkhead.set_health_thresholds(thresholds().abandoned_tasks(0));
    assert_eq!(
        bad.unwrap_err().to_string(),
        "invalid configuration of `test`: abandoned_tasks is 0, it must be at least 1"
    );
    assert_eq!(words(&bulkhead).len(), 1);
    busy.finish();
    assert!(bulkhead.shutdown().is_clean());
    let late = bulkhead.set_health_thresholds(thresholds());
    assert!(matches!(late, Err(BuildError::ShutDown { .. })));
}
