//! A handle is a future: await blocking work from async code, on any executor, without a runtime.
//!
//! ```text
//! cargo run --example await_handle
//! ```

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let bulkhead = Bulkhead::new(BulkheadConfig::new("legacy-db").max_concurrent_calls(4))?;
    // The smallest executor there is: it parks this thread until the future can go on. tokio or smol would
    // do as well; the bulkhead does not care which one polls.
    pollster::block_on(queries(&bulkhead))
}

async fn queries(bulkhead: &Bulkhead) -> Result<(), Box<dyn Error>> {
    println!("await one");
    let user = bulkhead.run(|| query("user", 50)).await.into_result()?;
    println!("  {user}");

    println!("await several");
    let started = Instant::now();
    let handles = ["orders", "invoices", "addresses", "payments"]
        .map(|table| bulkhead.run(move || query(table, 200)));
    // A call runs from when it is submitted, not from when it is first polled: to await one after the
    // other takes as long as the slowest of them.
    for handle in handles {
        println!("  {}", handle.await.into_result()?);
    }
    println!("  4 times 200 ms took {:.0?}", started.elapsed());

    println!("await the first of two");
    // The loser is dropped, and so cancelled: if it waits for a worker, it gives up its place.
    let replica = bulkhead.run(|| query("replica", 600)).cancel_on_drop();
    let primary = bulkhead.run(|| query("primary", 100)).cancel_on_drop();
    println!("  {}", first_of(replica, primary).await.into_result()?);

    println!("await a call that fails");
    let result = bulkhead.execute(|| "many".parse::<u32>()).await;
    if let Some(error) = result.error() {
        println!("  {error}");
    }
    Ok(())
}

/// What `select` or `race` of an async library does.
async fn first_of<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| match a.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => b.as_mut().poll(context),
    })
    .await
}

/// A client library that blocks.
fn query(table: &str, millis: u64) -> String {
    thread::sleep(Duration::from_millis(millis));
    let thread = thread::current();
    format!("{table}: 1 row, read by {}", thread.name().unwrap_or("?"))
}
