//! The system refuses a thread or memory: the error says how many threads had started, and nothing is left behind.
//!
//! The shell that starts the child process limits its address space. Such a limit holds for every user, and the room
//! for stacks runs out first.

use std::env;
use std::error::Error;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkman::{BuildError, Bulkhead, BulkheadConfig};

use super::helpers::{CHILD, DONE};
use crate::support::{eventually, test_path, threads_named};

/// Far more than fit: at 64 MiB a stack, a hundred of them fill the 6 GiB.
const WORKERS: usize = 2_000;
const STACK_BYTES: usize = 64 << 20;
const ADDRESS_SPACE_KIB: usize = 6 << 20;

/// The kernel takes a thread off its list a moment after it was joined.
fn eventually_no_worker() {
    eventually("no worker is left", || threads_named("bulkman-") == 0);
}

/// Runs one test of this file in a child process under the limit, `role` telling it what to do.
fn in_child(test: &str, role: usize, stack_bytes: usize, kib: usize) -> (ExitStatus, String) {
    in_child_of(module_path!(), test, role, stack_bytes, kib)
}

/// The same for a test of the module `path`.
pub fn in_child_of(
    path: &str,
    test: &str,
    role: usize,
    stack_bytes: usize,
    kib: usize,
) -> (ExitStatus, String) {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v \"$1\" && shift && exec \"$@\"", "sh"])
        .arg(kib.to_string())
        .arg(env::current_exe().expect("this binary"))
        .arg(test_path(path, test))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, role.to_string())
        .env("RUST_MIN_STACK", stack_bytes.to_string())
        // The C library reserves address space for each thread otherwise.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("a shell");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status, text)
}

#[test]
fn a_refused_thread_is_an_error_and_no_worker_is_left() {
    if env::var_os(CHILD).is_some() {
        let worker = build_in_vain(WORKERS);
        assert!(worker > 0 && worker < WORKERS, "worker {worker}");

        // The room is free again, so that a smaller one can be built.
        let smaller = BulkheadConfig::new("smaller").max_concurrent_calls(2);
        let bulkhead = Bulkhead::new(smaller).expect("there is room for two");
        assert_eq!(bulkhead.run(|| 42).wait().value(), Some(&42));
        drop(bulkhead);
        eventually_no_worker();
        println!("{DONE}");
        return;
    }
    let test = "a_refused_thread_is_an_error_and_no_worker_is_left";
    let (status, text) = in_child(test, 0, STACK_BYTES, ADDRESS_SPACE_KIB);
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains(DONE), "{text}");
}

#[test]
fn whichever_thread_is_refused_those_before_it_are_ended() {
    const OF: usize = 7;
    const GIB: usize = 1 << 30;
    if let Ok(room) = env::var(CHILD) {
        let room: usize = room.parse().expect("how many threads fit");
        // The harness may have a thread beside the main one.
        let taken = threads_named("") - 1;
        assert_eq!(build_in_vain(OF), room - taken);
        println!("{DONE}");
        return;
    }
    for room in 1..OF {
        // Stacks of 1 GiB, and half of one for all else.
        let kib = (room << 20) + (1 << 19);
        let test = "whichever_thread_is_refused_those_before_it_are_ended";
        let (status, text) = in_child(test, room, GIB, kib);
        assert!(status.success(), "room for {room}: {status}: {text}");
        assert!(text.contains(DONE), "room for {room}: {text}");
    }
}

#[test]
fn a_queue_for_which_there_is_no_memory_is_an_error_and_no_worker_starts() {
    const ROOM_KIB: usize = 600 << 10;
    const STACK: usize = 1 << 20;
    if env::var_os(CHILD).is_some() {
        let largest = BulkheadConfig::MAX_CAPACITY - 1;
        let config = |size| {
            BulkheadConfig::new("long")
                .max_concurrent_calls(1)
                .max_queue_size(size)
        };
        let error = Bulkhead::new(config(largest)).expect_err("it needs 800 MB");
        assert!(error.source().is_some(), "what the allocator said");
        assert_eq!(
            error.to_string(),
            format!("bulkhead `long` has no memory for a queue of {largest} calls")
        );
        assert!(matches!(error, BuildError::QueueMemory { .. }));
        assert_eq!(threads_named("bulkman-"), 0);
        let bulkhead = Bulkhead::new(config(1_000)).expect("there is room for a thousand");
        assert_eq!(bulkhead.run(|| 42).wait().value(), Some(&42));
        println!("{DONE}");
        return;
    }
    let test = "a_queue_for_which_there_is_no_memory_is_an_error_and_no_worker_starts";
    let (status, text) = in_child(test, 0, STACK, ROOM_KIB);
    assert!(status.success(), "{status}: {text}");
    assert!(text.contains(DONE), "{text}");
}

/// Builds a bulkhead for whose workers there is no room, and tells which of them was refused, from 0.
fn build_in_vain(of: usize) -> usize {
    let started = Arc::new(AtomicUsize::new(0));
    let stopped = Arc::new(AtomicUsize::new(0));
    let config = BulkheadConfig::new("toomany")
        .max_concurrent_calls(of)
        .max_queue_size(0);
    let built = Bulkhead::builder(config)
        .on_worker_start({
            let started = Arc::clone(&started);
            move |_| {
                started.fetch_add(1, Ordering::SeqCst);
            }
        })
        .on_worker_stop({
            let stopped = Arc::clone(&stopped);
            move |_| {
                stopped.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build();
    // At once: the workers that had started are joined when `build` returns.
    let error = match built {
        Ok(_) => panic!("the limit does not limit"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(error.source().is_some(), "what the system said");
    let BuildError::ThreadStart {
        bulkhead,
        worker,
        workers,
        ..
    } = error
    else {
        panic!("another error: {text}");
    };
    assert_eq!(
        text,
        format!("bulkhead `toomany` could start only {worker} of its {of} worker threads")
    );
    assert_eq!(bulkhead, "toomany");
    assert_eq!(workers, of);
    assert_eq!(started.load(Ordering::SeqCst), worker);
    assert_eq!(stopped.load(Ordering::SeqCst), worker);
    assert_eq!(Arc::strong_count(&started), 1, "the hooks are gone");
    eventually_no_worker();
    worker
}
