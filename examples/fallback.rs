//! When a bulkhead is full, the closure comes back: answer from a cache, run it here, or send it elsewhere.
//!
//! ```text
//! cargo run --example fallback
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::mpsc;

use bulkman::{Bulkhead, BulkheadConfig, Rejected};

fn main() -> Result<(), Box<dyn Error>> {
    // One call at a time and no queue: the second caller is refused, at once and with certainty.
    let prices = Bulkhead::new(
        BulkheadConfig::new("prices")
            .max_concurrent_calls(1)
            .max_queue_size(0),
    )?;
    let overflow = Bulkhead::new(
        BulkheadConfig::new("prices-overflow")
            .max_concurrent_calls(1)
            .max_queue_size(10),
    )?;
    let cache = HashMap::from([("tea", 290)]);

    // Another caller's slow call takes the one place until `slow_call` goes.
    let (slow_call, until_released) = mpsc::channel::<()>();
    let slow = prices.run(move || until_released.recv().is_err());

    println!("1. answer from a cache");
    let tea = match prices.try_execute(ask_for("tea")) {
        Ok(handle) => handle.wait().into_result()?,
        Err(rejected) => {
            println!("   {rejected}");
            // A refusal is an error like any other, for when the cache does not know either.
            cache.get("tea").copied().ok_or(rejected)?
        }
    };
    println!("   tea costs {tea}, as far as the cache knows\n");

    println!("2. run it in this thread");
    // Backpressure in its simplest form: a caller that asks too often has to do the work. Not for tasks that can
    // hang, since then the callers hang too.
    let rice = match prices.try_execute(ask_for("rice")) {
        Ok(handle) => handle.wait().into_result()?,
        Err(Rejected { task, .. }) => task()?,
    };
    println!("   rice costs {rice}\n");

    println!("3. hand it to a second bulkhead");
    // The closure moves on untouched, so what it owns need not be `Clone`. Only a full bulkhead is a reason
    // to do so: an open circuit would mean that the service is in trouble for every caller.
    let salt = match prices.try_execute(ask_for("salt")) {
        Ok(handle) => handle,
        Err(rejected) if rejected.reason.is_full() => overflow.execute(rejected.task),
        Err(rejected) => return Err(rejected.into()),
    };
    let salt = salt.wait();
    println!("   answered by `{}`", salt.bulkhead_name);
    println!("   salt costs {}\n", salt.into_result()?);

    drop(slow_call);
    slow.wait().into_result()?;
    println!("the slow call is over, so there is room again");
    let result = prices.execute(ask_for("tea")).wait();
    println!(
        "tea costs {}, said `{}`",
        result.into_result()?,
        prices.name()
    );
    println!("refused as full: {}", prices.stats().rejected_full);
    Ok(())
}

/// A call to the price service, not made yet.
fn ask_for(item: &'static str) -> impl FnOnce() -> io::Result<u32> + Send + 'static {
    move || match item {
        "tea" => Ok(310),
        "rice" => Ok(150),
        "salt" => Ok(45),
        other => Err(io::Error::new(io::ErrorKind::NotFound, other)),
    }
}
