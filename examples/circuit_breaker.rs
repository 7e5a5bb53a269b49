//! A dependency fails and comes back: the circuit opens, waits, probes, and closes again.
//!
//! ```text
//! cargo run --example circuit_breaker
//! ```

use std::error::Error;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, BulkheadEvent, CircuitBreakerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let rules = CircuitBreakerConfig::default()
        .failure_threshold(3) // so many failures in a row open the circuit,
        .isolation_duration(Duration::from_millis(400)) // it refuses calls so long (30 s by default),
        .success_threshold(2); // and so many good probes close it again
    let bulkhead = Bulkhead::builder(BulkheadConfig::new("bank").circuit_breaker(rules))
        .listener(|event: &BulkheadEvent<'_>| {
            if let BulkheadEvent::CircuitChanged { change, .. } = event {
                println!("         -- was {}, is {}", change.from, change.to);
            }
        })
        .build()?;

    println!("the bank is down from 250 to 1,100 ms\n");
    println!("{:>7}  {:43}{:>8}  bulkhead", "time", "outcome", "took");
    let started = Instant::now();
    for account in 1..=30 {
        let called = Instant::now();
        let result = bulkhead
            .call()
            // "No such account" is an answer: it says nothing against the bank.
            .failure_if(|error: &io::Error| error.kind() != ErrorKind::NotFound)
            .execute(move || balance(account, started.elapsed()))
            .wait();
        let outcome = match result.into_result() {
            Ok(balance) => format!("balance {balance}"),
            Err(BulkheadError::Failed(error)) => format!("failed: {error}"),
            Err(BulkheadError::CircuitOpen { retry_after, .. }) => {
                format!("refused, retry in {} ms", retry_after.as_millis())
            }
            Err(error) => return Err(error.into()),
        };
        let (time, took) = (started.elapsed().as_millis(), called.elapsed());
        let took = format!("{took:.0?}");
        let state = bulkhead.state();
        println!("{time:>4} ms  {outcome:43}{took:>8}  {state}");
        thread::sleep(Duration::from_millis(60));
    }

    let stats = bulkhead.stats();
    println!("\nsucceeded: {}", stats.successful_executions);
    println!("failed: {}", stats.failed_executions);
    println!("refused while open: {}", stats.rejected_circuit_open);
    Ok(())
}

/// The dependency. While it is down it takes its time to say so.
fn balance(account: u32, time: Duration) -> io::Result<u32> {
    let is_down = (250..1_100).contains(&time.as_millis());
    thread::sleep(Duration::from_millis(if is_down { 40 } else { 5 }));
    match account {
        _ if is_down => Err(ErrorKind::ConnectionReset.into()),
        2 => Err(io::Error::new(ErrorKind::NotFound, "no such account")),
        _ => Ok(100 * account),
    }
}
