//! What becomes of tasks when the process ends, as the documentation of `Bulkhead` says.

use std::process::Output;
use std::sync::LazyLock;
use std::thread;

use bulkman::Bulkhead;

use super::helpers::{DONE, is_child, start};
use crate::support::{Gate, PATIENCE, named};

static BULKHEAD: LazyLock<Bulkhead> =
    LazyLock::new(|| Bulkhead::new(named("global", 1, 9)).unwrap());

/// What a child process has printed that ran one test of this file and ended well.
fn output_of_child(test: &str) -> String {
    let child = start(module_path!(), test);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {text} {errors}");
    text
}

fn print_done() {
    println!("{DONE}");
}

#[test]
fn a_bulkhead_in_a_static_is_not_dropped_and_its_tasks_end_with_the_process() {
    let test = "a_bulkhead_in_a_static_is_not_dropped_and_its_tasks_end_with_the_process";
    if is_child() {
        let gate = Gate::new();
        let at_gate = gate.clone();
        drop(BULKHEAD.run(move || {
            at_gate.pass();
            // Not parked: a wake-up that the worker did not need would end that.
            Gate::new().pass();
        }));
        drop(BULKHEAD.run(print_done));
        gate.open();
        gate.wait_for_arrivals(1);
        return;
    }
    let text = output_of_child(test);
    assert!(!text.contains(DONE), "it ran after the end: {text}");
}

#[test]
fn a_bulkhead_in_a_static_that_is_shut_down_has_done_its_work() {
    let test = "a_bulkhead_in_a_static_that_is_shut_down_has_done_its_work";
    if is_child() {
        drop(BULKHEAD.run(thread::yield_now));
        drop(BULKHEAD.run(print_done));
        assert!(BULKHEAD.shutdown_timeout(PATIENCE).is_clean());
        return;
    }
    let text = output_of_child(test);
    assert!(text.contains(DONE), "{text}");
}

#[test]
fn a_bulkhead_in_a_static_that_is_closed_and_waited_for_has_done_its_work() {
    let test = "a_bulkhead_in_a_static_that_is_closed_and_waited_for_has_done_its_work";
    if is_child() {
        drop(BULKHEAD.run(thread::yield_now));
        drop(BULKHEAD.run(print_done));
        BULKHEAD.close();
        assert!(BULKHEAD.wait_closed(PATIENCE));
        return;
    }
    let text = output_of_child(test);
    assert!(text.contains(DONE), "{text}");
}

#[test]
fn a_bulkhead_that_is_dropped_at_the_end_has_done_its_work() {
    let test = "a_bulkhead_that_is_dropped_at_the_end_has_done_its_work";
    if is_child() {
        let bulkhead = Bulkhead::new(named("owned", 1, 9)).unwrap();
        drop(bulkhead.run(thread::yield_now));
        drop(bulkhead.run(print_done));
        return;
    }
    let text = output_of_child(test);
    assert!(text.contains(DONE), "{text}");
}
