//! Works until Ctrl-C or for two seconds, shuts down within a limit, and says what became of the work.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig};

const RUN_FOR: Duration = Duration::from_secs(2);
/// Less than a supervisor grants before it kills the process.
const GRACE: Duration = Duration::from_millis(300);

fn main() -> Result<(), Box<dyn Error>> {
    // A signal handler only passes the word on; main does the rest.
    let (interrupted, interrupt) = mpsc::channel();
    ctrlc::set_handler(move || {
        let _ = interrupted.send(());
    })?;

    let bulkhead = Bulkhead::new(BulkheadConfig::new("shop").max_concurrent_calls(3))?;
    println!("working for {RUN_FOR:?}, or until Ctrl-C");

    // A long task should look from time to time whether to come to an end ...
    let crawl = bulkhead.call().operation("crawl").run(|| {
        let mut pages = 0;
        while bulkman::current().is_some_and(|call| !call.is_shutting_down()) {
            thread::sleep(Duration::from_millis(20));
            pages += 1;
        }
        pages
    });
    // ... but some will not: this one hangs in a call that knows no timeout.
    let hang = || thread::sleep(Duration::from_secs(3_600));
    drop(bulkhead.call().operation("print labels").run(hang));

    let end = Instant::now() + RUN_FOR;
    let mut orders = Vec::new();
    while Instant::now() < end {
        let order = || thread::sleep(Duration::from_millis(20));
        orders.push(bulkhead.call().operation("order").run(order));
        if interrupt.recv_timeout(Duration::from_millis(15)).is_ok() {
            println!("interrupted");
            break;
        }
    }

    let queued = bulkhead.stats().queued_tasks;
    println!("shutting down with {queued} calls in the queue, within {GRACE:?}");
    let began = Instant::now();
    let report = bulkhead.shutdown_timeout(GRACE);
    println!("after {:.0?}:", began.elapsed());
    println!("  calls that came to their end: {}", report.finished);
    println!("  calls cancelled in the queue: {}", report.cancelled);
    for task in &report.still_running {
        let operation = task.operation.as_deref().unwrap_or("a task");
        println!("  still running: {operation}, for {:.1?}", task.running_for);
    }

    // Dropping the bulkhead does not wait for the task that hangs: the shutdown has waited as long as it was
    // told to.
    drop(bulkhead);

    // No caller is left waiting: each call has its outcome, also the cancelled ones.
    println!("pages crawled: {}", crawl.wait().into_result()?);
    let results: Vec<_> = orders.into_iter().map(|order| order.wait()).collect();
    let placed = results.iter().filter(|result| result.is_success()).count();
    println!("orders placed: {placed} of {}", results.len());
    if let Some(error) = results.iter().find_map(|result| result.error()) {
        println!("the others: {error}");
    }
    Ok(())
}
