//! Settings from environment variables.

use bulkman::PostgresStorage;

use crate::support::{assert_passes, child_test};

#[test]
fn a_variable_that_is_no_text_is_not_as_good_as_none() {
    use std::os::unix::ffi::OsStrExt;
    for name in [
        "RC_DB_DSN",
        "RC_DB_PASSWORD",
        "RC_DB_SSLMODE",
        "RC_NAMESPACE",
    ] {
        let mut child = child_test(module_path!(), "child_with_such_a_variable");
        child.envs([("RC_DB_HOST", "h"), ("RC_DB_PASSWORD", "p")]);
        child.env("BULKMAN_TEST_VARIABLE", name);
        child.env(name, std::ffi::OsStr::from_bytes(b"requir\xe9"));
        assert_passes(child);
    }
}

#[test]
#[ignore = "started by the test above"]
fn child_with_such_a_variable() {
    let name = std::env::var("BULKMAN_TEST_VARIABLE").unwrap();
    let built = PostgresStorage::builder_from_env()
        .and_then(|builder| builder.expect("a server is named").build());
    let error = built.expect_err("it is no text").to_string();
    assert_eq!(error, format!("{name} is not Unicode"));
}
