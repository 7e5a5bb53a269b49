//! What one call of a dependency sets itself, over the limits of its operation and of its dependency.

use std::borrow::Cow;
use std::time::Duration;

use super::entry::Entry;
use super::limits::{OperationLimits, TimeLimits};
use crate::adaptive::AdaptiveTimeout;
use crate::core::{Call, Kind};
use crate::sync::{Limit, shorter};

/// What the call itself sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) operation: Option<Cow<'static, str>>,
    pub(super) timeout: Option<Duration>,
    /// Holds over the limits of all levels.
    pub(super) at_most: Option<Duration>,
    pub(super) queue_timeout: Option<Duration>,
    pub(super) wait_for_capacity: Option<Duration>,
    pub(super) detached: bool,
}

impl Options {
    /// Whether the call or its operation has a limit of its own.
    pub(super) fn has_limits(&self, entry: &Entry) -> bool {
        let of_operation = entry.limits.of_operation(self.operation.as_deref());
        let own = self.timeout.or(self.at_most).or(self.queue_timeout);
        own.is_some() || of_operation.is_some()
    }

    /// The call's own limits first, then those of its operation, then the bulkhead's.
    pub(super) fn limits(&self, entry: &Entry, of_bulkhead: TimeLimits) -> TimeLimits {
        let of_operation = entry.limits.of_operation(self.operation.as_deref());
        let others = of_operation.map_or(of_bulkhead, OperationLimits::in_time);
        TimeLimits {
            timeout: shorter(self.timeout.or(others.timeout), self.at_most),
            queue_timeout: self.queue_timeout.or(others.queue_timeout),
        }
    }

    /// The same for a single call, whose timeout may follow how long calls take, unless it has one of its own.
    fn limits_of_call(&self, entry: &Entry, of_bulkhead: TimeLimits) -> TimeLimits {
        let mut limits = self.limits(entry, of_bulkhead);
        if let Some(adaptive) = self.adaptive(entry) {
            limits.timeout = shorter(Some(adaptive.limit()), self.at_most);
        }
        limits
    }

    /// What decides how long the caller waits, unless the call has a timeout of its own.
    pub(super) fn adaptive<'a>(&self, entry: &'a Entry) -> Option<&'a AdaptiveTimeout> {
        match self.timeout {
            Some(_) => None,
            None => entry.limits.adaptive(self.operation.as_deref()),
        }
    }

    /// The call's own options first, then those of its operation. The bulkhead is configured with all others.
    pub(super) fn apply<'a, K: Kind, C>(
        self,
        entry: &Entry,
        call: Call<'a, K>,
        classifier: C,
    ) -> Call<'a, K, C> {
        let limits = self.limits_of_call(entry, TimeLimits::of_call(&call));
        let Call {
            inner, mut options, ..
        } = call;
        options.timeout = Some(Limit::new(limits.timeout));
        options.queue_timeout = Some(Limit::new(limits.queue_timeout));
        options.wait_for_capacity = self.wait_for_capacity;
        options.operation = self.operation;
        options.detached = self.detached;
        Call {
            inner,
            options,
            classifier,
        }
    }
}
