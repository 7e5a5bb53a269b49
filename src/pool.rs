//! The worker threads: how they start, work and end.
//!
//! Shutting down:
//!
//! 1. `close` the admission. From here on the set of admitted calls is final, and callers that wait
//!    for a place are refused.
//! 2. When the last admitted call has given its place back, which `permit.rs` notices exactly once,
//!    the stop token is sent, and the workers end one after the other. Until then each of them keeps
//!    taking calls, so nothing that was admitted is lost, however late its submitter gets around to
//!    pushing it.
//! 3. To cancel what is queued, `discard_queued` is set and the channel emptied: by the one who shuts
//!    down, by workers that come to an entry, and by a submitter that pushes after the flag.
//! 4. `shutdown` waits until no worker is alive and joins the threads. A worker of the same bulkhead
//!    never waits, nor does a thread that is about to submit a call and holds its place.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::channel::Sleeper;
use crate::clock::after;
use crate::current::{ThisThread, give_turn, sit_down};
use crate::error::BuildError;
use crate::listener::BulkheadEvent;
use crate::panics::{contain, note};
use crate::shared::{Shared, WorkerHook};
use crate::sync::{self, LateArrivals, Ordering};

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

/// Starts all workers, or none.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<(), BuildError> {
    let workers = shared.config.max_concurrent_calls;
    for index in 0..workers {
        let thread_name = format!("bulkman-{}-{index}", shared.name);
        let of_worker = Arc::clone(shared);
        // Counted before it can end.
        shared.crew.lock().alive += 1;
        match sync::spawn(thread_name, move || work(of_worker, index)) {
            Ok(handle) => shared.threads.lock().push(handle),
            Err(source) => {
                shared.crew.lock().alive -= 1;
                let _nothing_ran = shut_down(shared, Patience::Unlimited);
                return Err(BuildError::ThreadStart {
                    bulkhead: shared.name.to_string(),
                    worker: index + 1,
                    workers,
                    source,
                });
            }
        }
    }
    Ok(())
}

/// A worker's life.
fn work(shared: Arc<Shared>, index: usize) {
    sit_down(shared.serial, index, Arc::clone(&shared.seats[index]));
    call_hooks(&shared, &shared.worker_hooks.on_start, index);
    let me = Sleeper::here();
    // When the last task ended, if only bookkeeping of ours came after it: the next can start then.
    let mut just_now = None;
    while let Some((job, waited)) = shared.queue.next(&me) {
        just_now = give_turn(job, index, just_now.filter(|_| !waited));
    }
    call_hooks(&shared, &shared.worker_hooks.on_stop, index);
    let mut crew = shared.crew.lock();
    crew.alive -= 1;
    let last = crew.alive == 0;
    drop(crew);
    if last {
        shared.crew_changed.notify_all();
    }
}

fn call_hooks(shared: &Shared, hooks: &[WorkerHook], index: usize) {
    for hook in hooks {
        contain(&shared.name, "a worker hook", || hook(index));
    }
}

pub(crate) fn shut_down(shared: &Shared, patience: Patience) -> ShutdownReport {
    let before = shared.totals();
    if shared.admission.close() {
        let bulkhead = &*shared.name;
        note(|| log::debug!("bulkhead `{bulkhead}` is shutting down"));
        shared.tell(|| BulkheadEvent::ShuttingDown { bulkhead });
    }
    let may_wait = shared.this_thread() == ThisThread::Outsider;
    let ended = match patience {
        Patience::Unlimited | Patience::Until(None) => may_wait && wait_for_crew(shared, None),
        Patience::Until(deadline) => {
            let ended = may_wait && wait_for_crew(shared, deadline);
            if may_wait && !ended {
                cancel_queued(shared);
            }
            ended
        }
        Patience::None => {
            cancel_queued(shared);
            false
        }
    };
    if ended && matches!(patience, Patience::Unlimited | Patience::Until(None)) {
        join(shared);
    }
    if let (true, Some(breaker)) = (ended, &shared.breaker) {
        breaker.flush(match patience {
            Patience::Until(Some(deadline)) => deadline
                .saturating_duration_since(sync::now())
                .min(LAST_WORDS),
            _ => LAST_WORDS,
        });
    }
    // A call is counted before its worker forgets it. So in this order one that ends just now may be in both, and the
    // other way round it might be in neither.
    let still_running = still_running(shared);
    let after = shared.totals();
    ShutdownReport {
        finished: after.finished() - before.finished(),
        cancelled: after.cancelled_by_shutdown - before.cancelled_by_shutdown,
        still_running,
    }
}

/// Waits until the last worker is at its end.
fn wait_for_crew(shared: &Shared, deadline: Option<Instant>) -> bool {
    let mut crew = shared.crew.lock();
    while crew.alive > 0 {
        if deadline.is_some_and(|deadline| sync::now() >= deadline) {
            return false;
        }
        sync::wait_until(&shared.crew_changed, &mut crew, deadline);
    }
    true
}

/// Waits until the threads are gone from the system, their thread-local values dropped.
fn join(shared: &Shared) {
    let mut threads = shared.threads.lock();
    for handle in threads.drain(..) {
        // A worker contains every panic of the user's; there is nothing to hear from it.
        let _ = handle.join();
    }
}

fn cancel_queued(shared: &Shared) {
    shared.discard_queued.store(true, Ordering::Release);
    // A submitter that was admitted before the close may be about to push its call. Whatever comes
    // later than this looks for the flag itself.
    let mut late = LateArrivals::new();
    loop {
        shared.queue.drain(|job| job.cancel_for_shutdown());
        if shared.totals().waiting() == 0 || !late.wait() {
            break;
        }
    }
}

fn still_running(shared: &Shared) -> Vec<RunningTask> {
    let now = shared.clock.now();
    shared
        .running()
        .map(|task| RunningTask {
            execution_id: task.execution_id,
            operation: task.operation,
            running_for: now.saturating_duration_since(task.since),
        })
        .collect()
}

/// How long a shutdown waits for the circuit's storage to have the last change.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The deadline of `shutdown_timeout`.
pub(crate) fn patience(limit: Duration) -> Patience {
    Patience::Until(after(sync::now(), limit))
}
