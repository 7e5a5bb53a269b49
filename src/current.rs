//! Who is running what: the seat of each worker, and what a task can ask about itself.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::queue::Job;
use crate::sync::{self, Mutex, Ordering};

/// A worker's place, where others can see what it runs.
#[derive(Default)]
pub(crate) struct Seat {
    running: Mutex<Option<Arc<dyn Job>>>,
}

impl Seat {
    /// Says what runs here from now on, and returns what ran until now.
    pub(crate) fn replace(&self, job: Option<Arc<dyn Job>>) -> Option<Arc<dyn Job>> {
        std::mem::replace(&mut *self.running.lock(), job)
    }

    pub(crate) fn running(&self) -> Option<Arc<dyn Job>> {
        self.running.lock().clone()
    }
}

/// Which seat this thread sits on, for the whole life of a worker thread.
#[derive(Clone)]
struct Badge {
    /// Identifies the bulkhead: the address of its shared part, which the worker keeps alive.
    owner: usize,
    index: usize,
    seat: Arc<Seat>,
}

sync::thread_local! {
    // Not `const`, which loom's macro does not know.
    #[allow(clippy::missing_const_for_thread_local, reason = "see above")]
    static BADGE: RefCell<Option<Badge>> = RefCell::new(None);
}

/// Makes this thread the worker `index` of `owner`.
pub(crate) fn sit_down(owner: usize, index: usize, seat: Arc<Seat>) {
    BADGE.with(|badge| *badge.borrow_mut() = Some(Badge { owner, index, seat }));
}

/// This thread, as seen from one bulkhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThisThread {
    Outsider,
    /// Its worker of that index.
    Worker(usize),
    /// A thread whose thread-local values are being destroyed. It may have been a worker.
    Ending,
}

pub(crate) fn this_thread(owner: usize) -> ThisThread {
    match BADGE.try_with(|badge| match &*badge.borrow() {
        Some(badge) if badge.owner == owner => ThisThread::Worker(badge.index),
        _ => ThisThread::Outsider,
    }) {
        Ok(thread) => thread,
        Err(_) => ThisThread::Ending,
    }
}

/// The call that this thread is running, asked from inside its task; `None` on any other thread.
///
/// ```
/// use bulkman::{Bulkhead, BulkheadConfig};
/// use std::time::Duration;
///
/// let bulkhead = Bulkhead::new(BulkheadConfig::new("export"))?;
/// let result = bulkhead.execute_with_timeout(Duration::from_secs(5), || {
///     for row in 0..1_000 {
///         if bulkman::current().is_some_and(|call| call.is_cancelled()) {
///             return Err(format!("stopped at row {row}"));
///         }
///     }
///     Ok("done")
/// });
/// assert_eq!(result.value(), Some(&"done"));
/// # Ok::<(), bulkman::BuildError>(())
/// ```
#[must_use]
pub fn current() -> Option<CurrentExecution> {
    let seat = BADGE
        .try_with(|badge| badge.borrow().as_ref().map(|badge| Arc::clone(&badge.seat)))
        .ok()??;
    seat.running().map(|job| CurrentExecution { job })
}

/// The name of the bulkhead whose task this thread runs, looked up when it is written.
pub(crate) struct ThisBulkhead;

impl fmt::Display for ThisBulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            current()
                .as_ref()
                .map_or("", CurrentExecution::bulkhead_name),
        )
    }
}

/// A running task's view of its own call, from [`current`].
///
/// It can be cloned and sent to threads that the task starts itself.
#[derive(Clone)]
pub struct CurrentExecution {
    job: Arc<dyn Job>,
}

impl CurrentExecution {
    /// Whether nobody wants the result any more: the handle's `cancel` was called while the task was
    /// already running, or the caller's time limit is over, whether or not a caller waits at that moment.
    /// The task decides what to do about it.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // ORDERING: Acquire, so that a task which sees the flag also sees what its caller did before.
        self.job.head().cancel_requested.load(Ordering::Acquire)
            || self.remaining() == Some(Duration::ZERO)
    }

    /// Whether the bulkhead takes no new calls any more. The task may go on; its outcome is delivered.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.job.bulkhead_is_closed()
    }

    /// When the caller stops waiting; `None`: it waits for ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.job.head().deadline()
    }

    /// How long the caller goes on waiting; zero once that is over, `None`: for ever. A good timeout for
    /// what the task calls itself.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        Some(self.deadline()?.saturating_duration_since(self.job.now()))
    }

    /// The id that the call's result will carry.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.job.head().execution_id
    }

    /// The name of the bulkhead that runs the task.
    #[must_use]
    pub fn bulkhead_name(&self) -> &str {
        self.job.bulkhead_name()
    }

    /// What the caller named with [`Call::operation`](crate::Call::operation).
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.job.head().operation.as_deref()
    }
}

impl fmt::Debug for CurrentExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentExecution")
            .field("bulkhead_name", &self.bulkhead_name())
            .field("execution_id", &self.execution_id())
            .field("operation", &self.operation())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
