//! The span of a call through a policy: one around all its attempts, in the caller's thread. The bulkheads' spans are its
//! children, since they begin while it is entered.

use std::fmt::Display;
use std::time::Duration;

use super::tracing::{self, CallSpan};
use super::{Owner, TraceOptions};
use crate::panic::{catch, resume};

/// What a span is made for.
#[derive(Clone, Copy)]
pub(crate) enum Policy {
    Pipeline,
    Retry,
    Hedge,
    Fallback,
}

/// A call through a policy, as far as it is known when it begins.
#[derive(Clone, Copy)]
pub(crate) struct PolicyCall<'a> {
    pub(crate) policy: Policy,
    /// The policy's, or the bulkhead's of a hedge.
    pub(crate) name: &'a str,
    #[cfg_attr(
        not(feature = "tracing"),
        expect(dead_code, reason = "the empty twin reads nothing")
    )]
    pub(crate) operation: Option<&'a str>,
}

impl<'a> PolicyCall<'a> {
    pub(super) fn owner(&self) -> Owner<'a> {
        let kind = match self.policy {
            Policy::Pipeline => "pipeline",
            Policy::Retry => "retry",
            Policy::Hedge => "bulkhead",
            Policy::Fallback => "fallback",
        };
        Owner {
            kind,
            name: self.name,
        }
    }
}

/// The span of a call that has ended, for its outcome.
pub(crate) struct PolicySpan<'a> {
    span: CallSpan,
    owner: Owner<'a>,
}

impl PolicySpan<'_> {
    pub(crate) fn record_outcome(&self, outcome: impl Display, is_error: bool) {
        self.text("outcome", outcome);
        if is_error {
            self.span.record_error(self.owner);
        }
    }

    pub(crate) fn text(&self, field: &str, text: impl Display) {
        self.span.record_text(self.owner, field, text);
    }

    pub(crate) fn number(&self, field: &str, number: impl Into<u64>) {
        self.span.record_number(self.owner, field, number.into());
    }

    pub(crate) fn seconds(&self, field: &str, time: Duration) {
        self.span.record_seconds(self.owner, field, time);
    }

    pub(crate) fn flag(&self, field: &str, flag: bool) {
        self.span.record_flag(self.owner, field, flag);
    }
}

/// Makes a call through a policy within its span, if one is wanted. `end` records what became of it. A panic passes through
/// when the span has ended.
#[inline(always)]
pub(crate) fn in_span<R>(
    options: TraceOptions,
    call: PolicyCall<'_>,
    body: impl FnOnce() -> R,
    end: impl FnOnce(&R, &PolicySpan<'_>),
) -> R {
    if options.is_wanted_in_caller() {
        traced(call, body, end)
    } else {
        body()
    }
}

fn traced<R>(
    call: PolicyCall<'_>,
    body: impl FnOnce() -> R,
    end: impl FnOnce(&R, &PolicySpan<'_>),
) -> R {
    let span = CallSpan::begin_policy(&call);
    if span.is_none() {
        return body();
    }
    let owner = call.owner();
    let entered = span.enter(owner);
    let outcome = catch(body);
    let span = PolicySpan { span, owner };
    match &outcome {
        Ok(value) => end(value, &span),
        Err(_) => span.record_outcome("panicked", true),
    }
    span.span.leave(owner, entered);
    match outcome {
        Ok(value) => value,
        Err(payload) => resume(payload),
    }
}

/// Tells of an attempt after which another one follows.
#[inline(always)]
pub(crate) fn event_of_retry(options: TraceOptions, retry: &str, attempt: u32, delay: Duration) {
    if options.wants_events() {
        let owner = Owner {
            kind: "retry",
            name: retry,
        };
        tracing::event_of_retry(owner, attempt, delay);
    }
}
