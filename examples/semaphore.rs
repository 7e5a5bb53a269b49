//! A bulkhead without threads: calls run where they are made, at most so many at a time; with a closure, or with a guard.
//!
//! ```text
//! cargo run --example semaphore
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadConfig, BulkheadError, SemaphoreBulkhead};

/// A client with a timeout of its own that can be relied on: nothing in it hangs.
struct Cache {
    entries: HashMap<&'static str, &'static str>,
}

impl Cache {
    fn get(&self, key: &str, timeout: Duration) -> io::Result<&'static str> {
        if timeout.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let found = self.entries.get(key).copied();
        found.ok_or_else(|| io::Error::other(format!("no entry `{key}`")))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache {
        entries: HashMap::from([("user:1", "Ada"), ("user:2", "Grace")]),
    };
    // Two at a time, one in line for at most 100 ms, and the next is refused.
    let bulkhead = SemaphoreBulkhead::new(
        BulkheadConfig::new("cache")
            .max_concurrent_calls(2)
            .max_queue_size(1)
            .queue_timeout(Duration::from_millis(100)),
    )?;

    println!("1. a call: it borrows what it needs, and nothing is sent anywhere");
    let key = String::from("user:1");
    let limit = Duration::from_secs(1);
    let result = bulkhead.execute_with_timeout(limit, || {
        // What is left of the caller's limit is a good timeout for the client.
        let left = bulkman::current().and_then(|me| me.remaining());
        cache.get(&key, left.unwrap_or(limit))
    });
    println!("   {key} is {}", result.into_result()?);
    let missing = bulkhead.execute(|| cache.get("user:3", limit));
    println!("   {}\n", missing.error().expect("there is no such user"));

    println!("2. five callers at once, of whom two are slow");
    let (both_in, until) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                bulkhead.run(|| {
                    both_in.wait();
                    until.wait();
                })
            });
        }
        both_in.wait();
        // The third waits in line until its queue timeout.
        let third = scope.spawn(|| bulkhead.execute(|| cache.get("user:2", limit)));
        while bulkhead.available_capacity() > 0 && !third.is_finished() {
            thread::yield_now();
        }
        // The fourth does not get in, and does something else at once; the fifth waits for a place.
        match bulkhead.try_execute(|| cache.get("user:2", limit)) {
            Ok(result) => println!("   4th: {:?}, the third has left", result.value()),
            Err(rejected) => println!("   4th: {rejected}"),
        }
        let fifth = scope.spawn(|| {
            let call = bulkhead.call().wait_for_capacity(Duration::from_secs(10));
            let call = call.queue_timeout(Duration::from_secs(10));
            call.execute(|| cache.get("user:2", limit))
        });
        match third.join().expect("it does not panic").into_result() {
            Err(error @ BulkheadError::QueueTimeout { .. }) => println!("   3rd: {error}"),
            other => println!("   3rd: {other:?}"),
        }
        until.wait();
        let fifth = fifth.join().expect("it does not panic");
        println!("   5th: {:?}\n", fifth.value());
    });

    println!("3. without a closure: a guard is the call, until it says how that ended");
    let lines = ["first", "second", "", "fourth"];
    let guard = bulkhead.call().operation("import").acquire()?;
    let mut imported = 0;
    for line in lines {
        if line.is_empty() {
            break; // which a closure could not do
        }
        imported += 1;
    }
    println!("   imported {imported} lines in {:?}", guard.operation());
    guard.success();
    let first = bulkhead.try_acquire()?;
    let (both_in, until) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let second = bulkhead.acquire().expect("a second slot");
            both_in.wait();
            until.wait();
            second.failure();
        });
        both_in.wait();
        let third = scope.spawn(|| bulkhead.try_acquire().map(drop));
        let third = third.join().expect("it does not panic");
        println!("   {}", third.expect_err("both slots are taken"));
        until.wait();
    });
    first.success();

    println!("\n4. one slot, and four callers that want it again and again");
    let counter = BulkheadConfig::new("counter").max_concurrent_calls(1);
    let counter = SemaphoreBulkhead::builder(counter).fair(false).build()?;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| drop(counter.run(|| ()))));
        }
    });
    println!("   {}\n", counter.stats());

    println!("5. the numbers");
    println!("   {}", bulkhead.stats());
    println!("   {:?}", bulkhead.shutdown());
    Ok(())
}
