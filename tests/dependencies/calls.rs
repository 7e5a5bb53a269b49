//! Calls, and their limits in time.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bulkman::policy::{Deadline, remaining};
use bulkman::{
    BulkheadError, BulkheadKind, CircuitBreakerOverrides, Dependencies, DependencyConfig,
    DependencyKind, ManualClock, OperationOverrides, TimeoutSetting, Verdict, current,
};

use super::support::{Gate, HOUR, OpenOnDrop, seconds, wait};

fn with_clock(clock: &ManualClock) -> Dependencies {
    Dependencies::builder().clock(clock.clone()).build()
}

fn one_at_a_time(kind: DependencyKind) -> DependencyConfig {
    DependencyConfig::new(kind).max_concurrent_calls(1)
}

#[test]
fn both_kinds_of_bulkhead_give_a_handle() {
    let dependencies = Dependencies::new();
    dependencies.register_database("db").unwrap();
    dependencies.register_cache("cache").unwrap();
    let here = thread::current().id();
    for (name, is_here) in [("db", false), ("cache", true)] {
        let call = || dependencies.call(name).unwrap().operation("get");
        let task = || {
            (
                thread::current().id(),
                current().unwrap().operation().map(str::to_owned),
            )
        };
        let result = wait(call().run(task));
        let (thread, operation) = result.into_result().unwrap();
        assert_eq!(thread == here, is_here, "{name}");
        assert_eq!(operation.as_deref(), Some("get"));
        let result = wait(call().execute(|| Err::<(), _>(7)));
        assert!(matches!(result.error(), Some(BulkheadError::Failed(7))));
        assert_eq!(&*result.bulkhead_name, name);
        let handle = call().try_execute(|| Ok::<_, io::Error>(3)).unwrap();
        assert_eq!(wait(handle).value(), Some(&3));
    }
}

#[test]
fn a_refused_call_gives_its_closure_back() {
    let dependencies = Dependencies::new();
    dependencies.register_database("db").unwrap();
    dependencies.register_cache("cache").unwrap();
    dependencies.shutdown_all(Duration::ZERO);
    for name in ["db", "cache"] {
        let call = dependencies.call(name).unwrap();
        let rejected = call.try_execute(|| Ok::<_, io::Error>(3)).unwrap_err();
        assert!(rejected.reason.is_shut_down());
        assert_eq!((rejected.task)().unwrap(), 3);
        assert!(
            wait(dependencies.call(name).unwrap().run(|| ()))
                .error()
                .is_some()
        );
    }
}

/// What a task sees as its limit, for a call that names an operation and perhaps has a limit of its own.
fn limit_seen(
    dependencies: &Dependencies,
    operation: &'static str,
    own: Option<Duration>,
) -> Option<Duration> {
    let call = dependencies.call("db").unwrap().operation(operation);
    let call = match own {
        Some(limit) => call.timeout(limit),
        None => call,
    };
    let result = wait(call.run(|| current().unwrap().remaining()));
    result.into_result().unwrap()
}

#[test]
fn the_limit_is_the_calls_or_the_operations_or_the_dependencys() {
    let clock = ManualClock::new(); // which stands still, so that limits can be compared
    for bulkhead in [BulkheadKind::ThreadPool, BulkheadKind::Semaphore] {
        let dependencies = with_clock(&clock);
        let config = DependencyConfig::new(DependencyKind::Database)
            .bulkhead(bulkhead)
            .timeout(seconds(5))
            .operation("export", OperationOverrides::new().timeout(seconds(60)))
            .operation(
                "repair",
                OperationOverrides::new().timeout(TimeoutSetting::Never),
            )
            .operation("count", OperationOverrides::new().queue_timeout(seconds(1)));
        dependencies.register_with("db", config).unwrap();
        for (operation, own, expected) in [
            ("get_user", None, Some(seconds(5))),
            ("get_user", Some(seconds(9)), Some(seconds(9))),
            ("export", None, Some(seconds(60))),
            ("export", Some(seconds(9)), Some(seconds(9))),
            ("repair", None, None),
            ("repair", Some(seconds(9)), Some(seconds(9))),
            ("count", None, Some(seconds(5))),
        ] {
            let seen = limit_seen(&dependencies, operation, own);
            assert_eq!(seen, expected, "{bulkhead} {operation} {own:?}");
        }
    }
}

#[test]
fn a_timeout_bounds_the_whole_call_queue_included() {
    let clock = ManualClock::new();
    let dependencies = with_clock(&clock);
    let config = one_at_a_time(DependencyKind::Database)
        .timeout(HOUR)
        .queue_timeout(TimeoutSetting::Never);
    dependencies.register_with("db", config).unwrap();
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let call = || dependencies.call("db").unwrap();
    let running = {
        let gate = gate.clone();
        call().run(move || gate.pass())
    };
    gate.wait_for_arrivals(1);
    let queued = call().timeout(seconds(10)).run(|| ());
    clock.advance(seconds(11));
    let result = wait(queued);
    assert!(matches!(
        result.error(),
        Some(BulkheadError::Timeout { started: false, limit, .. }) if *limit == seconds(10)
    ));
    assert_eq!(result.execution_time, Duration::ZERO);
    gate.open();
    assert!(wait(running).is_success());
}

#[test]
fn both_clocks_are_in_the_result() {
    let clock = ManualClock::new();
    let dependencies = with_clock(&clock);
    let config = one_at_a_time(DependencyKind::Database)
        .queue_timeout(HOUR)
        .timeout(HOUR);
    dependencies.register_with("db", config).unwrap();
    let (first, second) = (Gate::new(), Gate::new());
    let _open = (OpenOnDrop(first.clone()), OpenOnDrop(second.clone()));
    let submit = |gate: &Gate| {
        let gate = gate.clone();
        dependencies.call("db").unwrap().run(move || gate.pass())
    };
    let running = submit(&first);
    first.wait_for_arrivals(1);
    let queued = submit(&second);
    clock.advance(seconds(3));
    first.open();
    assert!(wait(running).is_success());
    second.wait_for_arrivals(1);
    clock.advance(seconds(4));
    second.open();
    let result = wait(queued);
    assert_eq!(
        (result.queued_time, result.execution_time),
        (seconds(3), seconds(4))
    );
}

#[test]
fn a_dependency_that_hangs_holds_up_no_other() {
    let dependencies = Dependencies::new();
    dependencies
        .register_with(
            "hangs",
            one_at_a_time(DependencyKind::ExternalApi).max_queue_size(0),
        )
        .unwrap();
    dependencies.register_database("db").unwrap();
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let hanging = {
        let gate = gate.clone();
        dependencies.call("hangs").unwrap().run(move || gate.pass())
    };
    gate.wait_for_arrivals(1);
    let refused = wait(dependencies.call("hangs").unwrap().run(|| ()));
    assert!(matches!(refused.error(), Some(BulkheadError::Full { .. })));
    for _ in 0..50 {
        assert!(wait(dependencies.call("db").unwrap().run(|| ())).is_success());
    }
    gate.open();
    assert!(wait(hanging).is_success());
}

#[test]
fn a_queue_timeout_of_an_operation_or_of_a_call_holds() {
    let clock = ManualClock::new();
    let dependencies = with_clock(&clock);
    let config = one_at_a_time(DependencyKind::Database)
        .queue_timeout(HOUR)
        .timeout(TimeoutSetting::Never)
        .operation("quick", OperationOverrides::new().queue_timeout(seconds(5)));
    dependencies.register_with("db", config).unwrap();
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let call = || dependencies.call("db").unwrap();
    let running = {
        let gate = gate.clone();
        call().run(move || gate.pass())
    };
    gate.wait_for_arrivals(1);
    let of_operation = call().operation("quick").run(|| ());
    let of_call = call()
        .operation("quick")
        .queue_timeout(seconds(2))
        .run(|| ());
    clock.advance(seconds(6));
    for (handle, limit) in [(of_operation, 5), (of_call, 2)] {
        let result = wait(handle);
        let Some(BulkheadError::QueueTimeout { limit: found, .. }) = result.error() else {
            panic!("{result:?}");
        };
        assert_eq!(*found, seconds(limit));
    }
    gate.open();
    assert!(wait(running).is_success());
}

#[test]
fn a_classifier_decides_what_opens_the_circuit() {
    let dependencies = Dependencies::new();
    for (name, bulkhead) in [
        ("pool", BulkheadKind::ThreadPool),
        ("slots", BulkheadKind::Semaphore),
    ] {
        let config = DependencyConfig::new(DependencyKind::Database)
            .bulkhead(bulkhead)
            .circuit_breaker(CircuitBreakerOverrides::new().failure_threshold(1));
        dependencies.register_with(name, config).unwrap();
        let call = || dependencies.call(name).unwrap();
        let _ignored = wait(
            call()
                .failure_if(|_: &u8| false)
                .execute(|| Err::<(), u8>(1)),
        );
        let _success = wait(
            call()
                .classify(|_: &u8| Verdict::Success)
                .execute(|| Err::<(), u8>(1)),
        );
        assert!(dependencies.health().is_healthy(), "{name}");
        let _failure = wait(call().execute(|| Err::<(), u8>(1)));
        let refused = wait(call().run(|| ()));
        assert!(matches!(
            refused.error(),
            Some(BulkheadError::CircuitOpen { .. })
        ));
        let _ended = dependencies.remove(name).unwrap().shutdown_now();
    }
}

#[test]
fn a_call_can_wait_for_a_place() {
    let dependencies = Arc::new(Dependencies::new());
    let config = one_at_a_time(DependencyKind::Database).max_queue_size(0);
    dependencies.register_with("db", config).unwrap();
    let gate = Gate::new();
    let _open = OpenOnDrop(gate.clone());
    let running = {
        let gate = gate.clone();
        dependencies.call("db").unwrap().run(move || gate.pass())
    };
    gate.wait_for_arrivals(1);
    let waiting = {
        let dependencies = Arc::clone(&dependencies);
        thread::spawn(move || {
            let call = dependencies.call("db").unwrap();
            wait(call.wait_for_capacity(HOUR).timeout(HOUR).run(|| 5)).into_result()
        })
    };
    gate.open();
    assert!(wait(running).is_success());
    assert_eq!(waiting.join().unwrap().unwrap(), 5);
}

#[test]
fn a_wrapped_function_keeps_its_options_and_may_outlive_the_dependency() {
    let clock = ManualClock::new();
    let dependencies = with_clock(&clock);
    dependencies.register_database("db").unwrap();
    let seen = dependencies
        .call("db")
        .unwrap()
        .operation("get")
        .timeout(seconds(7))
        .wrap(|add: u32| {
            let task = current().unwrap();
            Ok::<_, io::Error>((task.remaining(), task.operation().map(str::to_owned), add))
        });
    let patient = dependencies.call("db").unwrap().failure_if(|_: &u8| false);
    let fails = patient.clone().wrap(|error: u8| Err::<(), _>(error));
    for _ in 0..20 {
        assert!(matches!(fails(1).error(), Some(BulkheadError::Failed(1))));
    }
    let again = seen.clone();
    for f in [&seen, &again] {
        let found = f(1).into_result().unwrap();
        assert_eq!(found, (Some(seconds(7)), Some("get".to_owned()), 1));
    }
    drop(patient);
    drop(dependencies);
    let result = seen(1);
    assert!(matches!(
        result.error(),
        Some(BulkheadError::ShutDown { .. })
    ));
    assert_eq!(&*result.bulkhead_name, "db");
}

#[test]
fn a_call_inherits_the_deadline_of_the_task_that_makes_it_unless_detached() {
    let clock = ManualClock::new();
    let dependencies = Arc::new(with_clock(&clock));
    dependencies.register_database("db").unwrap();
    dependencies.register_cpu("job").unwrap();
    let inner = Arc::clone(&dependencies);
    let task = move || {
        [false, true].map(|is_detached| {
            let call = inner.call("db").unwrap().timeout(HOUR);
            let call = if is_detached { call.detached() } else { call };
            wait(call.run(|| current().unwrap().remaining()))
                .into_result()
                .unwrap()
        })
    };
    let outer = dependencies.call("job").unwrap().timeout(seconds(3));
    let remaining = wait(outer.run(task)).into_result().unwrap();
    assert_eq!(remaining, [Some(seconds(3)), Some(HOUR)]);
}

#[test]
fn a_deadline_cuts_the_limit_of_whichever_level() {
    let clock = ManualClock::new();
    let dependencies = with_clock(&clock);
    for kind in [DependencyKind::Database, DependencyKind::Cache] {
        let config = DependencyConfig::new(kind)
            .timeout(seconds(20))
            .operation("short", OperationOverrides::new().timeout(seconds(3)))
            .operation(
                "long",
                OperationOverrides::new().timeout(TimeoutSetting::Never),
            );
        dependencies.register_with(kind.name(), config).unwrap();
        let left = |operation: &'static str, deadline: &Deadline| {
            let call = dependencies.call(kind.name()).unwrap();
            let call = call.within(deadline).operation(operation);
            wait(call.run(remaining)).into_result().unwrap()
        };
        let soon = Deadline::after_on(clock.clone(), seconds(5));
        assert_eq!(left("short", &soon), Some(seconds(3)));
        assert_eq!(left("long", &soon), Some(seconds(5)));
        assert_eq!(left("other", &soon), Some(seconds(5)));
        let later = Deadline::after_on(clock.clone(), HOUR);
        assert_eq!(left("other", &later), Some(seconds(20)));
        assert_eq!(left("long", &later), Some(HOUR));

        // Before or after, the shorter one holds, and the earlier deadline.
        let call = dependencies.call(kind.name()).unwrap();
        let call = call.within(&later).within(&soon).timeout(seconds(9));
        let result = wait(call.run(remaining)).into_result().unwrap();
        assert_eq!(result, Some(seconds(5)));
    }
}
