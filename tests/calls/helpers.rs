//! A waker that looks at the bulkhead.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::task::Waker;

use bulkman::{Bulkhead, BulkheadStats, ExecutionHandle};

use crate::support::{OnWake, Trace};

/// A waker of a call that looks at the bulkhead when it is woken and the call is over: an alarm at a deadline may wake it
/// before. It sends how many traces and closures are left, the number that `count` picks, and how many places are free.
pub fn looking_waker<T: 'static, E: 'static>(
    bulkhead: &Arc<Bulkhead>,
    call: &ExecutionHandle<T, E>,
    trace: &Trace,
    count: fn(&BulkheadStats) -> u64,
) -> (Waker, Receiver<(usize, u64, usize)>) {
    let (sender, receiver) = mpsc::channel();
    let (bulkhead, closure) = (Arc::clone(bulkhead), trace.downgrade());
    let call = call.cancel_handle();
    let look = move || {
        if !call.is_finished() {
            return;
        }
        let free = bulkhead.available_capacity();
        let counted = count(&bulkhead.stats());
        let _ = sender.send((closure.strong_count(), counted, free));
    };
    (Waker::from(Arc::new(OnWake(look))), receiver)
}
