//! Bulkheads with names of their own, and how calls end in a shutdown.

use std::sync::Arc;

use bulkman::{Bulkhead, BulkheadConfig, BulkheadError, BulkheadState, ExecutionHandle};

use crate::support;
use crate::support::{eventually, threads_named, wait};

/// The settings of a bulkhead whose name no other test of this binary uses.
pub fn named(name: &str, n: usize, q: usize) -> BulkheadConfig {
    assert!(
        name.len() <= 5,
        "the system keeps 15 bytes of a thread's name"
    );
    support::named(name, n, q)
}

/// The kernel takes a thread off its list a moment after `join` returns.
pub fn eventually_no_threads_of(name: &str) {
    let prefix = format!("bulkman-{name}-");
    eventually("all worker threads are gone", || {
        threads_named(&prefix) == 0
    });
}

pub fn is_shut_down<T, E>(handle: ExecutionHandle<T, E>) -> bool {
    handle.is_finished() && matches!(wait(handle).error(), Some(BulkheadError::ShutDown { .. }))
}

pub fn is_cancelled_by_shutdown<T, E>(handle: ExecutionHandle<T, E>) -> bool {
    matches!(
        wait(handle).error(),
        Some(BulkheadError::Cancelled {
            by_shutdown: true,
            ..
        })
    )
}

pub fn is_closed(bulkhead: &Bulkhead) -> bool {
    bulkhead.state() == BulkheadState::ShutDown
}

/// Something that owns a bulkhead.
pub struct Owner(#[allow(dead_code, reason = "it is dropped, which is its use")] pub Arc<Bulkhead>);
