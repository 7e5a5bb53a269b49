//! A service with several dependencies: each has a bulkhead, made in one place and looked up by name in others.
//!
//! ```text
//! cargo run --example registry
//! ```

use std::error::Error;
use std::io;
use std::thread;
use std::time::Duration;

use bulkman::{BulkheadConfig, BulkheadRegistry, CircuitBreakerConfig};

/// At the start of the service. A name twice, or a setting out of range, is an error here and not later.
fn set_up(registry: &BulkheadRegistry) -> Result<(), Box<dyn Error>> {
    let breaker = CircuitBreakerConfig::default().failure_threshold(3);
    registry.create(
        BulkheadConfig::new("database")
            .max_concurrent_calls(4)
            .max_queue_size(16)
            .queue_timeout(Duration::from_millis(300)),
    )?;
    registry.create(
        BulkheadConfig::new("tax-api")
            .max_concurrent_calls(2)
            .circuit_breaker(breaker),
    )?;
    // Its calls are short, so they run in their callers' threads.
    registry.create_semaphore(BulkheadConfig::new("cache").max_concurrent_calls(50))?;
    Ok(())
}

/// Anywhere in the service: only the name is known.
fn order(registry: &BulkheadRegistry, number: u32) -> Result<String, Box<dyn Error>> {
    let price = registry.execute_in("cache", move || Ok::<_, io::Error>(number * 3))?;
    let price = price.wait().into_result()?;
    let stored = registry.execute_in("database", move || {
        thread::sleep(Duration::from_millis(2));
        Ok::<_, io::Error>(format!("order {number} for {price}"))
    })?;
    // The tax service is down. The order goes through without it.
    let tax = registry.execute_in("tax-api", || Err::<u32, _>(io::Error::other("no route")))?;
    let tax = tax.wait().into_result().map_or_else(
        |error| format!("without tax ({error})"),
        |tax| format!("tax {tax}"),
    );
    Ok(format!("{}, {tax}", stored.wait().into_result()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = BulkheadRegistry::new();
    set_up(&registry)?;
    for number in 1..=5 {
        println!("{}", order(&registry, number)?);
    }

    println!("\n{}", registry.health());
    for stats in registry.stats() {
        println!("{stats}");
    }
    if let Err(unknown) = registry.execute_in("databse", || Ok::<(), io::Error>(())) {
        println!("\n{unknown}");
    }

    println!();
    for (name, report) in registry.shutdown_all(Duration::from_secs(5)) {
        let end = if report.is_clean() {
            "clean"
        } else {
            "not clean"
        };
        println!("`{name}` has ended, {end}");
    }
    Ok(())
}
