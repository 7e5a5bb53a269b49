//! Wrapped functions.

use bulkman::{BulkheadError, CircuitBreakerConfig, SemaphoreBulkhead};

use super::helpers::semaphore;
use crate::support::config;

#[test]
fn a_wrapped_function_goes_through_the_bulkhead() {
    let bulkhead = semaphore(1, 0);
    let prices = [3, 5];
    let price = bulkhead.wrap(|item: usize| prices.get(item).ok_or("no such item"));
    let same = price.clone();
    assert_eq!(price(1).value(), Some(&&5));
    assert_eq!(same(2).error().unwrap().failed(), Some(&"no such item"));
    assert_eq!(bulkhead.stats().submitted_executions, 2);
    drop(bulkhead);
    assert!(matches!(
        price(0).error(),
        Some(BulkheadError::ShutDown { .. })
    ));
}

#[test]
fn a_wrapped_function_keeps_the_settings_of_its_call_and_borrows() {
    let circuit = CircuitBreakerConfig::default().failure_threshold(1);
    let bulkhead = SemaphoreBulkhead::new(config(1, 0).circuit_breaker(circuit)).unwrap();
    let name = String::from("user");
    let known = [503];
    let wrapped = bulkhead
        .call()
        .operation("get")
        .failure_if(|error: &u16| known.contains(error))
        .wrap(|error: u16| {
            let operation = bulkman::current().unwrap().operation().map(str::to_owned);
            if error == 0 {
                Ok((operation, name.as_str()))
            } else {
                Err(error)
            }
        });
    let (operation, borrowed) = wrapped(0).into_result().unwrap();
    assert_eq!((operation.as_deref(), borrowed), (Some("get"), "user"));
    assert!(wrapped(404).error().is_some());
    assert!(bulkhead.is_healthy());
    assert!(wrapped.clone()(503).error().is_some());
    assert!(!bulkhead.is_healthy());
}
