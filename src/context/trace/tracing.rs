//! The feature `tracing`: the span of a call, and the subscriber that it belongs to.
//!
//! A worker enters two spans: the caller's, and on top of it the call's own. The second has the first as its parent anyway.
//! But where a layer's filter leaves out the spans of bulkman, `tracing-subscriber` looks for the next span that the layer
//! may see among those that the thread has entered. So the span that is entered beneath is the nearest one around the call
//! that is not bulkman's: [`RUNNING`] knows it.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use ::tracing::dispatcher::{DefaultGuard, Dispatch, get_default, set_default};
use ::tracing::field::{Empty, display};
use ::tracing::level_filters::LevelFilter;
use ::tracing::{Level, Span, Value};

use super::{Owner, Policy, PolicyCall};
use crate::event::CallInfo;
use crate::panic::contain_in;
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

    /// The calls with a span that run on this thread, those through policies too. Guards leave it in any order.
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
fn contained<R>(owner: Owner<'_>, body: impl FnOnce() -> R) -> Option<R> {
    contain_in(owner.kind, owner.name, "a tracing subscriber", || {
        in_subscriber(body)
    })
}

fn span_from(owner: Owner<'_>, make: impl FnOnce() -> Span) -> Span {
    contained(owner, make).unwrap_or_else(Span::none)
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
        let owner = Owner::bulkhead(call.bulkhead);
        let current = span_from(owner, Span::current);
        let own = match (has_span, leaves_task) {
            (true, false) => span_from(owner, || new_span(call)),
            (true, true) => span_from(owner, || new_root(call)),
            (false, _) => Span::none(),
        };
        let caller = if leaves_task {
            contained(owner, || {
                own.follows_from(&current);
            });
            contained(owner, || drop(current));
            Span::none()
        } else {
            nearest_caller(owner, current)
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
        Self::begin_here(Owner::bulkhead(call.bulkhead), || new_span(call))
    }

    /// For a call through a policy, which stays in this thread too.
    pub(super) fn begin_policy(call: &PolicyCall<'_>) -> Self {
        Self::begin_here(call.owner(), || new_policy_span(call))
    }

    fn begin_here(owner: Owner<'_>, make: impl FnOnce() -> Span) -> Self {
        let current = span_from(owner, Span::current);
        let traced = Self(Some(Arc::new(Traced {
            own: span_from(owner, make),
            caller: nearest_caller(owner, current),
            subscriber: None,
        })));
        if traced.has_own() {
            return traced;
        }
        traced.close(owner);
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
    pub(super) fn enter(&self, owner: Owner<'_>) -> Attached {
        let Some(call) = &self.0 else {
            return Attached::default();
        };
        let subscriber = call.subscriber.as_ref();
        let subscriber = subscriber.and_then(|own| contained(owner, || set_default(own)));
        if self.has_own() {
            let _ = RUNNING.try_with(|running| running.borrow_mut().push(Arc::clone(call)));
        }
        if call.subscriber.is_some() {
            contained(owner, || enter(&call.caller));
        }
        contained(owner, || enter(&call.own));
        Attached(subscriber)
    }

    /// The reverse, and ends the call's span. A span whose `enter` has panicked is left all the same: perhaps it is entered.
    pub(super) fn leave(self, owner: Owner<'_>, attached: Attached) {
        if let Some(call) = &self.0 {
            let _ = RUNNING.try_with(|running| {
                let mut running = running.borrow_mut();
                if let Some(place) = running.iter().rposition(|of| Arc::ptr_eq(of, call)) {
                    // It is not the last owner.
                    running.remove(place);
                }
            });
            contained(owner, || exit(&call.own));
            if call.subscriber.is_some() {
                contained(owner, || exit(&call.caller));
            }
        }
        // Still under its own subscriber, so that what that writes on the way goes there too.
        self.close(owner);
        contained(owner, || drop(attached.0));
    }

    pub(super) fn record_queued(&self, owner: Owner<'_>, queued_time: Duration) {
        if let Some(call) = &self.0 {
            contained(owner, || {
                call.own.record("queued_seconds", queued_time.as_secs_f64());
            });
        }
    }

    pub(super) fn record_end(&self, owner: Owner<'_>, outcome: CallOutcome) {
        let Some(call) = &self.0 else {
            return;
        };
        let is_error = !matches!(
            outcome,
            CallOutcome::Succeeded | CallOutcome::Cancelled { .. }
        );
        contained(owner, || {
            call.own.record("outcome", display(outcome));
        });
        if is_error {
            self.record_error(owner);
        }
    }

    pub(super) fn record_error(&self, owner: Owner<'_>) {
        self.record(owner, "otel.status_code", "ERROR");
    }

    pub(super) fn record_text(&self, owner: Owner<'_>, field: &str, text: impl Display) {
        self.record(owner, field, display(text));
    }

    pub(super) fn record_number(&self, owner: Owner<'_>, field: &str, number: u64) {
        self.record(owner, field, number);
    }

    pub(super) fn record_flag(&self, owner: Owner<'_>, field: &str, flag: bool) {
        self.record(owner, field, flag);
    }

    pub(super) fn record_seconds(&self, owner: Owner<'_>, field: &str, time: Duration) {
        self.record(owner, field, time.as_secs_f64());
    }

    fn record(&self, owner: Owner<'_>, field: &str, value: impl Value) {
        if let Some(call) = &self.0 {
            contained(owner, || {
                call.own.record(field, value);
            });
        }
    }

    /// As [`close`](Self::close), in a thread that may write to another subscriber. The registry of `tracing-subscriber` lets
    /// go of a span's parent through the subscriber of the thread, and else would keep it open.
    pub(super) fn close_unstarted(self, owner: Owner<'_>) {
        let subscriber = self.0.as_ref().and_then(|call| call.subscriber.as_ref());
        let attached = subscriber.and_then(|own| contained(owner, || set_default(own)));
        self.close(owner);
        contained(owner, || drop(attached));
    }

    /// Lets go of the spans, and with that ends the call's own.
    pub(super) fn close(self, owner: Owner<'_>) {
        let Some(traced) = self.0.and_then(Arc::into_inner) else {
            return;
        };
        let Traced {
            own,
            caller,
            subscriber,
        } = traced;
        contained(owner, || drop(own));
        contained(owner, || drop(caller));
        contained(owner, || drop(subscriber));
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
fn nearest_caller(owner: Owner<'_>, current: Span) -> Span {
    let around = RUNNING.try_with(|running| {
        let running = running.borrow();
        let around = running.iter().rev().find(|call| call.own == current)?;
        Some(Arc::clone(around))
    });
    match around {
        Ok(Some(around)) => {
            contained(owner, || drop(current));
            span_from(owner, || around.caller.clone())
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

fn new_policy_span(call: &PolicyCall<'_>) -> Span {
    match call.policy {
        Policy::Pipeline => ::tracing::info_span!(
            target: "bulkman",
            "pipeline_call",
            pipeline = call.name,
            operation = call.operation,
            outcome = Empty,
            attempts = Empty,
            decided_by = Empty,
            fell_back_from = Empty,
            retry_stop = Empty,
            hedged = Empty,
            hedges_won = Empty,
            elapsed_seconds = Empty,
            otel.status_code = Empty,
        ),
        Policy::Retry => ::tracing::info_span!(
            target: "bulkman",
            "retry_call",
            retry = call.name,
            outcome = Empty,
            attempts = Empty,
            retry_stop = Empty,
            otel.status_code = Empty,
        ),
        Policy::Hedge => ::tracing::info_span!(
            target: "bulkman",
            "hedge_call",
            bulkhead = call.name,
            outcome = Empty,
            hedged = Empty,
            second_won = Empty,
            otel.status_code = Empty,
        ),
        Policy::Fallback => ::tracing::info_span!(
            target: "bulkman",
            "fallback_call",
            fallback = call.name,
            outcome = Empty,
            fell_back = Empty,
            otel.status_code = Empty,
        ),
    }
}

#[inline(always)]
pub(super) fn wants_events() -> bool {
    LevelFilter::current() >= Level::DEBUG && !IN_SUBSCRIBER.get()
}

pub(super) fn event_of_refusal(bulkhead: &str, operation: Option<&str>, outcome: CallOutcome) {
    contained(Owner::bulkhead(bulkhead), || {
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
    contained(Owner::bulkhead(call.bulkhead), || {
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

pub(super) fn event_of_retry(owner: Owner<'_>, attempt: u32, delay: Duration) {
    contained(owner, || {
        ::tracing::debug!(
            target: "bulkman",
            retry = owner.name,
            attempt,
            delay_seconds = delay.as_secs_f64(),
            "the attempt failed, and another one follows"
        );
    });
}
