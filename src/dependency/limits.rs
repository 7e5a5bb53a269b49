//! The limits in time of a dependency and of its operations.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hierarchy::Resolved;
use crate::adaptive::AdaptiveTimeout;
use crate::clock::Clock;
use crate::core::{Call, Kind};
use crate::event::{BulkheadEvent, BulkheadListener};

/// The limits of the operations that differ from the bulkhead's, and what follows how long calls take.
pub(super) struct Limits {
    /// Of all operations that are not named.
    adaptive: Option<AdaptiveTimeout>,
    operations: BTreeMap<String, OperationLimits>,
}

/// The limits of an operation that the configuration names.
pub(super) struct OperationLimits {
    in_time: TimeLimits,
    adaptive: Option<AdaptiveTimeout>,
}

/// How long a caller waits, and how long a call may wait for its turn.
#[derive(Clone, Copy)]
pub(super) struct TimeLimits {
    pub(super) timeout: Option<Duration>,
    pub(super) queue_timeout: Option<Duration>,
}

impl TimeLimits {
    pub(super) fn of_call<K: Kind, C>(call: &Call<'_, K, C>) -> Self {
        Self {
            timeout: call.caller_limit(),
            queue_timeout: call.queue_limit(),
        }
    }
}

impl OperationLimits {
    pub(super) fn in_time(&self) -> TimeLimits {
        self.in_time
    }
}

impl Limits {
    pub(super) fn of(resolved: &Resolved, clock: &Clock) -> Self {
        Self {
            adaptive: adaptive(resolved, clock),
            operations: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, operation: &str, resolved: &Resolved, clock: &Clock) {
        let limits = OperationLimits {
            in_time: TimeLimits {
                timeout: resolved.timeout.value.limit(),
                queue_timeout: resolved.queue_timeout.value.limit(),
            },
            adaptive: adaptive(resolved, clock),
        };
        self.operations.insert(operation.to_owned(), limits);
    }

    pub(super) fn of_operation(&self, operation: Option<&str>) -> Option<&OperationLimits> {
        self.operations.get(operation?)
    }

    /// What decides how long a caller waits, in place of the timeout.
    pub(super) fn adaptive(&self, operation: Option<&str>) -> Option<&AdaptiveTimeout> {
        match self.of_operation(operation) {
            Some(limits) => limits.adaptive.as_ref(),
            None => self.adaptive.as_ref(),
        }
    }

    /// Whether anything follows how long calls take, and so has to hear of them.
    pub(super) fn are_adaptive(&self) -> bool {
        let mut of_operations = self.operations.values().map(|limits| &limits.adaptive);
        self.adaptive.is_some() || of_operations.any(Option::is_some)
    }
}

fn adaptive(resolved: &Resolved, clock: &Clock) -> Option<AdaptiveTimeout> {
    let config = resolved.adaptive_config()?;
    Some(AdaptiveTimeout::of_dependency(config, clock.clone()))
}

impl BulkheadListener for Limits {
    fn on_event(&self, event: &BulkheadEvent<'_>) {
        if let BulkheadEvent::Finished { call, .. } | BulkheadEvent::CallerTimedOut { call, .. } =
            event
        {
            if let Some(adaptive) = self.adaptive(call.operation) {
                adaptive.on_event(event);
            }
        }
    }
}
