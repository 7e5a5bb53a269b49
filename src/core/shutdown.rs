//! How a bulkhead ends, wherever its tasks run.
//!
//! 1. `close` the admission. From here on the set of admitted calls is final, and callers that wait
//!    for a place are refused.
//! 2. When the last admitted call has given its place back, which `permit.rs` notices exactly once, the crew ends:
//!    workers are stopped, see `pool.rs`; a bulkhead without workers has ended with that.
//! 3. To cancel what is queued, `discard_queued` is set and the queue emptied: by the one who shuts down, and by
//!    everybody who comes to it later.
//! 4. `shutdown` waits until the crew is gone, and joins its threads. Who runs a call of the same bulkhead
//!    never waits, nor does a thread that is about to submit one and holds its place.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::after;
use crate::current::ThisThread;
use crate::gate::Gate;
use crate::listener::BulkheadEvent;
use crate::panics::note;
use crate::sync::{self, LateArrivals};

/// What a shutdown has done, and what it leaves behind.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that ran to their end, whatever it was, during the shutdown.
    pub finished: u64,
    /// Queued calls that were cancelled during the shutdown, by it or by another at the same time; each of their
    /// waiters was told.
    pub cancelled: u64,
    /// Tasks that go on after the shutdown has returned. Their outcomes are still delivered. (One that ends at this
    /// very moment may be among them and counted in `finished` too.)
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
pub(crate) enum Patience {
    /// Until everything is done.
    Unlimited,
    /// Until then; afterwards what is queued is cancelled. `None`: as `Unlimited`.
    Until(Option<Instant>),
    /// Not at all.
    None,
}

impl Patience {
    /// For `shutdown_timeout`.
    pub(crate) fn limited(limit: Duration) -> Self {
        Self::Until(after(sync::now(), limit))
    }
}

/// What ends differently, by where the tasks run.
pub(crate) trait Ends {
    fn gate(&self) -> &Gate;
    /// Cancels everything that is queued now. Whatever is queued later is cancelled by whoever comes to it.
    fn cancel_queued(&self);
    /// Waits until the threads are gone from the system, if it has some; their crew is at its end.
    fn join(&self);
}

pub(crate) fn shut_down(bulkhead: &impl Ends, patience: Patience) -> ShutdownReport {
    let gate = bulkhead.gate();
    let before = gate.totals();
    if gate.admission.close() {
        let bulkhead = &*gate.name;
        note(|| log::debug!("bulkhead `{bulkhead}` is shutting down"));
        gate.tell(|| BulkheadEvent::ShuttingDown { bulkhead });
    }
    let may_wait = gate.this_thread() == ThisThread::Outsider;
    let ended = match patience {
        Patience::Unlimited | Patience::Until(None) => may_wait && gate.crew.wait(None),
        Patience::Until(deadline) => {
            let ended = may_wait && gate.crew.wait(deadline);
            if may_wait && !ended {
                cancel_queued(bulkhead);
            }
            ended
        }
        Patience::None => {
            cancel_queued(bulkhead);
            false
        }
    };
    if ended && matches!(patience, Patience::Unlimited | Patience::Until(None)) {
        bulkhead.join();
    }
    if let (true, Some(breaker)) = (ended, &gate.breaker) {
        breaker.flush(match patience {
            Patience::Until(Some(deadline)) => deadline
                .saturating_duration_since(sync::now())
                .min(LAST_WORDS),
            _ => LAST_WORDS,
        });
    }
    // A call is counted before its seat forgets it. So in this order one that ends just now may be in both, and the
    // other way round it might be in neither.
    let still_running = still_running(gate);
    let after = gate.totals();
    ShutdownReport {
        finished: after.finished() - before.finished(),
        cancelled: after.cancelled_by_shutdown - before.cancelled_by_shutdown,
        still_running,
    }
}

/// How long a shutdown waits for the circuit's storage to have the last change.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn cancel_queued(bulkhead: &impl Ends) {
    let gate = bulkhead.gate();
    gate.discard_queued();
    // A submitter that was admitted before the close may be about to queue its call. Whatever comes
    // later than this looks for the flag itself.
    let mut late = LateArrivals::new();
    loop {
        bulkhead.cancel_queued();
        if gate.totals().waiting() == 0 || !late.wait() {
            break;
        }
    }
}

fn still_running(gate: &Gate) -> Vec<RunningTask> {
    let now = gate.clock.now();
    gate.running()
        .map(|task| RunningTask {
            execution_id: task.execution_id,
            operation: task.operation,
            running_for: now.saturating_duration_since(task.since),
        })
        .collect()
}
