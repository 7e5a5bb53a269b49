//! Calls that end early: cancelled in the queue or while they run, too late to start, over their limit.
//!
//! ```text
//! cargo run --example cancel_and_deadlines
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, ExecutionResult};

const MS: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    // One worker, so that everything else queues behind the first report.
    let bulkhead = Bulkhead::new(BulkheadConfig::new("reports").max_concurrent_calls(1))?;
    let (started, has_started) = mpsc::channel();
    let long_report = bulkhead.execute(move || {
        let _ = started.send(());
        report(10_000)
    });
    has_started.recv()?;

    println!("1. cancel a queued call");
    let unwanted = bulkhead.execute(|| report(10));
    println!("   it was still queued: {}", unwanted.cancel());
    show(unwanted.wait());

    println!("2. a queue timeout: started later than that, it would be of no use");
    let call = bulkhead.call().queue_timeout(50 * MS);
    show(call.execute(|| report(10)).wait());

    println!("3. cancel_on_drop: a caller that leaves early takes its call along");
    let page = bulkhead.execute(|| report(10)).cancel_on_drop();
    println!("   queued before: {}", bulkhead.stats().queued_tasks);
    drop(page); // in real code a `?` or a panic
    println!("   queued after: {}", bulkhead.stats().queued_tasks);

    println!("4. cancel a running call: a thread cannot be stopped, but the task is asked to stop");
    println!("   it was still queued: {}", long_report.cancel());
    show(long_report.wait());

    println!(
        "5. execute_with_timeout: one limit over queue and run, after which the task is asked to stop"
    );
    show(bulkhead.execute_with_timeout(100 * MS, || report(10_000)));

    println!("6. a task that looks at its deadline can give a part rather than nothing");
    show(bulkhead.execute_with_timeout(200 * MS, || report_in_time(10_000)));

    // However a call ended, its worker came back.
    println!("\nshut down cleanly: {}", bulkhead.shutdown().is_clean());
    let stats = bulkhead.stats();
    println!("cancelled in the queue: {}", stats.cancelled_executions);
    println!("expired in the queue: {}", stats.timed_out_executions);
    Ok(())
}

/// Writes row after row, and stops when the report is no longer wanted.
fn report(rows: usize) -> Result<usize, String> {
    for row in 0..rows {
        if bulkman::current().is_some_and(|call| call.is_cancelled()) {
            return Err(format!("the report was stopped at row {row}"));
        }
        thread::sleep(5 * MS);
    }
    Ok(rows)
}

/// Writes rows until only 100 ms are left before its caller stops waiting.
fn report_in_time(rows: usize) -> Result<usize, String> {
    let remaining = || bulkman::current().and_then(|call| call.remaining());
    let mut written = 0;
    while written < rows && remaining().is_none_or(|left| left > 100 * MS) {
        thread::sleep(5 * MS);
        written += 1;
    }
    Ok(written)
}

fn show(result: ExecutionResult<usize, String>) {
    match result.into_result() {
        Ok(rows) => println!("   a report of {rows} rows"),
        // Nothing of it was done, so it is safe to do it elsewhere or again.
        Err(error) if error.never_started() => println!("   never started: {error}"),
        Err(error) => println!("   {error}"),
    }
}
