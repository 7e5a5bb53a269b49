//! Each call that is admitted has a span under its caller's, which ends with the call.

use std::time::Duration;

use bulkman::{Bulkhead, BulkheadError, CircuitBreakerConfig, ExecutionResult, SemaphoreBulkhead};
use tracing::info_span;

use crate::helpers::{Ended, Seen};
use crate::support::{
    Gate, OpenOnDrop, PATIENCE, bulkhead, config, named, occupy, seconds, wait, with_clock,
};

fn outcome(body: impl FnOnce()) -> (String, Option<String>) {
    let call = Seen::during(body).call();
    let status = call.fields.get("otel.status_code").cloned();
    (call.field("outcome").to_owned(), status)
}

fn ended(text: &str) -> (String, Option<String>) {
    (text.to_owned(), None)
}

fn error(text: &str) -> (String, Option<String>) {
    (text.to_owned(), Some("ERROR".to_owned()))
}

fn check_fields(call: &Ended, result: &ExecutionResult<u32, std::convert::Infallible>) {
    assert_eq!(call.target, "bulkman");
    assert_eq!(call.parent, Some("request"));
    assert_eq!(call.field("bulkhead"), "database");
    assert_eq!(call.field("operation"), "get");
    assert_eq!(call.field("execution_id"), result.execution_id.to_string());
    let queued: f64 = call.field("queued_seconds").parse().unwrap();
    assert_eq!(queued, result.queued_time.as_secs_f64());
    assert_eq!(call.field("outcome"), "succeeded");
}

#[test]
fn on_a_worker_it_is_a_child_of_the_callers_span_with_id_names_and_waiting_time() {
    let seen = Seen::default();
    let database = Bulkhead::new(named("database", 1, 1)).unwrap();
    let result = seen
        .on(|| info_span!("request").in_scope(|| wait(database.call().operation("get").run(|| 1))));
    check_fields(&seen.call(), &result);
}

#[test]
fn in_the_callers_thread_it_is_the_same() {
    let seen = Seen::default();
    let database = SemaphoreBulkhead::new(named("database", 1, 1)).unwrap();
    let result =
        seen.on(|| info_span!("request").in_scope(|| database.call().operation("get").run(|| 1)));
    check_fields(&seen.call(), &result);
}

#[test]
fn without_a_span_of_the_caller_it_is_a_root() {
    let pool = bulkhead(1, 1);
    let seen = Seen::during(|| drop(wait(pool.run(|| ()))));
    assert_eq!(seen.call().parent, None);
    assert_eq!(seen.call().fields.get("operation"), None);
}

#[test]
fn it_has_ended_when_the_result_is_there() {
    let pool = bulkhead(2, 2);
    let seen = Seen::default();
    seen.on(|| {
        for calls in 1..200 {
            drop(pool.run(|| ()).wait());
            assert_eq!(seen.calls().len(), calls);
        }
    });
}

#[test]
fn a_handle_that_is_kept_keeps_no_span_open() {
    let pool = bulkhead(1, 1);
    let seen = Seen::default();
    let handle = seen.on(|| pool.run(|| ()));
    assert!(pool.wait_idle(PATIENCE));
    assert_eq!(seen.calls().len(), 1);
    drop(handle);
}

#[test]
fn what_the_task_writes_is_inside_it() {
    let pool = bulkhead(1, 1);
    let here = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    let seen = Seen::during(|| {
        info_span!("request").in_scope(|| {
            drop(wait(pool.run(|| tracing::info!("on a worker"))));
            drop(here.run(|| tracing::info!("in its caller")));
        });
    });
    let around = ["request", "bulkhead_call"];
    assert_eq!(seen.around("on a worker"), around);
    assert_eq!(seen.around("in its caller"), around);
}

#[test]
fn a_task_that_ends_says_how() {
    let pool = bulkhead(1, 1);
    let here = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    type Task = fn() -> Result<(), &'static str>;
    let tasks: [(Task, _); 3] = [
        (|| Ok(()), ended("succeeded")),
        (|| Err("no"), error("failed")),
        (|| panic!("in a traced task"), error("panicked")),
    ];
    for (task, expected) in tasks {
        assert_eq!(outcome(|| drop(wait(pool.execute(task)))), expected);
        assert_eq!(outcome(|| drop(here.execute(task))), expected);
    }
}

#[test]
fn a_task_whose_caller_has_left_ends_its_span_at_its_own_end() {
    let (pool, clock) = with_clock(config(1, 1));
    let seen = Seen::default();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let inside = gate.clone();
    let handle = seen.on(|| pool.call().timeout(seconds(1)).run(move || inside.pass()));
    gate.wait_for_arrivals(1);
    clock.advance(seconds(2));
    assert!(matches!(
        wait(handle).error(),
        Some(BulkheadError::Timeout { started: true, .. })
    ));
    assert_eq!(seen.calls().len(), 0, "its task still runs");
    gate.open();
    assert!(pool.wait_idle(PATIENCE));
    assert_eq!(seen.call().field("outcome"), "succeeded");
}

#[test]
fn a_call_that_is_cancelled_in_the_queue_says_so() {
    let pool = bulkhead(1, 1);
    let busy = occupy(&pool, 1);
    assert_eq!(
        outcome(|| assert!(pool.run(|| ()).cancel())),
        ended("cancelled")
    );
    let queued = Seen::default();
    let handle = queued.on(|| pool.run(|| ()));
    pool.shutdown_now();
    assert_eq!(queued.call().field("outcome"), "cancelled");
    drop(wait(handle));
    busy.finish();
}

#[test]
fn a_call_that_waits_too_long_says_by_which_limit() {
    let (pool, clock) = with_clock(config(1, 2));
    let busy = occupy(&pool, 1);
    let expired = outcome(|| {
        let handle = pool.call().queue_timeout(seconds(1)).run(|| ());
        clock.advance(seconds(2));
        drop(wait(handle));
    });
    assert_eq!(expired, error("queue timeout"));
    let timed_out = Seen::during(|| {
        let handle = pool.call().timeout(seconds(1)).run(|| ());
        clock.advance(seconds(3));
        drop(wait(handle));
    });
    assert_eq!(timed_out.call().field("outcome"), "timeout");
    assert_eq!(timed_out.call().field("queued_seconds"), "3.0");
    busy.finish();

    let here = SemaphoreBulkhead::new(config(1, 2)).unwrap();
    std::thread::scope(|scope| {
        let guard = here.acquire().unwrap();
        let expired = scope.spawn(|| {
            outcome(|| {
                let call = here.call().queue_timeout(Duration::from_millis(1));
                drop(call.run(|| ()));
            })
        });
        assert_eq!(expired.join().unwrap(), error("queue timeout"));
        guard.success();
    });
}

#[test]
fn a_call_that_the_circuit_refuses_in_the_queue_says_so() {
    let pool =
        Bulkhead::new(config(1, 1).circuit_breaker(CircuitBreakerConfig::default())).unwrap();
    let busy = occupy(&pool, 1);
    let refused = outcome(|| {
        let handle = pool.run(|| ());
        pool.circuit_breaker().unwrap().trip();
        drop(wait(handle));
    });
    assert_eq!(refused, error("circuit open"));
    busy.finish();
}

#[test]
fn a_call_that_is_nested_too_deep_says_so() {
    let pool = std::sync::Arc::new(Bulkhead::new(config(1, 1).max_nested_calls(0)).unwrap());
    let inner = std::sync::Arc::clone(&pool);
    let seen = Seen::during(|| {
        drop(wait(pool.run(move || drop(inner.run(|| ()).wait()))));
    });
    let outcomes: Vec<_> = seen
        .calls()
        .iter()
        .map(|call| call.field("outcome").to_owned())
        .collect();
    assert_eq!(outcomes, ["too deep", "succeeded"]);
}
