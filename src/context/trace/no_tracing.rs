//! Without the feature `tracing`.

use std::fmt::Display;
use std::time::Duration;

use super::{Owner, PolicyCall};
use crate::event::CallInfo;
use crate::result::CallOutcome;

#[derive(Default)]
pub(super) struct CallSpan(());

#[derive(Default)]
pub(super) struct Attached(());

impl CallSpan {
    pub(super) const fn is_wanted() -> bool {
        false
    }

    pub(super) fn take(_call: &CallInfo<'_>, _has_span: bool, _leaves_task: bool) -> Self {
        Self(())
    }

    pub(super) fn begin(_call: &CallInfo<'_>) -> Self {
        Self(())
    }

    pub(super) fn begin_policy(_call: &PolicyCall<'_>) -> Self {
        Self(())
    }

    pub(super) const fn is_none(&self) -> bool {
        true
    }

    pub(super) fn enter(&self, _owner: Owner<'_>) -> Attached {
        Attached(())
    }

    pub(super) fn leave(self, _owner: Owner<'_>, _attached: Attached) {}

    pub(super) fn record_queued(&self, _owner: Owner<'_>, _queued_time: Duration) {}

    pub(super) fn record_end(&self, _owner: Owner<'_>, _outcome: CallOutcome) {}

    pub(super) fn record_error(&self, _owner: Owner<'_>) {}

    pub(super) fn record_text(&self, _owner: Owner<'_>, _field: &str, _text: impl Display) {}

    pub(super) fn record_number(&self, _owner: Owner<'_>, _field: &str, _number: u64) {}

    pub(super) fn record_seconds(&self, _owner: Owner<'_>, _field: &str, _time: Duration) {}

    pub(super) fn record_flag(&self, _owner: Owner<'_>, _field: &str, _flag: bool) {}

    pub(super) fn close_unstarted(self, _owner: Owner<'_>) {}
}

pub(super) const fn wants_events() -> bool {
    false
}

pub(super) fn event_of_refusal(_bulkhead: &str, _operation: Option<&str>, _outcome: CallOutcome) {}

pub(super) fn event_of_caller_timeout(_call: &CallInfo<'_>, _started: bool) {}

pub(super) fn event_of_retry(_owner: Owner<'_>, _attempt: u32, _delay: Duration) {}
