//! All configurations can be written and read back.

use std::fmt::Debug;
use std::time::Duration;

use bulkman::policy::Jitter;
use bulkman::settings::Settings;
use bulkman::{
    AdaptiveTimeoutConfig, AdaptiveTimeoutSetting, BulkheadConfig, BulkheadKind, ChaosOverrides,
    CircuitBreakerConfig, CircuitBreakerOverrides, CircuitMode, CircuitWindow, DependencyConfig,
    DependencyDefaults, DependencyKind, DependencyOverrides, HealthOverrides, HedgeOverrides,
    OperationOverrides, RateLimitOverrides, RetryOverrides, TimeoutSetting,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::support::seconds;

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value, "{text}");
    text
}

fn every_rule() -> CircuitBreakerConfig {
    CircuitBreakerConfig::default()
        .failure_threshold(7)
        .max_failure_gap(Duration::MAX)
        .success_threshold(2)
        .isolation_duration(Duration::from_millis(1500))
        .isolation_backoff(1.5, seconds(90))
        .probe_timeout(Duration::from_micros(3))
        .failure_rate_over(0.25, seconds(60))
        .minimum_calls(11)
        .slow_call_duration(Duration::from_nanos(7))
        .slow_call_rate(0.5)
        .timeouts_are_failures(false)
        .cancelled_calls_are_neutral(false)
        .refuse_queued_when_open(false)
        .initial_mode(CircuitMode::ObserveOnly)
}

#[test]
fn a_bulkheads_configuration() {
    let text = round_trip(&BulkheadConfig::new("plain"));
    assert_eq!(
        text,
        r#"{"name":"plain","max_concurrent_calls":10,"max_queue_size":100,"max_nested_calls":64}"#
    );
    round_trip(
        &BulkheadConfig::new("all")
            .max_concurrent_calls(1)
            .max_queue_size(0)
            .queue_timeout(seconds(1))
            .execution_timeout(Duration::from_millis(250))
            .circuit_breaker(every_rule())
            .stack_size(1 << 20)
            .max_nested_calls(3),
    );
    let short: BulkheadConfig =
        serde_json::from_str(r#"{"name": "short", "queue_timeout": 2.5}"#).unwrap();
    assert_eq!(
        short,
        BulkheadConfig::new("short").queue_timeout(Duration::from_millis(2500))
    );
    assert!(
        serde_json::from_str::<BulkheadConfig>("{}").is_err(),
        "it needs a name"
    );
    assert!(serde_json::from_str::<BulkheadConfig>(r#"{"name": "x", "max": 1}"#).is_err());
    assert!(
        serde_json::from_str::<BulkheadConfig>(r#"{"name": "x", "queue_timeout": -1}"#).is_err()
    );
}

#[test]
fn a_circuits_configuration() {
    round_trip(&CircuitBreakerConfig::default());
    let text = round_trip(&every_rule());
    for part in [
        r#""isolation_duration":"1s 500ms""#,
        r#""window":"60s""#,
        r#""isolation_backoff":{"factor":1.5,"max":"90s"}"#,
        r#""initial_mode":"observe_only""#,
    ] {
        assert!(text.contains(part), "{text}");
    }
    round_trip(&CircuitBreakerConfig::default().failure_rate(0.5, 20));
    let empty: CircuitBreakerConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(empty, CircuitBreakerConfig::default());
    round_trip(&CircuitWindow::Calls(5));
    round_trip(&CircuitWindow::Time(seconds(5)));
    round_trip(&CircuitMode::ForcedOpen);
}

#[test]
fn overrides_say_only_what_they_set() {
    assert_eq!(round_trip(&DependencyOverrides::new()), "{}");
    assert_eq!(round_trip(&CircuitBreakerOverrides::new()), "{}");
    assert_eq!(
        round_trip(&CircuitBreakerOverrides::off()),
        r#"{"enabled":false}"#
    );
    round_trip(&CircuitBreakerOverrides::from(every_rule()));
    let short: CircuitBreakerOverrides = serde_json::from_str("true").unwrap();
    assert_eq!(short, CircuitBreakerOverrides::on());
    let overrides = DependencyOverrides::new()
        .bulkhead(BulkheadKind::Semaphore)
        .max_concurrent_calls(1)
        .max_queue_size(2)
        .timeout(seconds(3))
        .queue_timeout(TimeoutSetting::Never)
        .circuit_breaker(CircuitBreakerOverrides::new().failure_rate(0.5, 20));
    assert_eq!(
        round_trip(&overrides),
        r#"{"bulkhead":"semaphore","max_concurrent_calls":1,"max_queue_size":2,"timeout":"3s","queue_timeout":"none","circuit_breaker":{"failure_rate":0.5,"window":20}}"#
    );
    round_trip(
        &DependencyDefaults::new()
            .for_all(overrides.clone())
            .for_kind(DependencyKind::FileSystem, overrides),
    );
}

#[test]
fn an_adaptive_timeout_is_a_word_or_its_numbers() {
    let numbers = AdaptiveTimeoutConfig::new()
        .quantile(0.5)
        .factor(1.5)
        .floor(Duration::from_millis(1))
        .ceiling(seconds(2))
        .minimum_samples(3)
        .window(seconds(60));
    assert_eq!(
        round_trip(&AdaptiveTimeoutSetting::from(numbers)),
        r#"{"quantile":0.5,"factor":1.5,"floor":"1ms","ceiling":"2s","minimum_samples":3,"window":"60s"}"#
    );
    assert_eq!(round_trip(&AdaptiveTimeoutSetting::Off), "false");
    round_trip(&AdaptiveTimeoutSetting::from(true));
    round_trip(&AdaptiveTimeoutConfig::new());
    let read = |text| serde_json::from_str::<AdaptiveTimeoutSetting>(text).unwrap();
    let defaults = AdaptiveTimeoutSetting::On(AdaptiveTimeoutConfig::new());
    assert_eq!((read("true"), read("{}")), (defaults, defaults));
    assert_eq!(
        read(r#"{"factor": 2}"#),
        AdaptiveTimeoutConfig::new().factor(2.0).into()
    );
    round_trip(
        &DependencyOverrides::new()
            .adaptive_timeout(numbers)
            .stack_size(1 << 20)
            .max_nested_calls(0),
    );
    round_trip(&OperationOverrides::new().adaptive_timeout(false));
}

#[test]
fn the_rules_of_policies() {
    assert_eq!(round_trip(&RetryOverrides::new()), "{}");
    assert_eq!(round_trip(&RetryOverrides::off()), r#"{"enabled":false}"#);
    let short: RateLimitOverrides = serde_json::from_str("true").unwrap();
    assert_eq!(short, RateLimitOverrides::on());
    let retry = RetryOverrides::new()
        .attempts(4)
        .first_delay(Duration::from_millis(50))
        .factor(1.5)
        .max_delay(seconds(2))
        .jitter(Jitter::None)
        .max_named_delay(seconds(9))
        .budget(0.25)
        .budget_reserve(3)
        .attempt_timeout(seconds(1))
        .retry_timeouts(true)
        .retry_panics(false);
    assert_eq!(
        round_trip(&retry),
        r#"{"attempts":4,"first_delay":"50ms","factor":1.5,"max_delay":"2s","jitter":"none","max_named_delay":"9s","budget":0.25,"budget_reserve":3,"attempt_timeout":"1s","retry_timeouts":true,"retry_panics":false}"#
    );
    let limit = RateLimitOverrides::new()
        .calls(50)
        .period(seconds(1))
        .burst(5)
        .max_wait(Duration::from_millis(200));
    assert_eq!(
        round_trip(&limit),
        r#"{"calls":50,"period":"1s","burst":5,"max_wait":"200ms"}"#
    );
    let hedge = HedgeOverrides::new().delay(seconds(1)).quantile(0.95);
    assert_eq!(round_trip(&hedge), r#"{"delay":"1s","quantile":0.95}"#);
    let health = HealthOverrides::new()
        .queue_utilization(0.5)
        .queue_utilization_for(Duration::ZERO)
        .saturated_for(seconds(1))
        .queued_for(seconds(2))
        .all_busy_for(seconds(3))
        .abandoned_tasks(u64::MAX)
        .rejection_rate(0.25)
        .rejection_window(seconds(4))
        .closed_circuit(false);
    assert_eq!(
        round_trip(&health),
        r#"{"queue_utilization":0.5,"queue_utilization_for":"0s","saturated_for":"1s","queued_for":"2s","all_busy_for":"3s","abandoned_tasks":18446744073709551615,"rejection_rate":0.25,"rejection_window":"4s","closed_circuit":false}"#
    );
    let chaos = ChaosOverrides::on()
        .seed(u64::MAX)
        .latency(Duration::from_millis(300))
        .latency_rate(0.25)
        .error_rate(0.5)
        .refusal_rate(1.0)
        .panic_rate(0.0);
    assert_eq!(
        round_trip(&chaos),
        r#"{"enabled":true,"seed":18446744073709551615,"latency":"300ms","latency_rate":0.25,"error_rate":0.5,"refusal_rate":1.0,"panic_rate":0.0}"#
    );
    let config = DependencyConfig::new(DependencyKind::ExternalApi)
        .retry(retry)
        .rate_limit(limit)
        .hedge(hedge)
        .chaos(chaos)
        .health(health)
        .operation(
            "get",
            OperationOverrides::new().retry(RetryOverrides::off()),
        );
    let text = round_trip(&config);
    assert!(text.contains(r#""rate_limit":{"calls":50"#), "{text}");
    assert!(
        text.ends_with(r#""operations":{"get":{"retry":{"enabled":false}}}}"#),
        "{text}"
    );
}

#[test]
fn a_dependency_is_one_section() {
    let config = DependencyConfig::new(DependencyKind::ExternalApi)
        .timeout(Duration::from_millis(10))
        .adaptive_timeout(false)
        .stack_size(1 << 20)
        .max_nested_calls(3)
        .operation("get", OperationOverrides::new().queue_timeout(seconds(1)));
    assert_eq!(
        round_trip(&config),
        r#"{"kind":"external_api","timeout":"10ms","adaptive_timeout":false,"stack_size":1048576,"max_nested_calls":3,"operations":{"get":{"queue_timeout":"1s"}}}"#
    );
    for kind in DependencyKind::ALL {
        assert_eq!(round_trip(&kind), format!("{:?}", kind.name()));
        round_trip(&DependencyConfig::from(kind));
        round_trip(&kind.preset());
    }
}

#[test]
fn whole_settings_are_read_as_they_are_written() {
    let text = r#"{"resilience":{"timeouts":{"database_timeout":"2s 500ms","default_timeout":"none"},"circuit_breaker":{"failure_rate":0.5,"window":20},"bulkheads":{"cache":{"max_queue_size":7}}},"external_dependencies":{"user_db":{"kind":"database","operations":{"get":{"timeout":"1s"}}}}}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    let cache = &settings.defaults().kinds[&DependencyKind::Cache];
    assert_eq!(cache.max_queue_size, Some(7));
    assert_eq!(serde_json::to_string(&settings).unwrap(), text);
    let written = serde_json::to_value(&settings).unwrap();
    let again: Settings = serde_json::from_value(written).unwrap();
    assert_eq!(again.defaults(), settings.defaults());
    assert_eq!(again.dependencies(), settings.dependencies());
    assert_eq!(
        (again.environment(), again.origin("resilience")),
        (None, None)
    );
    let dependencies = bulkman::Dependencies::from_settings(&again).unwrap();
    let explained = dependencies.explain("user_db", "get").unwrap();
    assert_eq!(explained.timeout.value, TimeoutSetting::After(seconds(1)));
    assert_eq!(explained.timeout.origin, None);
    let empty: Settings = serde_json::from_str("{}").unwrap();
    assert!(empty.dependencies().is_empty());
}

#[test]
fn settings_that_are_data_are_checked_as_those_of_files() {
    let error = |text: &str| {
        let result = serde_json::from_str::<Settings>(text);
        result.unwrap_err().to_string()
    };
    let wrong = r#"{"resilience": {"timeouts": {"cache_timeout": -1}}, "external_dependencies": {"db": {"kind": "cpu", "max_concurrent_calls": 0}}}"#;
    let told = error(wrong);
    assert!(told.starts_with("2 problems in the settings"), "{told}");
    assert!(
        told.contains("data: `resilience.timeouts.cache_timeout`: found `-1`"),
        "{told}"
    );
    assert!(told.contains("found 0, expected at least 1"), "{told}");
    for (text, expected) in [
        ("[]", "found a list, expected a section"),
        ("7", "found `7`, expected a section"),
        (r#"{"production": {}}"#, "found a key that is unknown here"),
        (
            r#"{"resilience": {}, "resilience": {}}"#,
            "the key \"resilience\" twice",
        ),
    ] {
        let told = error(text);
        assert!(told.contains(expected), "{text}: {told}");
    }
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert!(error(&deep).contains("more than 64 sections and lists inside each other"));
    let wide = format!("[{}1]", "1,".repeat(100_000));
    assert!(error(&wide).contains("more than 100000 values"));
}
