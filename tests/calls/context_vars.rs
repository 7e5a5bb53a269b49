//! Context values travel by themselves: from the thread that submits a call to the worker, and no further.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::support::{Bomb, Gate, OpenOnDrop, PATIENCE, bulkhead, config, occupy, wait};
use allocation_counter::measure;
use bulkman::{
    Bulkhead, BulkheadConfig, ContextSnapshot, ContextVar, SemaphoreBulkhead, propagate,
};

static NUMBER: ContextVar<u32> = ContextVar::new();
static NAME: ContextVar<String> = ContextVar::new();

fn seen(bulkhead: &Bulkhead) -> Option<u32> {
    wait(bulkhead.run(|| NUMBER.get())).into_result().unwrap()
}

// ---- in one thread

#[test]
fn a_value_is_set_for_a_scope() {
    assert_eq!(NUMBER.get(), None);
    NUMBER.with(1, || {
        assert_eq!(NUMBER.get(), Some(1));
        let inner = NUMBER.set(2);
        assert_eq!(NUMBER.get(), Some(2));
        assert_eq!(NAME.get(), None, "another variable");
        NAME.with("tea".to_owned(), || assert_eq!(NUMBER.get(), Some(2)));
        drop(inner);
        assert_eq!(NUMBER.get(), Some(1));
    });
    assert_eq!(NUMBER.get(), None);
}

#[test]
fn two_variables_of_one_type_are_two() {
    static OTHER: ContextVar<u32> = ContextVar::new();
    let seen = NUMBER.with(1, || OTHER.with(2, || (NUMBER.get(), OTHER.get())));
    assert_eq!(seen, (Some(1), Some(2)));
}

#[test]
fn a_panic_ends_the_scope_too() {
    let ended = catch_unwind(|| NUMBER.with(1, || panic!("in the scope")));
    assert!(ended.is_err());
    assert_eq!(NUMBER.get(), None);
}

#[test]
fn the_value_is_shared_and_not_copied() {
    NAME.with("tea".to_owned(), || {
        assert!(Arc::ptr_eq(
            &NAME.shared().unwrap(),
            &NAME.shared().unwrap()
        ));
    });
    assert!(NAME.shared().is_none());
}

#[test]
fn another_thread_has_its_own() {
    NUMBER.with(1, || {
        let other = thread::spawn(|| NUMBER.get()).join().unwrap();
        assert_eq!(other, None);
    });
}

// ---- to the worker

#[test]
fn the_worker_has_the_submitters_values_and_not_those_of_another_call() {
    let bulkhead = bulkhead(1, 4);
    assert_eq!(NUMBER.with(7, || seen(&bulkhead)), Some(7));
    assert_eq!(seen(&bulkhead), None, "nothing is left behind");
    let queued: Vec<_> = (0..4)
        .map(|i| NUMBER.with(i, || bulkhead.run(|| NUMBER.get())))
        .collect();
    for (i, handle) in (0..).zip(queued) {
        assert_eq!(wait(handle).into_result().unwrap(), Some(i));
    }
}

#[test]
fn the_values_are_those_of_the_moment_of_the_submission() {
    let bulkhead = bulkhead(1, 1);
    let busy = occupy(&bulkhead, 1);
    let guard = NUMBER.set(1);
    let queued = bulkhead.run(|| NUMBER.get());
    drop(guard);
    let _later = NUMBER.set(2);
    busy.finish();
    assert_eq!(wait(queued).into_result().unwrap(), Some(1));
}

#[test]
fn a_task_changes_its_own_values_only() {
    let bulkhead = bulkhead(1, 0);
    NUMBER.with(1, || {
        let task = || {
            // Never dropped: it must not stay with the worker.
            std::mem::forget(NUMBER.set(5));
            NUMBER.get()
        };
        assert_eq!(wait(bulkhead.run(task)).into_result().unwrap(), Some(5));
        assert_eq!(NUMBER.get(), Some(1));
    });
    assert_eq!(seen(&bulkhead), None);
}

#[test]
fn the_workers_own_values_come_back() {
    let (at_end, end) = mpsc::channel();
    let bulkhead = Bulkhead::builder(config(1, 0))
        .on_worker_start(|_| std::mem::forget(NUMBER.set(100)))
        .on_worker_stop(move |_| at_end.send(NUMBER.get()).unwrap())
        .build()
        .unwrap();
    assert_eq!(NUMBER.with(7, || seen(&bulkhead)), Some(7));
    assert_eq!(
        seen(&bulkhead),
        None,
        "a call has its caller's values, also where there are none"
    );
    drop(bulkhead);
    assert_eq!(end.recv_timeout(PATIENCE).unwrap(), Some(100));
}

#[test]
fn values_go_on_through_nested_calls_of_every_kind() {
    let outer = Arc::new(bulkhead(1, 2));
    let inner = Arc::new(bulkhead(1, 0));
    let cache = Arc::new(SemaphoreBulkhead::new(BulkheadConfig::new("cache")).unwrap());
    let task = {
        let outer = Arc::clone(&outer);
        move || {
            let other = seen(&inner);
            let nested = NUMBER.with(8, || seen(&outer));
            let in_caller = cache.run(|| NUMBER.get()).into_result().unwrap();
            (other, nested, in_caller, NUMBER.get())
        }
    };
    let result = NUMBER.with(7, || wait(outer.run(task)).into_result().unwrap());
    assert_eq!(result, (Some(7), Some(8), Some(7), Some(7)));
}

#[test]
fn a_wrapped_function_has_the_values_of_each_caller() {
    let bulkhead = bulkhead(1, 4);
    let wrapped = bulkhead.wrap(|()| Ok::<_, ()>(NUMBER.get()));
    for i in 0..3 {
        let result = NUMBER.with(i, || wrapped(()));
        assert_eq!(result.into_result().unwrap(), Some(i));
    }
}

#[test]
fn after_a_panic_the_worker_has_its_own_values() {
    let bulkhead = bulkhead(1, 0);
    let panicked = NUMBER.with(7, || bulkhead.run(|| panic!("with a value")));
    assert!(wait(panicked).error().is_some());
    assert_eq!(seen(&bulkhead), None);
}

#[test]
fn values_are_let_go_with_the_call() {
    static SHARED: ContextVar<Arc<()>> = ContextVar::new();
    let value = Arc::new(());
    let bulkhead = bulkhead(1, 2);
    let busy = occupy(&bulkhead, 1);
    let (runs, cancelled) = SHARED.with(Arc::clone(&value), || {
        (bulkhead.run(|| SHARED.get().is_some()), bulkhead.run(|| ()))
    });
    assert!(cancelled.cancel());
    busy.finish();
    assert!(wait(runs).into_result().unwrap());
    drop(bulkhead);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_value_whose_drop_panics_harms_no_worker() {
    static BOMB: ContextVar<Bomb> = ContextVar::new();
    let bulkhead = bulkhead(1, 0);
    let gate = Gate::new();
    let opener = OpenOnDrop(gate.clone());
    let handle = {
        let guard = BOMB.set(Bomb);
        let handle = bulkhead.run(move || {
            gate.pass();
            7
        });
        // The call has the last reference from here on.
        drop(guard);
        handle
    };
    drop(opener);
    assert_eq!(wait(handle).into_result().unwrap(), 7);
    assert_eq!(seen(&bulkhead), None);
    assert_eq!(bulkhead.available_capacity(), 1);
}

#[test]
fn values_in_thread_local_destructors_are_none_or_there_and_never_a_panic() {
    struct AtTheEnd(mpsc::Sender<bool>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _guard = NUMBER.set(9);
                let _ = NUMBER.get();
                ContextSnapshot::take().run(|| NUMBER.get())
            }));
            let _ = self.0.send(panicked.is_ok());
        }
    }
    thread_local!(static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });
    let (sender, receiver) = mpsc::channel();
    // Registered before and after the values, so destroyed after and before them.
    for values_first in [false, true] {
        let sender = sender.clone();
        let thread = thread::spawn(move || {
            if values_first {
                NUMBER.with(1, || ());
            }
            LAST.set(Some(AtTheEnd(sender)));
            std::mem::forget(NUMBER.set(2));
        });
        thread.join().unwrap();
        assert!(receiver.recv_timeout(PATIENCE).unwrap());
    }
}

// ---- what it costs

#[test]
fn a_call_with_values_is_one_block_too() {
    let bulkhead = bulkhead(1, 0);
    let blocks = |action: &dyn Fn()| measure(action).count_total;
    let run = || drop(bulkhead.run(|| ()).wait());
    run();
    let without = blocks(&run);
    let _guard = NUMBER.set(1);
    run();
    assert_eq!(blocks(&run), without);
}

// ---- guards that end out of order

/// Panics when it is dropped, if it is told to.
static FRAGILE: ContextVar<(u32, Option<Bomb>)> = ContextVar::new();

#[test]
fn a_guard_that_ends_where_other_values_hold_takes_its_value_away() {
    let context = NAME.with("tea".to_owned(), ContextSnapshot::take);
    let outer = NUMBER.set(1);
    let middle = NUMBER.set(2);
    let inner = NUMBER.set(3);
    context.run(|| {
        drop(middle);
        drop(inner);
        assert_eq!(NUMBER.get(), None);
    });
    assert_eq!(NUMBER.get(), Some(1));
    context.run(|| drop(outer));
    assert_eq!(NUMBER.get(), None);
    assert!(ContextSnapshot::take().is_empty());
}

#[test]
fn a_value_that_ends_out_of_order_and_panics_in_its_drop_leaves_the_right_one() {
    let number = || FRAGILE.shared().map(|value| value.0);
    let outer = FRAGILE.set((1, None));
    let middle = FRAGILE.set((2, Some(Bomb)));
    let inner = FRAGILE.set((3, None));
    drop(middle);
    assert_eq!(number(), Some(3));
    drop(inner);
    assert_eq!(number(), Some(1));
    drop(outer);
    assert_eq!(number(), None);
}

// ---- by hand

#[test]
fn a_snapshot_takes_all_values_along_and_no_others() {
    let context = NUMBER.with(1, || NAME.with("tea".to_owned(), ContextSnapshot::take));
    assert!(!context.is_empty());
    let there = context.clone();
    let thread = thread::spawn(move || {
        let _own = NUMBER.set(2);
        let inside = there.run(|| (NUMBER.get(), NAME.get()));
        (inside, NUMBER.get(), NAME.get())
    });
    let (inside, number, name) = thread.join().unwrap();
    assert_eq!(inside, (Some(1), Some("tea".to_owned())));
    assert_eq!((number, name), (Some(2), None));

    let nothing = ContextSnapshot::take();
    assert!(nothing.is_empty());
    assert_eq!(NUMBER.with(3, || nothing.run(|| NUMBER.get())), None);
    let panicked = catch_unwind(AssertUnwindSafe(|| context.run(|| panic!("in it"))));
    assert!(panicked.is_err());
    assert_eq!(NUMBER.get(), None);
}

#[test]
fn a_thread_local_that_can_be_read_and_set_is_propagated() {
    thread_local!(static TENANT: Cell<u32> = const { Cell::new(0) });
    let ended = Arc::new(AtomicUsize::new(0));
    let at_end = Arc::clone(&ended);
    let bulkhead = Bulkhead::builder(config(1, 0))
        .on_worker_start(|_| TENANT.set(100))
        .context_propagator(propagate(|| TENANT.get(), |tenant| TENANT.set(tenant)))
        .on_worker_stop(move |_| at_end.store(TENANT.get() as usize, Ordering::Relaxed))
        .build()
        .unwrap();
    TENANT.set(7);
    assert_eq!(
        wait(bulkhead.run(|| TENANT.replace(8)))
            .into_result()
            .unwrap(),
        7
    );
    TENANT.set(9);
    assert_eq!(
        wait(bulkhead.run(|| TENANT.get())).into_result().unwrap(),
        9
    );
    drop(bulkhead);
    assert_eq!(ended.load(Ordering::Relaxed), 100);
}
