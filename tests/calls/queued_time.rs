//! The queued time of a call: it includes user code that the worker runs between two calls.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

use bulkman::{
    Bulkhead, BulkheadBuilder, BulkheadEvent, CapturedContext, ContextPropagator, ExecutionHandle,
    ManualClock,
};

use crate::support::{Gate, HOUR, OpenOnDrop, config, eventually};

/// A waker that moves the clock.
struct Advances(ManualClock);

impl Wake for Advances {
    fn wake(self: Arc<Self>) {
        self.0.advance(HOUR);
    }
}

/// A value that moves the clock when it is dropped.
struct AdvancesOnDrop(ManualClock);

impl Drop for AdvancesOnDrop {
    fn drop(&mut self) {
        self.0.advance(HOUR);
    }
}

/// A context that moves the clock when its task is over.
struct AdvancesAfterTask(ManualClock);

impl ContextPropagator for AdvancesAfterTask {
    fn capture(&self) -> CapturedContext {
        let clock = self.0.clone();
        CapturedContext::new(|| -> Box<dyn Any> { Box::new(AdvancesOnDrop(clock)) })
    }
}

/// Between two calls of a busy worker runs user code that takes an hour: the second has waited for it.
fn next_call_waits_for(
    build: impl FnOnce(BulkheadBuilder, &ManualClock) -> BulkheadBuilder,
    end_of_first: impl FnOnce(ExecutionHandle<Option<AdvancesOnDrop>, Infallible>, &ManualClock),
    value: impl FnOnce(&ManualClock) -> Option<AdvancesOnDrop> + Send + 'static,
) {
    let clock = ManualClock::new();
    let builder = Bulkhead::builder(config(1, 1)).clock(clock.clone());
    let bulkhead = build(builder, &clock).build().unwrap();
    let gate = Gate::new();
    let _opener = OpenOnDrop(gate.clone());
    let first = {
        let (gate, clock) = (gate.clone(), clock.clone());
        bulkhead.run(move || {
            gate.pass();
            value(&clock)
        })
    };
    gate.wait_for_arrivals(1);
    let second = bulkhead.run(|| ());
    end_of_first(first, &clock);
    gate.open();
    // Not `wait`, which has a limit by this very clock.
    eventually("the second ended", || second.is_finished());
    assert_eq!(second.wait().queued_time, HOUR);
}

#[test]
fn a_call_has_waited_for_the_listeners_of_the_one_before() {
    let listening = |builder: BulkheadBuilder, clock: &ManualClock| {
        let (clock, ended) = (clock.clone(), AtomicBool::new(false));
        builder.listener(move |event: &BulkheadEvent<'_>| {
            let first_end = matches!(event, BulkheadEvent::Finished { .. })
                && !ended.swap(true, Ordering::Relaxed);
            if first_end {
                clock.advance(HOUR);
            }
        })
    };
    // Held until the second has ended.
    let mut held = None;
    next_call_waits_for(listening, |first, _| held = Some(first), |_| None);
}

#[test]
fn a_call_has_waited_for_the_contexts_of_the_one_before() {
    let mut held = None;
    next_call_waits_for(
        |builder, clock| builder.context_propagator(AdvancesAfterTask(clock.clone())),
        |first, _| held = Some(first),
        |_| None,
    );
}

#[test]
fn a_call_has_waited_for_the_drop_of_the_result_before() {
    next_call_waits_for(
        |builder, _| builder,
        |first, _| drop(first),
        |clock| Some(AdvancesOnDrop(clock.clone())),
    );
}

#[test]
fn a_call_has_waited_for_the_waker_of_the_one_before() {
    let mut held = None;
    next_call_waits_for(
        |builder, _| builder,
        |mut first, clock| {
            let waker = Arc::new(Advances(clock.clone())).into();
            assert!(
                Pin::new(&mut first)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            held = Some(first);
        },
        |_| None,
    );
}
