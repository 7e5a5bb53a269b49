//! What one call asks for, over what is configured.
//!
//! What is configured is looked up when the call is admitted, so that a refused call costs no look at it, and a wrapped closure
//! goes by the limits of the moment.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use super::call_data::CallData;
use super::current::current;
use super::this_thread::inherited_from_this_thread;
use crate::clock::Clock;
use crate::config::BulkheadConfig;
use crate::sync::{AtomicU64, Limit, Ordering, after, earlier};

#[derive(Clone)]
pub(crate) struct CallOptions {
    pub(crate) operation: Option<Cow<'static, str>>,
    /// `None`: the configured one.
    pub(crate) queue_timeout: Option<Limit>,
    pub(crate) wait_for_capacity: Option<Duration>,
    /// `None`: the configured one.
    pub(crate) timeout: Option<Limit>,
    /// It inherits nothing from the task that makes it.
    pub(crate) detached: bool,
}

/// The limits in time of calls that set none of their own. They may change while the bulkhead works.
pub(crate) struct DefaultTimeouts {
    queue_timeout: AtomicU64,
    execution_timeout: AtomicU64,
}

// ORDERING: Relaxed. A limit says nothing about other memory.
impl DefaultTimeouts {
    pub(crate) fn new(config: &BulkheadConfig) -> Self {
        let limit = |limit| AtomicU64::new(Limit::new(limit).in_nanos());
        Self {
            queue_timeout: limit(config.queue_timeout),
            execution_timeout: limit(config.execution_timeout),
        }
    }

    #[inline]
    fn queue_timeout(&self) -> Limit {
        Limit::of_nanos(self.queue_timeout.load(Ordering::Relaxed))
    }

    #[inline]
    fn execution_timeout(&self) -> Limit {
        Limit::of_nanos(self.execution_timeout.load(Ordering::Relaxed))
    }

    /// The limit has been checked.
    pub(crate) fn set_queue_timeout(&self, limit: Option<Duration>) {
        self.queue_timeout
            .store(Limit::new(limit).in_nanos(), Ordering::Relaxed);
    }

    /// The limit has been checked.
    pub(crate) fn set_execution_timeout(&self, limit: Option<Duration>) {
        self.execution_timeout
            .store(Limit::new(limit).in_nanos(), Ordering::Relaxed);
    }
}

impl CallOptions {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            operation: None,
            queue_timeout: None,
            wait_for_capacity: None,
            timeout: None,
            detached: false,
        }
    }

    #[inline]
    pub(super) fn queue_timeout(&self, defaults: &DefaultTimeouts) -> Limit {
        self.queue_timeout
            .unwrap_or_else(|| defaults.queue_timeout())
    }

    #[inline]
    pub(super) fn timeout(&self, defaults: &DefaultTimeouts) -> Limit {
        self.timeout.unwrap_or_else(|| defaults.execution_timeout())
    }

    /// Until when a caller that came at `begun` waits `limit` for a place; `None`: for ever.
    pub(crate) fn capacity_deadline(
        &self,
        defaults: &DefaultTimeouts,
        begun: Instant,
        limit: Duration,
    ) -> Option<Instant> {
        let in_all = self.timeout(defaults).from(begun);
        earlier(after(begun, limit), in_all)
    }

    /// Whether a task makes the call, and the call inherits nothing from it.
    #[inline(always)]
    pub(crate) fn leaves_task(&self) -> bool {
        self.detached && current().is_some()
    }

    /// The call, admitted now. `begun`: since when it had waited for its place, if it did.
    #[inline(always)]
    pub(crate) fn into_data(
        self,
        defaults: &DefaultTimeouts,
        clock: &Clock,
        begun: Option<Instant>,
    ) -> CallData {
        let queue_timeout = self.queue_timeout(defaults);
        let timeout = self.timeout(defaults);
        let admitted_at = clock.now();
        let timeout_left = match begun {
            Some(begun) => timeout.after(admitted_at - begun),
            None => timeout,
        };
        let inherited = if self.detached {
            None
        } else {
            inherited_from_this_thread()
        };
        CallData::new(
            self.operation,
            admitted_at,
            queue_timeout,
            timeout,
            timeout_left,
            inherited,
        )
    }

    pub(crate) fn fmt_as(
        &self,
        defaults: &DefaultTimeouts,
        what: &str,
        bulkhead: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.debug_struct(what)
            .field("bulkhead", &bulkhead)
            .field("operation", &self.operation)
            .field("queue_timeout", &self.queue_timeout(defaults).get())
            .field("wait_for_capacity", &self.wait_for_capacity)
            .field("timeout", &self.timeout(defaults).get())
            .field("detached", &self.detached)
            .finish_non_exhaustive()
    }
}
