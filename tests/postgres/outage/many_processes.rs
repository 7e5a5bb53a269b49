//! Many processes that trip at once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use bulkman::{CircuitBreaker, CircuitState};

use super::helpers::{ISOLATION, NAME, NAMESPACE, rules, server, storage};
use crate::support::postgres::Server;
use crate::support::{PATIENCE, child_test, seconds};

const CHILDREN: usize = 64;

#[test]
fn sixty_four_processes_trip_at_once() {
    let server = server();
    let mut children: Vec<Child> = (0..CHILDREN)
        .map(|number| start_child(&server, number))
        .collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    for output in &mut outputs {
        await_line(output, "ready");
    }
    for child in &mut children {
        child.stdin.as_mut().unwrap().write_all(b"trip\n").unwrap();
    }
    let ends: Vec<f64> = outputs
        .iter_mut()
        .map(|output| await_line(output, "open until ").parse().unwrap())
        .collect();
    let until = server
        .row(NAME, NAMESPACE)
        .unwrap()
        .open_until_epoch
        .unwrap();
    for end in ends {
        // The ends of other children are seconds away. A busy machine may come between the reading of two clocks.
        assert!((end - until).abs() < 1.0, "{end} instead of {until}");
    }
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

/// Each child has an isolation of its own, so that the end tells which child opened the circuit first. The longest is
/// less than twice the shortest, since a process caps the isolation of a peer at twice its own.
fn start_child(server: &Server, number: usize) -> Child {
    child_test(module_path!(), "child_that_trips")
        .env("BULKMAN_TEST_DSN", server.dsn())
        .env("BULKMAN_TEST_NUMBER", number.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The rest of the next line that begins so; the test harness prints others.
fn await_line(
    output: &mut std::io::Lines<BufReader<std::process::ChildStdout>>,
    start: &str,
) -> String {
    let rest = output.find_map(|line| line.unwrap().strip_prefix(start).map(str::to_owned));
    rest.unwrap_or_else(|| panic!("the child ended before `{start}`"))
}

#[test]
#[ignore = "started by the test above"]
fn child_that_trips() {
    let variable = |name| std::env::var(name).unwrap();
    let number: u64 = variable("BULKMAN_TEST_NUMBER").parse().unwrap();
    let isolation = ISOLATION + seconds(9 * number);
    let storage = storage(&variable("BULKMAN_TEST_DSN"), PATIENCE);
    let breaker = CircuitBreaker::builder(NAME, rules().isolation_duration(isolation))
        .storage(storage)
        .build()
        .unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
    let mut input = std::io::stdin().lines();
    // The harness leaves its own line unfinished.
    println!("\nready");
    input.next().unwrap().unwrap();
    let _ = (breaker.record_failure(), breaker.record_failure());
    assert!(breaker.flush(PATIENCE));
    assert!(breaker.is_open());
    // It goes by the stored end, which it has taken over.
    let refused = breaker.try_acquire().expect_err("open");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    println!(
        "\nopen until {}",
        (now.unwrap() + refused.retry_after).as_secs_f64()
    );
    input.next();
}
