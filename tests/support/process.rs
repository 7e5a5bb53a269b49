//! The threads and the memory of this process, and this test binary as a child process.

use std::env;
use std::fs;
use std::process::Command;

/// How many threads of this process have a name that begins with `prefix`. The kernel keeps 15 bytes of a name. On
/// other systems than Linux it is 0.
pub fn threads_named(prefix: &str) -> usize {
    if !cfg!(target_os = "linux") {
        return 0;
    }
    let names = loop {
        // The kernel ends a listing early if the thread that it has come to ends at that moment. So a listing counts only
        // if it is as long as the kernel says, before and after.
        let before = status("Threads:");
        let names: Vec<_> = fs::read_dir("/proc/self/task")
            .expect("the list of threads")
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .collect();
        if [before, status("Threads:")] == [names.len() as u64; 2] {
            break names;
        }
    };
    names.iter().filter(|name| name.starts_with(prefix)).count()
}

/// The resident memory of this process in kilobytes. On other systems than Linux it is 0.
pub fn resident() -> u64 {
    if cfg!(target_os = "linux") {
        status("VmRSS:")
    } else {
        0
    }
}

/// A number of this process that the kernel keeps.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// The full name of a test in this binary; `module` is the `module_path!()` of its file.
pub fn test_path(module: &str, test: &str) -> String {
    match module.split_once("::") {
        Some((_this_binary, modules)) => format!("{modules}::{test}"),
        None => test.to_owned(),
    }
}

/// A command that runs one test of this binary, also an ignored one, in a child process.
pub fn child_test(module: &str, test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the path of this binary"));
    command
        .arg(test_path(module, test))
        .args(["--exact", "--include-ignored"])
        .args(["--nocapture", "--test-threads=1"]);
    command
}

/// Runs a command of `child_test` to its end, and asserts that its test has run and passed. A name that no test has
/// would pass, too.
pub fn assert_passes(mut child: Command) {
    let output = child.output().expect("a process");
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && ran, "{child:?}: {output:?}");
}
