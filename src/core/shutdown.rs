//! How a bulkhead ends, wherever its tasks run.
//!
//! 1. The shutdown closes the permits. From here on the set of admitted calls is final, and callers that wait for a place
//!    are refused.
//! 2. When the last admitted call has given its place back, which `permit.rs` notices exactly once, the latch goes to zero:
//!    for a thread pool after its workers have ended, see `worker.rs`; for a bulkhead without threads at once.
//! 3. A shutdown that cancels sets `discard_queued` and empties the queue. Each thread that comes to a queued call later
//!    sees the flag and cancels the call too. A thread that has seen the flag too early is in the report: it shows the call
//!    in its slot before it looks for the last time, and the report looks at the slots after the flag is set. So a report
//!    that names no running task is true: none starts after it.
//! 4. `shutdown` waits for the latch and joins the threads. A thread that runs a call of the same bulkhead never waits, nor
//!    does a thread that is about to submit one and holds its place.
//!
//! Listeners hear of 1 before 2 can come, of 3 before the shutdown cancels the first call, and of the last call's end before
//! the latch goes to zero. The thread that tells them holds up that end, so nothing that a listener asks for waits for it
//! ([`Engine::tell_without_waits`]).
//!
//! `close` is 1 alone. `wait_closed` is 4 without a close: it cancels nothing, and waits for a close too. `wait_idle` has
//! nothing to do with any of it: it waits for the permits, see `permit.rs`.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::engine::Engine;
use super::this_thread::ThisThread;
use crate::event::BulkheadEvent;
use crate::panic::note;
use crate::stats::Totals;
use crate::sync::{self, LatePushes, after};

/// What a shutdown has done, and what it leaves behind.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that ran to their end, whatever it was, during the shutdown.
    pub finished: u64,
    /// Queued calls that were cancelled during the shutdown, by it or by another at the same time; each of their
    /// waiters was told.
    pub cancelled: u64,
    /// Tasks that go on after the shutdown has returned. Their outcomes are still delivered. If there are none, and the
    /// shutdown waited or cancelled what was queued, no task of the bulkhead starts any more. (A task that ends at this very
    /// moment may be among them and counted in `finished` too; so may one that its handle cancels just before it starts.)
    pub still_running: Vec<RunningTask>,
}

impl ShutdownReport {
    /// Whether nothing was cancelled and nothing runs on.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cancelled == 0 && self.still_running.is_empty()
    }
}

/// A task that was still running when a shutdown returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningTask {
    /// The id that its result will carry.
    pub execution_id: Uuid,
    /// What the caller named with [`Call::operation`](crate::Call::operation).
    pub operation: Option<Cow<'static, str>>,
    /// How long it had been running.
    pub running_for: Duration,
}

/// How long a shutdown waits.
#[derive(Clone, Copy)]
pub(crate) enum WaitLimit {
    /// Until everything is done, or until then: afterwards what is queued is cancelled. `None`: without a limit.
    Until(Option<Instant>),
    /// Not at all.
    NoWait,
}

impl WaitLimit {
    pub(crate) const UNLIMITED: Self = Self::Until(None);

    /// For `shutdown_timeout`.
    pub(crate) fn within(limit: Duration) -> Self {
        Self::Until(after(sync::now(), limit))
    }
}

/// A bulkhead to shut down: what differs between the two kinds.
pub(crate) trait ShutdownTarget {
    fn engine(&self) -> &Engine;
    /// Cancels everything that is queued now. A thread that comes to a call that is queued later cancels it.
    fn cancel_queued(&self);
    /// Waits until the threads are gone from the system, if there are any. The latch is at zero.
    fn join(&self);
}

pub(crate) fn shut_down(bulkhead: &impl ShutdownTarget, limit: WaitLimit) -> ShutdownReport {
    let before = begin_shutdown(bulkhead.engine());
    finish_shutdown(bulkhead, before, limit)
}

/// Refuses new calls from here on. Gives the numbers of that moment.
pub(crate) fn begin_shutdown(engine: &Engine) -> Totals {
    let before = engine.totals();
    let bulkhead = &*engine.name;
    engine.permits.close(|| {
        note(|| {
            log::debug!(target: "bulkman", bulkhead = bulkhead; "bulkhead `{bulkhead}` is shutting down");
        });
        engine.tell_without_waits(|| BulkheadEvent::ShuttingDown { bulkhead });
    });
    before
}

/// Waits for the end, which somebody has to begin. Tells whether it came within `limit`.
#[must_use]
pub(crate) fn wait_closed(bulkhead: &impl ShutdownTarget, limit: Duration) -> bool {
    let engine = bulkhead.engine();
    if !may_wait(engine) {
        return engine.latch.wait(Some(sync::now()));
    }
    let deadline = after(sync::now(), limit);
    let ended = engine.latch.wait(deadline);
    if ended {
        after_end(bulkhead, deadline);
    }
    ended
}

/// Waits for a moment without any call. Tells whether there was one within `limit`.
#[must_use]
pub(crate) fn wait_idle(engine: &Engine, limit: Duration) -> bool {
    let limit = if may_wait(engine) {
        limit
    } else {
        Duration::ZERO
    };
    engine.permits.wait_idle(after(sync::now(), limit))
}

/// A thread that has a call, or holds a place, would wait for itself.
fn may_wait(engine: &Engine) -> bool {
    engine.this_thread() == ThisThread::Outsider
}

/// What is left to do when the latch is at zero.
fn after_end(bulkhead: &impl ShutdownTarget, deadline: Option<Instant>) {
    if deadline.is_none() {
        bulkhead.join();
    }
    if let Some(breaker) = &bulkhead.engine().breaker {
        breaker.flush(match deadline {
            Some(deadline) => deadline
                .saturating_duration_since(sync::now())
                .min(FLUSH_LIMIT),
            None => FLUSH_LIMIT,
        });
    }
}

/// Waits, and reports what has happened since `before`.
pub(crate) fn finish_shutdown(
    bulkhead: &impl ShutdownTarget,
    before: Totals,
    limit: WaitLimit,
) -> ShutdownReport {
    let engine = bulkhead.engine();
    let may_wait = may_wait(engine);
    match limit {
        WaitLimit::Until(deadline) => {
            let ended = may_wait && engine.latch.wait(deadline);
            if ended {
                after_end(bulkhead, deadline);
            } else if may_wait {
                cancel_queued(bulkhead);
            }
        }
        WaitLimit::NoWait => cancel_queued(bulkhead),
    }
    // A call is counted before its slot forgets it. So in this order a call that ends just now may be in both, and the
    // other way round it might be in neither.
    let still_running = still_running(engine);
    let after = engine.totals();
    ShutdownReport {
        finished: after.finished() - before.finished(),
        cancelled: after.cancelled_by_shutdown - before.cancelled_by_shutdown,
        still_running,
    }
}

/// How long a shutdown waits until the circuit's storage has the last change.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

fn cancel_queued(bulkhead: &impl ShutdownTarget) {
    let engine = bulkhead.engine();
    if engine.claim_discard() {
        let queued = engine.totals().waiting();
        let bulkhead = &*engine.name;
        note(|| {
            log::debug!(
                target: "bulkman", bulkhead = bulkhead, queued = queued;
                "bulkhead `{bulkhead}` cancels what is queued: {queued} calls"
            );
        });
        engine.tell_without_waits(|| BulkheadEvent::CancellingQueue { bulkhead, queued });
    }
    engine.discard_queued();
    // A submitter that was admitted before the close may be about to queue its call. A submitter that pushes later than
    // this looks for the flag itself.
    let mut late = LatePushes::new();
    loop {
        bulkhead.cancel_queued();
        if engine.totals().waiting() == 0 || !late.wait() {
            break;
        }
    }
}

fn still_running(engine: &Engine) -> Vec<RunningTask> {
    let now = engine.clock.now();
    engine
        .running()
        .map(|task| RunningTask {
            execution_id: task.execution_id,
            operation: task.operation,
            running_for: now.saturating_duration_since(task.since),
        })
        .collect()
}
