//! The configuration: defaults, and errors that name the field that is out of range before a thread starts.

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::{
    BuildError, Bulkhead, BulkheadConfig, BulkheadError, CircuitBreaker, CircuitBreakerConfig,
    CircuitWindow,
};

use crate::support;
use crate::support::{config, occupy, wait, with_clock};

/// The field and the value that are wrong, and the whole text of the error.
fn invalid<T: Debug>(built: Result<T, BuildError>) -> (&'static str, String, String) {
    let error = built.expect_err("out of range");
    let text = error.to_string();
    assert!(error.source().is_none());
    match error {
        BuildError::InvalidValue { field, value, .. } => (field, value, text),
        other => panic!("not an invalid value: {other}"),
    }
}

/// Asserts what a bad configuration gives, in all three ways, and that no worker was started for it.
fn assert_invalid(config: &BulkheadConfig, field: &str, value: &str, rule: &str) {
    let of = if field == "name" { "" } else { " of `test`" };
    let text = format!("invalid configuration{of}: {field} is {value}, it {rule}");
    let started = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&started);
    let built = Bulkhead::builder(config.clone())
        .on_worker_start(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .build();
    for found in [
        invalid(config.validate()),
        invalid(Bulkhead::new(config.clone())),
        invalid(built),
    ] {
        assert_eq!(found, (field_of(field), value.to_owned(), text.clone()));
    }
    // The builder is gone, and so is the hook: nobody is left who might still call it.
    assert_eq!(Arc::strong_count(&started), 1);
    assert_eq!(started.load(Ordering::SeqCst), 0);
}

fn field_of(field: &str) -> &'static str {
    const FIELDS: [&str; 10] = [
        "name",
        "max_concurrent_calls",
        "max_queue_size",
        "queue_timeout",
        "execution_timeout",
        "failure_threshold",
        "success_threshold",
        "failure_rate",
        "window",
        "minimum_calls",
    ];
    FIELDS.into_iter().find(|f| *f == field).expect("a field")
}

#[test]
fn the_name_must_not_be_blank_or_have_control_characters() {
    let rule = "must not be blank";
    for (name, value) in [
        ("", "\"\""),
        (" ", "\" \""),
        ("\t\n\u{2003}", "\"\\t\\n\\u{2003}\""),
    ] {
        assert_invalid(&BulkheadConfig::new(name), "name", value, rule);
    }
    let rule = "must not contain control characters";
    for (name, value) in [
        ("a\0b", "\"a\\0b\""),
        ("a\nb", "\"a\\nb\""),
        ("a\u{1b}[2Jb", "\"a\\u{1b}[2Jb\""),
        ("a\u{9b}b", "\"a\\u{9b}b\""),
        ("a\u{202e}b", "\"a\\u{202e}b\""),
    ] {
        assert_invalid(&BulkheadConfig::new(name), "name", value, rule);
    }
}

#[test]
fn any_other_name_is_fine() {
    for name in [
        "x",
        "with space",
        " between ",
        "größe/1",
        &"long".repeat(100),
    ] {
        let bulkhead = Bulkhead::new(BulkheadConfig::new(name).max_concurrent_calls(1)).unwrap();
        assert_eq!(bulkhead.name(), name);
        let result = wait(bulkhead.run(|| ()));
        assert_eq!(&*result.bulkhead_name, name);
    }
}

#[test]
fn there_must_be_a_worker() {
    let field = "max_concurrent_calls";
    assert_invalid(&config(0, 5), field, "0", "must be at least 1");
}

#[test]
fn all_calls_together_must_fit() {
    let most = BulkheadConfig::MAX_CAPACITY;
    assert_eq!(most, 16_777_216);
    let together = "must be at most 16777216 together with max_concurrent_calls";
    let field = "max_queue_size";
    assert_invalid(&config(1, most), field, "16777216", together);
    let value = usize::MAX.to_string();
    assert_invalid(&config(1, usize::MAX), field, &value, together);
    assert_invalid(
        &config(2, usize::MAX - 1),
        field,
        &(usize::MAX - 1).to_string(),
        together,
    );
    let workers = BulkheadConfig::MAX_WORKERS;
    assert_eq!(workers, 65_536);
    let field = "max_concurrent_calls";
    let alone = "must be at most 65536";
    assert_invalid(&config(workers + 1, 0), field, "65537", alone);
    assert_invalid(&config(usize::MAX, usize::MAX), field, &value, alone);
    assert!(config(1, most - 1).validate().is_ok());
    assert!(config(workers, most - workers).validate().is_ok());
}

#[test]
fn a_timeout_of_zero_is_an_error() {
    let rule = "must be greater than zero; leave it out for no limit";
    let zero = Duration::ZERO;
    assert_invalid(
        &config(1, 1).queue_timeout(zero),
        "queue_timeout",
        "0ns",
        rule,
    );
    let field = "execution_timeout";
    assert_invalid(&config(1, 1).execution_timeout(zero), field, "0ns", rule);
}

#[test]
fn a_breakers_settings_are_checked_too() {
    let base = CircuitBreakerConfig::default;
    let rate = "must be greater than 0 and at most 1";
    let one = "must be at least 1";
    let window = "must be at most 1048576";
    let minimum = "must be at most the window";
    assert_eq!(CircuitBreakerConfig::MAX_WINDOW, 1_048_576);
    let table = [
        (base().failure_threshold(0), "failure_threshold", "0", one),
        (base().success_threshold(0), "success_threshold", "0", one),
        (base().failure_rate(0.0, 10), "failure_rate", "0", rate),
        (base().failure_rate(-0.5, 10), "failure_rate", "-0.5", rate),
        (base().failure_rate(1.5, 10), "failure_rate", "1.5", rate),
        (
            base().failure_rate(f64::NAN, 10),
            "failure_rate",
            "NaN",
            rate,
        ),
        (
            base().failure_rate(f64::INFINITY, 10),
            "failure_rate",
            "inf",
            rate,
        ),
        (base().failure_rate(0.5, 0), "window", "0", one),
        (
            base().failure_rate(0.5, 1_048_577),
            "window",
            "1048577",
            window,
        ),
        (
            base().failure_rate(0.5, 10).minimum_calls(0),
            "minimum_calls",
            "0",
            one,
        ),
        (
            base().failure_rate(0.5, 10).minimum_calls(11),
            "minimum_calls",
            "11",
            minimum,
        ),
    ];
    for (rules, field, value, rule) in table {
        let expected = |of| {
            let text = format!("invalid configuration{of}: {field} is {value}, it {rule}");
            (field_of(field), value.to_owned(), text)
        };
        assert_eq!(invalid(rules.validate()), expected(""));
        assert_eq!(
            invalid(CircuitBreaker::new("alone", rules.clone())),
            expected(" of `alone`")
        );
        assert_invalid(&config(1, 1).circuit_breaker(rules), field, value, rule);
    }
    for rules in [
        base().failure_rate(1.0, 1),
        base().failure_rate(f64::MIN_POSITIVE, CircuitBreakerConfig::MAX_WINDOW),
        base().failure_rate(0.5, 10).minimum_calls(10),
        base().isolation_duration(Duration::ZERO),
        base().isolation_duration(Duration::MAX),
        base()
            .failure_threshold(usize::MAX)
            .success_threshold(usize::MAX),
    ] {
        assert!(rules.validate().is_ok(), "{rules:?}");
    }
}

#[test]
fn a_breaker_alone_needs_a_name_too() {
    let rules = CircuitBreakerConfig::default;
    assert_eq!(invalid(CircuitBreaker::new("", rules())).0, "name");
    assert_eq!(invalid(CircuitBreaker::new("\0", rules())).0, "name");
    assert_eq!(invalid(CircuitBreaker::new("a\nb", rules())).0, "name");
}

#[test]
fn the_first_wrong_field_is_named() {
    let wrong = BulkheadConfig::new("")
        .max_concurrent_calls(0)
        .queue_timeout(Duration::ZERO);
    assert_eq!(invalid(wrong.validate()).0, "name");
}

#[test]
fn defaults() {
    let config = BulkheadConfig::new("plain");
    assert_eq!(config.name, "plain");
    assert_eq!(config.max_concurrent_calls, 10);
    assert_eq!(config.max_queue_size, 100);
    assert_eq!(config.queue_timeout, None);
    assert_eq!(config.execution_timeout, None);
    assert_eq!(config.circuit_breaker, None);
    let rules = CircuitBreakerConfig::default();
    assert_eq!(rules.failure_threshold, 5);
    assert_eq!(rules.success_threshold, 3);
    assert_eq!(rules.isolation_duration, Duration::from_secs(30));
    assert_eq!(rules.failure_rate, None);
    let bulkhead = Bulkhead::new(config.clone()).unwrap();
    assert_eq!(bulkhead.config(), &config);
    assert_eq!(bulkhead.available_capacity(), 110);
    assert!(bulkhead.is_healthy());
}

#[test]
fn a_configuration_can_be_cloned_and_compared() {
    let one = config(2, 3)
        .queue_timeout(Duration::from_secs(1))
        .execution_timeout(Duration::from_secs(2))
        .circuit_breaker(CircuitBreakerConfig::default().failure_rate(0.5, 20));
    assert_eq!(one, one.clone());
    assert_ne!(one, one.clone().max_queue_size(4));
    assert_ne!(one, one.clone().queue_timeout(Duration::from_secs(3)));
    let other_rules = CircuitBreakerConfig::default().failure_rate(0.6, 20);
    assert_ne!(one, one.clone().circuit_breaker(other_rules));
    let first = Bulkhead::new(one.clone()).unwrap();
    let second = Bulkhead::new(one).unwrap();
    assert_eq!(first.config(), second.config());
    assert!(format!("{:?}", first.config()).contains("max_queue_size: 3"));
}

#[test]
fn a_failure_rate_judges_the_whole_window_unless_told_otherwise() {
    let rules = CircuitBreakerConfig::default().failure_rate(0.25, 8);
    assert_eq!(rules.failure_rate, Some(0.25));
    assert_eq!(rules.window, CircuitWindow::Calls(8));
    assert_eq!(rules.minimum_calls, None, "the whole window");
    assert_eq!(rules.minimum_calls(3).minimum_calls, Some(3));
}

#[test]
fn limits_that_no_clock_can_hold_mean_for_ever() {
    let config = config(1, 2)
        .queue_timeout(Duration::MAX)
        .execution_timeout(Duration::MAX)
        .circuit_breaker(CircuitBreakerConfig::default().isolation_duration(Duration::MAX));
    let bulkhead = Bulkhead::new(config).unwrap();
    let busy = occupy(&bulkhead, 1);
    let queued = bulkhead.run(|| bulkman::current().unwrap().deadline());
    busy.finish();
    assert_eq!(queued.wait().value(), Some(&None));
    let handle = bulkhead
        .call()
        .queue_timeout(Duration::MAX)
        .timeout(Duration::MAX)
        .wait_for_capacity(Duration::MAX)
        .run(|| 1);
    let Ok(result) = handle.wait_timeout(Duration::MAX) else {
        panic!("it waits for ever");
    };
    assert_eq!(result.value(), Some(&1));
    let timed = bulkhead.execute_with_timeout(Duration::MAX, || Ok::<_, ()>(2));
    assert_eq!(timed.value(), Some(&2));
}

#[test]
fn the_configured_limits_hold_for_calls_that_set_none() {
    let config = config(1, 2)
        .queue_timeout(Duration::from_secs(1))
        .execution_timeout(Duration::from_secs(5));
    let (bulkhead, clock) = with_clock(config);
    let busy = occupy(&bulkhead, 1);
    let configured = bulkhead.run(|| ());
    let own = bulkhead
        .call()
        .queue_timeout(Duration::from_secs(9))
        .run(|| ());
    clock.advance(Duration::from_secs(1));
    match configured.wait().error() {
        Some(BulkheadError::QueueTimeout { limit, .. }) => {
            assert_eq!(*limit, Duration::from_secs(1));
        }
        other => panic!("{other:?}"),
    }
    clock.advance(Duration::from_secs(4));
    match own.wait().error() {
        Some(BulkheadError::Timeout { limit, started, .. }) => {
            assert_eq!((*limit, *started), (Duration::from_secs(5), false));
        }
        other => panic!("{other:?}"),
    }
    drop(busy.handles);
}

#[test]
fn workers_are_named_after_the_bulkhead_and_numbered_from_zero() {
    let bulkhead = Bulkhead::new(BulkheadConfig::new("inventory").max_concurrent_calls(3)).unwrap();
    let gate = support::Gate::new();
    let opener = support::OpenOnDrop(gate.clone());
    let handles: Vec<_> = (0..3)
        .map(|_| {
            let gate = gate.clone();
            bulkhead.run(move || {
                gate.pass();
                thread::current().name().map(str::to_owned)
            })
        })
        .collect();
    gate.wait_for_arrivals(3);
    drop(opener);
    let mut names: Vec<_> = handles
        .into_iter()
        .map(|handle| wait(handle).into_result().unwrap().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, ["inventory-0", "inventory-1", "inventory-2"]);
}
