//! The names of worker threads: what an operator sees of them, and what the caller chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::{Gate, OpenOnDrop, wait};
use bulkman::{BuildError, Bulkhead, BulkheadConfig};

fn config(name: &str, workers: usize) -> BulkheadConfig {
    BulkheadConfig::new(name)
        .max_concurrent_calls(workers)
        .max_queue_size(0)
}

/// What each worker reads about itself, sorted.
fn read_in_each_worker(
    bulkhead: &Bulkhead,
    read: impl Fn() -> String + Clone + Send + 'static,
) -> Vec<String> {
    let workers = bulkhead.config().max_concurrent_calls;
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (gate, read) = (gate.clone(), read.clone());
            bulkhead.run(move || {
                gate.pass();
                read()
            })
        })
        .collect();
    gate.wait_for_arrivals(workers);
    drop(opener);
    let mut all: Vec<_> = handles
        .into_iter()
        .map(|handle| wait(handle).into_result().unwrap())
        .collect();
    all.sort();
    all
}

fn name_of_this_thread() -> String {
    thread::current().name().expect("a name").to_owned()
}

/// What `top -H` shows.
#[cfg(target_os = "linux")]
fn name_in_the_kernel() -> String {
    let comm = std::fs::read_to_string("/proc/thread-self/comm").expect("Linux tells");
    comm.trim_end_matches('\n').to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn what_tells_two_workers_apart_survives_the_kernels_cut() {
    let seen: Vec<_> = ["payments-eu-west-1", "payments-us-east-1"]
        .into_iter()
        .flat_map(|name| {
            let bulkhead = Bulkhead::new(config(name, 11)).unwrap();
            let names = read_in_each_worker(&bulkhead, name_in_the_kernel);
            assert_eq!(names, read_in_each_worker(&bulkhead, name_of_this_thread));
            names
        })
        .collect();
    for (region, index) in [("west-1", 0), ("west-1", 10), ("east-1", 0), ("east-1", 10)] {
        let name = format!("payme~{region}-{index}");
        assert!(seen.contains(&name), "{name} is not among {seen:?}");
    }
    let mut distinct = seen.clone();
    distinct.dedup();
    assert_eq!(distinct, seen, "two workers have the same name");
}

#[test]
fn a_name_with_room_is_kept_whole() {
    let bulkhead = Bulkhead::new(config("db", 2)).unwrap();
    let names = read_in_each_worker(&bulkhead, name_of_this_thread);
    assert_eq!(names, ["bulkman-db-0", "bulkman-db-1"]);
}

#[test]
fn the_caller_can_choose_the_names() {
    let bulkhead = Bulkhead::builder(config("db", 2))
        .worker_name(|_| unreachable!("the last one holds"))
        .worker_name(|index| format!("a longer name than any kernel keeps, of worker {index}"))
        .build()
        .unwrap();
    let names = read_in_each_worker(&bulkhead, name_of_this_thread);
    let expected =
        [0, 1].map(|index| format!("a longer name than any kernel keeps, of worker {index}"));
    assert_eq!(names, expected);
}

#[test]
fn a_name_that_no_thread_can_have_is_an_error_and_no_worker_starts() {
    type Name = fn(usize) -> String;
    let bad: [(Name, &str); 3] = [
        (
            |_| String::new(),
            "invalid configuration of `db`: worker_name is \"\", it must not be blank",
        ),
        (
            |index| format!("w\0{index}"),
            "worker_name is \"w\\01\", it must not contain control characters",
        ),
        (
            |index| panic!("no name\nfor {index}"),
            "worker_name is a panic: no name\\nfor 1, it must not panic",
        ),
    ];
    for (bad, expected) in bad {
        let started = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&started);
        let built = Bulkhead::builder(config("db", 2))
            .on_worker_start(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            })
            .worker_name(move |index| {
                if index == 0 {
                    "fine".into()
                } else {
                    bad(index)
                }
            })
            .build();
        let error = built.expect_err("no thread can have that name");
        assert!(matches!(
            error,
            BuildError::InvalidValue {
                field: "worker_name",
                ..
            }
        ));
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(Arc::strong_count(&started), 1, "the hook is gone");
        assert_eq!(started.load(Ordering::SeqCst), 0);
    }
}
