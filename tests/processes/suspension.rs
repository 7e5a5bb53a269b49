//! What can only be seen from outside the process: one that is suspended, and one whose task overflows its stack.
//! The process is this test binary again, which runs the same test as a child.

#![cfg(target_os = "linux")]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gate, OpenOnDrop, assert_balanced, bulkhead, eventually, wait};
use bulkman::{Bulkhead, BulkheadConfig, BulkheadError};

/// Set for the child process only.
const CHILD: &str = "BULKMAN_TEST_PROCESSES";
/// What the child prints when it waits for the parent, and when it has come to its end.
const READY: &str = "the child is ready";
const DONE: &str = "the child saw what it should";

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// A child process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one test of this file in a child process.
fn start(test: &str) -> Child {
    Command::new(env::current_exe().expect("this binary"))
        .args([
            &format!("suspension::{test}"),
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process")
}

#[test]
fn a_process_that_is_suspended_goes_on_where_it_was() {
    if is_child() {
        return suspended_child();
    }
    let mut child = Killed(start("a_process_that_is_suspended_goes_on_where_it_was"));
    let child = &mut child.0;
    let id = child.id().to_string();
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains(READY) {
        line.clear();
        assert!(output.read_line(&mut line).expect("text") > 0, "it ended");
    }
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &id]).status();
        assert!(sent.expect("`kill`").success());
    };
    signal("-STOP");
    eventually("it is suspended", || {
        let status = fs::read_to_string(format!("/proc/{id}/status"));
        status.is_ok_and(|status| status.contains("State:\tT"))
    });
    // For longer than its time limits.
    let until = Instant::now() + 2 * LIMIT;
    eventually("time passes", || Instant::now() >= until);
    signal("-CONT");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"go on\n").expect("it reads");
    output.read_to_string(&mut line).expect("text");
    let status = child.wait().expect("it ends");
    assert!(status.success() && line.contains(DONE), "{status}: {line}");
}

const LIMIT: Duration = Duration::from_millis(300);

/// One call runs, one is waited for until it expires, one expires with nobody to look, one has its caller's limit.
fn suspended_child() {
    let bulkhead = bulkhead(1, 3);
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let slow = gate.clone();
    let running = bulkhead.call().timeout(LIMIT).run(move || slow.pass());
    gate.wait_for_arrivals(1);
    let expiring = || bulkhead.call().queue_timeout(LIMIT).run(|| ());
    let (waited, unseen) = (expiring(), expiring());
    let limited = bulkhead.call().timeout(LIMIT).run(|| ());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(waited).into_result());
        println!("{READY}");
        io::stdin().read_line(&mut String::new()).expect("a line");
        let result = waiter.join().expect("a wait does not panic");
        assert!(matches!(result, Err(BulkheadError::QueueTimeout { .. })));
    });
    let result = wait(limited).into_result();
    assert!(matches!(
        result,
        Err(BulkheadError::Timeout { started: false, .. })
    ));
    let result = wait(running).into_result();
    assert!(matches!(
        result,
        Err(BulkheadError::Timeout { started: true, .. })
    ));
    gate.open();
    // Now the worker comes to the call that nobody has waited for.
    eventually("all places are free", || bulkhead.available_capacity() == 4);
    let result = wait(unseen).into_result();
    assert!(matches!(result, Err(BulkheadError::QueueTimeout { .. })));
    let handles: Vec<_> = (0..4).map(|i| bulkhead.run(move || i)).collect();
    for (i, handle) in handles.into_iter().enumerate() {
        assert_eq!(wait(handle).value(), Some(&i));
    }
    bulkhead.shutdown();
    let stats = bulkhead.stats();
    assert_balanced(&stats);
    assert_eq!((stats.submitted_executions, stats.in_flight), (8, 0));
    assert_eq!((stats.timed_out_executions, stats.abandoned_tasks), (3, 0));
    println!("{DONE}");
}

#[test]
fn a_task_that_overflows_its_stack_ends_the_process_and_is_named() {
    if is_child() {
        let bulkhead = Bulkhead::new(BulkheadConfig::new("deep").max_concurrent_calls(1)).unwrap();
        let depth = wait(bulkhead.run(|| dig(0))).into_result();
        panic!("it got to {depth:?}");
    }
    let child = start("a_task_that_overflows_its_stack_ends_the_process_and_is_named");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.signal().is_some(),
        "{}: {text}",
        output.status
    );
    assert!(text.contains("bulkman-deep-0"), "{text}");
    assert!(text.contains("overflow"), "{text}");
}

/// Goes deeper for ever.
#[allow(unconditional_recursion, reason = "that is what it is for")]
fn dig(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    dig(depth + 1) + here[0]
}
