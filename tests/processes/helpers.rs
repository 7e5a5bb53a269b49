//! A test that runs again in a child process.

use std::env;
use std::process::{Child, Stdio};

use crate::support::child_test;

/// Set for the child process only.
pub const CHILD: &str = "BULKMAN_TEST_CHILD";
/// The child prints it when it has come to its end.
pub const DONE: &str = "the child saw what it should";

pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs one test of a module in a child process.
pub fn start(module: &str, test: &str) -> Child {
    child_test(module, test)
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process")
}
