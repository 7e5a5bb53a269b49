//! YAML: the same settings, and what only YAML can do wrong.

use bulkman::settings::{Format, Settings, SettingsError};
use bulkman::{
    AdaptiveTimeoutConfig, CircuitBreakerConfig, CircuitBreakerOverrides, DependencyKind,
    TimeoutSetting,
};
use proptest::prelude::*;

use super::helpers::{Folder, problem, toml};
use super::support::seconds;

fn yaml(text: &str) -> Result<Settings, SettingsError> {
    Settings::from_text(text, Format::Yaml)
        .without_variables()
        .load()
}

#[test]
fn yaml_and_toml_say_the_same() {
    let from_yaml = yaml(
        r#"
resilience:
  timeouts: {default_timeout: 20, database_timeout: 2.5, cache_timeout: 250ms, cpu_timeout: none}
  circuit_breaker:
    failure_rate: 0.5
    window: 60s
    minimum_calls: 0x10
  bulkheads:
    database:
      max_concurrent_calls: 10
      bulkhead: semaphore
      circuit_breaker: false
external_dependencies:
  "user db":
    kind: database
    operations:
      export:
        timeout: "2m"
"#,
    )
    .unwrap();
    let from_toml = toml(
        r#"
[resilience]
timeouts = {default_timeout = 20, database_timeout = 2.5, cache_timeout = "250ms", cpu_timeout = "none"}
circuit_breaker = {failure_rate = 0.5, window = "60s", minimum_calls = 16}
[resilience.bulkheads.database]
max_concurrent_calls = 10
bulkhead = "semaphore"
circuit_breaker = false
[external_dependencies."user db"]
kind = "database"
operations.export.timeout = "2m"
"#,
    )
    .unwrap();
    assert_eq!(from_yaml.defaults(), from_toml.defaults());
    assert_eq!(from_yaml.dependencies(), from_toml.dependencies());
    let user_db = &from_yaml.dependencies()["user db"];
    assert_eq!(user_db.kind, DependencyKind::Database);
    assert_eq!(
        user_db.operations["export"].timeout,
        Some(TimeoutSetting::After(seconds(120)))
    );
}

#[test]
fn files_that_end_in_yaml_or_yml() {
    let folder = Folder::new();
    for name in ["settings.yaml", "settings.yml"] {
        let path = folder.file(name, "external_dependencies:\n  db: {kind: cpu}\n");
        let settings = Settings::from_path(path)
            .without_variables()
            .load()
            .unwrap();
        assert_eq!(settings.dependencies().len(), 1);
    }
}

#[test]
fn an_empty_text_or_one_of_comments_is_an_error() {
    for text in ["", "\n", "# nothing\n", "---\n", "---\n...\n", "{}", "null"] {
        let result = yaml(text);
        assert!(
            matches!(result, Err(SettingsError::Empty { .. })),
            "{text:?}: {result:?}"
        );
    }
}

#[test]
fn a_section_without_content_is_an_empty_one() {
    let settings = yaml(
        "resilience:\n  timeouts:\n  bulkheads:\n    cache:\nproduction:\nexternal_dependencies:\n",
    );
    assert!(settings.unwrap().dependencies().is_empty());
    let found = problem(yaml("external_dependencies:\n  db:\n"));
    assert_eq!(
        found,
        "text:2:5: `external_dependencies.db`: found nothing, expected a section"
    );
    let found = problem(yaml("resilience:\n  timeouts:\n    cpu_timeout:\n"));
    assert!(
        found.contains("`resilience.timeouts.cpu_timeout`: found nothing, expected a duration"),
        "{found}"
    );
}

#[test]
fn what_is_no_section_is_an_error() {
    for text in ["5", "- resilience", "resilience"] {
        let found = problem(yaml(text));
        assert!(found.starts_with("text:1:1: found "), "{found}");
        assert!(
            found.ends_with("expected the sections `resilience` and `external_dependencies`"),
            "{found}"
        );
    }
}

#[test]
fn a_key_twice_is_an_error_at_any_depth() {
    for (text, expected) in [
        (
            "resilience:\n  timeouts:\n    cpu_timeout: 1\n    cpu_timeout: 1\n",
            "text:4:5: `resilience.timeouts.cpu_timeout`: found the same key again, first in text:3:5, expected each key \
             once",
        ),
        (
            "resilience: {}\nproduction: {}\nresilience: {}\n",
            "text:3:1: `resilience`: found the same key again, first in text:1:1, expected each key once",
        ),
        (
            "external_dependencies:\n  db: {kind: cpu, \"kind\": cpu}\n",
            "text:2:19: `external_dependencies.db.kind`: found the same key again, first in text:2:8, expected each key \
             once",
        ),
        (
            "production:\n  external_dependencies:\n    db: {kind: cpu}\n    'db': {kind: cpu}\n",
            "text:4:5: `production.external_dependencies.db`: found the same key again, first in text:3:5, expected each \
             key once",
        ),
    ] {
        assert_eq!(problem(yaml(text)), expected);
    }
}

#[test]
fn a_word_of_yaml_1_1_is_no_truth() {
    for word in ["yes", "no", "on", "off", "y"] {
        let text = format!("resilience:\n  circuit_breaker:\n    timeouts_are_failures: {word}\n");
        let found = problem(yaml(&text));
        let expected = format!("found {word:?}, expected `true` or `false`");
        assert!(found.ends_with(&expected), "{found}");
    }
}

#[test]
fn a_number_in_quotes_is_text() {
    let found = problem(yaml(
        "resilience:\n  bulkheads:\n    cpu: {max_queue_size: '5'}\n",
    ));
    assert!(
        found.contains("found \"5\", expected a whole number"),
        "{found}"
    );
}

#[test]
fn aliases_stand_for_what_they_name() {
    let settings = yaml(
        "external_dependencies:\n  a: &common {kind: database, max_concurrent_calls: &n 3, max_queue_size: *n}\n  b: *common\n",
    )
    .unwrap();
    let of = |name: &str| settings.dependencies()[name].overrides.clone();
    assert_eq!(of("a"), of("b"));
    assert_eq!(of("b").max_queue_size, Some(3));
}

/// The billion laughs: nine lines that would be a billion values.
#[test]
fn a_bomb_of_aliases_is_an_error() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let again = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", vec![again; 10].join(", "));
    }
    let error = yaml(&text).unwrap_err();
    assert!(matches!(error, SettingsError::TooMuch { .. }), "{error}");
    assert!(
        error.to_string().contains("more than 100000 values"),
        "{error}"
    );
    // The same with sections.
    let mut text = "a0: &a0 {x: 1, y: 2, z: 3}\n".to_owned();
    for i in 1..40 {
        let inner = i - 1;
        text += &format!("a{i}: &a{i} {{x: *a{inner}, y: *a{inner}, z: *a{inner}}}\n");
    }
    assert!(matches!(yaml(&text), Err(SettingsError::TooMuch { .. })));
}

/// Few values, but each line makes it deeper.
#[test]
fn aliases_that_nest_are_an_error() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..200 {
        text += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    let error = yaml(&text).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more than 64 sections and lists inside each other"),
        "{error}"
    );
}

#[test]
fn an_alias_that_means_nothing_or_itself_is_an_error() {
    for text in [
        "a: *nothing\n",
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
        "? *a\n: 1\n",
        "&a a: 1\nb: {*a : 2}\n",
    ] {
        let error = yaml(text).unwrap_err();
        assert!(
            matches!(error, SettingsError::Syntax { .. }),
            "{text:?}: {error:?}"
        );
        assert!(error.to_string().starts_with("text:"), "{error}");
    }
}

#[test]
fn deep_and_wide_yaml_is_an_error() {
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(50_000),
    ] {
        assert!(yaml(&deep).is_err());
    }
    let wide = format!("a: [{}]", "1,".repeat(200_000));
    assert!(matches!(yaml(&wide), Err(SettingsError::TooMuch { .. })));
}

#[test]
fn keys_are_words() {
    for text in ["[a]: 1\n", "{a: 1}: 1\n", "? - a\n: 1\n"] {
        assert!(
            matches!(yaml(text), Err(SettingsError::Syntax { .. })),
            "{text:?}"
        );
    }
    let found = problem(yaml("resilience:\n  5: 1\n"));
    assert!(
        found.contains("`resilience.5`: found a key that is unknown here"),
        "{found}"
    );
    let found = problem(yaml("resilience:\n  timeouts:\n    <<: {cpu_timeout: 1}\n"));
    assert!(
        found.contains("`resilience.timeouts.\"<<\"`: found a key that is unknown here"),
        "{found}"
    );
}

#[test]
fn tags_and_second_documents_are_errors() {
    for text in [
        "resilience: !!map {}\n",
        "resilience: {timeouts: {cpu_timeout: !seconds 5}}\n",
        "a: !x [1]\n",
    ] {
        let error = yaml(text).unwrap_err().to_string();
        assert!(error.ends_with("settings have no tags"), "{error}");
    }
    let error = yaml("resilience: {}\n---\nresilience: {}\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("text:2:1: a second document begins"),
        "{error}"
    );
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    for (text, place) in [
        ("resilience: [1, 2\n", "text:2:"),
        ("resilience:\n  a: 1\n b: 2\n", "text:3:"),
        ("a: \"open\n", "text:"),
        ("a: @\n", "text:1:"),
        ("a:\n\t- b\n", "text:2:"),
    ] {
        let error = yaml(text).unwrap_err();
        assert!(
            matches!(error, SettingsError::Syntax { .. }),
            "{text:?}: {error:?}"
        );
        assert!(error.to_string().starts_with(place), "{error}");
    }
}

#[test]
fn the_documentation_is_right() {
    let source = include_str!("../../src/settings/mod.rs");
    let sample: String = source
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| {
            format!(
                "{}\n",
                line.trim_start_matches("//!").get(1..).unwrap_or_default()
            )
        })
        .collect();
    let settings = Settings::from_text(sample, Format::Yaml)
        .environment("production")
        .variables([
            ("BULKMAN_RESILIENCE__TIMEOUTS__DEFAULT_TIMEOUT", "10"),
            ("BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT", "250ms"),
        ])
        .load()
        .unwrap();
    let user_db = &settings.dependencies()["user_db"];
    assert_eq!(user_db.overrides.max_concurrent_calls, Some(40));
    assert_eq!(
        user_db.operations["export"].timeout,
        Some(TimeoutSetting::After(seconds(120)))
    );
}

/// The sample in `examples/` is what it says: complete, and right in every environment.
#[test]
fn the_sample_has_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/settings.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    for environment in [
        None,
        Some("development"),
        Some("testing"),
        Some("drill"),
        Some("production"),
    ] {
        let loader = Settings::from_path(path).without_variables();
        let loader = match environment {
            Some(name) => loader.environment(name),
            None => loader,
        };
        let settings = loader.load().unwrap();
        assert_eq!(settings.dependencies().len(), 3);
        let global = &settings.defaults().global;
        assert_eq!(
            global.queue_timeout,
            Some(TimeoutSetting::After(seconds(5)))
        );
        assert_eq!(settings.defaults().kinds.len(), DependencyKind::ALL.len());
    }
    let rules =
        CircuitBreakerOverrides::from(CircuitBreakerConfig::default().failure_rate(0.5, 20))
            .minimum_calls(1)
            .slow_call_duration(seconds(1))
            .slow_call_rate(0.5)
            .probe_timeout(seconds(1))
            .isolation_backoff(2.0, seconds(60));
    let rules = serde_json::to_value(rules).unwrap();
    let keys = rules.as_object().unwrap().keys().map(String::as_str);
    let of_policies = [
        "attempts",
        "first_delay",
        "factor",
        "max_delay",
        "jitter",
        "max_named_delay",
        "budget",
        "budget_reserve",
        "attempt_timeout",
        "retry_timeouts",
        "retry_panics",
        "calls",
        "period",
        "burst",
        "max_wait",
        "delay",
        "quantile",
        "health",
        "queue_utilization",
        "queue_utilization_for",
        "saturated_for",
        "queued_for",
        "all_busy_for",
        "abandoned_tasks",
        "rejection_rate",
        "rejection_window",
        "closed_circuit",
        "chaos",
        "seed",
        "latency",
        "latency_rate",
        "error_rate",
        "refusal_rate",
        "panic_rate",
    ];
    let numbers = AdaptiveTimeoutConfig::new().ceiling(seconds(1));
    let numbers = serde_json::to_value(numbers).unwrap();
    let numbers = numbers.as_object().unwrap().keys().map(String::as_str);
    let others = [
        "idle_timeout",
        "stack_size",
        "max_nested_calls",
        "adaptive_timeout",
        "operations",
    ];
    for key in keys.chain(of_policies).chain(numbers).chain(others) {
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
    for kind in DependencyKind::NAMES {
        assert!(text.contains(kind), "{kind}");
    }
}

proptest! {
    /// Whatever the text is, it is settings or an error.
    #[test]
    fn no_text_is_too_odd(text in "[ -~\n\t]{0,80}", odd in "(resilience|timeouts|[&*!|>'\"%@`{}\\[\\],#?:\\-] ?|\n|  |a|5){0,40}") {
        for text in [&text, &odd] {
            let _one_or_the_other = yaml(text).map(drop).map_err(|error| error.to_string());
            let _one_or_the_other = toml(text).map(drop).map_err(|error| error.to_string());
        }
    }
}

#[test]
fn a_blank_section_of_an_environment_changes_nothing() {
    const BASE: &str = "resilience: {timeouts: {database_timeout: 5s}}\n\
                        external_dependencies: {user_db: {kind: database, circuit_breaker: {failure_threshold: 3}}}\n\
                        production:\n";
    for section in [
        "  external_dependencies:\n",
        "  resilience:\n",
        "  resilience:\n    timeouts:\n",
        "  external_dependencies:\n    user_db:\n",
        "  external_dependencies:\n    user_db:\n      circuit_breaker:\n",
    ] {
        let loaded = |text: String| {
            let loader = Settings::from_text(text, Format::Yaml).without_variables();
            loader.environment("production").load().unwrap()
        };
        let (without, with) = (loaded(BASE.to_owned()), loaded(format!("{BASE}{section}")));
        assert_eq!(with.dependencies(), without.dependencies(), "{section}");
        assert_eq!(with.defaults(), without.defaults(), "{section}");
        assert_eq!(with.dependencies().len(), 1);
    }
}

/// JSON is YAML.
#[test]
fn settings_are_written_as_they_are_read() {
    let sample = include_str!("../../examples/settings.yaml");
    let odd = "resilience: {bulkheads: {default: {queue_timeout: none}, cache: {circuit_breaker: {failure_threshold: 9}}}}\n\
               external_dependencies: {\"user.db \\\"1\\\"\": {kind: cpu}, \"\\u00fc\": {kind: cache}}\n";
    for (text, environment) in [
        (sample, None),
        (sample, Some("production")),
        (sample, Some("development")),
        (sample, Some("drill")),
        (odd, None),
        ("resilience:\n", None),
        (
            "resilience: {bulkheads: {payment: {}, default: {}}}\n",
            None,
        ),
    ] {
        let loader = Settings::from_text(text, Format::Yaml);
        let loader = match environment {
            Some(name) => loader.environment(name),
            None => loader,
        };
        let variable = ("BULKMAN_RESILIENCE__TIMEOUTS__CPU_TIMEOUT", "90");
        let settings = loader.variables([variable]).load().unwrap();
        let written = serde_json::to_string(&settings).unwrap();
        let again = yaml(&written).unwrap();
        assert_eq!(again.dependencies(), settings.dependencies(), "{written}");
        assert_eq!(again.defaults(), settings.defaults(), "{written}");
        assert_eq!(again.environment(), None);
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
    }
}

#[test]
fn written_settings_have_only_what_is_set() {
    let text = "resilience: {timeouts: {default_timeout: 3, database_timeout: none}, circuit_breaker: {failure_threshold: 2}}";
    let written = serde_json::to_string(&yaml(text).unwrap()).unwrap();
    assert_eq!(
        written,
        r#"{"resilience":{"timeouts":{"database_timeout":"none","default_timeout":"3s"},"circuit_breaker":{"failure_threshold":2},"bulkheads":{}},"external_dependencies":{}}"#
    );
}
