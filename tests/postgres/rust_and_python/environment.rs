//! The same environment variables lead to the same row.

use bulkman::{Bulkhead, BulkheadConfig, CircuitStorage, PostgresStorage};

use super::helpers::{NAME, row, rules, storage};
use crate::support::postgres::Server;
use crate::support::{PATIENCE, assert_passes, child_test};

#[test]
fn the_same_environment_leads_to_the_same_row() {
    let server = Server::shared();
    let namespace = server.fresh_namespace();
    let dsn = server.dsn();
    let part = |key| server.part(key).to_owned();
    let discrete = vec![
        ("RC_DB_HOST", part("host")),
        ("RC_DB_PORT", part("port")),
        ("RC_DB_USER", part("user")),
        ("RC_DB_PASSWORD", part("password")),
        ("RC_DB_NAME", part("dbname")),
        ("RC_NAMESPACE", namespace.clone()),
    ];
    let by_dsn = vec![
        ("RC_DB_DSN", dsn),
        ("RC_DB_STRICT", "yes".into()),
        ("RC_NAMESPACE", namespace.clone()),
    ];
    for environment in [discrete, by_dsn] {
        storage(server, &namespace).remove(NAME).unwrap();
        let mut child = child_test(module_path!(), "child_with_an_environment");
        child.envs(environment);
        assert_passes(child);
        assert_eq!(row(server, &namespace).state, "OPEN");
    }
    // None of it is set for this process.
    if std::env::var_os("RC_DB_DSN").is_none() && std::env::var_os("RC_DB_HOST").is_none() {
        assert!(PostgresStorage::builder_from_env().unwrap().is_none());
    }
}

#[test]
#[ignore = "started by the test above, with an environment"]
fn child_with_an_environment() {
    let storage = PostgresStorage::builder_from_env()
        .unwrap()
        .expect("a server");
    let bulkhead = Bulkhead::builder(BulkheadConfig::new(NAME).circuit_breaker(rules()))
        .circuit_storage(storage.deadline(PATIENCE).build().unwrap())
        .build()
        .unwrap();
    bulkhead.circuit_breaker().unwrap().trip();
    assert!(bulkhead.circuit_breaker().unwrap().flush(PATIENCE));
}
