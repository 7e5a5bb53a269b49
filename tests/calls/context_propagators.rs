//! Context propagators: a context goes from the caller to the task, and not further.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread::{self};

use bulkman::{Bulkhead, CapturedContext, ContextPropagator};

use crate::support::{config, occupy, wait};

thread_local! {
    static REQUEST: Cell<u32> = const { Cell::new(0) };
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Carries `REQUEST`, and writes into the worker's `LOG` what it does.
struct Request(&'static str);

struct Restore(&'static str, u32);

impl Drop for Restore {
    fn drop(&mut self) {
        REQUEST.set(self.1);
        LOG.with_borrow_mut(|log| log.push(format!("detach {}", self.0)));
    }
}

impl ContextPropagator for Request {
    fn capture(&self) -> CapturedContext {
        let (name, id) = (self.0, REQUEST.get());
        CapturedContext::new(move || -> Box<dyn Any> {
            LOG.with_borrow_mut(|log| log.push(format!("attach {name}")));
            Box::new(Restore(name, REQUEST.replace(id)))
        })
    }
}

fn log_of(bulkhead: &Bulkhead) -> Vec<String> {
    wait(bulkhead.run(|| LOG.take())).into_result().unwrap()
}

#[test]
fn a_context_goes_from_the_caller_to_the_worker_and_not_further() {
    let bulkhead = Bulkhead::builder(config(1, 4))
        .context_propagator(Request("a"))
        .build()
        .unwrap();
    for id in [7, 8] {
        REQUEST.set(id);
        let handle = bulkhead.run(|| REQUEST.get());
        REQUEST.set(99);
        assert_eq!(wait(handle).value(), Some(&id), "as it was when submitted");
    }
    // A thread that has no request leaves the worker as it was before all of them.
    let handle = thread::scope(|scope| scope.spawn(|| bulkhead.run(|| REQUEST.get())).join());
    assert_eq!(wait(handle.unwrap()).value(), Some(&0));
}

#[test]
fn contexts_attach_in_order_and_detach_in_reverse_after_a_panic_too() {
    let bulkhead = Bulkhead::builder(config(1, 4))
        .context_propagator(Request("a"))
        .context_propagator(Request("b"))
        .build()
        .unwrap();
    let round = ["attach a", "attach b", "detach b", "detach a"];
    assert!(wait(bulkhead.run(|| ())).is_success());
    let seen = log_of(&bulkhead);
    assert_eq!(seen[..4], round);
    let _ = log_of(&bulkhead);
    let result: bulkman::ExecutionResult<(), _> = wait(bulkhead.run(|| panic!("in between")));
    assert!(result.error().is_some());
    let seen = log_of(&bulkhead);
    assert_eq!(seen[2..6], round);
}

#[test]
fn a_nested_call_has_its_callers_context_and_gives_the_outer_one_back() {
    let bulkhead = Arc::new(
        Bulkhead::builder(config(1, 1))
            .context_propagator(Request("a"))
            .build()
            .unwrap(),
    );
    REQUEST.set(5);
    let inner = Arc::clone(&bulkhead);
    let handle = bulkhead.run(move || {
        let before = REQUEST.replace(6);
        let nested = inner.run(|| REQUEST.get()).wait();
        (before, nested.into_result().unwrap(), REQUEST.get())
    });
    assert_eq!(wait(handle).value(), Some(&(5, 6, 6)));
    REQUEST.set(0);
    assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&0));
}

#[test]
fn a_context_of_a_call_that_never_starts_is_dropped_unused() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    struct Holds(Arc<()>);
    impl ContextPropagator for Holds {
        fn capture(&self) -> CapturedContext {
            let held = Arc::clone(&self.0);
            CapturedContext::new(move || -> Box<dyn Any> { Box::new(held) })
        }
    }
    let bulkhead = Bulkhead::builder(config(1, 1))
        .context_propagator(Holds(held))
        .build()
        .unwrap();
    let busy = occupy(&bulkhead, 1);
    assert_eq!(
        Arc::strong_count(&token),
        3,
        "its own and the running call's"
    );
    let queued = bulkhead.run(|| ());
    assert_eq!(Arc::strong_count(&token), 4);
    assert!(queued.cancel());
    assert_eq!(Arc::strong_count(&token), 3);
    drop(queued);
    busy.finish();
    assert_eq!(Arc::strong_count(&token), 2);
    assert!(wait(bulkhead.run(|| ())).is_success());
    assert_eq!(Arc::strong_count(&token), 2);
}

/// Panics in one of its three steps.
#[derive(Clone, Copy, PartialEq)]
enum PanicsIn {
    Capture,
    Attach,
    Detach,
}

struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        panic!("in detach");
    }
}

impl ContextPropagator for PanicsIn {
    fn capture(&self) -> CapturedContext {
        let step = *self;
        assert!(step != Self::Capture, "in capture");
        CapturedContext::new(move || -> Box<dyn Any> {
            assert!(step != Self::Attach, "in attach");
            Box::new(PanicOnDrop)
        })
    }
}

#[test]
fn a_propagator_that_panics_in_any_step_disturbs_neither_the_task_nor_the_others() {
    for step in [PanicsIn::Capture, PanicsIn::Attach, PanicsIn::Detach] {
        let bulkhead = Bulkhead::builder(config(2, 2))
            .context_propagator(Request("before"))
            .context_propagator(step)
            .context_propagator(Request("after"))
            .build()
            .unwrap();
        REQUEST.set(3);
        for _ in 0..5 {
            assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&3));
        }
        let busy = occupy(&bulkhead, 2);
        busy.finish();
        assert_eq!(bulkhead.available_capacity(), 4);
        assert_eq!(bulkhead.stats().successful_executions, 7);
    }
}

#[test]
fn a_closure_that_returns_what_attaches_is_a_propagator() {
    let bulkhead = Bulkhead::builder(config(1, 4))
        .context_propagator(|| {
            let id = REQUEST.get();
            move || Restore("closure", REQUEST.replace(id))
        })
        .build()
        .unwrap();
    REQUEST.set(7);
    assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&7));
    REQUEST.set(0);
    assert_eq!(wait(bulkhead.run(|| REQUEST.get())).value(), Some(&0));
    assert_eq!(log_of(&bulkhead), ["detach closure", "detach closure"]);
}
