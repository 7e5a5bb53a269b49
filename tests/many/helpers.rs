//! Tasks on workers, and calls that end when a test says so.

use std::sync::Arc;

use bulkman::Bulkhead;

pub use crate::support::at_a_gate;
use crate::support::{assert_balanced, bulkhead, in_time};

/// Runs `task` on a worker of a bulkhead with N workers and Q places, and fails if it hangs.
pub fn on_a_worker<R: Send + 'static>(
    n: usize,
    q: usize,
    task: impl FnOnce(&Arc<Bulkhead>) -> R + Send + 'static,
) -> R {
    in_time(move || {
        let bulkhead = Arc::new(bulkhead(n, q));
        let inside = Arc::clone(&bulkhead);
        let value = bulkhead.run(move || task(&inside)).wait().into_result();
        let stats = bulkhead.stats();
        assert_balanced(&stats);
        match value {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    })
}
