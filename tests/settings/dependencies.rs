//! Dependencies from settings.

use std::sync::Arc;
use std::time::Duration;

use bulkman::policy::PipelineError;
use bulkman::settings::{Format, Settings};
use bulkman::{
    AnyBulkhead, BulkheadConfig, BulkheadRegistry, ConfigLevel, Dependencies, DependencyError,
    DependencyKind, DependencyPipeline, ManualClock, current,
};

use super::helpers::toml;
use super::support::{seconds, wait};

const TEXT: &str = r#"
[resilience.timeouts]
default_timeout = 20
database_timeout = 5
[resilience.circuit_breaker]
success_threshold = 1
[resilience.bulkheads.default]
queue_timeout = "700ms"
[resilience.bulkheads.database]
max_queue_size = 7
[external_dependencies.user_db]
kind = "database"
max_concurrent_calls = 2
circuit_breaker = false
[external_dependencies.user_db.operations.export]
timeout = "2m"
[external_dependencies.orders_db]
kind = "database"
circuit_breaker = {failure_threshold = 4}
[external_dependencies.sessions]
kind = "cache"
[external_dependencies.hashes]
kind = "cpu"
"#;

#[test]
fn each_is_registered_with_what_the_settings_say() {
    let dependencies = Dependencies::from_settings(&toml(TEXT).unwrap()).unwrap();
    let names: Vec<_> = dependencies
        .names()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["hashes", "orders_db", "sessions", "user_db"]);
    let user_db = dependencies.bulkhead("user_db").unwrap();
    let config = user_db.config();
    assert_eq!((config.max_concurrent_calls, config.max_queue_size), (2, 7));
    assert_eq!(config.execution_timeout, Some(seconds(5)));
    assert_eq!(config.circuit_breaker, None);
    let orders_db = dependencies.bulkhead("orders_db").unwrap();
    let rules = orders_db.config().circuit_breaker.clone().unwrap();
    assert_eq!((rules.failure_threshold, rules.success_threshold), (4, 1));
    assert!(matches!(
        dependencies.bulkhead("sessions").unwrap(),
        AnyBulkhead::Semaphore(_)
    ));
    let hashes = dependencies.bulkhead("hashes").unwrap();
    assert_eq!(hashes.config().execution_timeout, Some(seconds(20)));
    assert_eq!(
        hashes.config().queue_timeout,
        Some(Duration::from_millis(700))
    );
}

#[test]
fn a_pipeline_has_the_retries_and_the_rate_limit_of_the_settings() {
    let settings = toml(
        r#"
[resilience.retry]
first_delay = 0
[resilience.bulkheads.database.retry]
attempts = 4
[external_dependencies.user_db]
kind = "database"
circuit_breaker = false
rate_limit = {calls = 3, period = "1h"}
[external_dependencies.user_db.operations.add_user]
retry = false
[external_dependencies.sessions]
kind = "cache"
"#,
    )
    .unwrap();
    let dependencies = Dependencies::from_settings(&settings).unwrap();
    let user_db: DependencyPipeline<&str> =
        dependencies.pipeline("user_db").unwrap().build().unwrap();
    let call = dependencies.call("user_db").unwrap().operation("add_user");
    let add_user: DependencyPipeline<&str> = call.pipeline().build().unwrap();
    let sessions: DependencyPipeline<&str> =
        dependencies.pipeline("sessions").unwrap().build().unwrap();
    let down = || Err::<(), _>("down");
    assert_eq!(sessions.execute(down).attempts, 1);
    assert_eq!(add_user.execute(down).attempts, 1);
    let result = user_db.execute(down);
    assert_eq!(result.attempts, 3, "the fourth would come too late");
    assert!(matches!(
        result.error(),
        Some(PipelineError::RateLimited(_))
    ));

    let text = dependencies
        .explain("user_db", "add_user")
        .unwrap()
        .to_string();
    let policies = text.split_once("\n  retry").unwrap().1;
    assert_eq!(
        policies,
        "                off          operation   text:11:1
  rate limit           on           dependency  text:9:1
    calls              3            dependency  text:9:15
    period             3600s        dependency  text:9:26"
    );
    let text = dependencies.explain("user_db", "get").unwrap().to_string();
    for line in [
        "attempts           4            kind              text:5:1",
        "first_delay        0ns          global default    text:3:1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn chaos_of_a_drill_is_off_in_production() {
    let text = r#"
[resilience.chaos]
error_rate = 1
seed = 7
[external_dependencies.user_db]
kind = "database"
chaos = true
[production.external_dependencies.user_db]
chaos = false
"#;
    let run = |environment: Option<&str>, variables: &[(&'static str, &'static str)]| {
        let loader = Settings::from_text(text, Format::Toml).variables(variables.iter().copied());
        let loader = match environment {
            Some(name) => loader.environment(name),
            None => loader,
        };
        let dependencies = Dependencies::from_settings(&loader.load().unwrap()).unwrap();
        let builder = dependencies.pipeline("user_db").unwrap();
        let pipeline: DependencyPipeline<&str> = builder.chaos_error(|| "chaos").build().unwrap();
        let explained = dependencies.explain("user_db", "get").unwrap().to_string();
        (pipeline.execute(|| Ok(1)).is_success(), explained)
    };
    let (is_calm, explained) = run(None, &[]);
    assert!(!is_calm);
    assert!(
        explained.ends_with(
            "  chaos                 on           dependency        text:7:1
    error_rate          1            global default    text:3:1
    seed                7            global default    text:4:1"
        ),
        "{explained}"
    );
    let (is_calm, explained) = run(Some("production"), &[]);
    assert!(is_calm);
    assert!(
        explained.ends_with("chaos                 off          dependency        text:9:1"),
        "{explained}"
    );
    let off = ("BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__CHAOS", "false");
    assert!(run(None, &[off]).0);
}

#[test]
fn health_thresholds_of_the_settings_hold_for_all_but_those_that_say_otherwise() {
    let text = r#"
[resilience.health]
all_busy_for = 0
[external_dependencies.user_db]
kind = "database"
max_concurrent_calls = 1
[external_dependencies.extra]
kind = "database"
max_concurrent_calls = 1
health = false
"#;
    let dependencies = Dependencies::from_settings(&toml(text).unwrap()).unwrap();
    let is_well_while_busy = |name: &str| {
        let inside = dependencies.bulkhead(name).unwrap();
        let call = dependencies.call(name).unwrap();
        let health = call.run(move || inside.health()).wait();
        health.value().unwrap().is_healthy()
    };
    assert!(!is_well_while_busy("user_db"));
    assert!(is_well_while_busy("extra"));
    let explained = dependencies.explain("user_db", "get").unwrap().to_string();
    assert!(
        explained.ends_with(
            "  health thresholds     on           global default    text:2:13
    all_busy_for        0ns          global default    text:3:1"
        ),
        "{explained}"
    );
}

#[test]
fn explain_shows_where_each_value_stands() {
    let dependencies = Dependencies::from_settings(&toml(TEXT).unwrap()).unwrap();
    let text = dependencies
        .explain("user_db", "export")
        .unwrap()
        .to_string();
    assert_eq!(
        text,
        "dependency `user_db`, kind `database`, operation `export`
  timeout              120s         operation   text:16:1
  queue timeout        2s           preset
  concurrent calls     2            dependency  text:13:1
  places in the queue  7            kind        text:10:1
  bulkhead             thread_pool  preset
  circuit breaker      off          dependency  text:14:1"
    );
    let explained = dependencies.explain("orders_db", "get").unwrap();
    assert_eq!(explained.circuit_breaker.level, ConfigLevel::Dependency);
    assert_eq!(explained.timeout.level, ConfigLevel::Kind);
    assert_eq!(explained.timeout.origin.as_deref(), Some("text:4:1"));
    let rules = &explained.circuit_breaker_rules;
    assert_eq!(
        rules["failure_threshold"].origin.as_deref(),
        Some("text:19:20")
    );
    assert_eq!(
        rules["success_threshold"].origin.as_deref(),
        Some("text:6:1")
    );
    assert_eq!(rules["isolation_duration"].origin, None);
    let explained = dependencies.explain("hashes", "sum").unwrap();
    assert_eq!(explained.timeout.origin.as_deref(), Some("text:3:1"));
    assert_eq!(explained.queue_timeout.origin.as_deref(), Some("text:8:1"));
}

#[test]
fn a_variable_is_explained_by_its_name() {
    let name = "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT";
    let settings = Settings::from_text(TEXT, Format::Toml)
        .variables([(name, "1")])
        .load()
        .unwrap();
    let dependencies = Dependencies::from_settings(&settings).unwrap();
    let explained = dependencies.explain("user_db", "get").unwrap();
    let origin = explained.timeout.origin.unwrap();
    assert_eq!(&*origin, format!("variable {name}"));
}

#[test]
fn limits_of_operations_hold() {
    let clock = ManualClock::new();
    let dependencies = Dependencies::builder()
        .clock(clock)
        .build_from_settings(&toml(TEXT).unwrap())
        .unwrap();
    let remaining = |operation: &'static str| {
        let call = dependencies.call("user_db").unwrap().operation(operation);
        wait(call.run(|| current().unwrap().remaining()))
            .into_result()
            .unwrap()
    };
    assert_eq!(remaining("export"), Some(seconds(120)));
    assert_eq!(remaining("get"), Some(seconds(5)));
}

#[test]
fn others_can_be_registered_beside_them() {
    let dependencies = Dependencies::from_settings(&toml(TEXT).unwrap()).unwrap();
    dependencies.register_database("by_hand").unwrap();
    let explained = dependencies.explain("by_hand", "get").unwrap();
    assert_eq!(
        explained.timeout.value.limit(),
        Some(seconds(5)),
        "the kind's"
    );
}

#[test]
fn if_one_cannot_be_registered_none_is() {
    let registry = Arc::new(BulkheadRegistry::new());
    registry
        .create_semaphore(BulkheadConfig::new("sessions"))
        .unwrap();
    let error = Dependencies::builder()
        .registry(Arc::clone(&registry))
        .build_from_settings(&toml(TEXT).unwrap())
        .unwrap_err();
    assert!(matches!(error, DependencyError::Registry(_)), "{error}");
    let names = registry.names();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["sessions"]
    );
}

#[test]
fn settings_are_data() {
    let settings = toml(TEXT).unwrap();
    let defaults = settings.defaults();
    assert_eq!(
        defaults.kinds[&DependencyKind::Database].max_queue_size,
        Some(7)
    );
    assert_eq!(settings.clone().dependencies().len(), 4);
}

#[test]
fn long_names_have_origins_of_their_own() {
    let name = "GET /api/v1/customers/{customer_id}/invoices/{invoice_id}/lines";
    assert!(name.len() > 60);
    let operations: String = (1..=3)
        .map(|i| format!("\"{name}/{i}\" = {{timeout = {i}}}\n"))
        .collect();
    let text = format!(
        "[external_dependencies.api]\nkind = \"external_api\"\n[external_dependencies.api.operations]\n{operations}"
    );
    let settings = toml(&text).unwrap();
    let dependencies = Dependencies::from_settings(&settings).unwrap();
    for i in 1..=3 {
        let explained = dependencies.explain("api", &format!("{name}/{i}")).unwrap();
        let place = format!("text:{}:", i + 3);
        let origin = explained.timeout.origin.unwrap();
        assert!(origin.starts_with(&place), "{origin}");
        let path = format!("external_dependencies.api.operations.\"{name}/{i}\".timeout");
        let origin = settings.origin(&path).unwrap().to_string();
        assert!(origin.starts_with(&place), "{origin}");
    }
    let cut = format!(
        "external_dependencies.api.operations.\"{}\"….timeout",
        &name[..60]
    );
    assert_eq!(settings.origin(&cut), None, "it could be any of the three");
}

#[test]
fn stacks_nested_calls_and_adaptive_timeouts_come_from_settings() {
    let text = r#"
        [resilience.bulkheads.default]
        max_nested_calls = 7
        idle_timeout = "30s"
        [resilience.bulkheads.database]
        stack_size = 1048576
        adaptive_timeout = true
        [external_dependencies.user_db]
        kind = "database"
        adaptive_timeout = {factor = 2, ceiling = "1s"}
        [external_dependencies.user_db.operations.export]
        timeout = "2m"
        adaptive_timeout = false
        [external_dependencies.orders_db]
        kind = "database"
    "#;
    let dependencies = Dependencies::from_settings(&toml(text).unwrap()).unwrap();
    let user_db = dependencies.bulkhead("user_db").unwrap();
    let config = user_db.config();
    assert_eq!(
        (
            config.stack_size,
            config.max_nested_calls,
            config.idle_timeout
        ),
        (Some(1 << 20), 7, Some(seconds(30)))
    );
    let explained = dependencies.explain("user_db", "get").unwrap();
    let stats = explained.adaptive_timeout_stats.unwrap();
    assert_eq!((stats.limit, stats.config.factor), (seconds(1), 2.0));
    assert_eq!(
        explained.to_string().lines().take(4).collect::<Vec<_>>(),
        [
            "dependency `user_db`, kind `database`, operation `get`",
            "  timeout               10s          preset",
            "  adaptive timeout      1.0s         dependency        text:10:9",
            "    the ceiling, until there are enough samples: 2 times an unknown time, the 0.99 quantile of 0 samples",
        ]
    );
    let explained = dependencies.explain("user_db", "export").unwrap();
    assert_eq!(explained.adaptive_timeout_stats, None);
    let origin = explained.adaptive_timeout.origin.unwrap();
    assert_eq!(&*origin, "text:13:9");
    let explained = dependencies.explain("orders_db", "get").unwrap();
    let stats = explained.adaptive_timeout_stats.unwrap();
    assert_eq!((stats.limit, stats.config.factor), (seconds(10), 3.0));
    assert_eq!(explained.adaptive_timeout.level, ConfigLevel::Kind);
    assert_eq!(explained.stack_size.origin.as_deref(), Some("text:6:9"));
    assert_eq!(
        explained.max_nested_calls.origin.as_deref(),
        Some("text:3:9")
    );
}

#[test]
fn settings_that_are_loaded_again_change_what_differs() {
    let load = |n: u32, extra: &str| {
        let text = format!(
            "[external_dependencies.user_db]\nkind = \"database\"\nmax_concurrent_calls = {n}\n{extra}"
        );
        toml(&text).unwrap()
    };
    let dependencies = Dependencies::from_settings(&load(4, "")).unwrap();
    let told = |settings| {
        let changes = dependencies.apply(&settings).unwrap();
        changes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(load(4, "")), [""; 0]);
    assert_eq!(
        told(load(6, "[external_dependencies.cache]\nkind = \"cache\"")),
        [
            "dependency `cache` is new",
            "dependency `user_db`: max_concurrent_calls goes from 4 to 6"
        ]
    );
    let explained = dependencies.explain("user_db", "get").unwrap();
    assert_eq!(explained.max_concurrent_calls.value, 6);
    assert_eq!(
        explained.max_concurrent_calls.origin.as_deref(),
        Some("text:3:1")
    );
    let error = dependencies
        .apply(&load(6, "bulkhead = \"semaphore\""))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("bulkhead cannot change while it works"),
        "{error}"
    );
}
