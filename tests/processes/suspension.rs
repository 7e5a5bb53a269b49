//! A process that is suspended for longer than its limits, and then goes on.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::BulkheadError;

use super::helpers::{DONE, is_child, start};
use crate::support::{Gate, OpenOnDrop, assert_balanced, bulkhead, eventually, wait};

/// The child prints it when it waits for the parent.
const READY: &str = "the child is ready";

/// A child process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_is_suspended_goes_on_where_it_was() {
    if is_child() {
        return suspended_child();
    }
    let mut child = Killed(start(
        module_path!(),
        "a_process_that_is_suspended_goes_on_where_it_was",
    ));
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
    // Its time limits have begun before, and now they pass.
    let until = Instant::now() + LIMIT;
    eventually("time passes", || Instant::now() >= until);
    signal("-CONT");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(b"go on\n").expect("it reads");
    output.read_to_string(&mut line).expect("text");
    let status = child.wait().expect("it ends");
    assert!(status.success() && line.contains(DONE), "{status}: {line}");
}

/// Long enough for a task to start within it on a busy machine.
const LIMIT: Duration = Duration::from_secs(3);

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
