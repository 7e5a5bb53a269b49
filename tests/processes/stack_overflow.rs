//! A task that overflows its stack ends the process, and the message names its worker.

use std::os::unix::process::ExitStatusExt;

use bulkman::{Bulkhead, BulkheadConfig};

use super::helpers::{is_child, start};
use crate::support::wait;

#[test]
fn a_task_that_overflows_its_stack_ends_the_process_and_is_named() {
    if is_child() {
        let bulkhead = Bulkhead::new(BulkheadConfig::new("deep").max_concurrent_calls(1)).unwrap();
        let depth = wait(bulkhead.run(|| dig(0))).into_result();
        panic!("it got to {depth:?}");
    }
    let child = start(
        module_path!(),
        "a_task_that_overflows_its_stack_ends_the_process_and_is_named",
    );
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
