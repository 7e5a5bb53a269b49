//! Who is running what: the seat of each worker, and what a task can ask about itself.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::queue::Job;
use crate::sync::{self, Mutex, Ordering};

/// A worker's place, where others can see what it runs: a call, and on top of it the calls that it waits for and
/// runs itself.
pub(crate) struct Seat {
    running: Mutex<Vec<Arc<dyn Job>>>,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            running: Mutex::new(Vec::with_capacity(1)),
        }
    }

    pub(crate) fn begin(&self, job: Arc<dyn Job>) {
        self.running.lock().push(job);
    }

    /// The last call that has begun here is over.
    pub(crate) fn end(&self) {
        let ended = self.running.lock().pop();
        drop(ended);
    }

    /// From the outermost to the innermost.
    pub(crate) fn running(&self) -> Vec<Arc<dyn Job>> {
        self.running.lock().clone()
    }

    fn innermost(&self) -> Option<Arc<dyn Job>> {
        self.running.lock().last().cloned()
    }
}

/// Which seat this thread sits on, for the whole life of a worker thread.
struct Badge {
    index: usize,
    /// Also says of which bulkhead: it stays alive, and so unique, as long as the badge.
    seat: Arc<Seat>,
}

sync::thread_local! {
    // Not `const`, which loom's macro does not know.
    #[allow(clippy::missing_const_for_thread_local, reason = "see above")]
    static BADGE: RefCell<Option<Badge>> = RefCell::new(None);

    /// The bulkhead of which this thread, which is no worker, holds a place while user code runs; its address.
    #[allow(clippy::missing_const_for_thread_local, reason = "see above")]
    static HOLDING: Cell<usize> = Cell::new(0);
}

/// Makes this thread the worker `index`.
pub(crate) fn sit_down(index: usize, seat: Arc<Seat>) {
    BADGE.with(|badge| *badge.borrow_mut() = Some(Badge { index, seat }));
}

/// This thread, as seen from one bulkhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThisThread {
    /// It may wait for anything.
    Outsider,
    /// Its worker of that index.
    Worker(usize),
    /// It is about to submit a call and holds its place; or its thread-local values are being destroyed, and it may
    /// have been a worker. To wait for the bulkhead could mean to wait for itself.
    Involved,
}

/// What this thread is to the bulkhead with these seats.
pub(crate) fn this_thread(seats: &[Arc<Seat>]) -> ThisThread {
    let held = HOLDING.try_with(Cell::get);
    if held.is_ok_and(|held| held == address(seats)) {
        return ThisThread::Involved;
    }
    let known = BADGE.try_with(|badge| {
        let badge = badge.borrow();
        let badge = badge.as_ref()?;
        let seat = seats.get(badge.index)?;
        Arc::ptr_eq(seat, &badge.seat).then_some(badge.index)
    });
    match known {
        Ok(None) => ThisThread::Outsider,
        Ok(Some(index)) => ThisThread::Worker(index),
        Err(_) => ThisThread::Involved,
    }
}

fn address(seats: &[Arc<Seat>]) -> usize {
    seats.as_ptr().addr()
}

/// Runs user code in a thread that holds a place of the bulkhead with these seats. `body` must not panic.
pub(crate) fn while_holding_a_place<R>(seats: &[Arc<Seat>], body: impl FnOnce() -> R) -> R {
    let set = |held| {
        HOLDING
            .try_with(|holding| holding.replace(held))
            .unwrap_or(0)
    };
    let before = set(address(seats));
    let value = body();
    set(before);
    value
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
    seat.innermost().map(|job| CurrentExecution { job })
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
