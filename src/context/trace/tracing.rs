//! The feature `tracing`: the span of a call, and the subscriber that it belongs to.
//!
//! A worker enters two spans: the caller's, and on top of it the call's own. The second has the first as its parent anyway.
//! But where a layer's filter leaves out the spans of bulkman, `tracing-subscriber` looks for the next span that the layer
//! may see among those that the thread has entered. So the span that is entered beneath is the nearest one around the call
//! that is not bulkman's: [`RUNNING`] knows it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use ::tracing::dispatcher::{DefaultGuard, Dispatch, get_default, set_default};
use ::tracing::field::{Empty, display};
use ::tracing::level_filters::LevelFilter;
use ::tracing::{Level, Span};

use crate::event::CallInfo;
use crate::panic::contain;
use crate::result::CallOutcome;

/// What a call has of `tracing`; nothing, and no allocation, if no subscriber wants anything.
#[derive(Default)]
pub(super) struct CallSpan(Option<Arc<Traced>>);

struct Traced {
    /// The call's own span. Disabled if there is none.
    own: Span,
    /// The nearest span around the call that is not bulkman's. Disabled if there is none.
    caller: Span,
    /// What the caller's thread writes to. `None`: the call stays in that thread.
    subscriber: Option<Dispatch>,
}

/// What has been attached to a thread.
#[derive(Default)]
pub(super) struct Attached(Option<DefaultGuard>);

std::thread_local! {
    /// Whether this file is calling a subscriber. It has no destructor, so that it can be asked at any time.
    static IN_SUBSCRIBER: Cell<bool> = const { Cell::new(false) };

    /// The calls with a span that run on this thread. Guards leave it in any order.
    static RUNNING: RefCell<Vec<Arc<Traced>>> = const { RefCell::new(Vec::new()) };
}

/// Calls a subscriber, which is user code.
fn in_subscriber<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_SUBSCRIBER.set(self.0);
        }
    }
    let _restore = Restore(IN_SUBSCRIBER.replace(true));
    body()
}

/// Calls a subscriber. No span may be owned by `body`: after a panic the unwinding would drop it, and call the subscriber
/// again.
fn contained<R>(bulkhead: &str, body: impl FnOnce() -> R) -> Option<R> {
    contain(bulkhead, "a tracing subscriber", || in_subscriber(body))
}

fn span_from(call: &CallInfo<'_>, make: impl FnOnce() -> Span) -> Span {
    contained(call.bulkhead, make).unwrap_or_else(Span::none)
}

impl CallSpan {
    /// Whether any subscriber of the process wants anything. One load, as in front of each span and event.
    #[inline(always)]
    pub(super) fn is_wanted() -> bool {
        LevelFilter::current() != LevelFilter::OFF && !IN_SUBSCRIBER.get()
    }

    /// For a call that goes to another thread. One that leaves its task is no part of what the task does: its span is a root
    /// that follows from the task's. Else a job that submits itself again and again would keep all spans before it open.
    pub(super) fn take(call: &CallInfo<'_>, has_span: bool, leaves_task: bool) -> Self {
        let current = span_from(call, Span::current);
        let own = match (has_span, leaves_task) {
            (true, false) => span_from(call, || new_span(call)),
            (true, true) => span_from(call, || new_root(call)),
            (false, _) => Span::none(),
        };
        let caller = if leaves_task {
            contained(call.bulkhead, || {
                own.follows_from(&current);
            });
            contained(call.bulkhead, || drop(current));
            Span::none()
        } else {
            nearest_caller(call, current)
        };
        let of_own = own.with_subscriber(|(_, subscriber)| subscriber.clone());
        Self(Some(Arc::new(Traced {
            own,
            caller,
            subscriber: of_own.or_else(|| Some(get_default(Dispatch::clone))),
        })))
    }

    /// For a call that stays in this thread.
    pub(super) fn begin(call: &CallInfo<'_>) -> Self {
        let current = span_from(call, Span::current);
        let traced = Self(Some(Arc::new(Traced {
            own: span_from(call, || new_span(call)),
            caller: nearest_caller(call, current),
            subscriber: None,
        })));
        if traced.has_own() {
            return traced;
        }
        traced.close(call.bulkhead);
        Self(None)
    }

    fn has_own(&self) -> bool {
        self.0.as_ref().is_some_and(|call| !call.own.is_disabled())
    }

    #[inline]
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// In this thread from here on.
    pub(super) fn enter(&self, bulkhead: &str) -> Attached {
        let Some(call) = &self.0 else {
            return Attached::default();
        };
        let subscriber = call.subscriber.as_ref();
        let subscriber = subscriber.and_then(|own| contained(bulkhead, || set_default(own)));
        if self.has_own() {
            let _ = RUNNING.try_with(|running| running.borrow_mut().push(Arc::clone(call)));
        }
        if call.subscriber.is_some() {
            contained(bulkhead, || enter(&call.caller));
        }
        contained(bulkhead, || enter(&call.own));
        Attached(subscriber)
    }

    /// The reverse, and ends the call's span. A span whose `enter` has panicked is left all the same: perhaps it is entered.
    pub(super) fn leave(self, bulkhead: &str, attached: Attached) {
        if let Some(call) = &self.0 {
            let _ = RUNNING.try_with(|running| {
                let mut running = running.borrow_mut();
                if let Some(place) = running.iter().rposition(|of| Arc::ptr_eq(of, call)) {
                    // It is not the last owner.
                    running.remove(place);
                }
            });
            contained(bulkhead, || exit(&call.own));
            if call.subscriber.is_some() {
                contained(bulkhead, || exit(&call.caller));
            }
        }
        // Still under its own subscriber, so that what that writes on the way goes there too.
        self.close(bulkhead);
        contained(bulkhead, || drop(attached.0));
    }

    pub(super) fn record_queued(&self, bulkhead: &str, queued_time: Duration) {
        if let Some(call) = &self.0 {
            contained(bulkhead, || {
                call.own.record("queued_seconds", queued_time.as_secs_f64());
            });
        }
    }

    pub(super) fn record_end(&self, bulkhead: &str, outcome: CallOutcome) {
        let Some(call) = &self.0 else {
            return;
        };
        let is_error = !matches!(
            outcome,
            CallOutcome::Succeeded | CallOutcome::Cancelled { .. }
        );
        contained(bulkhead, || {
            call.own.record("outcome", display(outcome));
        });
        if is_error {
            contained(bulkhead, || {
                call.own.record("otel.status_code", "ERROR");
            });
        }
    }

    /// Lets go of the spans, and with that ends the call's own.
    pub(super) fn close(self, bulkhead: &str) {
        let Some(traced) = self.0.and_then(Arc::into_inner) else {
            return;
        };
        let Traced {
            own,
            caller,
            subscriber,
        } = traced;
        contained(bulkhead, || drop(own));
        contained(bulkhead, || drop(caller));
        contained(bulkhead, || drop(subscriber));
    }
}

/// Not by `Span::enter`: after a panic in it the unwinding would drop a guard, and call the subscriber again.
fn enter(span: &Span) {
    span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
}

fn exit(span: &Span) {
    span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
}

/// The `current` span of the thread, or if that is the one of a call, the nearest around it that is not.
fn nearest_caller(call: &CallInfo<'_>, current: Span) -> Span {
    let around = RUNNING.try_with(|running| {
        let running = running.borrow();
        let around = running.iter().rev().find(|call| call.own == current)?;
        Some(Arc::clone(around))
    });
    match around {
        Ok(Some(around)) => {
            contained(call.bulkhead, || drop(current));
            span_from(call, || around.caller.clone())
        }
        _ => current,
    }
}

macro_rules! span_of {
    ($call:ident $(, $parent:tt)*) => {
        ::tracing::info_span!(
            target: "bulkman",
            $(parent: $parent,)*
            "bulkhead_call",
            bulkhead = $call.bulkhead,
            operation = $call.operation,
            execution_id = %$call.execution_id,
            queued_seconds = Empty,
            outcome = Empty,
            otel.status_code = Empty,
        )
    };
}

/// The current span of the thread is its parent.
fn new_span(call: &CallInfo<'_>) -> Span {
    span_of!(call)
}

fn new_root(call: &CallInfo<'_>) -> Span {
    span_of!(call, None)
}

#[inline(always)]
pub(super) fn wants_events() -> bool {
    LevelFilter::current() >= Level::DEBUG && !IN_SUBSCRIBER.get()
}

pub(super) fn event_of_refusal(bulkhead: &str, operation: Option<&str>, outcome: CallOutcome) {
    contained(bulkhead, || {
        ::tracing::debug!(
            target: "bulkman",
            bulkhead,
            operation,
            %outcome,
            "the call was refused"
        );
    });
}

pub(super) fn event_of_caller_timeout(call: &CallInfo<'_>, started: bool) {
    contained(call.bulkhead, || {
        ::tracing::debug!(
            target: "bulkman",
            bulkhead = call.bulkhead,
            operation = call.operation,
            execution_id = %call.execution_id,
            started,
            "the caller left at its limit"
        );
    });
}
