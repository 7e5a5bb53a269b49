//! Ids in the destructors of thread-local values. The hook for panics is the whole process's, so this is a file of its own.

mod support;

use std::cell::RefCell;
use std::collections::HashSet;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bulkman::{Bulkhead, SemaphoreBulkhead};
use support::{bulkhead, config, wait};
use uuid::Uuid;

/// Calls `last` with itself when it is dropped.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

thread_local! {
    static FIRST: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
    static LAST: RefCell<AtEnd> = const { RefCell::new(AtEnd(None)) };
}

/// The id of an admitted call, of a refused one, and of one in its caller's thread.
fn ids(pool: &Bulkhead, gone: &Bulkhead, semaphore: &SemaphoreBulkhead) -> [Uuid; 3] {
    [
        wait(pool.run(|| ())).execution_id,
        wait(gone.run(|| ())).execution_id,
        semaphore.run(|| ()).execution_id,
    ]
}

#[test]
fn a_call_in_a_destructor_panics_nowhere() {
    let panics = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&panics);
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        counter.fetch_add(1, Ordering::SeqCst);
        default(info);
    }));

    let bulkheads = Arc::new((
        bulkhead(1, 1),
        bulkhead(1, 1),
        SemaphoreBulkhead::new(config(1, 1)).unwrap(),
    ));
    bulkheads.1.shutdown();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let call = {
        let (bulkheads, seen) = (Arc::clone(&bulkheads), Arc::clone(&seen));
        move || {
            let (pool, gone, semaphore) = &*bulkheads;
            seen.lock().unwrap().extend(ids(pool, gone, semaphore));
        }
    };
    thread::spawn(move || {
        // One value is dropped before all that the crate keeps for this thread, and one after it, whatever the order.
        let first = call.clone();
        FIRST.with(|value| value.borrow_mut().0 = Some(Box::new(first)));
        call();
        LAST.with(|value| value.borrow_mut().0 = Some(Box::new(call)));
    })
    .join()
    .unwrap();

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 9);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 9, "{seen:?}");
    for id in &*seen {
        assert_eq!(id.get_version_num(), 4, "{id}");
    }
    assert_eq!(panics.load(Ordering::SeqCst), 0, "panics were raised");
}
