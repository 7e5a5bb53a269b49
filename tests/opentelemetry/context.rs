//! The caller's `Context`, with its span, its baggage and its values, is there on the worker and gone afterwards.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;

use bulkman::{Bulkhead, SemaphoreBulkhead};
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};

use crate::support::{Bomb, bulkhead, config, occupy, wait};

#[derive(Debug, PartialEq)]
struct Number(u32);

fn number() -> Option<u32> {
    Context::current()
        .get::<Number>()
        .map(|Number(number)| *number)
}

fn with_number<R>(number: u32, body: impl FnOnce() -> R) -> R {
    let _attached = Context::current_with_value(Number(number)).attach();
    body()
}

fn seen(pool: &Bulkhead) -> Option<u32> {
    wait(pool.run(number)).into_result().unwrap()
}

#[test]
fn the_worker_has_the_callers_values_and_not_those_of_another_call() {
    let pool = bulkhead(1, 4);
    assert_eq!(with_number(1, || seen(&pool)), Some(1));
    assert_eq!(seen(&pool), None, "nothing is left");
    let queued: Vec<_> = (0..4)
        .map(|i| with_number(i, || pool.run(number)))
        .collect();
    for (handle, i) in queued.into_iter().zip(0..) {
        assert_eq!(wait(handle).value(), Some(&Some(i)));
    }
}

#[test]
fn the_active_span_and_the_baggage_go_along() {
    let pool = bulkhead(1, 1);
    let remote = SpanContext::new(
        TraceId::from(7),
        SpanId::from(8),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    let context = Context::new()
        .with_remote_span_context(remote.clone())
        .with_baggage([KeyValue::new("tenant", "acme")]);
    let _attached = context.attach();
    let result = wait(pool.run(|| {
        let context = Context::current();
        let tenant = context.baggage().get("tenant").map(ToString::to_string);
        (context.span().span_context().clone(), tenant)
    }));
    assert_eq!(
        result.into_result().unwrap(),
        (remote, Some("acme".to_owned()))
    );
}

#[test]
fn a_worker_has_its_own_context_back_also_after_a_panic() {
    thread_local!(static OWN: RefCell<Option<opentelemetry::ContextGuard>> = const { RefCell::new(None) });
    let pool = Bulkhead::builder(config(1, 1))
        .propagate_trace(true)
        .on_worker_start(|_| OWN.set(Some(Context::current_with_value(Number(100)).attach())))
        .on_worker_stop(|_| {
            assert_eq!(number(), Some(100));
            OWN.set(None);
        })
        .build()
        .unwrap();
    assert_eq!(with_number(1, || seen(&pool)), Some(1));
    assert!(
        with_number(2, || wait(pool.run(|| panic!("a task"))))
            .error()
            .is_some()
    );
    assert_eq!(seen(&pool), None, "the caller has none");
}

#[test]
fn it_goes_on_through_calls_that_a_task_makes_and_waits_for() {
    let (pool, other) = (Arc::new(bulkhead(1, 4)), Arc::new(bulkhead(1, 1)));
    let here = SemaphoreBulkhead::new(config(1, 1)).unwrap();
    let inner = Arc::clone(&pool);
    let values = with_number(1, || {
        wait(pool.run(move || {
            let own = with_number(2, || inner.run(number))
                .wait()
                .into_result()
                .unwrap();
            let others = here.run(|| other.run(number).wait().into_result().unwrap());
            (own, others.into_result().unwrap(), number())
        }))
    });
    assert_eq!(values.into_result().unwrap(), (Some(2), Some(1), Some(1)));
}

#[test]
fn a_bulkhead_can_do_without() {
    let pool = Bulkhead::builder(config(1, 1))
        .propagate_trace(false)
        .build()
        .unwrap();
    assert_eq!(with_number(1, || seen(&pool)), None);
}

#[test]
fn a_value_whose_drop_panics_harms_no_call() {
    let pool = bulkhead(1, 1);
    let busy = occupy(&pool, 1);
    let with_bomb = |body: &dyn Fn()| {
        let attached = Context::current_with_value(Arc::new(Bomb)).attach();
        body();
        // The last owner is to be the call.
        drop(attached);
    };
    let handles = RefCell::new(Vec::new());
    with_bomb(&|| handles.borrow_mut().push(pool.run(|| 1)));
    busy.finish();
    for handle in handles.take() {
        assert_eq!(wait(handle).value(), Some(&1));
    }
    let busy = occupy(&pool, 1);
    with_bomb(&|| handles.borrow_mut().push(pool.run(|| 1)));
    for handle in handles.take() {
        assert!(handle.cancel());
    }
    busy.finish();
    assert_eq!(pool.stats().in_flight, 0);
}

#[test]
fn a_call_in_the_destructor_of_a_thread_local_value_goes_without() {
    struct AtTheEnd(Arc<Bulkhead>, std::sync::mpsc::Sender<bool>);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let _ = self.1.send(wait(self.0.run(|| 1)).is_success());
        }
    }
    thread_local!(static END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) });
    let pool = Arc::new(bulkhead(1, 1));
    let (ended, has_ended) = std::sync::mpsc::channel();
    let inner = Arc::clone(&pool);
    thread::spawn(move || {
        END.set(Some(AtTheEnd(Arc::clone(&inner), ended)));
        // The thread uses the `Context` after that, so it is dropped before.
        assert_eq!(with_number(1, || seen(&inner)), Some(1));
    })
    .join()
    .unwrap();
    assert!(has_ended.recv().unwrap());
}
