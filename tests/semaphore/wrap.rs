//! Wrapped functions.

use bulkman::BulkheadError;

use super::helpers::semaphore;

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
