//! Calls run in the order in which they came, also under a storm of cancels.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{bulkhead, occupy, wait};
use bulkman::Bulkhead;

/// So many that clearing them away takes a while.
const Q: usize = 2_048;

/// Submits a call that writes its number down when it runs.
fn submit(bulkhead: &Bulkhead, order: &Arc<Mutex<Vec<usize>>>, number: usize) -> bool {
    let order = Arc::clone(order);
    bulkhead
        .try_run(move || order.lock().unwrap().push(number))
        .map(drop)
        .is_ok()
}

#[test]
fn nobody_is_overtaken_while_cancelled_calls_are_cleared_away() {
    for _ in 0..8 {
        let bulkhead = bulkhead(1, Q);
        let busy = occupy(&bulkhead, 1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let is_over = AtomicBool::new(false);
        let cancelled = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok(handle) = bulkhead.try_run(|| ()) {
                        handle.cancel();
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            // Few enough to leave a place for the storm.
            let mut submitted = 0;
            while submitted < Q / 2 {
                // So that the storm goes on from the first to the last.
                while cancelled.load(Ordering::Relaxed) < 8 * submitted {
                    thread::yield_now();
                }
                submitted += usize::from(submit(&bulkhead, &order, submitted));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        busy.finish();
        wait(bulkhead.run(|| ())).into_result().unwrap();
        let order = order.lock().unwrap();
        assert!(order.iter().copied().eq(0..Q / 2), "{order:?}");
    }
}
