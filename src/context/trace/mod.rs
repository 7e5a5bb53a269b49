//! The trace of a call: the features `tracing` and `opentelemetry`.
//!
//! | | with `tracing` | with `opentelemetry` | without either |
//! |---|---|---|---|
//! | goes to the worker | the span and its subscriber | the `Context` | nothing |
//! | is made for the call | a span and events | nothing | nothing |
//! | is made for a call through a policy | a span around those of its attempts | nothing | nothing |
//! | costs, if nobody listens | one load | a `Context` in the cell | nothing: all types are empty |
//!
//! Each feature is one file beside this one, and each has a twin that is empty: the model builds compile those. Nothing
//! outside of this folder asks for a feature, but for the builder's options.
//!
//! A subscriber is user code. It is called behind `contain`, one call at a time, so that a panic in it loses what it was to
//! write and nothing else. A call that a subscriber makes while bulkman calls it is not traced: else a subscriber that exports
//! spans through a bulkhead would get a span for each export, and export that.

#[cfg_attr(not(feature = "opentelemetry"), path = "no_opentelemetry.rs")]
mod opentelemetry;
mod policy;
#[cfg_attr(not(feature = "tracing"), path = "no_tracing.rs")]
mod tracing;

use std::time::Duration;

use crate::event::{CallInfo, FinishedOutcome};
use crate::panic::contain;
use crate::result::CallOutcome;
use opentelemetry::CallContext;
use tracing::CallSpan;

pub(crate) use policy::{Policy, PolicyCall, PolicySpan, event_of_retry, in_span};

const CONTEXT: &str = "an OpenTelemetry context";

/// Whose call it is, for the log line of a subscriber that panics.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(feature = "tracing"),
    expect(dead_code, reason = "the empty twin reads nothing")
)]
struct Owner<'a> {
    kind: &'static str,
    name: &'a str,
}

impl<'a> Owner<'a> {
    const fn bulkhead(name: &'a str) -> Self {
        Self {
            kind: "bulkhead",
            name,
        }
    }
}

/// What a bulkhead or a policy is told by its builder.
#[derive(Clone, Copy)]
pub(crate) struct TraceOptions {
    /// Whether anything is traced and carried.
    pub(crate) carries: bool,
    /// Whether a call has a span.
    pub(crate) has_spans: bool,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            carries: true,
            has_spans: true,
        }
    }
}

impl TraceOptions {
    /// Whether there is anything to do for a call that goes to a worker; if not, no user code runs for the trace.
    #[inline(always)]
    pub(crate) fn is_wanted_on_worker(self) -> bool {
        self.carries && (CallSpan::is_wanted() || CallContext::IS_CARRIED)
    }

    /// The same for a call that stays in its caller's thread, and for one through a policy.
    #[inline(always)]
    pub(crate) fn is_wanted_in_caller(self) -> bool {
        self.carries && self.has_spans && CallSpan::is_wanted()
    }

    /// Whether events for single calls can be wanted: of refusals, and of callers that leave.
    #[inline(always)]
    pub(crate) fn wants_events(self) -> bool {
        self.carries && self.has_spans && tracing::wants_events()
    }
}

/// The trace of one call, from its admission to its end.
#[derive(Default)]
pub(crate) struct CallTrace {
    context: CallContext,
    span: CallSpan,
}

/// Keeps the span of a guard's call entered, until [`CallTrace::leave`].
#[derive(Default)]
pub(crate) struct EnteredTrace(tracing::Attached);

impl CallTrace {
    /// Takes the calling thread's trace along to a worker, and begins the call's span.
    ///
    /// `leaves_task`: a task makes the call, and it is detached from that.
    pub(crate) fn begin_for_worker(
        options: TraceOptions,
        call: &CallInfo<'_>,
        leaves_task: bool,
    ) -> Self {
        let context = contain(call.bulkhead, CONTEXT, CallContext::take);
        let span = if CallSpan::is_wanted() {
            CallSpan::take(call, options.has_spans, leaves_task)
        } else {
            CallSpan::default()
        };
        Self {
            context: context.unwrap_or_default(),
            span,
        }
    }

    /// Begins the span of a call that stays in the calling thread, whose trace is there anyway.
    pub(crate) fn begin_in_caller(call: &CallInfo<'_>) -> Self {
        Self {
            context: CallContext::default(),
            span: CallSpan::begin(call),
        }
    }

    /// Whether no user code runs for it.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.span.is_none() && self.context.is_quiet()
    }

    /// Runs `body`, which must not panic, with the trace attached. Afterwards the thread has its own trace back.
    #[inline(always)]
    pub(crate) fn run_with<R>(
        mut self,
        bulkhead: &str,
        queued_time: Duration,
        body: impl FnOnce(&Self) -> R,
    ) -> R {
        let mut context = opentelemetry::Attached::default();
        if self.context.is_some() {
            let attached = contain(bulkhead, CONTEXT, || self.context.attach());
            context = attached.unwrap_or_default();
        }
        let entered = self.enter(bulkhead, queued_time);
        let value = body(&self);
        self.leave(bulkhead, entered);
        if context.is_some() {
            contain(bulkhead, CONTEXT, || context.detach());
        }
        value
    }

    /// Enters the span: the task is about to start, in this thread.
    #[inline(always)]
    pub(crate) fn enter(&self, bulkhead: &str, queued_time: Duration) -> EnteredTrace {
        if self.span.is_none() {
            return EnteredTrace::default();
        }
        let entered = self.span.enter(Owner::bulkhead(bulkhead));
        self.span
            .record_queued(Owner::bulkhead(bulkhead), queued_time);
        EnteredTrace(entered)
    }

    /// The task has ended, and its outcome is not told yet.
    #[inline(always)]
    pub(crate) fn record_end(&self, bulkhead: &str, outcome: FinishedOutcome) {
        if !self.span.is_none() {
            self.span
                .record_end(Owner::bulkhead(bulkhead), outcome.into());
        }
    }

    /// Gives the thread its own span and subscriber back, and ends the span.
    #[inline(always)]
    pub(crate) fn leave(self, bulkhead: &str, entered: EnteredTrace) {
        if !self.span.is_none() {
            self.span.leave(Owner::bulkhead(bulkhead), entered.0);
        }
    }

    /// Ends a call that never started.
    pub(crate) fn end_unstarted(self, bulkhead: &str, outcome: CallOutcome, queued_time: Duration) {
        let Self { context, span } = self;
        if !span.is_none() {
            let owner = Owner::bulkhead(bulkhead);
            span.record_queued(owner, queued_time);
            span.record_end(owner, outcome);
            span.close_unstarted(owner);
        }
        if context.is_some() {
            contain(bulkhead, CONTEXT, || context.discard());
        }
    }
}

/// Tells of a call that was refused on its way in.
#[cold]
pub(crate) fn event_of_refusal(bulkhead: &str, operation: Option<&str>, outcome: CallOutcome) {
    tracing::event_of_refusal(bulkhead, operation, outcome);
}

/// Tells of a caller that has left at its limit.
#[cold]
pub(crate) fn event_of_caller_timeout(call: &CallInfo<'_>, started: bool) {
    tracing::event_of_caller_timeout(call, started);
}
