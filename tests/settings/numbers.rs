//! The numbers of bulkheads and circuits as JSON.

use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, CircuitBreakerConfig, ManualClock};
use serde_json::json;

#[test]
fn numbers_are_serialised_by_their_names_with_times_in_seconds() {
    let clock = ManualClock::new();
    let config = BulkheadConfig::new("tea")
        .max_concurrent_calls(1)
        .circuit_breaker(CircuitBreakerConfig::default().failure_threshold(1));
    let bulkhead = Bulkhead::builder(config)
        .clock(clock.clone())
        .build()
        .unwrap();
    let inside = clock.clone();
    let fails = bulkhead.execute(move || {
        inside.advance(Duration::from_millis(1500));
        Err::<(), _>(())
    });
    assert!(fails.wait().error().is_some());
    let stats = bulkhead.stats();
    let written = serde_json::to_value(&stats).unwrap();
    for (key, value) in [
        ("name", json!("tea")),
        ("state", json!("isolated")),
        ("circuit_state", json!("open")),
        ("failed_executions", json!(1)),
        ("submitted_executions", json!(1)),
        ("measured_for", json!(1.5)),
        ("busy_time", json!(1.5)),
        ("longest_running", json!(null)),
        ("longest_abandoned", json!(null)),
    ] {
        assert_eq!(written[key], value, "{key}");
    }
    let run_time = &written["run_time"];
    assert_eq!(
        (
            &run_time["count"],
            &run_time["sum"],
            &run_time["mean"],
            &run_time["max"]
        ),
        (&json!(1), &json!(1.5), &json!(1.5), &json!(1.5))
    );
    let buckets = run_time["buckets"].as_array().unwrap();
    assert_eq!((buckets.len(), &buckets[0][1]), (1, &json!(1)));
    let top = buckets[0][0].as_f64().unwrap();
    assert!((1.5..=1.5 * 9.0 / 8.0).contains(&top), "{top}");

    let breaker = bulkhead.circuit_breaker().unwrap();
    let written = serde_json::to_value(breaker.stats()).unwrap();
    assert_eq!(written["state"], "open");
    assert_eq!(written["mode"], "normal");
    assert_eq!(written["retry_after"], 30.0);
    assert_eq!(written["times_opened"], 1);
    breaker.force_open();
    let written = serde_json::to_string(&breaker.stats()).unwrap();
    assert!(written.contains("\"mode\":\"forced_open\""), "{written}");
    clock.advance(Duration::MAX);
    serde_json::to_string(&bulkhead.stats()).expect("times of any length");
    bulkhead.shutdown();
    assert_eq!(serde_json::to_value(bulkhead.state()).unwrap(), "shut_down");
}
