//! Who is running what: the seat of each worker, and what a task can ask about itself.

#![allow(
    clippy::missing_const_for_thread_local,
    reason = "loom's `thread_local!` does not know `const`"
)]

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::nanos;
use crate::queue::{Head, Job};
use crate::sync::{self, AtomicU64, Mutex, Ordering};

/// A worker's place, where others can see what it runs: a call, and on top of it the calls that it waits for and
/// runs itself.
///
/// Most calls are a call in its turn, and without a name. What is to be seen of those fits into a few words, which
/// the worker alone writes, with plain stores:
///
/// * While `turn` is odd, the words belong to the call that runs. They are written while it is even.
/// * So who finds the same odd number before and after reading them has read one call's words: had it read a later
///   call's, it would also see the `turn` in between.
///
/// All others are listed under a lock.
///
/// Each seat has cache lines of its own, as in [`Padded`](sync::Padded): workers write theirs with every call.
#[repr(align(128))]
pub(crate) struct Seat {
    turn: AtomicU64,
    id: [AtomicU64; 2],
    /// In nanoseconds from `epoch`.
    since: AtomicU64,
    epoch: Instant,
    listed: Mutex<Vec<Arc<dyn Job>>>,
}

/// Where a call is to be seen, for the end of it.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) enum Seated {
    InTurn,
    Listed,
}

/// A call that runs, as others see it.
pub(crate) struct Running {
    pub(crate) execution_id: Uuid,
    pub(crate) operation: Option<Cow<'static, str>>,
    pub(crate) since: Instant,
}

impl Seat {
    /// No call starts before `epoch`.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            turn: AtomicU64::new(0),
            id: Default::default(),
            since: AtomicU64::new(0),
            epoch,
            listed: Mutex::new(Vec::with_capacity(1)),
        }
    }

    /// A call begins here, on this worker's own thread; `helped` if it is not its turn.
    pub(crate) fn begin(
        &self,
        head: &Head,
        since: Instant,
        helped: Option<Arc<dyn Job>>,
    ) -> Seated {
        let listed = match helped {
            None if head.operation.is_some() => in_turn(),
            helped => helped,
        };
        if let Some(job) = listed {
            self.listed.lock().push(job);
            return Seated::Listed;
        }
        // ORDERING: Release, here and in `pass`, and Acquire in `running_in_turn`: see above.
        let (high, low) = head.execution_id.as_u64_pair();
        self.id[0].store(high, Ordering::Release);
        self.id[1].store(low, Ordering::Release);
        let since = nanos(since.saturating_duration_since(self.epoch));
        self.since.store(since, Ordering::Release);
        self.pass();
        Seated::InTurn
    }

    /// The last call that has begun here is over.
    pub(crate) fn end(&self, seated: Seated) {
        match seated {
            Seated::InTurn => self.pass(),
            Seated::Listed => {
                let ended = self.listed.lock().pop();
                drop(ended);
            }
        }
    }

    fn pass(&self) {
        // ORDERING: the load is of this thread's own last store.
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Release);
    }

    /// From the outermost to the innermost.
    pub(crate) fn running(&self) -> Vec<Running> {
        let mut running: Vec<_> = self.running_in_turn().into_iter().collect();
        // Under the lock nothing is asked of the calls.
        let listed = self.listed.lock().clone();
        running.extend(listed.iter().filter_map(|job| {
            let head = job.head();
            Some(Running {
                execution_id: head.execution_id,
                operation: head.operation.clone(),
                since: job.running_since()?,
            })
        }));
        running
    }

    fn running_in_turn(&self) -> Option<Running> {
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn % 2 == 0 {
                return None;
            }
            let [high, low] = [&self.id[0], &self.id[1]].map(|half| half.load(Ordering::Acquire));
            let since = self.since.load(Ordering::Acquire);
            // ORDERING: Relaxed is enough after the Acquire of the words.
            if self.turn.load(Ordering::Relaxed) == turn {
                return Some(Running {
                    execution_id: Uuid::from_u64_pair(high, low),
                    operation: None,
                    since: self.epoch + Duration::from_nanos(since),
                });
            }
        }
    }

    /// Asked on this worker's own thread.
    fn innermost(&self) -> Option<Arc<dyn Job>> {
        let listed = self.listed.lock().last().cloned();
        let runs_in_turn = || self.turn.load(Ordering::Relaxed) % 2 == 1;
        listed.or_else(|| runs_in_turn().then(in_turn).flatten())
    }
}

sync::thread_local! {
    /// Of which bulkhead, by serial number, this thread is the worker of which index: for its whole life. It has no
    /// destructor, so it can be asked in those of other thread-local values.
    static WORKER_OF: Cell<(u64, usize)> = Cell::new((NOBODY, 0));

    /// Of which bulkhead this thread, which is no worker, holds a place while user code runs.
    static HOLDING: Cell<u64> = Cell::new(NOBODY);

    /// Where this thread, a worker, sits.
    static SEAT: RefCell<Option<Arc<Seat>>> = RefCell::new(None);

    /// The call whose turn it is on this thread, a worker. It stays borrowed during the turn.
    static TURN: RefCell<Option<Arc<dyn Job>>> = RefCell::new(None);
}

/// Gives a call its turn on this thread, a worker. As [`Job::take_turn`].
pub(crate) fn give_turn(
    job: Arc<dyn Job>,
    worker: usize,
    just_now: Option<Instant>,
) -> Option<Instant> {
    TURN.with(|turn| {
        *turn.borrow_mut() = Some(job);
        let just_now = match &*turn.borrow() {
            Some(job) => job.take_turn(worker, just_now),
            None => None,
        };
        let over = turn.borrow_mut().take();
        drop(over);
        just_now
    })
}

fn in_turn() -> Option<Arc<dyn Job>> {
    TURN.try_with(|turn| turn.borrow().clone()).ok()?
}

/// No bulkhead has this serial number.
const NOBODY: u64 = 0;

/// Nor this one: places of more than one bulkhead are held, and so perhaps of the one that asks.
const SEVERAL: u64 = u64::MAX;

/// Identifies a bulkhead among all that this process will ever have.
pub(crate) fn next_serial() -> u64 {
    // Not from `sync`: it only tells bulkheads apart, and loom has no statics.
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(NOBODY);
    LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
}

/// Makes this thread the worker `index` of the bulkhead `serial`.
pub(crate) fn sit_down(serial: u64, index: usize, seat: Arc<Seat>) {
    WORKER_OF.with(|worker| worker.set((serial, index)));
    SEAT.with(|mine| *mine.borrow_mut() = Some(seat));
}

/// This thread, as seen from one bulkhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThisThread {
    /// It may wait for anything.
    Outsider,
    /// Its worker of that index.
    Worker(usize),
    /// No worker of it, but about to submit a call, whose place it holds while user code runs: to wait for the
    /// bulkhead would be to wait for itself.
    Holding,
}

/// What this thread is to the bulkhead `serial`.
pub(crate) fn this_thread(serial: u64) -> ThisThread {
    let (of, index) = WORKER_OF.with(Cell::get);
    if of == serial {
        return ThisThread::Worker(index);
    }
    match HOLDING.with(Cell::get) {
        held if held == serial || held == SEVERAL => ThisThread::Holding,
        _ => ThisThread::Outsider,
    }
}

/// Runs user code in a thread that holds a place of the bulkhead `serial`. `body` must not panic.
pub(crate) fn while_holding_a_place<R>(serial: u64, body: impl FnOnce() -> R) -> R {
    let before = HOLDING.with(Cell::get);
    let held = if before == NOBODY || before == serial {
        serial
    } else {
        SEVERAL
    };
    HOLDING.with(|holding| holding.set(held));
    let value = body();
    HOLDING.with(|holding| holding.set(before));
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
    let seat = SEAT.try_with(|seat| seat.borrow().clone()).ok()??;
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
