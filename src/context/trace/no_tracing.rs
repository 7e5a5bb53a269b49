//! Without the feature `tracing`.

use std::time::Duration;

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

    pub(super) const fn is_none(&self) -> bool {
        true
    }

    pub(super) fn enter(&self, _bulkhead: &str) -> Attached {
        Attached(())
    }

    pub(super) fn leave(self, _bulkhead: &str, _attached: Attached) {}

    pub(super) fn record_queued(&self, _bulkhead: &str, _queued_time: Duration) {}

    pub(super) fn record_end(&self, _bulkhead: &str, _outcome: CallOutcome) {}

    pub(super) fn close(self, _bulkhead: &str) {}
}

pub(super) const fn wants_events() -> bool {
    false
}

pub(super) fn event_of_refusal(_bulkhead: &str, _operation: Option<&str>, _outcome: CallOutcome) {}

pub(super) fn event_of_caller_timeout(_call: &CallInfo<'_>, _started: bool) {}
