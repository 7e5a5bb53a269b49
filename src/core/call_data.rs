//! What every admitted call has, whatever its types and wherever it runs, and what its own task can ask it.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::event::CallInfo;
use crate::panic::{catch, discard};
use crate::sync::{AtomicBool, Limit, earlier};

pub(crate) struct CallData {
    pub(crate) execution_id: Uuid,
    pub(crate) operation: Option<Cow<'static, str>>,
    pub(crate) admitted_at: Instant,
    pub(crate) queue_timeout: Limit,
    /// The caller's limit over queue and run.
    pub(crate) timeout: Limit,
    /// What was left of `timeout` at `admitted_at`.
    pub(crate) timeout_left: Limit,
    /// Raised by a cancel that came too late, or by a waiter whose limit passed.
    pub(crate) cancel_requested: AtomicBool,
}

/// A running call, as other threads see it.
#[derive(Clone)]
pub(crate) struct RunningCall {
    pub(crate) execution_id: Uuid,
    pub(crate) operation: Option<Cow<'static, str>>,
    pub(crate) since: Instant,
    /// When the caller's limit is over.
    pub(crate) deadline: Option<Instant>,
}

/// A call, as its own task sees it.
pub(crate) trait CallView: Send + Sync {
    fn data(&self) -> &CallData;
    fn bulkhead(&self) -> &dyn BulkheadView;
}

/// A bulkhead, as its tasks see it.
pub(crate) trait BulkheadView: Send + Sync {
    fn name(&self) -> &str;
    fn is_closed(&self) -> bool;
    /// By the bulkhead's clock.
    fn now(&self) -> Instant;
    /// The innermost call in a slot, asked by the thread that owns the slot.
    fn innermost(&self, slot: usize) -> Option<RunningCall>;
}

impl CallData {
    /// What a task that runs in its caller's thread can ask about its call. No handle can cancel such a call.
    pub(crate) fn of_running(running: RunningCall) -> Self {
        let since = running.since;
        let left = running
            .deadline
            .map(|deadline| deadline.saturating_duration_since(since));
        Self {
            execution_id: running.execution_id,
            operation: running.operation,
            admitted_at: since,
            queue_timeout: Limit::NONE,
            timeout: Limit::NONE,
            timeout_left: Limit::new(left),
            cancel_requested: AtomicBool::new(false),
        }
    }

    /// Whether the call can be too late to start.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.queue_timeout != Limit::NONE || self.timeout_left != Limit::NONE
    }

    /// Until when the task may start, by its time in the queue; `None`: for ever.
    #[inline]
    pub(crate) fn queue_deadline(&self) -> Option<Instant> {
        self.queue_timeout.from(self.admitted_at)
    }

    /// Until when the caller waits; `None`: for ever.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout_left.from(self.admitted_at)
    }

    /// Until when the task may start, by either limit; `None`: for ever.
    #[inline]
    pub(crate) fn start_deadline(&self) -> Option<Instant> {
        earlier(self.queue_deadline(), self.deadline())
    }

    #[inline]
    pub(crate) fn queued_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.admitted_at)
    }

    #[inline]
    pub(crate) fn info<'a>(&'a self, bulkhead: &'a str) -> CallInfo<'a> {
        CallInfo {
            bulkhead,
            execution_id: self.execution_id,
            operation: self.operation.as_deref(),
        }
    }
}

/// A random (v4) UUID. In a thread-local destructor the usual source of random numbers may be gone: then from the
/// standard library's.
pub(crate) fn new_execution_id() -> Uuid {
    catch(Uuid::new_v4).unwrap_or_else(|payload| {
        discard(payload);
        let random = || RandomState::new().build_hasher().finish();
        let bytes = (u128::from(random()) << 64 | u128::from(random())).to_ne_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    })
}
