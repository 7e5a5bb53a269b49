//! Calls that end early: cancelled in the queue or while they run, by this thread or by another, too late to start, over
//! their limit. And a call that tells by itself when it has ended.
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

    println!("4. cancel_handle: somebody else cancels the call that this thread waits for");
    let awaited = bulkhead.execute(|| report(10));
    let button = awaited.cancel_handle();
    let user = thread::spawn(move || button.cancel());
    show(awaited.wait());
    println!("   it was still queued: {}", user.join().unwrap_or(false));

    println!("5. cancel a running call: a thread cannot be stopped, but the task is asked to stop");
    println!("   it was still queued: {}", long_report.cancel());
    show(long_report.wait());

    println!("6. on_finish: nobody waits for the call, and it is not forgotten");
    let (tell, told) = mpsc::channel();
    let nightly = bulkhead.call().operation("nightly").execute(|| report(10));
    nightly.on_finish(move |summary| {
        let _ = tell.send(summary.clone());
    });
    drop(nightly);
    let summary = told.recv()?;
    let name = summary.operation.as_deref().unwrap_or("a call");
    println!("   {name} {} on its own", summary.outcome);

    println!(
        "7. execute_with_timeout: one limit over queue and run, after which the task is asked to stop"
    );
    show(bulkhead.execute_with_timeout(100 * MS, || report(10_000)));

    println!("8. a task that looks at its deadline can give a part rather than nothing");
    show(bulkhead.execute_with_timeout(200 * MS, || report_in_time(10_000)));

    // However a call ended, its worker came back.
    println!("\nshut down cleanly: {}", bulkhead.shutdown().is_clean());
    let stats = bulkhead.stats();
    println!("cancelled in the queue: {}", stats.cancelled_executions);
    println!("expired in the queue: {}", stats.timed_out_executions);
    let left = stats.caller_timeouts_started;
    println!("left by their callers while they ran: {left}");
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
