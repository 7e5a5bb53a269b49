//! Hooks that run when a worker starts and when it stops.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use bulkman::{Bulkhead, BulkheadBuilder};

use crate::support::{config, occupy, wait};

fn with_hooks(
    builder: BulkheadBuilder,
    started: &Arc<Mutex<Vec<usize>>>,
    stopped: &Arc<Mutex<Vec<usize>>>,
) -> BulkheadBuilder {
    let (started, stopped) = (Arc::clone(started), Arc::clone(stopped));
    builder
        .on_worker_start(move |index| started.lock().unwrap().push(index))
        .on_worker_stop(move |index| stopped.lock().unwrap().push(index))
}

fn sorted(indices: &Mutex<Vec<usize>>) -> Vec<usize> {
    let mut indices = indices.lock().unwrap().clone();
    indices.sort_unstable();
    indices
}

#[test]
fn hooks_run_once_on_each_worker_with_its_index() {
    let (started, stopped) = (Arc::default(), Arc::default());
    let builder = Bulkhead::builder(config(3, 3));
    let bulkhead = with_hooks(builder, &started, &stopped).build().unwrap();
    let busy = occupy(&bulkhead, 3);
    assert_eq!(sorted(&started), [0, 1, 2], "before the first task");
    assert_eq!(sorted(&stopped), [0; 0]);
    busy.finish();
    drop(bulkhead);
    assert_eq!(sorted(&started), [0, 1, 2]);
    assert_eq!(sorted(&stopped), [0, 1, 2]);
}

#[test]
fn hooks_run_on_the_workers_thread_and_share_its_thread_local_values() {
    thread_local!(static CONNECTION: RefCell<Option<String>> = const { RefCell::new(None) });

    let closed = Arc::new(Mutex::new(Vec::new()));
    let bulkhead = Bulkhead::builder(config(1, 1))
        .on_worker_start(|index| CONNECTION.set(Some(format!("connection {index}"))))
        .on_worker_stop({
            let closed = Arc::clone(&closed);
            move |_| closed.lock().unwrap().push(CONNECTION.take())
        })
        .build()
        .unwrap();
    let seen = wait(bulkhead.run(|| CONNECTION.with_borrow(Clone::clone)));
    assert_eq!(seen.value(), Some(&Some("connection 0".to_owned())));
    drop(bulkhead);
    assert_eq!(*closed.lock().unwrap(), [Some("connection 0".to_owned())]);
}

#[test]
fn hooks_that_panic_cost_no_worker_and_do_not_keep_the_others_from_running() {
    let (started, stopped) = (Arc::default(), Arc::default());
    let builder = Bulkhead::builder(config(2, 2))
        .on_worker_start(|_| panic!("a start hook that panics"))
        .on_worker_stop(|_| panic!("a stop hook that panics"));
    let bulkhead = with_hooks(builder, &started, &stopped).build().unwrap();
    occupy(&bulkhead, 2).finish();
    assert!(bulkhead.shutdown().is_clean());
    assert_eq!(sorted(&started), [0, 1]);
    assert_eq!(sorted(&stopped), [0, 1]);
}
