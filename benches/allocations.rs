//! How much memory a call takes: a table of blocks and bytes, exact, not timed.
//!
//! ```sh
//! cargo bench --bench allocations
//! ```
//!
//! What the calling thread allocates for each of many calls. `benches/peers/` counts all threads, beside other pools.

mod common;

use std::convert::Infallible;
use std::time::Duration;

use allocation_counter::measure;
use bulkman::{
    Bulkhead, BulkheadConfig, CircuitBreakerConfig, ExecutionHandle, ExecutionResult,
    SemaphoreBulkhead,
};
use common::{PATIENCE, bulkhead, config, occupy, task};

const CALLS: usize = 1_000;

/// Counts what `call` allocates, on the average of many.
fn row(name: &str, mut call: impl FnMut()) {
    // What a thread needs once, such as the state of its random numbers.
    call();
    let counted = measure(|| (0..CALLS).for_each(|_| call()));
    let each = |total: u64| total as f64 / CALLS as f64;
    println!(
        "{name:<44} {:>8.2} {:>10.1}",
        each(counted.count_total),
        each(counted.bytes_total)
    );
}

/// What one bulkhead takes on the thread that builds it, without its threads' stacks.
fn built(config: BulkheadConfig) {
    let name = format!(
        "a bulkhead, {} workers, {} places",
        config.max_concurrent_calls, config.max_queue_size
    );
    let mut built = None;
    let counted = measure(|| built = Bulkhead::new(config).ok());
    println!(
        "{name:<44} {:>8} {:>10}",
        counted.count_total, counted.bytes_total
    );
}

fn main() {
    println!("{:<44} {:>8} {:>10}", "", "blocks", "bytes");
    let calls = bulkhead(1, 100);
    let succeeds = |handle: ExecutionHandle<_, _>| {
        let result: ExecutionResult<_, Infallible> = handle.wait();
        assert!(result.is_success());
    };
    row("run, wait", || succeeds(calls.run(task)));
    row("execute, wait", || {
        drop(calls.execute(|| Err::<u64, u64>(task())).wait());
    });
    let detached = bulkhead(1, 100);
    row("run, detached", || {
        drop(detached.call().wait_for_capacity(PATIENCE).run(task));
    });
    row("run, wait, captures 64 bytes", || {
        let captured = [7_u64; 8];
        succeeds(calls.run(move || captured.len() as u64));
    });
    row("run, wait, with a name that is static", || {
        succeeds(calls.call().operation("get_user").run(task));
    });
    row("run, wait, with a limit", || {
        succeeds(calls.call().timeout(PATIENCE).run(task));
    });
    let with_breaker = config(1, 100).circuit_breaker(CircuitBreakerConfig::default());
    let with_breaker = Bulkhead::new(with_breaker).expect("a valid configuration");
    row("run, wait, with a circuit breaker", || {
        succeeds(with_breaker.run(task));
    });

    let here = SemaphoreBulkhead::new(config(1, 100)).expect("a valid configuration");
    row("in the caller's thread", || drop(here.run(task)));
    row("in the caller's thread, inside another", || {
        drop(here.run(|| drop(here.run(task))));
    });

    let queued = bulkhead(1, 100);
    let release = occupy(&queued);
    row("cancelled", || assert!(queued.run(task).cancel()));
    row("expired", || {
        let expired = queued.call().queue_timeout(Duration::from_nanos(1));
        drop(expired.run(task).wait());
    });
    drop(release);
    let full = bulkhead(1, 0);
    let release = occupy(&full);
    row("refused, closure back", || {
        assert!(full.try_run(task).is_err());
    });
    row("refused, handle, wait", || drop(full.run(task).wait()));
    drop(release);

    row("stats", || drop(calls.stats()));
    for (n, q) in [(1, 0), (10, 100), (100, 10_000)] {
        built(config(n, q));
    }
}
