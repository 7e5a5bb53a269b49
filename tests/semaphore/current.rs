//! The current call, as its task sees it.

use std::sync::Arc;
use std::thread;

use bulkman::SemaphoreBulkhead;

use super::helpers::semaphore;
use crate::support;

#[test]
fn a_task_can_ask_about_itself() {
    let bulkhead = semaphore(1, 0);
    assert!(bulkman::current().is_none());
    for operation in [None, Some("get_user")] {
        let mut call = bulkhead.call();
        if let Some(operation) = operation {
            call = call.operation(operation);
        }
        let result = call.run(|| {
            let me = bulkman::current().expect("in a task");
            assert_eq!(me.bulkhead_name(), "test");
            assert_eq!(me.operation(), operation);
            assert_eq!((me.deadline(), me.remaining()), (None, None));
            assert!(!me.is_cancelled() && !me.is_shutting_down());
            me.execution_id()
        });
        assert_eq!(result.execution_id, *result.value().unwrap());
        assert!(bulkman::current().is_none());
    }
}

#[test]
fn what_a_task_knows_may_outlive_it() {
    let bulkhead = semaphore(1, 0);
    let result = bulkhead.run(|| bulkman::current().unwrap());
    let id = result.execution_id;
    let me = result.into_result().unwrap();
    assert!(!me.is_shutting_down());
    drop(bulkhead);
    let there = thread::spawn(move || (me.execution_id(), me.is_shutting_down()));
    assert_eq!(there.join().unwrap(), (id, true));
}

/// The innermost call is the current one, whatever kinds of bulkheads are inside each other.
#[test]
fn the_innermost_call_is_the_current_one() {
    let (a, b) = (semaphore(1, 9), semaphore(1, 9));
    let pool = Arc::new(support::bulkhead(1, 9));
    let current = || bulkman::current().map(|me| me.execution_id());
    let inner = |bulkhead: &SemaphoreBulkhead, deeper: &dyn Fn()| {
        let before = current();
        let result = bulkhead.run(|| {
            let here = current();
            deeper();
            assert_eq!(current(), here, "after the call inside");
            here
        });
        assert_eq!(result.value(), Some(&Some(result.execution_id)));
        assert_eq!(current(), before, "after the call");
    };
    inner(&a, &|| {
        inner(&b, &|| inner(&a, &|| inner(&b, &|| ())));
        inner(&a, &|| ());
    });
    // On a worker: a call of the pool, in it one of a semaphore, in it one of the pool that the worker runs itself.
    let (pool_inside, a) = (Arc::clone(&pool), Arc::new(a));
    let result = pool.run(move || {
        let me = bulkman::current().unwrap().execution_id();
        let outer = a.run(|| {
            let inside = Arc::clone(&a);
            let handle = pool_inside.run(move || {
                let helped = bulkman::current().unwrap().execution_id();
                let nested = inside.run(|| bulkman::current().unwrap().execution_id());
                assert_eq!(nested.execution_id, *nested.value().unwrap());
                assert_eq!(bulkman::current().unwrap().execution_id(), helped);
                helped
            });
            let helped = handle.wait();
            assert_eq!(helped.execution_id, *helped.value().unwrap());
            bulkman::current().unwrap().execution_id()
        });
        assert_eq!(outer.execution_id, *outer.value().unwrap());
        assert_eq!(bulkman::current().unwrap().execution_id(), me);
    });
    assert!(result.wait().is_success());
}
