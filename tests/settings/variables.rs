//! Variables of the environment, over everything else.

use std::ffi::OsString;

use bulkman::RetryOverrides;
use bulkman::policy::Jitter;
use bulkman::settings::{Format, Settings, SettingsError};

use super::helpers::{problem, problems};
use super::support::seconds;

const TEXT: &str = r#"
[external_dependencies.user-db]
kind = "database"
timeout = 3

[external_dependencies.Cache]
kind = "cache"

[production.external_dependencies.user-db]
timeout = 2
"#;

fn load(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::from_text(TEXT, Format::Toml)
        .variables(variables.iter().copied())
        .load()
}

#[test]
fn variables_set_the_rules_of_a_retry_and_of_a_rate_limit() {
    let settings = load(&[
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__RETRY__ATTEMPTS",
            "5",
        ),
        ("BULKMAN_EXTERNAL_DEPENDENCIES__CACHE__RETRY", "false"),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__RATE_LIMIT__CALLS",
            "50",
        ),
        ("BULKMAN_RESILIENCE__RETRY__JITTER", "none"),
    ])
    .unwrap();
    let user_db = &settings.dependencies()["user-db"].overrides;
    assert_eq!(user_db.retry.attempts, Some(5));
    assert_eq!(user_db.rate_limit.calls, Some(50));
    let cache = &settings.dependencies()["Cache"].overrides;
    assert_eq!(cache.retry, RetryOverrides::off());
    let global = &settings.defaults().global;
    assert_eq!(global.retry.jitter, Some(Jitter::None));
    assert_eq!(
        problem(load(&[(
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__RETRY__BUDGET",
            "2"
        )])),
        "variable BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__RETRY__BUDGET: \
         `external_dependencies.user-db.retry.budget`: found 2, expected a number from 0 to 1"
    );
}

#[test]
fn a_variable_lies_over_the_environments_section() {
    let settings = Settings::from_text(TEXT, Format::Toml)
        .environment("production")
        .variables([
            ("BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT", "250ms"),
            ("BULKMAN_RESILIENCE__TIMEOUTS__DEFAULT_TIMEOUT", "2.5"),
            ("BULKMAN_RESILIENCE__TIMEOUTS__CPU_TIMEOUT", "none"),
            (
                "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__CIRCUIT_BREAKER__FAILURE_THRESHOLD",
                "9",
            ),
            (
                "BULKMAN_EXTERNAL_DEPENDENCIES__CACHE__CIRCUIT_BREAKER",
                "true",
            ),
            ("PATH", "/bin"),
            ("BULKMANIA", "1"),
        ])
        .load()
        .unwrap();
    let user_db = &settings.dependencies()["user-db"].overrides;
    assert_eq!(user_db.timeout.unwrap().limit(), Some(seconds(1) / 4));
    assert_eq!(user_db.circuit_breaker.failure_threshold, Some(9));
    let global = &settings.defaults().global;
    assert_eq!(global.timeout.unwrap().limit(), Some(seconds(5) / 2));
    let cache = &settings.dependencies()["Cache"].overrides;
    assert_eq!(cache.circuit_breaker.enabled, Some(true));
    let origin = settings
        .origin("external_dependencies.user-db.timeout")
        .unwrap();
    assert_eq!(
        origin.to_string(),
        "variable BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT"
    );
}

#[test]
fn a_variable_can_name_a_new_dependency() {
    let settings = load(&[(
        "BULKMAN_EXTERNAL_DEPENDENCIES__TAX_API__KIND",
        "external_api",
    )])
    .unwrap();
    assert!(settings.dependencies().contains_key("tax_api"));
}

#[test]
fn a_variable_chooses_the_environment_unless_the_program_does() {
    let chosen = load(&[("BULKMAN_ENVIRONMENT", "production")]).unwrap();
    assert_eq!(chosen.environment(), Some("production"));
    let timeout = chosen.dependencies()["user-db"].overrides.timeout;
    assert_eq!(timeout.unwrap().limit(), Some(seconds(2)));
    assert!(matches!(
        load(&[("BULKMAN_ENVIRONMENT", "nowhere")]),
        Err(SettingsError::UnknownEnvironment { .. })
    ));
    let by_program = Settings::from_text(TEXT, Format::Toml)
        .environment("production")
        .variables([("BULKMAN_ENVIRONMENT", "nowhere")])
        .load()
        .unwrap();
    assert_eq!(by_program.environment(), Some("production"));
}

#[test]
fn the_prefix_can_be_another() {
    let settings = Settings::from_text(TEXT, Format::Toml)
        .variable_prefix("SHOP_")
        .variables([
            ("SHOP_RESILIENCE__TIMEOUTS__CPU_TIMEOUT", "9"),
            ("BULKMAN_NONSENSE", "1"),
        ])
        .load()
        .unwrap();
    assert_eq!(settings.defaults().kinds.len(), 1);
}

#[test]
fn a_slip_in_a_variable_is_told_with_its_name() {
    for (name, value, expected) in [
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT",
            "-5",
            "`external_dependencies.user-db.timeout`: found `-5`, expected a duration",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT",
            "",
            "`external_dependencies.user-db.timeout`: found \"\", expected a duration",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMOUT",
            "5",
            "`external_dependencies.user-db.timout`: found a key that is unknown here, expected one of `kind`",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USR__TIMEOUT",
            "5",
            "`external_dependencies.usr`: found a section without `kind`, expected the key `kind` in it",
        ),
        (
            "BULKMAN_TIMEOUT",
            "5",
            "`timeout`: found a key that is unknown here, expected one of `resilience`, `external_dependencies`",
        ),
        (
            "BULKMAN_PRODUCTION__RESILIENCE__TIMEOUTS__CPU_TIMEOUT",
            "5",
            "`production`: found a key that is unknown here, expected one of `resilience`",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES____TIMEOUT",
            "5",
            "found the path of keys \"EXTERNAL_DEPENDENCIES____TIMEOUT\", expected keys with two underscores",
        ),
        (
            "BULKMAN_",
            "5",
            "found the path of keys \"\", expected keys",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES",
            "5",
            "`external_dependencies`: found `5`, expected a section",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT__X",
            "5",
            "`external_dependencies.user-db.timeout`: found a section, expected a duration",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__MAX_CONCURRENT_CALLS",
            "0",
            "`external_dependencies.user-db.max_concurrent_calls`: found 0, expected at least 1",
        ),
    ] {
        let found = problem(load(&[(name, value)]));
        let rest = found.strip_prefix(&format!("variable {name}: "));
        assert!(
            rest.is_some_and(|rest| rest.starts_with(expected)),
            "{found}"
        );
    }
}

#[test]
fn the_same_key_in_two_variables_is_an_error() {
    let found = problem(load(&[
        ("BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT", "1"),
        ("BULKMAN_EXTERNAL_DEPENDENCIES__user_db__TIMEOUT", "2"),
    ]));
    assert_eq!(
        found,
        "variable BULKMAN_EXTERNAL_DEPENDENCIES__user_db__TIMEOUT: found the same key as in variable \
         BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT, expected each key once"
    );
}

#[test]
fn a_name_that_could_mean_two_is_an_error() {
    let text = format!("{TEXT}\n[external_dependencies.user_db]\nkind = \"database\"\n");
    let loaded = Settings::from_text(text, Format::Toml)
        .variables([("BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT", "1")])
        .load();
    let found = problem(loaded);
    assert!(
        found.contains("a name that means both `user-db` and `user_db`"),
        "{found}"
    );
}

#[test]
fn a_variable_does_not_replace_a_section_in_which_another_one_sets_a_key() {
    for (outer, inner) in [
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES",
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__TIMEOUT",
        ),
        (
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__CIRCUIT_BREAKER",
            "BULKMAN_EXTERNAL_DEPENDENCIES__USER_DB__CIRCUIT_BREAKER__FAILURE_THRESHOLD",
        ),
    ] {
        let found = problem(load(&[(inner, "1"), (outer, "false")]));
        assert_eq!(
            found,
            format!(
                "variable {outer}: found a value for the section in which variable {inner} sets a key, expected one of \
                 the two variables"
            )
        );
    }
}

#[test]
fn all_slips_of_variables_are_told_together() {
    let found = problems(load(&[("BULKMAN_B__", "1"), ("BULKMAN_A__", "1")]));
    assert_eq!(found.len(), 2);
    assert!(
        found[0].contains("BULKMAN_A__"),
        "in the order of their names: {found:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_value_or_a_name_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;

    let bytes = || OsString::from_vec(vec![b'5', 0xff]);
    let load = |name: OsString| {
        Settings::from_text(TEXT, Format::Toml)
            .variables([(name, bytes())])
            .load()
    };
    let found = problem(load("BULKMAN_X".into()));
    assert_eq!(
        found,
        "variable BULKMAN_X: found bytes that are not UTF-8, expected text"
    );
    let found = problem(load(OsString::from_vec(b"BULKMAN_\xff".to_vec())));
    assert_eq!(
        found,
        "variable BULKMAN_\u{fffd}: found a name with bytes that are not UTF-8, expected keys with two underscores \
         between them"
    );
    let somebody_elses = OsString::from_vec(b"OTHER_\xff".to_vec());
    assert!(load(somebody_elses).is_ok());
    assert!(load("OTHER".into()).is_ok());
}
