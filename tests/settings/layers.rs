//! The layers: what holds everywhere, the environment's section, and which environments there are.

use bulkman::DependencyKind;
use bulkman::settings::{Format, Settings, SettingsError, SettingsLoader};

use super::helpers::{problem, problems, toml};
use super::support::seconds;

const TEXT: &str = r#"
[resilience.timeouts]
default_timeout = 20
database_timeout = 5

[external_dependencies.user_db]
kind = "database"
max_concurrent_calls = 4
circuit_breaker = {failure_threshold = 3, success_threshold = 1}

[development]

[production.resilience.timeouts]
database_timeout = "2s 500ms"

[production.external_dependencies.user_db]
max_concurrent_calls = 40
circuit_breaker = {failure_threshold = 7}

[production.external_dependencies.tax]
kind = "external_api"

[testing.external_dependencies.user_db]
circuit_breaker = false

["eu west".resilience.timeouts]
database_timeout = "none"
"#;

fn loader(text: &str) -> SettingsLoader {
    Settings::from_text(text, Format::Toml).without_variables()
}

fn database_timeout(settings: &Settings) -> Option<std::time::Duration> {
    let databases = &settings.defaults().kinds[&DependencyKind::Database];
    databases.timeout.unwrap().limit()
}

#[test]
fn without_an_environment_only_what_holds_everywhere_is_read() {
    let settings = loader(TEXT).load().unwrap();
    assert_eq!(settings.environment(), None);
    assert_eq!(database_timeout(&settings), Some(seconds(5)));
    assert_eq!(
        settings.dependencies().keys().collect::<Vec<_>>(),
        ["user_db"]
    );
    let global = &settings.defaults().global;
    assert_eq!(global.timeout.unwrap().limit(), Some(seconds(20)));
}

#[test]
fn the_section_of_the_environment_is_merged_key_by_key() {
    let settings = loader(TEXT).environment("production").load().unwrap();
    assert_eq!(settings.environment(), Some("production"));
    assert_eq!(database_timeout(&settings), Some(seconds(5) / 2));
    let user_db = &settings.dependencies()["user_db"];
    assert_eq!(user_db.kind, DependencyKind::Database);
    assert_eq!(user_db.overrides.max_concurrent_calls, Some(40));
    let rules = &user_db.overrides.circuit_breaker;
    assert_eq!(
        (rules.failure_threshold, rules.success_threshold),
        (Some(7), Some(1))
    );
    assert_eq!(
        settings.dependencies()["tax"].kind,
        DependencyKind::ExternalApi
    );
}

#[test]
fn what_is_no_section_replaces_one() {
    let settings = loader(TEXT).environment("testing").load().unwrap();
    let rules = &settings.dependencies()["user_db"].overrides.circuit_breaker;
    assert_eq!(
        (rules.enabled, rules.failure_threshold),
        (Some(false), None)
    );
}

#[test]
fn an_environment_may_have_any_name_and_an_empty_section() {
    let settings = loader(TEXT).environment("eu west").load().unwrap();
    assert_eq!(database_timeout(&settings), None);
    let settings = loader(TEXT).environment("development").load().unwrap();
    assert_eq!(database_timeout(&settings), Some(seconds(5)));
}

#[test]
fn an_environment_without_a_section_is_an_error_unless_asked_otherwise() {
    let error = loader(TEXT).environment("prodcution").load().unwrap_err();
    assert_eq!(
        error.to_string(),
        "settings text have no section for the environment `prodcution`; did you mean `production`? There are \
         `development`, `eu west`, `production`, `testing`"
    );
    let SettingsError::UnknownEnvironment {
        environment, near, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (&*environment, near.as_deref()),
        ("prodcution", Some("production"))
    );

    let asked = loader(TEXT)
        .environment("staging")
        .environment_may_be_missing();
    let settings = asked.load().unwrap();
    assert_eq!(settings.environment(), Some("staging"));
    assert_eq!(database_timeout(&settings), Some(seconds(5)));

    // These are sections, and no environments.
    assert!(loader(TEXT).environment("resilience").load().is_err());
}

#[test]
fn a_slip_in_the_section_of_another_environment_is_found_too() {
    let text = TEXT.replace("database_timeout = \"2s 500ms\"", "databse_timeout = 2");
    for environment in ["production", "testing"] {
        let loaded = loader(&text).environment(environment).load();
        assert!(problem(loaded).contains("`resilience.timeouts.databse_timeout`"));
    }
    assert!(loader(&text).load().is_err());
}

#[test]
fn a_slip_that_all_environments_share_is_told_once() {
    let text = TEXT.replace("default_timeout", "defualt_timeout");
    assert_eq!(
        problems(loader(&text).environment("testing").load()).len(),
        1
    );
}

#[test]
fn a_section_with_a_slip_in_its_name_is_no_environment() {
    for (text, path, expected) in [
        (
            "[resiliance.timeouts]\ncpu_timeout = 1\n",
            "resiliance",
            "`resilience`, `external_dependencies` or an environment; did you mean `resilience`?",
        ),
        (
            "[timeouts]\ncpu_timeout = 1\n",
            "timeouts.cpu_timeout",
            "`resilience` or `external_dependencies`, since `timeouts` is taken for an environment",
        ),
        (
            "production = 5\n",
            "production",
            "a section with `resilience` or `external_dependencies`, since `production` is taken for an environment",
        ),
    ] {
        let found = problem(toml(text));
        let (place, rest) = found.split_once(": ").unwrap();
        assert!(place.starts_with("text:"), "{place}");
        assert!(rest.starts_with(&format!("`{path}`: found ")), "{rest}");
        assert!(rest.ends_with(&format!(", expected {expected}")), "{rest}");
    }
}

#[test]
fn each_value_knows_where_it_stands() {
    let settings = loader(TEXT).environment("production").load().unwrap();
    let place = |path| settings.origin(path).map(ToString::to_string);
    assert_eq!(
        place("resilience.timeouts.default_timeout").as_deref(),
        Some("text:3:1")
    );
    assert_eq!(
        place("resilience.timeouts.database_timeout").as_deref(),
        Some("text:14:1")
    );
    assert_eq!(
        place("external_dependencies.user_db.circuit_breaker.success_threshold").as_deref(),
        Some("text:9:43")
    );
    assert_eq!(place("resilience.timeouts.cpu_timeout"), None);
}
