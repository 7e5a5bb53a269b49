//! x
use bulkman::{Bulkhead, BulkheadConfig};

#[test]
fn execute_and_wait() {
    loom::model(|| {
        let b = Bulkhead::new(
            BulkheadConfig::new("m")
                .max_concurrent_calls(1)
                .max_queue_size(0),
        )
        .unwrap();
        assert_eq!(b.run(|| 1).wait().into_result().unwrap(), 1);
        b.run(|| 2).wait().into_result().unwrap();
    });
}
